//! The lines of code that all agents trust, counted, and held against the figures that `casemate posture --compare` prints.
//!
//! Counted are lines of Rust in `src` of each crate in the trees of the programs that run beside agents with rights that
//! agents do not have: without blank lines, comments and tests. Of other people's crates everything counts, whether a
//! feature switches it on or not, and what runs at build time too, so that figure is an upper bound. C that a crate brings
//! is not counted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::process::root;

/// What an agent's peers could use against it, if it were broken.
const PROGRAMS: [&str; 4] = ["casemate-warden", "casemate-launcher", "casemate-gateway", "casemate-courier"];
/// Generated declarations of calls and constants, for all platforms: not code.
const BINDINGS: [&str; 3] = ["linux-raw-sys", "libc", "aws-lc-sys"];
/// Where the figures are.
const FIGURES: &str = "crates/posture/src/report/trusted_lines.rs";
/// How far a figure may be from the count, in percent of the count: a report rounds.
const SLACK_PERCENT: u64 = 5;

/// Lines of our crates, and of others'.
struct Count {
    ours: u64,
    others: u64,
}

/// Problems; `tree` gives the dependencies of a crate, `manifests` where each crate is, `ours` which are of this workspace.
pub(crate) fn check(
    tree: impl Fn(&str) -> BTreeSet<String>,
    manifests: &BTreeMap<String, String>,
    ours: impl Fn(&str) -> bool,
) -> Result<Vec<String>, String> {
    let mut crates: BTreeSet<String> = PROGRAMS.iter().flat_map(|program| tree(program)).collect();
    crates.extend(PROGRAMS.map(str::to_owned));
    crates.retain(|name| !BINDINGS.contains(&name.as_str()));
    let mut count = Count { ours: 0, others: 0 };
    for name in &crates {
        let manifest = manifests.get(name).ok_or_else(|| format!("{name} has no manifest"))?;
        let folder = Path::new(manifest).with_file_name("src");
        let lines = if folder.is_dir() { lines_below(&folder)? } else { 0 };
        *if ours(name) { &mut count.ours } else { &mut count.others } += lines;
    }
    let path = root().join(FIGURES);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let figures = [("OURS", count.ours), ("OTHERS", count.others)];
    let problems = figures.into_iter().filter_map(|(name, counted)| compare(&text, name, counted)).collect();
    println!("layers: {} lines of ours and {} of others are trusted by all agents", count.ours, count.others);
    Ok(problems)
}

fn compare(text: &str, name: &str, counted: u64) -> Option<String> {
    let said = text.lines().find_map(|line| {
        let value = line.strip_prefix(&format!("pub(super) const {name}: u32 = "))?.strip_suffix(';')?;
        value.replace('_', "").parse::<u64>().ok()
    });
    match said {
        Some(said) if said.abs_diff(counted) * 100 <= counted * SLACK_PERCENT => None,
        Some(said) => Some(format!("{FIGURES}: {name} is {said}, and {counted} lines were counted")),
        None => Some(format!("{FIGURES}: no figure {name}")),
    }
}

fn lines_below(folder: &Path) -> Result<u64, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut lines = 0;
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            lines += lines_below(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            lines += lines_of(&String::from_utf8_lossy(&std::fs::read(&path).map_err(failed)?));
        }
    }
    Ok(lines)
}

/// Lines that are neither blank nor comment, up to the module of tests.
fn lines_of(text: &str) -> u64 {
    let mut lines = text.lines().peekable();
    let code = std::iter::from_fn(|| {
        let line = lines.next()?;
        let begins = |next: &&str| next.starts_with("mod ") && next.ends_with('{');
        (line != "#[cfg(test)]" || !lines.peek().is_some_and(begins)).then_some(line)
    });
    let counts = |line: &str| !line.is_empty() && !line.starts_with("//");
    code.map(str::trim).filter(|line| counts(line)).map(|_| 1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_blank_lines_and_tests_do_not_count() {
        let tests = "#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(lines_of(&format!("//! a\n\nfn a() {{\n    // b\n}}\n{tests}")), 2);
        // A declaration for tests alone does not end the code.
        assert_eq!(lines_of(&format!("#[cfg(test)]\nuse a;\nfn a();\n{tests}")), 3);
    }

    #[test]
    fn a_figure_that_is_far_from_the_count_is_a_problem() {
        let text = "pub(super) const OURS: u32 = 10_000;\n";
        assert!(compare(text, "OURS", 10_400).is_none());
        assert!(compare(text, "OURS", 10_600).is_some_and(|problem| problem.contains("10600")));
        assert!(compare(text, "OTHERS", 1).is_some_and(|problem| problem.contains("no figure")));
    }
}
