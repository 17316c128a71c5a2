//! What one agent may use up, and that its peers and the box do not notice.

use std::fs;

use crate::project::{Project, agent};

#[test]
fn an_agent_that_takes_too_much_memory_is_killed_alone() {
    let greedy = agent("greedy", &["sleep 300", "eat 256", "wait"], "restart: on-failure:1");
    let project = Project::ready("memory-max", &format!("{greedy}{}", agent("peer", &["wait"], "")), &[]);
    project.up();
    project.wait_for_agent("greedy", "killed twice", |agent| {
        agent["instance"] == 2 && agent["exit_status"] == 137 && agent["phase"] == "exited"
    });
    assert!(!project.logs("greedy").contains("ate"));
    project.wait_for_agent("peer", "running", |agent| agent["pid"].is_number() && agent["instance"] == 1);
    project.down();
}

#[test]
fn an_agent_gets_no_more_processes_than_its_limit_and_they_end_with_it() {
    let many = agent("many", &["spawn 100", "wait"], "");
    let project = Project::ready("pids-max", &format!("{many}{}", agent("peer", &["wait"], "")), &[]);
    project.up();
    let logs = project.logs_with("many", "spawned");
    let count: u32 = logs.split("spawned ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    assert!((8..16).contains(&count), "{logs}");
    assert!(project.census().processes.len() > 8);
    project.down();
}

#[test]
fn an_agent_that_may_have_one_or_two_processes_starts_and_has_no_more() {
    let few = |name: &str, limit: &str| {
        agent(name, &["spawn 5", "wait"], "").replace("pids_limit: 16", &format!("pids_limit: {limit}"))
    };
    let project = Project::ready("pids-few", &format!("{}{}", few("one", "1"), few("two", "2")), &[]);
    project.up();
    for (name, more) in [("one", 0), ("two", 1)] {
        let logs = project.logs_with(name, "spawned");
        assert!(logs.contains(&format!("spawned {more}, then Resource temporarily unavailable")), "{logs}");
    }
    let output = project.run(&["--json", "stats", "--no-stream"]);
    let used: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    for one in used.as_array().unwrap() {
        assert_eq!(one["pids"], one["pids_max"], "{one}");
    }
    project.down();
}

#[test]
fn an_agent_reads_and_writes_no_faster_than_its_limit_and_a_peer_does() {
    // 4 MiB at 1 MiB a second written, and at 2 MiB a second read.
    let slow = "blkio_config:\n  device_write_bps: [{ path: /dev/sda, rate: 1m }]\n  device_read_bps: [{ path: /dev/sda, rate: 2m }]";
    let one = |name: &str, more: &str| {
        agent(name, &["direct /data/x 4", "wait"], &format!("volumes: [\"{name}:/data\"]\n{more}"))
    };
    let project = Project::empty("disk-rate");
    let text = format!(
        "name: disk-rate\nservices:\n{}{}volumes:\n  slow:\n  fast:\n",
        one("slow", slow),
        one("fast", "")
    );
    fs::write(project.file("compose.yaml"), text).unwrap();
    crate::image::link_into(&project.home());
    project.write_policy(&[]);
    if let Err(error) = casemate_sys::cgroup::disk::Disk::of(project.dir.path()) {
        eprintln!("not run: limits of disks: {error}");
        let (_, found) = project.try_up(&[]).assert_refused("control.cgroup-limits");
        assert!(found.contains("on no disk"), "{found}");
        project.assert_nothing_left();
        return;
    }
    project.up();
    let took = |name: &str| {
        let logs = project.logs_with(name, "read in");
        let numbers =
            logs.split(" in ").skip(1).map(|text| text.split(' ').next().unwrap().parse::<u64>().unwrap());
        numbers.collect::<Vec<_>>()
    };
    let (slow, fast) = (took("slow"), took("fast"));
    assert!((3_000..9_000).contains(&slow[0]) && (1_400..6_000).contains(&slow[1]), "{slow:?}");
    assert!(fast[0] < 2_500 && fast[1] < 1_200, "{fast:?}");
    assert_eq!(project.ps()["agents"]["slow"]["controls"]["cgroup-limits"], "enforced");
    project.down();
}

#[test]
fn an_agent_that_floods_its_log_or_its_socket_keeps_nobody_waiting() {
    let loud = agent("loud", &["flood 200000", "hold 64", "say flooded", "wait"], "");
    let peer = agent("peer", &["sleep 200", r#"ask {"method":"identity"}"#, "wait"], "");
    let project = Project::ready("flood", &format!("{loud}{peer}"), &[]);
    project.up();
    let logs = project.logs_with("peer", "box says");
    assert!(logs.contains(r#""agent":"peer""#), "{logs}");
    project.logs_with("loud", "flooded");
    project.attest("loud", "nonce-one", "e.json").assert_ok();
    let bytes: u64 = fs::read_dir(project.project_dir().join("logs"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("loud"))
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    assert!(bytes < 64 << 20, "{bytes}");
    project.down();
}

#[test]
fn a_volume_keeps_its_content_until_it_is_removed() {
    let writer = |steps: &[&str]| agent("one", steps, "volumes: [\"kept:/data\"]");
    let project = Project::empty("volume");
    let compose = |steps: &[&str]| {
        let text = format!("name: volume\nservices:\n{}volumes:\n  kept:\n", writer(steps));
        fs::write(project.file("compose.yaml"), text).unwrap();
        project.write_policy(&[]);
    };
    crate::image::link_into(&project.home());
    compose(&["write /data/x first", "read /data/x", "write /etc/x y", "wait"]);
    project.up();
    // The root is read-only: the third step fails, and with it the agent.
    let logs = project.logs_with("one", "failed: write /etc/x");
    assert!(logs.contains("/data/x has first"), "{logs}");
    project.down();
    compose(&["read /data/x", "say again", "wait"]);
    project.up();
    assert_eq!(project.logs_with("one", "again").matches("/data/x has first").count(), 2);
    project.run(&["down", "-t", "0", "--volumes"]).assert_ok();
    project.assert_nothing_left();
    project.up();
    project.logs_with("one", "/data/x fails NotFound");
    project.down();
}
