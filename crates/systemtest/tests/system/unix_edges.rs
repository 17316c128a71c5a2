//! Edges between Unix sockets: bytes pass, nothing else does, and they are held to what the composition says.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::project::{Project, agent};

const CALLERS: &str = "/run/casemate/edges/server/tmp/s";

fn server(steps: &[&str], sockets: &str) -> String {
    agent("server", steps, &format!("x-casemate:\n  sockets: {sockets}"))
}

fn caller(steps: &[&str], talks_to: &str) -> String {
    agent("caller", steps, &format!("x-casemate:\n  talks-to: {talks_to}"))
}

#[test]
fn bytes_pass_both_ways_with_half_closes_and_nothing_but_bytes() {
    let server = server(&["serve-socket /tmp/s", "wait"], "[\"/tmp/s\"]");
    let [call, long, descriptor, tamper] = [
        format!("call-socket {CALLERS} hello"),
        format!("call-socket-with {CALLERS} 3000"),
        format!("send-descriptor {CALLERS}"),
        format!("tamper {CALLERS}"),
    ];
    let caller = caller(
        &["sleep 500", &tamper, &call, &long, &descriptor, "call-socket /tmp/s", "wait"],
        "[\"server:/tmp/s\"]",
    );
    let project = Project::ready("unix-bytes", &format!("{server}{caller}"), &[]);
    project.up();
    let log = project.logs_with("caller", "call /tmp/s failed NotFound");
    assert!(log.contains("changed nothing"), "{log}");
    let answered = |what: &str| log.contains(&format!("call {CALLERS} answered {what}"));
    assert!(answered("5 bytes hello descriptors 0 peer unseen"), "{log}");
    assert!(answered("3072000 bytes xxxxxxxxxx"), "{log}");
    // Linux 6.16 refuses it at once; before, the kernel drops it on the way.
    let refused = "descriptor PermissionDenied: ";
    let sent = "descriptor sent: ";
    assert!(log.contains(refused) || log.contains(sent), "{log}");
    let kept = if log.contains(refused) { "3 bytes ata" } else { "4 bytes data" };
    assert!(answered(&format!("{kept} descriptors 0")), "{log}");
    let told = project.run(&["edges"]);
    assert!(told.stdout.contains("-> server:/tmp/s"), "{}", told.stdout);
    let graph = project.run(&["edges", "--dot"]);
    assert!(graph.stdout.contains("\"caller\" -> \"server\" [label=\"/tmp/s\"]"), "{}", graph.stdout);
    let why = project.run(&["why", "caller", "server:/tmp/s"]);
    why.assert_ok();
    assert!(why.stdout.contains(CALLERS), "{}", why.stdout);
    project.down();
}

#[test]
fn a_path_that_leads_elsewhere_or_nowhere_ends_the_connection() {
    let server = server(
        &[
            "serve-socket /tmp/real",
            "link /tmp/real /tmp/link",
            "link /run/casemate/agent.sock /tmp/own",
            "write /tmp/file text",
            "wait",
        ],
        "[\"/tmp/link\", \"/tmp/own\", \"/tmp/file\", \"/tmp/none\"]",
    );
    let places = ["link", "own", "file", "none"];
    let calls = places.map(|place| format!("call-socket /run/casemate/edges/server/tmp/{place}"));
    let steps: Vec<&str> =
        std::iter::once("sleep 500").chain(calls.iter().map(String::as_str)).chain(["wait"]).collect();
    let caller = caller(
        &steps,
        "[\"server:/tmp/link\", \"server:/tmp/own\", \"server:/tmp/file\", \"server:/tmp/none\"]",
    );
    let project = Project::ready("unix-nowhere", &format!("{server}{caller}"), &[]);
    project.up();
    let log = project.logs_with("caller", "tmp/none ");
    for place in places {
        let path = format!("call /run/casemate/edges/server/tmp/{place}");
        let ended = [
            format!("{path} ended"),
            format!("{path} failed ConnectionReset"),
            format!("{path} failed BrokenPipe"),
        ];
        assert!(ended.iter().any(|ended| log.contains(ended)), "{place}: {log}");
        let edge = edge(&project, &format!("/tmp/{place}"));
        assert_eq!(edge["traffic"]["last_refusal"], "edge.answers", "{edge}");
    }
    project.down();
}

fn edge(project: &Project, path: &str) -> Value {
    let output = project.run(&["--json", "edges"]);
    output.assert_ok();
    let all: Value = serde_json::from_str(&output.stdout).unwrap();
    let found = all["edges"].as_array().unwrap().iter().find(|edge| edge["target"]["path"] == path);
    found.unwrap_or_else(|| panic!("{all}")).clone()
}

#[test]
fn an_edge_to_a_socket_is_closed_and_opened_and_held_to_its_limits() {
    let server = server(&["serve-socket /tmp/s", "serve-socket /tmp/t", "wait"], "[\"/tmp/s\", \"/tmp/t\"]");
    let watch = format!("watch-socket {CALLERS}");
    let limited = "call-socket /run/casemate/edges/server/tmp/t 0123456789";
    let caller = caller(
        &["sleep 500", limited, limited, &watch],
        "[\"server:/tmp/s\", { to: \"server:/tmp/t\", bytes: 60b }]",
    );
    let project = Project::ready("unix-live", &format!("{server}{caller}"), &[]);
    project.up();
    let answered = format!("call {CALLERS} answered 4 bytes ping");
    let log = project.logs_with("caller", &answered);
    assert_eq!(log.matches("/tmp/t answered 10 bytes 0123456789").count(), 1, "{log}");
    assert_eq!(edge(&project, "/tmp/t")["traffic"]["last_refusal"], "edge.bytes");

    project.run(&["deny", "caller", "server:/tmp/s"]).assert_ok();
    wait_until(|| edge(&project, "/tmp/s")["traffic"]["refused"] != 0);
    assert_eq!(edge(&project, "/tmp/s")["state"], "denied");
    let times = || project.logs("caller").matches(&answered).count();
    let before = times();
    project.run(&["allow", "caller", "server:/tmp/s"]).assert_ok();
    wait_until(|| times() > before);
    project.run(&["allow", "caller", "server:/tmp/other"]).assert_refused("edge.socket");
    project.run(&["allow", "server", "caller:/tmp/s"]).assert_refused("edge.socket");

    // Whoever is called starts anew, and so does who calls: the edge is there for both.
    for (agent, instance) in [("server", 2), ("caller", 2)] {
        project.run(&["restart", agent]).assert_ok();
        project.wait_for_agent(agent, "started anew", |one| one["instance"] == instance);
        let bytes = || edge(&project, "/tmp/s")["traffic"]["bytes"].as_u64().unwrap();
        let before = bytes();
        wait_until(|| bytes() > before + 100);
    }
    project.down();
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "it did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}
