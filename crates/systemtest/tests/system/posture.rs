//! `casemate posture` of a running box: what it says under each heading, as text, JSON and a page that a browser opens.

use std::path::Path;

use serde_json::Value;

use crate::browser;
use crate::project::{Project, agent};

const HEADINGS: [&str; 4] = [
    "1. Separation granularity: what separates two agents",
    "2. Attestation scope: what evidence covers",
    "3. Hypervisor attack surface: what the host can still do",
    "4. Local attack surface: what agents share",
];

/// `asker` has a secret and calls `kin`, which shares its root with `kith`.
fn ready(name: &str) -> Project {
    let asker = agent(
        "asker",
        &["say here", "wait"],
        "secrets: [api_token]\nx-casemate: { talks-to: [\"kin:8080\"], egress: [\"api.example.com:443\"] }",
    );
    let kin = agent(
        "kin",
        &["serve 8080 hello", "wait"],
        "expose: [8080]\nx-casemate: { share: family, trust: family }",
    );
    let kith = agent("kith", &["say here", "wait"], "x-casemate: { share: family, trust: family }");
    let project = Project::ready(name, &[asker, kin, kith].concat(), &[("api_token", "x")]);
    project.up();
    project.logs_with("kin", "serving on 8080");
    project
}

fn json(project: &Project, args: &[&str]) -> Value {
    let output = project.run(&[&["--json", "posture"], args].concat());
    output.assert_ok();
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stdout))
}

fn pair<'r>(report: &'r Value, a: &str, b: &str) -> &'r Value {
    let pairs = report["separation"]["pairs"].as_array().unwrap();
    let found = pairs.iter().find(|pair| pair["agents"] == serde_json::json!([a, b]));
    found.unwrap_or_else(|| panic!("{pairs:#?}"))
}

#[test]
fn the_report_has_each_heading_and_says_what_was_not_seen() {
    let project = ready("posture");
    let output = project.run(&["posture"]);
    output.assert_ok();
    let lines: Vec<&str> = output.stdout.lines().collect();
    for heading in HEADINGS {
        let at = lines
            .iter()
            .position(|line| *line == heading)
            .unwrap_or_else(|| panic!("{heading}: {}", output.stdout));
        assert_eq!(lines[at + 1], "  Not protected:", "{heading}");
    }
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{}", output.stdout);
    assert!(output.stdout.contains("not probed; `casemate probe asker kin`"), "{}", output.stdout);
    assert!(lines[3].starts_with("SIMULATED"), "{}", output.stdout);

    let report = json(&project, &[]);
    report_of(&report);
    let after = || {
        let output = project.run_with(
            &["probe", "--short", "asker", "kin"],
            std::time::Duration::from_secs(120),
            None,
        );
        output.assert_ok();
        json(&project, &[])
    };
    let report = after();
    let probe = &pair(&report, "asker", "kin")["probes"][0];
    assert_eq!((probe["attacker"].as_str(), probe["victim"].as_str()), (Some("asker"), Some("kin")));
    assert!(probe["seen"]["blocked"].as_array().unwrap().len() > 30, "{probe:#}");
    assert_eq!(report["local"]["probed"], 1);
    assert_eq!(report["local"]["ways"], 6);
    project.down();
    let stopped = project.run(&["posture"]);
    assert!(stopped.stderr.contains("does not run"), "{}", stopped.stderr);
}

fn report_of(report: &Value) {
    let kin = pair(report, "kin", "kith");
    let files = kin["shared"]["files"].as_array().unwrap();
    assert!(files.iter().any(|file| file["name"].as_str().unwrap().ends_with("/libc.so.6")), "{kin:#}");
    assert_eq!(kin["trust"], "family");
    let apart = pair(report, "asker", "kin");
    assert_eq!(apart["shared"]["files"], serde_json::json!([]));
    assert_eq!(apart["edges"], serde_json::json!(["asker -> kin:8080"]));
    assert_eq!(apart["trust"], Value::Null);

    // The quote is the emulator's, has this composition in it, and is called simulated wherever it is told.
    assert_eq!(
        (report["platform"]["kind"].as_str(), &report["platform"]["simulated"]),
        (Some("tdx"), &Value::Bool(true))
    );
    let layers = report["attestation"]["layers"].as_array().unwrap();
    let layer = layers.iter().find(|layer| layer["layer"] == "composition").unwrap();
    assert_eq!(layer["here"], "MRCONFIGID is this composition's (simulated)");
    let simulated = report["attestation"]["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["id"] == "D01.config")
        .unwrap();
    assert_eq!(simulated["verdict"], "unknown", "{simulated:#}");
    assert!(simulated["observed"].as_str().unwrap().contains("emulator"), "{simulated:#}");

    let rows = report["hypervisor"]["components"].as_array().unwrap();
    assert!(rows.len() >= 11);
    for row in rows {
        let seen = row["here"].as_array().unwrap().iter().any(|shown| shown["verdict"] != "unknown");
        assert_eq!(seen, row["not_seen"].is_null(), "{row:#}");
    }
    let calls = &report["local"]["calls"][0];
    assert_eq!(calls["backend"], "native");
    assert_eq!(calls["agents"], serde_json::json!(["asker", "kin", "kith"]));
    let has = |set: &str, name: &str| calls[set].as_array().unwrap().iter().any(|call| call == name);
    assert!(
        has("allowed", "read")
            && has("conditional", "socket")
            && has("refused", "bpf")
            && has("pretended", "readahead")
    );

    let secret = &report["secrets"][0];
    assert_eq!(secret["holders"], serde_json::json!(["asker"]));
    assert_eq!(secret["next"], serde_json::json!(["kin"]));
    assert_eq!(secret["outside"], serde_json::json!(["api.example.com:443"]));
}

#[test]
fn the_page_is_drawn_by_a_browser_and_asks_for_nothing() {
    let project = ready("posture-page");
    let page = project.file("posture.html");
    let boundaries = "--compare=compartment,gvisor,vm";
    project.run(&["posture", boundaries, "--html", "posture.html"]).assert_ok();
    let compared = json(&project, &[boundaries]);
    let memory = compared["comparison"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["what"].as_str().unwrap().starts_with("memory"))
        .unwrap();
    assert!(memory["figures"][2]["value"].as_str().unwrap().contains("QEMU emulates"), "{memory:#}");
    project.down();

    let dir = project.dir.path();
    let seen = browser::open(&page, dir, "page", &[]);
    for heading in HEADINGS {
        assert!(seen.dom.contains(&format!(">{heading}</h2>")), "{heading}");
    }
    assert_eq!(seen.dom.matches("<svg ").count(), 2);
    assert!(seen.dom.contains(">asker</text>") && seen.dom.contains("libc.so.6"));
    let (width, height, lines) = browser::picture(&seen.picture);
    assert!((width, height) == (1100, 4000) && lines > 1000, "{width} {height} {lines}");
    assert_eq!(seen.requests, 0, "the page asked for something");
    keep(&seen.picture, "light.png");
    keep(&page, "page.html");
    let dark =
        browser::open(&page, dir, "dark", &["--force-dark-mode", "--blink-settings=preferredColorScheme=0"]);
    keep(&dark.picture, "dark.png");
    // A page that asks for something is seen to, by the same proxy.
    let other = project.file("other.html");
    std::fs::write(&other, "<p>here</p><img src=\"http://casemate.example/x.png\">").unwrap();
    assert!(browser::open(&other, dir, "other", &[]).requests > 0);
}

/// Into the folder that is named, for people to look at.
fn keep(file: &Path, name: &str) {
    if let Some(folder) = std::env::var_os("CASEMATE_PICTURES") {
        std::fs::copy(file, Path::new(&folder).join(format!("posture-{name}"))).unwrap();
    }
}

#[test]
fn the_boundary_of_each_pair_is_that_of_its_backends() {
    let gvisor = agent("inside", &["say here", "wait"], "x-casemate: { backend: gvisor }")
        .replace("mem_limit: 64m", "mem_limit: 256m");
    let native = agent("native", &["say here", "wait"], "");
    let project = Project::ready("posture-mixed", &[gvisor, native].concat(), &[]);
    project.up();
    project.run(&["exec", "native", "/agent", "say there"]);
    let report = json(&project, &[]);
    let boundary = pair(&report, "inside", "native")["boundary"].as_str().unwrap();
    assert!(boundary.starts_with("native | gvisor"), "{boundary}");
    let calls = report["local"]["calls"].as_array().unwrap();
    let agents: Vec<&Value> = calls.iter().map(|calls| &calls["agents"]).collect();
    assert_eq!(agents, [&serde_json::json!(["native"]), &serde_json::json!(["inside"])]);
    // What ran afterwards shows.
    assert_eq!(report["agents"]["native"]["tainted"], true);
    project.run(&["stop", "native"]).assert_ok();
    let report = json(&project, &[]);
    let not_seen = report["not_seen"].as_array().unwrap();
    assert!(not_seen.iter().any(|missing| missing["name"] == "native"), "{not_seen:#?}");
    assert_eq!(report["agents"]["native"]["runs"], false);
    project.down();
}
