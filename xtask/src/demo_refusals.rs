//! The six refusals of the demo. Each is checked: what is not refused, or by another rule, fails the demo.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::demo::{Demo, random_hex, section};
use crate::process::{Output, root};

/// Time for the planner to have made all its attempts.
const ATTEMPTS_BOUND: Duration = Duration::from_secs(60);
/// The refusals that the planner writes into its log.
const ATTEMPTS: usize = 4;
/// Exit code of a refusal.
const REFUSED: i32 = 1;

/// Refusals 3 to 6: the box runs.
pub(crate) fn while_running(demo: &Demo) -> Result<(), String> {
    let attempts = attempts(demo)?;
    section("refusal 3: planner asks for researcher's secret through its own socket");
    show_attempts(&attempts, "secret")?;
    section("refusal 4: planner connects to an undeclared port of a peer and to an undeclared host");
    show_attempts(&attempts, "undeclared")?;
    refused(&demo.casemate(&["why", "planner", "researcher:9999"])?, "edge.declared")?;
    refused(&demo.casemate(&["why", "planner", "exfil.example:80"])?, "egress.declared")?;

    let nonce = random_hex()?;
    let file = demo.evidence(&nonce)?;
    section("refusal 5: evidence is replayed for another nonce");
    refused(&demo.casemate(&["verify", &file, "--nonce", &random_hex()?])?, "nonce")?;
    section("refusal 6: the same evidence under production roots");
    refused(&demo.casemate(&["verify", &file, "--nonce", &nonce, "--roots", "production"])?, "root")
}

/// Refusals 1 and 2: the box does not start.
pub(crate) fn at_start(demo: &Demo) -> Result<(), String> {
    section("refusal 1: one byte of the agents' root file system is changed");
    let rootfs = largest_file(&demo.home.join("images/erofs"))?;
    flip_byte(&rootfs)?;
    let output = demo.casemate(&["up", "-d", "--progress", "plain"]);
    flip_byte(&rootfs)?;
    refused(&output?, "image.rootfs.digest")?;

    section("refusal 2: an argument is changed in the Compose file after the policy was written");
    let compose = demo.work.join("compose.yaml");
    let text =
        std::fs::read_to_string(&compose).map_err(|error| format!("{}: {error}", compose.display()))?;
    let changed = text.replacen("\"/agents/researcher.py\"", "\"/agents/researcher.py\", \"--verbose\"", 1);
    if changed == text {
        return Err(format!("{}: nothing to change", compose.display()));
    }
    std::fs::write(&compose, changed).map_err(|error| format!("{}: {error}", compose.display()))?;
    let output = demo.casemate(&["up", "-d", "--progress", "plain"]);
    demo.copy_example(&root().join("examples/research-desk"))?;
    refused(&output?, "composition").map(drop)
}

/// Shows what a command wrote, and checks that it is a refusal by a rule whose name has `rule` in it.
fn refused(output: &Output, rule: &str) -> Result<(), String> {
    print!("{}{}", tail(&output.stdout), output.stderr);
    let part = |name: &str| {
        output
            .stderr
            .lines()
            .find_map(|line| line.trim().strip_prefix(name))
            .map(str::trim)
            .unwrap_or_default()
    };
    if output.status.code() != Some(REFUSED) {
        return Err(format!("NOT REFUSED: exit code {:?}, expected {REFUSED}", output.status.code()));
    }
    if !part("rule ").contains(rule) || part("expected ").is_empty() || part("found ").is_empty() {
        return Err(format!("refused, but not by a rule `{rule}` with what was expected and found"));
    }
    Ok(())
}

/// The last lines: a verdict has many.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(4)).map(|line| format!("{line}\n")).collect()
}

/// The planner's own account of what it tried.
fn attempts(demo: &Demo) -> Result<Vec<String>, String> {
    let end = Instant::now() + ATTEMPTS_BOUND;
    loop {
        let logs = demo.casemate(&["logs", "planner"])?.stdout;
        if let Some(line) = logs.lines().find(|line| line.contains("NOT REFUSED")) {
            return Err(line.to_owned());
        }
        let found: Vec<String> =
            logs.lines().filter(|line| line.contains("planner: refused:")).map(str::to_owned).collect();
        if found.len() >= ATTEMPTS {
            return Ok(found);
        }
        if Instant::now() >= end {
            return Err(format!("planner made {} of {ATTEMPTS} attempts:\n{logs}", found.len()));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn show_attempts(attempts: &[String], what: &str) -> Result<(), String> {
    let shown: Vec<&String> = attempts.iter().filter(|line| line.contains(what)).collect();
    if shown.is_empty() {
        return Err(format!("planner made no attempt with `{what}`"));
    }
    shown.iter().for_each(|line| println!("{line}"));
    Ok(())
}

fn largest_file(dir: &Path) -> Result<PathBuf, String> {
    let entries = std::fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    entries
        .flatten()
        .max_by_key(|entry| entry.metadata().map_or(0, |metadata| metadata.len()))
        .map(|entry| entry.path())
        .ok_or_else(|| format!("{}: no files", dir.display()))
}

/// Changes the byte in the middle; a second call puts it back.
fn flip_byte(path: &Path) -> Result<(), String> {
    let flip = || -> std::io::Result<()> {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
        let middle = file.metadata()?.len() / 2;
        let mut byte = [0];
        file.read_exact_at(&mut byte, middle)?;
        file.write_all_at(&[byte[0] ^ 1], middle)
    };
    flip().map_err(|error| format!("{}: {error}", path.display()))
}
