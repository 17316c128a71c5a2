//! Edges of a running box: ports that lead in, edges that are opened, closed and limited, and what evidence says of it.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::project::{Project, agent};

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn read_from(address: &str, port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((address, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

fn edges(project: &Project) -> Vec<Value> {
    let output = project.run(&["--json", "edges"]);
    output.assert_ok();
    let all: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(all["running"], true, "{all}");
    all["edges"].as_array().unwrap().clone()
}

fn edge<'e>(edges: &'e [Value], from: &str, port: u16) -> &'e Value {
    let found = edges.iter().find(|edge| edge["from"]["agent"] == from && edge["target"]["port"] == port);
    found.unwrap_or_else(|| panic!("{edges:?}"))
}

#[test]
fn a_port_of_the_box_leads_to_its_agent_and_only_on_the_address_that_is_written() {
    let (port, inner) = (free_port(), 8080);
    let server = agent("server", &["serve 8080 hello", "wait"], &format!("ports: [\"{port}:{inner}\"]"));
    let project = Project::ready("edges-ports", &server, &[]);
    project.up();
    project.logs_with("server", "serving on 8080");
    assert_eq!(read_from("127.0.0.1", port).unwrap(), "hello");
    let refused = TcpStream::connect(("127.0.0.2", port)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let all = edges(&project);
    assert_eq!(all[0]["from"]["port"], format!("127.0.0.1:{port}"), "{all:?}");
    assert_eq!(all[0]["traffic"]["connections"], 1, "{all:?}");
    project.down();
    assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "the port is still taken");
}

#[test]
fn a_port_of_the_box_that_is_taken_ends_up_before_anything_starts() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let server = agent("server", &["wait"], &format!("ports: [\"{port}:80\"]"));
    let project = Project::ready("edges-taken", &server, &[]);
    let output = project.try_up(&[]);
    assert!(!output.status.success());
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(said.contains(&format!("127.0.0.1:{port} of the box is in use")), "{said}");
    project.assert_nothing_left();
}

#[test]
fn edges_are_closed_and_opened_while_the_box_runs_and_evidence_says_so() {
    let server =
        agent("server", &["serve 8080 hello", "serve 9090 more", "wait"], "expose: [\"8080\", \"9090\"]");
    let caller = agent(
        "caller",
        &["datagrams", "watch server:8080 server:9090"],
        "restart: always\nx-casemate:\n  talks-to: [\"server:8080\"]",
    );
    let project = Project::ready("edges-live", &format!("{server}{caller}"), &[]);
    project.up();
    let log = project.logs_with("caller", "call server:8080 answered hello");
    assert!(log.contains("datagram fails NetworkUnreachable, raw socket fails"), "{log}");
    project.logs_with("caller", "call server:9090 failed");
    let verdict = |project: &Project| {
        project.attest("caller", "nonce-of-the-test", "e.json").assert_ok();
        project.run(&["verify", "e.json", "--nonce", "nonce-of-the-test"])
    };

    project.run(&["deny", "caller", "server:8080"]).assert_ok();
    project.logs_with("caller", "call server:8080 failed");
    let why = project.run(&["why", "caller", "server:8080"]);
    assert!(!why.status.success() && why.stderr.contains("edge.denied"), "{}", why.stderr);
    assert_eq!(edge(&edges(&project), "caller", 8080)["state"], "denied");
    // Less than declared is nothing to refuse.
    verdict(&project).assert_ok();
    let times = |said: &str| project.logs("caller").matches(said).count();
    let answered = times("call server:8080 answered hello");
    project.run(&["allow", "caller", "server:8080"]).assert_ok();
    wait_until(|| times("call server:8080 answered hello") > answered);

    project.run(&["allow", "caller", "server:1"]).assert_refused("edge.exposed");
    project.run(&["deny", "caller", "server:9090"]).assert_refused("edge.known");
    project.run(&["allow", "caller", "localhost:80"]).assert_refused("egress.host");
    let (_, found) = project.run(&["allow", "caller", "nobody:80"]).assert_refused("egress.host");
    assert_eq!(found, "`nobody`, which has no dot and is no agent");
    project.run(&["allow", "caller", "server:9090"]).assert_ok();
    project.logs_with("caller", "call server:9090 answered more");
    assert_eq!(edge(&edges(&project), "caller", 9090)["state"], "added");
    let events = project.run(&["events"]);
    assert!(events.stdout.contains("policy changed       caller to server:9090: open"), "{}", events.stdout);
    assert_eq!(project.ps()["agents"]["caller"]["edges_changed"], serde_json::json!(["+ server:9090"]));
    let refused = verdict(&project);
    assert!(!refused.status.success(), "{}", refused.stdout);
    assert!(format!("{}{}", refused.stdout, refused.stderr).contains("agent.edges"), "{}", refused.stdout);
    project.edit("policy.toml", |text| {
        text.replace("allow-tainted = false", "allow-tainted = false\nallow-added-edges = true")
    });
    verdict(&project).assert_ok();

    // An agent that starts anew finds its edges as they were left.
    project.run(&["deny", "caller", "server:8080"]).assert_ok();
    wait_until(|| edge(&edges(&project), "caller", 8080)["traffic"]["refused"] != 0);
    let (more, failed) = (times("call server:9090 answered more"), times("call server:8080 failed"));
    let pid = project.ps()["agents"]["caller"]["pid"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    project.wait_for_agent("caller", "started anew", |caller| caller["instance"] == 2);
    wait_until(|| times("call server:9090 answered more") > more);
    wait_until(|| times("call server:8080 failed") > failed);
    let counted = edges(&project);
    assert_eq!(edge(&counted, "caller", 8080)["state"], "denied");
    assert_eq!(edge(&counted, "caller", 9090)["state"], "added");
    project.down();
}

#[test]
fn an_edge_is_held_to_its_limits_and_why_says_which() {
    let server = agent("server", &["serve 8080 0123456789", "wait"], "expose: [\"8080\"]");
    let caller = agent(
        "caller",
        &["sleep 500", "call server:8080", "call server:8080", "call server:8080", "wait"],
        "x-casemate:\n  talks-to: [{ to: \"server:8080\", bytes: 25b }]",
    );
    let project = Project::ready("edges-limits", &format!("{server}{caller}"), &[]);
    project.up();
    let log = project.logs_with("caller", "call server:8080 failed");
    assert_eq!(log.matches("answered 0123456789").count(), 2, "{log}");
    let why = project.run(&["why", "caller", "server:8080"]);
    why.assert_ok();
    assert!(why.stdout.contains("limits: 25 B in all"), "{}", why.stdout);
    assert!(why.stdout.contains("rule edge.bytes"), "{}", why.stdout);
    project.down();
}

#[test]
fn gateway_and_courier_serve_under_their_own_filter_without_privileges() {
    let server = agent("server", &["serve 8080 hello", "wait"], "expose: [\"8080\"]");
    let caller = agent("caller", &["watch server:8080"], "x-casemate:\n  talks-to: [\"server:8080\"]");
    let project = Project::ready("edges-filter", &format!("{server}{caller}"), &[]);
    project.up();
    for program in ["casemate-gateway", "casemate-courier"] {
        let path = format!("/proc/{}/status", project.pid_of(program));
        let status = std::fs::read_to_string(path).unwrap();
        for line in
            ["Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000"]
        {
            assert!(status.contains(line), "{program}: {line}\n{status}");
        }
    }
    project.logs_with("caller", "call server:8080 answered hello");
    project.down();
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "it did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}
