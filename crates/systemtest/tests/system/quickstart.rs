//! `docs/quickstart.md`, as a reader follows it: every `sh` block, in order, in one shell and one private folder; and
//! each line of a `text` block is in the output of the block before it, in order, where `…` stands for anything.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::project::{Output, Project, dist, run_bounded};

const PAGE: &str = include_str!("../../../../docs/quickstart.md");
/// Time for the whole page.
const PAGE_BOUND: Duration = Duration::from_secs(180);
/// Between the outputs of two blocks.
const MARK: &str = "=== end of a block";

/// A command block, and what the page shows of its output.
struct Block {
    script: String,
    shown: Vec<&'static str>,
}

fn blocks() -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut parts = PAGE.split("\n```");
    let _ = parts.next();
    // Code, prose, code, prose: each code begins with its language.
    for code in parts.step_by(2) {
        let (language, text) = code.split_once('\n').unwrap();
        match language {
            "sh" => blocks.push(Block { script: text.to_owned(), shown: Vec::new() }),
            "text" => blocks.last_mut().unwrap().shown.extend(text.lines()),
            "yaml" | "" => {}
            other => panic!("a block of `{other}`"),
        }
    }
    blocks
}

/// Whether `text` is `pattern`, in which `…` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
    for part in between {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Runs a script as root's shell would, with our programs first in its path.
fn run_script(project: &Project, script: &str) -> Output {
    let mut shell = Command::new("/bin/sh");
    let path = format!("{}:{}", dist().display(), std::env::var("PATH").unwrap());
    shell.args(["-e", "-u", "-c", script]);
    project.place(&mut shell);
    run_bounded(shell.env("PATH", path), project.dir.path(), PAGE_BOUND, None)
}

#[test]
fn the_quickstart_does_what_it_says() {
    // Named as the page's first project, so that what is left of it is ended and counted.
    let project = Project::empty("hello");
    let blocks = blocks();
    assert!(blocks.len() >= 2, "{} blocks", blocks.len());
    let script: String =
        blocks.iter().map(|block| format!("exec 2>&1\n{}\necho '{MARK}'\n", block.script)).collect();
    let output = run_script(&project, &script);
    output.assert_ok();
    let end = format!("{MARK}\n");
    for (block, output) in blocks.iter().zip(output.stdout.split(&end)) {
        let mut lines = output.lines();
        // A line of nothing but the mark says that lines are left out.
        for pattern in block.shown.iter().filter(|line| **line != "…") {
            let found = lines.any(|line| matches(pattern, line.trim_end()));
            assert!(found, "the page shows `{pattern}`, which is not there or not in this order:\n{output}");
        }
    }
    project.assert_nothing_left();
}

#[test]
fn what_init_writes_runs() {
    let demo = dist().join("../../demo/rootfs.tar");
    let shell = "(mkdir -p r/bin r/dev r/etc r/proc r/run r/sys r/tmp && cp /bin/busybox r/bin/)\n\
                 chroot r /bin/busybox --install -s /bin\ntar -C r -cf rootfs.tar .\n";
    for (language, archive) in [("shell", Path::new("rootfs.tar")), ("python", demo.as_path())] {
        if language == "python" && !archive.is_file() {
            eprintln!("not run: what_init_writes_runs, in python: `cargo xtask demo` has made no image yet");
            continue;
        }
        let project = Project::empty("init-runs");
        if language == "shell" {
            run_script(&project, shell).assert_ok();
        }
        let image = format!("localhost/{language}:1");
        project.run(&["image", "import", &image, "--tar", archive.to_str().unwrap()]).assert_ok();
        for (template, line) in [("agent", "agent "), ("team", "answer: ")] {
            let init =
                ["init", "--force", "--name", "init-runs", "--image", language, "--template", template];
            project.run(&init).assert_ok();
            project.run_with(&["secret", "put", "signing_key"], PAGE_BOUND, Some("key")).assert_ok();
            project.write_policy(&[]);
            project.up();
            let (agent, line) = match (language, template) {
                ("python", "agent") => ("agent", "the box says: "),
                ("shell", "agent") => ("agent", line),
                _ => ("asker", line),
            };
            project.logs_with(agent, line);
            project.down();
        }
    }
}

#[test]
fn a_pattern_matches_only_what_it_says() {
    for (pattern, text) in [("a…c", "abc"), ("a…", "a"), ("…", ""), ("a…b…c", "a1b2c"), ("ab", "ab")]
    {
        assert!(matches(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [("a…c", "abcd"), ("ab", "abc"), ("a…b…c", "a1c"), ("b…", "ab")] {
        assert!(!matches(pattern, text), "{pattern} {text}");
    }
}
