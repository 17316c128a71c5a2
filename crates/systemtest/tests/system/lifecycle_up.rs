//! `up` of some agents, `up` where a box runs already, `up` that is interrupted while it waits, and what `down` removes.

use std::fs;

use rustix::process::Signal;

use crate::lifecycle::{gentle, runs};
use crate::project::{COMMAND_BOUND, Project, agent, kill};

#[test]
fn up_of_some_agents_starts_them_and_what_they_depend_on() {
    let base = gentle("base", &["wait"], "");
    let top = gentle("top", &["wait"], "depends_on: [base]");
    let other = gentle("other", &["say here", "wait"], "");
    let project = Project::ready("subset", &format!("{base}{top}{other}"), &[]);
    project.run(&["up", "-d", "nobody"]).assert_fails(2, "no agent `nobody`", "other");
    // What `depends_on` asks is never left out.
    project.try_up(&["--no-deps", "top"]).assert_fails(
        3,
        "dependency `base` was not started",
        "casemate logs",
    );
    project.assert_nothing_left();
    let up = project.try_up(&["top"]);
    up.assert_ok();
    assert!(up.stdout.contains("2 agents run"), "{}", up.stdout);
    let status = project.ps();
    assert_eq!(status["agents"]["other"]["standing"], "not-started", "{status}");
    assert!(project.run(&["ps"]).stdout.contains("not started"));
    for command in ["kill", "pause"] {
        let (_, found) = project.run(&[command, "other"]).assert_refused("agent.running");
        assert_eq!(found, "it was not started");
    }
    // The composition is the whole one: what runs is attested as part of it.
    project.attest("top", "nonce-one", "e.json").assert_ok();
    project.run(&["verify", "e.json", "--nonce", "nonce-one"]).assert_ok();
    // The rest starts later, in the same box.
    let rest = project.try_up(&[]);
    rest.assert_ok();
    assert!(rest.stdout.contains("other started in the box that runs"), "{}", rest.stdout);
    runs(&project, "other", 1);
    runs(&project, "top", 1);
    project.down();
}

#[test]
fn up_of_an_unchanged_box_changes_nothing_and_of_a_changed_one_says_what() {
    let text = |word: &str| format!("{}{}", gentle("one", &[word, "wait"], ""), gentle("two", &["wait"], ""));
    let project = Project::ready("up-again", &text("say first"), &[]);
    project.up();
    let pid = runs(&project, "one", 1)["pid"].clone();
    let again = project.try_up(&[]);
    again.assert_ok();
    assert!(again.stdout.contains("runs already, and nothing changes"), "{}", again.stdout);
    assert_eq!(project.ps()["agents"]["one"]["pid"], pid);
    project.try_up(&["--platform", "snp"]).assert_fails(2, "bound when a box starts", "--force-recreate");
    // An agent that was stopped starts again.
    project.run(&["stop", "two"]).assert_ok();
    let again = project.try_up(&["--wait"]);
    again.assert_ok();
    assert!(again.stdout.contains("two started in the box that runs"), "{}", again.stdout);
    // One agent anew; the other stays.
    project.try_up(&["--force-recreate", "two"]).assert_ok();
    runs(&project, "two", 3);
    assert_eq!(project.ps()["agents"]["one"]["pid"], pid);

    let before = fs::read(project.file("compose.lock")).unwrap();
    project.write_compose(&text("say second"), &[]);
    let changed = project.try_up(&[]);
    changed.assert_refused("composition.running");
    assert!(changed.stderr.contains("say second"), "{}", changed.stderr);
    assert_eq!(fs::read(project.file("compose.lock")).unwrap(), before, "a refused `up` writes nothing");
    assert_eq!(project.ps()["agents"]["one"]["pid"], pid);
    project.try_up(&["--force-recreate", "one"]).assert_refused("composition.running");
    // Nothing is ended for a box that the policy would refuse.
    project.try_up(&["--force-recreate"]).assert_refused("composition.digest");
    assert_eq!(project.ps()["agents"]["one"]["pid"], pid);
    project.write_policy(&[]);
    project.try_up(&["--force-recreate"]).assert_ok();
    project.logs_with("one", "second");
    runs(&project, "one", 1);
    project.down();
}

#[test]
fn down_names_the_volumes_that_it_removes() {
    let one = agent("one", &["write /data/x kept", "wait"], "volumes: [\"kept:/data\"]");
    let project = Project::empty("down-v");
    fs::write(project.file("compose.yaml"), format!("name: down-v\nservices:\n{one}volumes:\n  kept:\n"))
        .unwrap();
    crate::image::link_into(&project.home());
    project.write_policy(&[]);
    project.up();
    project.run(&["down", "-t", "0"]).assert_ok();
    let output = project.run(&["down", "-v", "--remove-orphans"]);
    output.assert_ok();
    assert_eq!(output.stdout, "removed volume kept\nproject down-v does not run\n");
    assert!(project.run(&["--json", "down", "-v"]).stdout.contains("\"removed_volumes\":[]"));
    // An agent that the composition does not have any more leaves its log, until it is asked for.
    project.write_compose(&agent("two", &["wait"], ""), &[]);
    project.write_policy(&[]);
    project.up();
    assert!(project.project_dir().join("logs/one.log").exists());
    let output = project.try_up(&["--remove-orphans"]);
    output.assert_ok();
    assert!(output.stderr.contains("removed the logs of one"), "{}", output.stderr);
    assert!(!project.project_dir().join("logs/one.log").exists());
    project.down();
}

#[test]
fn ctrl_c_while_a_start_is_waited_for_lets_the_start_go_on() {
    let slow = gentle(
        "slow",
        &["sleep 1500", "serve 8080 x", "wait"],
        "expose: [\"8080\"]\nhealthcheck:\n  test: [\"CMD\", \"/agent\", \"reach 8080\"]\n  interval: 200ms\n  retries: 50",
    );
    let project = Project::ready("ctrl-c-wait", &format!("{slow}{}", gentle("other", &["wait"], "")), &[]);
    project.up();
    project.run(&["stop", "slow"]).assert_ok();
    for command in [&["start", "--wait", "slow"][..], &["up", "--wait", "--progress", "plain"][..]] {
        let waiting = project.spawn(command);
        project.wait_for_agent("slow", "starting", |agent| agent["health"] == "starting");
        waiting.signal(Signal::INT);
        waiting.wait(COMMAND_BOUND).assert_fails(130, "interrupted", "casemate ps");
        project.wait_for_agent("slow", "healthy all the same", |agent| agent["health"] == "healthy");
        project.run(&["stop", "slow"]).assert_ok();
    }
    let late = project.run(&["start", "--wait", "--wait-timeout", "0", "slow"]);
    late.assert_fails(3, "go on starting", "--wait-timeout");
    project.wait_for_agent("slow", "healthy all the same", |agent| agent["health"] == "healthy");
    // An agent that is killed from outside is no user's stop.
    let pid = u32::try_from(project.ps()["agents"]["slow"]["pid"].as_u64().unwrap()).unwrap();
    kill(pid, Signal::KILL);
    project.wait_for_agent("slow", "ended by itself", |agent| agent["standing"] == "ended");
    project.down();
}
