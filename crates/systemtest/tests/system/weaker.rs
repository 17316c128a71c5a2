//! A control that cannot be applied: `up` stops and names it; to go on, user and policy must both accept the gap, and
//! evidence shows it.

use std::process::Command;

use casemate_protocol::agent_token::Control;
use casemate_protocol::controls::Need;

use crate::project::{COMMAND_BOUND, Output, Project, agent, dist, run_bounded};

/// Runs `casemate up -d` on a kernel that seems to have no Landlock.
fn up_without_landlock(project: &Project, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_systemtest-without-landlock"));
    command.arg(dist().join("casemate")).args(["up", "-d", "--progress", "plain"]).args(more);
    project.place(&mut command);
    run_bounded(&mut command, project.dir.path(), COMMAND_BOUND, None)
}

#[test]
fn a_control_that_cannot_be_applied_stops_the_start_until_user_and_policy_accept_the_gap() {
    let project = Project::ready("weaker", &agent("one", &["say here", "wait"], ""), &[]);

    let output = up_without_landlock(&project, &[]);
    assert!(matches!(output.status.code(), Some(1 | 3)), "{}{}", output.stdout, output.stderr);
    let report = output.report().join("\n");
    assert!(report.contains("landlock") && report.contains("--allow-weaker landlock"), "{report}");
    project.assert_nothing_left();

    // The user accepts it, the policy does not.
    let (expected, found) =
        up_without_landlock(&project, &["--allow-weaker", "landlock"]).assert_refused("agent.controls");
    assert_eq!((expected.as_str(), found.as_str()), ("every control enforced", "landlock not-enforced"));
    assert!(!project.logs("one").contains("here"));
    project.assert_nothing_left();

    // The policy accepts it, the user does not.
    project.write_policy(&["--allow-weaker", "landlock"]);
    let output = up_without_landlock(&project, &[]);
    assert_ne!(output.status.code(), Some(0), "{}", output.stdout);
    project.assert_nothing_left();

    // Both do: it runs, and nobody who asks can miss it.
    up_without_landlock(&project, &["--allow-weaker", "landlock"]).assert_ok();
    project.logs_with("one", "here");
    let status = project.ps();
    let controls = status["agents"]["one"]["controls"].as_object().unwrap();
    for (name, status) in controls {
        let expected = if name == "landlock" { "not-enforced" } else { "enforced" };
        if Control::from_name(name).unwrap().need() == Need::Always {
            assert_eq!(status, expected, "{name}");
        }
    }
    project.attest("one", "nonce-one", "e.json").assert_ok();
    let verdict = project.run(&["verify", "e.json", "--nonce", "nonce-one"]);
    verdict.assert_ok();
    let line = verdict.stdout.lines().find(|line| line.contains("control.landlock"));
    assert!(line.is_some_and(|line| line.contains("not-enforced")), "{}", verdict.stdout);
    project.write_policy(&[]);
    project.run(&["verify", "e.json", "--nonce", "nonce-one"]).assert_refused("agent.controls");
    project.down();
}

#[test]
fn a_gap_that_is_accepted_where_there_is_none_changes_nothing() {
    let project = Project::ready("nogap", &agent("one", &["say here", "wait"], ""), &[]);
    project.up_with(&["--allow-weaker", "landlock"]);
    assert_eq!(project.ps()["agents"]["one"]["controls"]["landlock"], "enforced");
    project.down();
}
