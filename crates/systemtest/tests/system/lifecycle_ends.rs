//! The ends of the lifecycle: who comes while a pause begins, whose asker is gone, who starts too often, who leaves children.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::project::{COMMAND_BOUND, Project, agent};

/// The processes in the agent's group of this hierarchy; none where there is no such group.
fn members(project: &Project, hierarchy: &str, agent: &str) -> Option<BTreeSet<String>> {
    let group = Path::new("/sys/fs/cgroup").join(hierarchy).join("casemate");
    let procs = group.join(project.owner().box_name).join(agent).join("cgroup.procs");
    fs::read_to_string(procs).ok().map(|text| text.lines().map(str::to_owned).collect())
}

#[test]
fn a_command_or_health_check_on_its_way_in_stands_still_with_the_paused_agent() {
    let check = "healthcheck:\n  test: [\"CMD\", \"/agent\", \"sleep 20\"]\n  interval: 1ms\n  retries: 1000";
    let project = Project::ready(
        "pause-race",
        &agent("one", &["wait"], check).replace("pids_limit: 16", "pids_limit: 64"),
        &[],
    );
    project.up();
    let (mut inside, mut refused) = (0, 0);
    for round in 0..24_u64 {
        let visitor = project.spawn(&["exec", "one", "/agent", "tick 1", "wait"]);
        std::thread::sleep(Duration::from_millis(round * 4));
        project.run(&["pause", "one"]).assert_ok();
        // From here on nothing of it runs: neither who was there nor who came meanwhile.
        let said = visitor.stdout();
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!(visitor.stdout(), said, "round {round}: it goes on");
        let all = members(&project, "memory", "one");
        let frozen = ["freezer", "unified"].iter().find_map(|hierarchy| members(&project, hierarchy, "one"));
        if let (Some(all), Some(frozen)) = (all, frozen) {
            let outside: Vec<_> = all.difference(&frozen).collect();
            assert!(outside.is_empty(), "round {round}: {outside:?} of {all:?} are in no freezer");
        }
        project.run(&["unpause", "one"]).assert_ok();
        visitor.signal(Signal::INT);
        let output = visitor.wait(COMMAND_BOUND);
        if output.stderr.contains("it is paused") { refused += 1 } else { inside += 1 }
    }
    println!("{inside} came in, {refused} were refused");
    assert!(inside > 0, "nobody came in");
    project.down();
}

#[test]
fn an_order_is_carried_out_though_its_asker_is_gone() {
    let deaf =
        agent("deaf", &["hear TERM", "wait"], "").replace("stop_signal: SIGKILL", "stop_signal: SIGTERM");
    let project = Project::ready("order-alone", &deaf, &[]);
    project.up();
    project.logs_with("deaf", "hears TERM");
    let asker = project.spawn(&["restart", "-t", "2", "deaf"]);
    project.wait_for_agent("deaf", "about to end", |agent| agent["standing"] == "stopping");
    asker.signal(Signal::KILL);
    let _ = asker.wait(COMMAND_BOUND);
    project.wait_for_agent("deaf", "started again", |agent| {
        agent["instance"] == 2 && agent["standing"] == "up" && agent["phase"] == "healthy"
    });
    project.down();
}

#[test]
fn orphans_of_an_agent_are_reaped() {
    let parent = agent("parent", &["orphans 40", "say ready", "wait"], "init: true");
    let project = Project::ready("orphans", &parent, &[]);
    project.up();
    project.logs_with("parent", "left 40");
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let output = project.run(&["--json", "top", "parent"]);
        output.assert_ok();
        let all: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
        let all = all.as_array().unwrap().clone();
        if all.len() == 2 {
            assert!(all.iter().all(|process| process["state"] != "Z"), "{all:?}");
            break;
        }
        assert!(Instant::now() < end, "of 40 orphans some are left: {all:?}");
    }
    project.down();
}

#[test]
fn stats_end_with_the_box_and_say_so() {
    let project = Project::ready("stats-end", &agent("one", &["wait"], ""), &[]);
    project.up();
    let mut watching = project.spawn(&["stats"]);
    let end = Instant::now() + COMMAND_BOUND;
    while !watching.stdout().contains("one") {
        assert!(Instant::now() < end && watching.runs());
        std::thread::sleep(Duration::from_millis(20));
    }
    project.down();
    let watched = watching.wait(COMMAND_BOUND);
    watched.assert_ok();
    assert!(watched.stderr.contains("project stats-end ended"), "{watched:?}");
}

#[test]
fn an_agent_that_starts_too_often_has_its_share_of_the_log_and_leaves_the_others_theirs() {
    let often = "deploy: { restart_policy: { condition: any, delay: 100ms } }";
    let idle: String = (0..198).map(|number| agent(&format!("idle-{number}"), &["wait"], "")).collect();
    let services = format!("{}{}{idle}", agent("often", &["exit 1"], often), agent("other", &["wait"], ""));
    let project = Project::ready("too-often", &services, &[]);
    project.up_with(&["other"]);
    project.run(&["start", "often"]);
    let end = Instant::now() + Duration::from_secs(120);
    let ended = loop {
        let ps = project.ps();
        if ps["agents"]["often"]["state"] == "failed" {
            break ps["agents"]["often"].clone();
        }
        assert!(Instant::now() < end, "it starts for ever: {}", ps["agents"]["often"]);
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!((&ended["standing"], &ended["phase"]), (&"ended".into(), &"waiting".into()), "{ended}");
    let instances = ended["instance"].as_u64().unwrap();
    assert!((20..200).contains(&instances), "{ended}");
    let (expected, found) = project.run(&["start", "often"]).assert_refused("agent.events");
    assert!(expected.contains("share of often in the event log"), "{expected}");
    assert!(found.contains("events"), "{found}");
    // The others start and are attested as before.
    project.run(&["restart", "-t", "0", "other"]).assert_ok();
    project.attest("other", "nonce-other", "e.json").assert_ok();
    project.run(&["verify", "e.json", "--nonce", "nonce-other"]).assert_ok();
    project.down();
}
