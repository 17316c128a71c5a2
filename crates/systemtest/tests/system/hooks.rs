//! Commands that a composition has run in an agent's compartment, and what its health checks say.

use std::time::Duration;

use crate::inside::{failed_rules, verdict};
use crate::project::{Project, agent};

fn hook(step: &str, more: &str) -> String {
    format!("  - command: [\"/agent\", {step:?}]{}", more.replace('\n', "\n    "))
}

#[test]
fn hooks_run_inside_in_their_order_as_they_say_and_taint_nobody() {
    let hooks = format!(
        "post_start:\n{}\n{}\n{}\npre_stop:\n{}\n  - command: [\"/none\"]\n{}",
        hook("status Uid", "\nuser: \"0:7\""),
        hook("folder", "\nworking_dir: /data"),
        hook("variable A", "\nenvironment: { A: hooked }"),
        hook("say before the end", ""),
        hook("say at last", ""),
    );
    let one = agent(
        "one",
        &["hear TERM", "wait"],
        &format!("environment: {{ A: own }}\nstop_grace_period: 5s\n{hooks}"),
    )
    .replace("stop_signal: SIGKILL", "stop_signal: SIGINT");
    let after = agent("after", &["say begun", "wait"], "depends_on: { one: { condition: service_started } }");
    let project = Project::ready("hooks", &format!("{one}{after}"), &[]);
    project.up();
    let log = project.logs("one");
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("no `{text}` in {log}"));
    assert!(at("Uid: 0 0 0 0") < at("in /data") && at("in /data") < at("A=hooked"), "{log}");
    assert_eq!(project.ps()["agents"]["one"]["tainted"], false);
    assert!(failed_rules(&verdict(&project, "one", "nonce-hooks")).is_empty());
    assert!(!project.run(&["events"]).stdout.contains("tainted"));

    let stopped = project.run(&["stop", "one"]);
    stopped.assert_ok();
    let log = project.logs_with("one", "at last");
    assert!(log.find("before the end") < log.find("at last"), "{log}");
    assert!(stopped.took < Duration::from_secs(5), "{stopped:?}");
    assert_eq!(project.ps()["agents"]["one"]["exit_status"], 130);
    project.run(&["start", "one"]).assert_ok();
    project.run(&["kill", "one"]).assert_ok();
    project.wait_for_agent("one", "killed", |agent| agent["exit_status"] == 137);
    assert_eq!(project.logs("one").matches("at last").count(), 1, "who is killed has no time for hooks");
    project.down();
}

#[test]
fn a_hook_that_fails_at_the_start_ends_the_agent_and_says_why() {
    let hooks = format!(
        "post_start:\n  - command: [\"/agent\", \"say no database\", \"exit 3\"]\n{}",
        hook("say never", "")
    );
    let one = agent("one", &["say begun", "hear TERM", "wait"], &format!("restart: always\n{hooks}"));
    let project = Project::ready("hook-fails", &one, &[]);
    let output = project.try_up(&[]);
    output.assert_fails(
        3,
        "agent one failed at run: `post_start` hook 1 ended with status 3 and printed: no database",
        "hook",
    );
    project.assert_nothing_left();

    project.edit("compose.yaml", |text| text.replace("\"/agent\", \"say no database\", \"exit 3\"", "/none"));
    project.write_policy(&[]);
    project.try_up(&[]).assert_fails(3, "`post_start` hook 1 did not run", "hook");
    project.assert_nothing_left();
}

#[test]
fn a_hook_at_the_end_has_the_grace_time_and_no_more() {
    let hooks = "pre_stop:\n  - command: [\"/agent\", \"say drains\", \"wait\"]";
    let one = agent("one", &["say begun", "wait"], &format!("stop_grace_period: 2s\n{hooks}"));
    let project = Project::ready("hook-waits", &one, &[]);
    project.up();
    let stopped = project.run(&["stop"]);
    stopped.assert_ok();
    assert!(stopped.took >= Duration::from_secs(2) && stopped.took < Duration::from_secs(8), "{stopped:?}");
    assert!(project.logs("one").contains("drains"));
    project.run(&["start"]).assert_ok();
    // Paused, it goes on for its hook.
    project.run(&["pause"]).assert_ok();
    project.run(&["stop", "-t", "1"]).assert_ok();
    project.logs_with("one", "begun\none | drains\n");
    assert_eq!(project.logs("one").matches("drains").count(), 2);
    project.run(&["start"]).assert_ok();
    project.down();
}

#[test]
fn ps_and_up_tell_why_an_agent_is_unhealthy() {
    let check = "healthcheck:\n  test: [\"CMD\", \"/agent\", \"say no \\u001b[2Jdatabase\", \"exit 4\"]\n  interval: 50ms\n  \
                 retries: 2";
    let project = Project::ready("unhealthy", &agent("one", &["wait"], check), &[]);
    let output = project.try_up(&[]);
    let why = "2 health checks failed in a row; the last one ended with status 4 and printed: no \\u{1b}[2Jdatabase";
    output.assert_fails(3, why, "logs");
    project.assert_nothing_left();

    let check = "healthcheck:\n  test: [\"CMD\", \"/agent\", \"until /data/sick 5\"]\n  interval: 50ms\n  timeout: 100ms\n  \
                 retries: 2";
    let check = format!("volumes: [\"kept:/data\"]\n{}", check.replace("until /data/sick 5", "flood 2000"));
    let flooding = agent("one", &["wait"], &check.replace("timeout: 100ms", "timeout: 20s"));
    let text = format!("name: unhealthy\nservices:\n{flooding}volumes:\n  kept:\n");
    std::fs::write(project.file("compose.yaml"), text).unwrap();
    project.write_policy(&[]);
    project.up();
    assert_eq!(project.ps()["agents"]["one"]["health"], "healthy", "much output holds no check up");
    project.down();
}
