//! Services with replicas: each an agent with evidence of its own, called by the service's name in turn.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::Value;

use crate::lifecycle::runs;
use crate::project::{Project, agent, kill};

fn services(more: &str) -> String {
    let web = agent(
        "web",
        &["serve 8080 @", "secret token", "wait"],
        &format!("expose: [\"8080\"]\nsecrets: [token]\n{more}"),
    );
    let client =
        agent("client", &["watch web:8080"], "depends_on: [web]\nx-casemate:\n  talks-to: [\"web:8080\"]");
    format!("{web}{client}")
}

fn names(project: &Project) -> Vec<String> {
    project.ps()["agents"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn each_replica_is_attested_as_itself_and_an_edge_reaches_all_that_run() {
    let project = Project::ready("replicas", &services("deploy: { replicas: 3 }"), &[("token", "t")]);
    project.up();
    assert_eq!(names(&project), ["client", "web-1", "web-2", "web-3"]);
    let status = project.ps();
    let measurements: BTreeSet<&str> = (1..=3)
        .map(|number| status["agents"][format!("web-{number}")]["measurement"].as_str().unwrap())
        .collect();
    assert_eq!(measurements.len(), 3, "{status}");
    for number in 1..=3 {
        let (name, nonce) = (format!("web-{number}"), format!("nonce-number-{number}"));
        project.logs_with(&name, "secret token mode 0400 owner 1000:1000 reversed t");
        project.attest(&name, &nonce, "e.json").assert_ok();
        let verified = project.run(&["--json", "verify", "e.json", "--nonce", &nonce]);
        verified.assert_ok();
        assert!(verified.stdout.contains(&name), "{}", verified.stdout);
    }
    project.attest("web", "nonce-of-a-service", "e.json").assert_fails(
        2,
        "web has 3 replicas",
        "web-1, web-2",
    );
    for number in 1..=3 {
        project.logs_with("client", &format!("call web:8080 answered web-{number}"));
    }

    // Who was killed is not called any more, and no call fails on its account.
    let pid = project.ps()["agents"]["web-2"]["pid"].as_u64().unwrap();
    kill(u32::try_from(pid).unwrap(), Signal::KILL);
    project.wait_for_agent("web-2", "ended", |agent| agent["standing"] == "ended");
    let before = project.logs("client").lines().count();
    let later = |project: &Project| -> Vec<String> {
        project.logs("client").lines().skip(before + 2).map(str::to_owned).collect()
    };
    while later(&project).len() < 6 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let answers: BTreeSet<String> = later(&project).into_iter().collect();
    let expected = ["web-1", "web-3"].map(|name| format!("client | call web:8080 answered {name}"));
    assert_eq!(answers, expected.into());
    assert!(!project.logs("client").contains("failed"), "{}", project.logs("client"));

    let edges = project.run(&["edges"]);
    assert!(edges.stdout.contains("web:8080") && edges.stdout.contains("replicas"), "{}", edges.stdout);
    project.down();
}

#[test]
fn an_order_to_a_service_is_one_to_all_its_replicas_and_an_index_names_one() {
    let project = Project::ready("replica-orders", &services("scale: 2"), &[("token", "t")]);
    project.up();
    let stopped = project.run(&["stop", "web"]);
    stopped.assert_ok();
    assert_eq!(stopped.stdout, "web-1 stopped\nweb-2 stopped\n");
    project.logs_with("client", "call web:8080 failed");
    assert_eq!(project.run(&["restart", "web-2"]).stdout, "web-2 started anew\n");
    assert_eq!(project.run(&["start", "web"]).stdout, "web-1 started\nweb-2 runs already\n");
    runs(&project, "web-1", 2);
    let logs = project.run(&["logs", "web"]).stdout;
    assert!(logs.contains("web-1 | serving") && logs.contains("web-2 | serving"), "{logs}");
    let ps = project.run(&["--json", "ps", "web"]);
    let ps: Value = serde_json::from_str(&ps.stdout).unwrap();
    assert_eq!(ps["agents"].as_object().unwrap().keys().collect::<Vec<_>>(), ["web-1", "web-2"]);
    let exec = project.run(&["exec", "--index", "2", "web", "/agent", "say hello"]);
    assert_eq!((exec.status.code(), exec.stdout.as_str()), (Some(0), "hello\n"), "{}", exec.stderr);
    let agents = project.ps()["agents"].clone();
    assert_eq!((&agents["web-1"]["tainted"], &agents["web-2"]["tainted"]), (&false.into(), &true.into()));
    let top = project.run(&["top", "web"]).stdout;
    assert!(top.starts_with("web-1\n") && top.contains("\nweb-2\n"), "{top}");
    // An edge to all of them that somebody opens is in the evidence of each.
    project.run(&["deny", "client", "web:8080"]).assert_ok();
    project.run(&["allow", "web-1", "web:8080"]).assert_refused("edge.other");
    project.down();
}

#[test]
fn the_command_line_scales_a_service_and_the_policy_must_expect_it() {
    let project = Project::ready("replica-scale", &services(""), &[("token", "t")]);
    let (_, found) = project.try_up(&["--scale", "web=2"]).assert_refused("composition.digest");
    assert!(found.starts_with("sha384:"), "{found}");
    project.assert_nothing_left();
    project.write_policy(&["--scale", "web=2"]);
    project.up_with(&["--scale", "web=2"]);
    assert_eq!(names(&project), ["client", "web-1", "web-2"]);
    project.try_up(&["--scale", "web=2"]).assert_ok();
    // Without the flag, the files give another composition.
    project.try_up(&[]).assert_refused("composition.running");
    assert_eq!(names(&project), ["client", "web-1", "web-2"]);
    project.down();
}

#[test]
fn an_edge_that_is_opened_by_hand_to_a_service_is_in_the_evidence_of_each_replica() {
    let stranger = agent("stranger", &["watch web:8080"], "");
    let text = format!("{}{stranger}", services("scale: 2"));
    let project = Project::ready("replica-edges", &text, &[("token", "t")]);
    project.up();
    let verified = |name: &str, nonce: &str| {
        project.attest(name, nonce, "e.json").assert_ok();
        project.run(&["verify", "e.json", "--nonce", nonce])
    };
    project.logs_with("stranger", "call web:8080 failed");
    verified("web-1", "nonce-before-it").assert_ok();
    project.run(&["allow", "stranger", "web:8080"]).assert_ok();
    for number in 1..=2 {
        project.logs_with("stranger", &format!("call web:8080 answered web-{number}"));
        let refused = verified(&format!("web-{number}"), &format!("nonce-after-it-{number}"));
        assert_eq!(refused.status.code(), Some(1), "{}", refused.stdout);
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(said.contains("agent.edges") && said.contains("stranger to web:8080"), "{said}");
    }
    // Of another agent it says nothing.
    verified("client", "nonce-of-the-client").assert_ok();
    project.run(&["deny", "stranger", "web:8080"]).assert_ok();
    project.down();
}
