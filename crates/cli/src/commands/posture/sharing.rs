//! `casemate posture --sharing`: what each two agents of the running box have in common.

use std::collections::BTreeMap;
use std::path::Path;

use casemate_posture::Tree;
use casemate_posture::sharing::{FileKind, Ledger, Pair, SharedFrames, ledger};

use super::starts;
use crate::cli::Global;
use crate::commands::doctor;
use crate::failure::{Failure, Outcome};
use crate::lines;
use crate::project::Project;

/// Where the text of a row begins.
const LABEL_COLUMNS: usize = 18;
/// Most names in a line.
const NAMES_MAX: usize = 8;

/// Shows the ledger.
pub(super) fn run(global: &Global, project: &Project) -> Outcome {
    let agents = doctor::agents_of(project)?;
    let tree = tree()?;
    let ledger = ledger(&tree, &agents, starts::build_ms(project));
    if global.json {
        lines::print(serde_json::to_string(&ledger).unwrap_or_default());
        return Ok(0);
    }
    text(&ledger, agents.len()).iter().for_each(lines::print);
    Ok(0)
}

/// This machine.
pub(super) fn tree() -> Outcome<Tree> {
    Tree::open(Path::new("/"))
        .map_err(|why| Failure::environment(format!("/: {}", why.describe()), "mount /proc"))
}

fn text(ledger: &Ledger, agents: usize) -> Vec<String> {
    let kernel = ledger.kernel.as_deref().unwrap_or("of unknown version");
    let mut out = vec![format!("{agents} agents on one kernel ({kernel})")];
    for pair in &ledger.pairs {
        out.push(String::new());
        out.extend(of_pair(pair, &ledger.build_ms));
    }
    if ledger.pairs.is_empty() {
        out.push("no two agents run: nothing is shared".into());
    }
    out
}

fn of_pair(pair: &Pair, build_ms: &BTreeMap<String, u64>) -> Vec<String> {
    let [a, b] = &pair.agents;
    let verdict = match (pair.is_apart(), pair.has_in_common()) {
        (true, _) => "nothing of theirs in common",
        (false, true) => "in common",
        (false, false) => "nothing seen in common, and not all was counted",
    };
    let mut out = vec![format!("{a} + {b}: {verdict}")];
    let mut row = |name: &str, text: String| {
        let lines = doctor::wrapped(&format!("{:LABEL_COLUMNS$}{text}", ""), LABEL_COLUMNS);
        out.extend(lines.into_iter().enumerate().map(|(place, line)| {
            match (place, line.get(LABEL_COLUMNS..)) {
                (0, Some(text)) => format!("  {name:<16}{text}"),
                _ => line,
            }
        }));
    };
    if let Some(group) = &pair.share {
        row("share", format!("group {group}, as the composition says"));
    }
    let names = |kind: FileKind| -> Vec<&str> {
        pair.files.iter().filter(|file| file.kind == kind).map(|file| file.name.as_str()).collect()
    };
    for (title, list) in [("libraries", names(FileKind::Library)), ("other files", names(FileKind::Other))] {
        if !list.is_empty() {
            row(title, some_of(list));
        }
    }
    let text = |list: &[String]| some_of(list.iter().map(String::as_str).collect());
    for (title, list) in [
        ("mounts", &pair.mounts),
        ("open objects", &pair.open),
        ("namespaces", &pair.namespaces),
        ("users", &pair.users),
    ] {
        if !list.is_empty() {
            row(title, text(list));
        }
    }
    if let Some(frames) = &pair.frames {
        row("page frames", of_frames(frames));
        row("of the box", some_counts(&frames.of_the_box));
        row("memory", memory(frames));
    }
    match (build_ms.get(a), build_ms.get(b)) {
        (Some(of_a), Some(of_b)) => {
            row(
                "time",
                format!("root and compartment took {of_a} ms for {a}, {of_b} ms for {b} at their last start"),
            );
        }
        _ => row("not run", "time: the warden tells nothing of these starts any more".to_owned()),
    }
    if let Some(group) = &pair.control_group {
        row("control group", group.clone());
    }
    row("kernel through", text(&pair.kernel));
    for missing in &pair.not_run {
        row("not run", format!("{}: {}", missing.name, missing.reason));
    }
    out
}

fn of_frames(frames: &SharedFrames) -> String {
    if frames.frames.is_empty() { "none".into() } else { some_counts(&frames.frames) }
}

fn some_counts(counts: &BTreeMap<String, u64>) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by(|(_, one), (_, other)| other.cmp(one));
    let named =
        |name: &str| if name.is_empty() { "memory without a name".to_owned() } else { name.to_owned() };
    let texts: Vec<String> = counts.iter().map(|(name, count)| format!("{} {count}", named(name))).collect();
    if texts.is_empty() { "none".into() } else { some_of(texts.iter().map(String::as_str).collect()) }
}

fn memory(frames: &SharedFrames) -> String {
    format!(
        "apart they would take {} more; {} are apart already",
        lines::size(frames.bytes),
        lines::size(frames.apart_bytes)
    )
}

fn some_of(names: Vec<&str>) -> String {
    let more = names.len().saturating_sub(NAMES_MAX);
    let shown: Vec<String> =
        names.into_iter().take(NAMES_MAX).map(|name| lines::printable(name.as_bytes())).collect();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_posture::sharing::{NotRun, SharedFile};

    fn pair() -> Pair {
        Pair {
            agents: ["a".into(), "b".into()],
            share: None,
            files: Vec::new(),
            mounts: Vec::new(),
            frames: Some(SharedFrames {
                frames: BTreeMap::new(),
                of_the_box: [("[vdso]".to_owned(), 1)].into(),
                bytes: 0,
                apart_bytes: 8192,
            }),
            open: Vec::new(),
            namespaces: Vec::new(),
            users: Vec::new(),
            control_group: Some("/box".into()),
            kernel: vec!["erofs".into(), "proc".into()],
            not_run: Vec::new(),
        }
    }

    #[test]
    fn a_pair_that_is_apart_is_told_in_a_few_lines() {
        let times = [("a".to_owned(), 3), ("b".to_owned(), 5)].into();
        assert_eq!(
            of_pair(&pair(), &times),
            [
                "a + b: nothing of theirs in common",
                "  page frames     none",
                "  of the box      [vdso] 1",
                "  memory          apart they would take 0 B more; 8.0 KiB are apart already",
                "  time            root and compartment took 3 ms for a, 5 ms for b at their last start",
                "  control group   /box",
                "  kernel through  erofs, proc",
            ]
        );
    }

    #[test]
    fn what_was_not_counted_is_told_and_names_move_no_cursor() {
        let file = SharedFile {
            name: format!("/lib/x\u{1b}[2J{}.so", " word".repeat(30)),
            kind: FileKind::Library,
            device: "0:1".into(),
            inode: "2".into(),
        };
        let not_run = vec![NotRun { name: "page frames".into(), reason: "not readable by this user".into() }];
        let pair = Pair { files: vec![file], frames: None, not_run, ..pair() };
        let lines = of_pair(&pair, &BTreeMap::new());
        let uncounted = Pair { files: Vec::new(), ..pair };
        assert_eq!(
            of_pair(&uncounted, &BTreeMap::new())[0],
            "a + b: nothing seen in common, and not all was counted"
        );
        assert_eq!(lines[0], "a + b: in common");
        assert!(lines[1].starts_with("  libraries       /lib/x\u{fffd}[2J word"), "{lines:?}");
        assert!(lines.iter().all(|line| line.chars().count() <= 96), "{lines:?}");
        assert!(
            lines.contains(&"  not run         page frames: not readable by this user".to_owned()),
            "{lines:?}"
        );
    }
}
