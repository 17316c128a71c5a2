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
    let verdict = if pair.is_apart() { "nothing of theirs in common" } else { "in common" };
    let mut out = vec![format!("{a} + {b}: {verdict}")];
    let mut row = |name: &str, text: String| out.push(format!("  {name:<16}{text}"));
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
