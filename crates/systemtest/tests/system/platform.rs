//! What the hardware's measurement covers: another platform, and other programs in the box, are refused.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use crate::project::{COMMAND_BOUND, Output, Project, agent, dist, run_bounded};

fn project(name: &str) -> Project {
    Project::ready(name, &agent("one", &["say here", "wait"], ""), &[])
}

#[test]
fn a_box_on_another_platform_than_the_policy_names_is_refused() {
    let project = project("other-tee");
    let output = project.try_up(&["--platform", "snp"]);
    assert_eq!(output.status.code(), Some(1), "{}{}", output.stdout, output.stderr);
    let rule = output.report().get(1).map(|line| line.trim().to_owned()).unwrap_or_default();
    assert_eq!(rule, "rule      evidence.tee", "{}", output.stderr);
    assert!(!project.logs("one").contains("here"));
    project.assert_nothing_left();
    project.up_with(&["--platform", "tdx"]);
    project.down();
}

#[test]
fn a_changed_program_of_the_box_is_refused() {
    let project = project("other-program");
    let bin = project.file("bin");
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(dist()).arg(&bin);
    run_bounded(&mut copy, project.dir.path(), COMMAND_BOUND, None).assert_ok();
    let up = || -> Output {
        let mut command = Command::new(bin.join("casemate"));
        command.args(["up", "-d", "--progress", "plain"]);
        project.place(&mut command);
        run_bounded(&mut command, project.dir.path(), COMMAND_BOUND, None)
    };
    // The same programs in another folder are the same box.
    up().assert_ok();
    project.down();
    for program in ["casemate-warden", "casemate-launcher", "casemate-gateway", "casemate-courier"] {
        let path = bin.join(program);
        let whole = fs::read(&path).unwrap();
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"x").unwrap();
        let output = up();
        assert_eq!(output.status.code(), Some(1), "{program}: {}{}", output.stdout, output.stderr);
        let rule = output.report().get(1).map(|line| line.trim().to_owned()).unwrap_or_default();
        assert!(rule.starts_with("rule      tdx."), "{program}: {}", output.stderr);
        project.assert_nothing_left();
        fs::write(&path, whole).unwrap();
    }
    up().assert_ok();
    project.down();
}

#[test]
fn evidence_of_one_platform_is_refused_by_the_policy_of_the_other() {
    let project = Project::new("cross", &agent("one", &["wait"], ""), &[]);
    project.write_policy(&["--platform", "snp"]);
    project.up_with(&["--platform", "snp"]);
    project.attest("one", "nonce-one", "e.json").assert_ok();
    project.run(&["verify", "e.json", "--nonce", "nonce-one"]).assert_ok();
    project.down();
    project.write_policy(&["--platform", "tdx"]);
    let output = project.run(&["verify", "e.json", "--nonce", "nonce-one"]);
    assert_eq!(output.status.code(), Some(1), "{}{}", output.stdout, output.stderr);
}
