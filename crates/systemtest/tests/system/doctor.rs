//! `casemate doctor` and `casemate posture --sharing` of a running box: what they say of agents.

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
    ledger(&project);
    // Fields of the report in evidence are looked at, and said to be the hardware's word alone.
    project.attest("alone", "nonce-one", "alone.json").assert_ok();
    let report: Value =
        serde_json::from_str(&project.run(&["doctor", "--json", "--report", "alone.json"]).stdout).unwrap();
    let debug =
        report["findings"].as_array().unwrap().iter().find(|finding| finding["id"] == "D05.debug").unwrap();
    assert_eq!((&debug["verdict"], &debug["vantage"]), (&"pass".into(), &"hardware-signed".into()));
    project.down();
    project.assert_nothing_left();
}

/// With `share` two agents have the C library in common; without, nothing.
fn ledger(project: &Project) {
    let output = project.run(&["posture", "--sharing", "--json"]);
    output.assert_ok();
    let ledger: Value = serde_json::from_str(&output.stdout).unwrap();
    let pairs = ledger["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 3);
    let pair = |a: &str, b: &str| {
        pairs
            .iter()
            .find(|pair| pair["agents"] == serde_json::json!([a, b]))
            .unwrap_or_else(|| panic!("{ledger:#}"))
    };
    let empty = serde_json::json!([]);
    for (a, b) in [("alone", "left"), ("alone", "right")] {
        let apart = pair(a, b);
        for list in ["files", "mounts", "open", "namespaces", "users", "not_run"] {
            assert_eq!(apart[list], empty, "{list}: {apart:#}");
        }
        assert_eq!(apart["frames"]["frames"], serde_json::json!({}), "{apart:#}");
        // They are of one image: the same pages are in memory twice.
        assert!(apart["frames"]["apart_bytes"].as_u64().unwrap() > 0, "{apart:#}");
    }
    let sharing = pair("left", "right");
    assert_eq!(sharing["share"], "kin");
    let files = sharing["files"].as_array().unwrap();
    let libc = files.iter().find(|file| file["name"].as_str().unwrap().ends_with("/libc.so.6")).unwrap();
    assert_eq!(libc["kind"], "library");
    let frames = sharing["frames"]["frames"].as_object().unwrap();
    let of_libc = frames.iter().find(|(name, _)| name.ends_with("/libc.so.6")).unwrap();
    assert!(of_libc.1.as_u64().unwrap() > 0);
    assert!(sharing["frames"]["bytes"].as_u64().unwrap() >= 4096);
    for list in ["open", "namespaces", "users", "not_run"] {
        assert_eq!(sharing[list], empty, "{list}: {sharing:#}");
    }
    let text = project.run(&["posture", "--sharing"]).stdout;
    assert!(text.contains("alone + left: nothing of theirs in common\n"), "{text}");
    assert!(text.contains("left + right: in common\n") && text.contains("libc.so.6"), "{text}");
}

#[test]
fn doctor_and_ledger_understand_sandboxes() {
    let steps = ["say here", "wait"];
    let gvisor = "x-casemate: { backend: gvisor }";
    let services = [("inside", gvisor), ("native", ""), ("other", gvisor)];
    let services: String = services.map(|(name, more)| agent(name, &steps, more)).concat();
    let services = services.replace("mem_limit: 64m", "mem_limit: 256m");
    let project = Project::ready("sandboxes", &services, &[]);
    project.up();
    let seen = verdicts(&project);
    let is = |id: &str, about: &str, verdict: &str| {
        let found = &seen[&(id.to_owned(), about.to_owned())];
        assert_eq!(found.0, verdict, "{id} {about}: {}", found.1);
    };
    for id in
        ["D03.agents", "D15.seccomp", "D15.no-new-privileges", "D15.user", "D25.sys", "D26.memory", "D27.tcp"]
    {
        is(id, "inside", "pass");
    }
    // Seen from outside, gVisor's process has what the controls of sandboxes say: capabilities over its own namespaces, and
    // a proc that its agent does not see.
    for id in ["D15.capabilities", "D25.proc"] {
        is(id, "inside", "fail");
        is(id, "native", "pass");
    }
    for pair in ["inside + native", "inside + other", "native + other"] {
        is("D15.namespaces", pair, "pass");
        is("D17.files", pair, "pass");
    }
    let output = project.run(&["posture", "--sharing", "--json"]);
    let ledger: Value = serde_json::from_str(&output.stdout).unwrap();
    for pair in ledger["pairs"].as_array().unwrap() {
        for list in ["files", "mounts", "open", "namespaces", "users", "not_run"] {
            assert_eq!(pair[list], serde_json::json!([]), "{list}: {pair:#}");
        }
        assert_eq!(pair["frames"]["frames"], serde_json::json!({}), "{pair:#}");
        // One copy of gVisor's program serves all sandboxes: said, and not called apart from the box.
        let of_the_box = pair["frames"]["of_the_box"].as_object().unwrap();
        let has_gvisor = of_the_box.keys().any(|name| name.contains("runsc"));
        assert_eq!(has_gvisor, pair["agents"] == serde_json::json!(["inside", "other"]), "{pair:#}");
    }
    for agent in ["inside", "native", "other"] {
        assert!(ledger["build_ms"][agent].as_u64().is_some(), "{ledger:#}");
    }
    project.down();
    project.assert_nothing_left();
}
