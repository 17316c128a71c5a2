//! `casemate doctor` of a running box: what it says of agents.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::project::{Project, agent};

/// Verdicts by check and agent or pair.
fn verdicts(project: &Project) -> BTreeMap<(String, String), (String, String)> {
    let output = project.run(&["doctor", "--json"]);
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    let entry = |f: &Value| ((text(f, "id"), text(f, "about")), (text(f, "verdict"), text(f, "observed")));
    report["findings"].as_array().unwrap().iter().map(entry).collect()
}

#[test]
fn doctor_sees_each_agent_of_a_running_box_and_each_two() {
    const SHARE: &str = "x-casemate: { share: kin, trust: family }";
    // The program of the box's own first process is no file that an agent can open.
    let steps = ["say here", "read /proc/1/exe", "wait"];
    let services = [("alone", ""), ("left", SHARE), ("right", SHARE)];
    let services: String = services.map(|(name, more)| agent(name, &steps, more)).concat();
    let project = Project::ready("doctor", &services, &[]);
    project.up();
    project.logs_with("alone", "/proc/1/exe fails NotFound");
    let seen = verdicts(&project);
    let is = |id: &str, about: &str, verdict: &str| {
        let found =
            seen.get(&(id.to_owned(), about.to_owned())).unwrap_or_else(|| panic!("{id} {about}: {seen:#?}"));
        assert_eq!(found.0, verdict, "{id} {about}: {}", found.1);
    };
    for id in [
        "D03.agents",
        "D15.seccomp",
        "D15.no-new-privileges",
        "D15.capabilities",
        "D15.user",
        "D16.merged",
        "D18.agents",
        "D25.proc",
        "D25.sys",
        "D26.pids",
        "D26.memory",
        "D27.tcp",
        "D27.unix",
    ] {
        is(id, "alone", "pass");
        is(id, "left", "pass");
    }
    for id in ["D15.namespaces", "D15.ids", "D15.groups"] {
        is(id, "alone + left", "pass");
        is(id, "left + right", "pass");
    }
    is("D17.files", "alone + left", "pass");
    is("D17.files", "left + right", "not-applicable");
    // Each agent is behind a filter: not open, and not closed in the kernel either.
    is("D20.namespaces", "", "warn");
    project.down();
    project.assert_nothing_left();
}
