//! The peer probe: what it says of two agents, of two that share a root, and of agents that lack a control.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::project::{COMMAND_BOUND, Output, Project, agent, dist, run_bounded, spawn};

/// Time for the short battery and its controls, on a machine that does much else.
const BATTERY_BOUND: Duration = Duration::from_secs(120);

/// The battery, and what it came to for each pair.
fn probe(project: &Project, more: &[&str]) -> (Output, Vec<Value>) {
    let mut command = Command::new(dist().join("casemate"));
    command.args(["--json", "probe"]).args(more);
    project.place(&mut command);
    let output = run_bounded(&mut command, project.dir.path(), BATTERY_BOUND, None);
    let pairs: Vec<Value> = serde_json::from_str(output.stdout.trim())
        .unwrap_or_else(|error| panic!("{error}: {}{}", output.stdout, output.stderr));
    (output, pairs)
}

/// Attacks with this verdict.
fn with<'a>(pair: &'a Value, verdict: &str) -> Vec<&'a str> {
    let rows = pair["attacks"].as_array().unwrap().iter();
    rows.filter(|row| row["verdict"] == verdict).map(|row| row["attack"].as_str().unwrap()).collect()
}

fn row<'a>(pair: &'a Value, attack: &str) -> &'a Value {
    pair["attacks"].as_array().unwrap().iter().find(|row| row["attack"] == attack).unwrap()
}

#[test]
fn nothing_leaks_between_two_agents_in_the_short_battery() {
    let services =
        ["left", "right"].map(|name| agent(name, &["say here", "wait"], "tmpfs: [\"/tmp:size=8m\"]"));
    let project = Project::ready("probe", &services.concat(), &[]);
    project.up();
    // A policy asks for a battery that is fresh: before it there is none.
    project.edit("policy.toml", |text| format!("{text}\n[agents.right.posture]\nprobe-age-max = \"1h\"\n"));
    project.attest("right", "nonce-two", "before.json").assert_ok();
    project.run(&["verify", "before.json", "--nonce", "nonce-two"]).assert_refused("posture.probe");
    let (output, pairs) = probe(&project, &["--short", "left", "right"]);
    output.assert_ok();
    let [pair] = pairs.as_slice() else { panic!("{pairs:?}") };
    project.attest("right", "nonce-two", "after.json").assert_ok();
    let verify = || project.run(&["verify", "after.json", "--nonce", "nonce-two"]);
    // This machine has no TDX or SEV-SNP device, so nothing is said of that attack, and the policy must name it.
    let untold = with(pair, "inconclusive");
    assert!(untold.contains(&"hardware-evidence"), "{pair:#}");
    let (_, found) = verify().assert_refused("posture.probe");
    assert!(found.contains("hardware-evidence"), "{found}");
    project.edit("policy.toml", |text| format!("{text}allow-attacks = {untold:?}\n"));
    verify().assert_ok();
    assert_eq!((with(pair, "leak").len(), with(pair, "allowed").len()), (0, 0), "{pair:#}");
    let blocked = with(pair, "blocked");
    assert!(blocked.len() >= 36, "{pair:#}");
    // None of these is called blocked that was not seen to work here.
    for attack in blocked {
        let control = row(pair, attack)["positive_control"].as_str().unwrap();
        assert!(!control.starts_with("nothing"), "{attack}: {control}");
    }
    for attack in with(pair, "inconclusive") {
        println!("not run: attack {attack}: {}", row(pair, attack)["why"]);
    }

    // The log says that probes were built, and by which program; agents are not tainted.
    let events = project.run(&["events"]).stdout;
    for name in ["left", "right"] {
        assert!(events.contains(&format!("agent probed         {name} by sha384:")), "{events}");
    }
    assert_eq!(project.ps()["agents"]["left"]["tainted"], false);
    project.attest("left", "nonce-one", "e.json").assert_ok();
    project.run(&["verify", "e.json", "--nonce", "nonce-one"]).assert_ok();
    project.down();
}

#[test]
fn what_a_shared_root_carries_is_measured_and_allowed_for_those_who_share_it_alone() {
    const SHARE: &str = "x-casemate: { share: kin, trust: family }";
    let services = [("left", SHARE), ("right", SHARE), ("alone", "")];
    let services = services.map(|(name, more)| agent(name, &["say here", "wait"], more));
    let project = Project::ready("probe-share", &services.concat(), &[]);
    project.up();
    let channels = ["--only", "flush-reload", "--only", "file-lock", "--only", "watch-file"];
    let shared = [&["left", "right"], &channels[..]].concat();
    let (mut output, mut pairs) = probe(&project, &shared);
    // Others on this machine may drown a channel: the probe says then that it cannot tell, and is asked again.
    for _ in 0..6 {
        if with(&pairs[0], "inconclusive").contains(&"flush-reload") {
            (output, pairs) = probe(&project, &shared);
        }
    }
    output.assert_ok();
    assert_eq!(with(&pairs[0], "allowed"), ["file-lock", "watch-file", "flush-reload"], "{pairs:#?}");
    assert_eq!(row(&pairs[0], "flush-reload")["by"], "share: kin");
    let (output, pairs) = probe(&project, &[&["left", "alone"], &channels[..]].concat());
    output.assert_ok();
    assert_eq!((with(&pairs[0], "leak").len(), with(&pairs[0], "allowed").len()), (0, 0), "{pairs:#?}");
    assert!(with(&pairs[0], "blocked").contains(&"file-lock"), "{pairs:#?}");
    project.down();
}

#[test]
fn what_the_composition_declares_and_the_battery_leaves_alone_is_told_for_each_pair() {
    let services = [
        agent(
            "left",
            &["wait"],
            "x-casemate: { talks-to: [\"right:8080\", \"right:/tmp/s\"] }\nvolumes: [\"common:/data\"]",
        ),
        agent(
            "right",
            &["wait"],
            "x-casemate: { sockets: [/tmp/s] }\nexpose: [\"8080\"]\nvolumes: [\"common:/data:ro\"]",
        ),
        agent("alone", &["wait"], ""),
    ];
    let project = Project::empty("probe-declared");
    let text = format!("name: probe-declared\nservices:\n{}volumes: {{ common: {{}} }}\n", services.concat());
    std::fs::write(project.file("compose.yaml"), text).unwrap();
    crate::image::link_into(&project.home());
    project.write_policy(&[]);
    project.up();
    let only = ["--only", "free-space"];
    let (output, pairs) = probe(&project, &[&["left", "right"], &only[..]].concat());
    output.assert_ok();
    let expected = serde_json::json!([
        { "kind": "edge", "from": "left", "to": "right", "port": 8080 },
        { "kind": "socket", "from": "left", "to": "right", "path": "/tmp/s" },
        { "kind": "volume", "name": "common", "writers": ["left"] },
        { "kind": "disk" },
    ]);
    assert_eq!(pairs[0]["declared_not_tried"], expected, "{pairs:#?}");
    // They have the box's disk in common, which is not in the probe's compartments: nothing is called blocked.
    assert_eq!(row(&pairs[0], "free-space")["verdict"], "inconclusive", "{pairs:#?}");
    let (output, pairs) = probe(&project, &[&["left", "alone"], &only[..]].concat());
    output.assert_ok();
    assert_eq!(pairs[0]["declared_not_tried"], serde_json::json!([]));
    assert_eq!(row(&pairs[0], "free-space")["control"], "private-root", "{pairs:#?}");
    let said = project.run(&["probe", "right", "left", "--only", "trace"]).stdout;
    let told = "allowed by composition, declared, not tried: TCP edge left -> right:8080";
    assert!(said.contains(told) && said.contains("volume common, which left may write to"), "{said}");
    project.down();
}

/// A control that is taken away: how the call that applies it answers, that call, and attacks that it alone stops.
const WITHOUT: [(&str, &str, &[&str]); 2] = [
    // seccomp(2) without a flag, which gateway and courier do not use.
    (
        "seccomp",
        "317:1:0",
        &[
            "user-namespace",
            "io-uring",
            "userfaultfd",
            "fanotify",
            "mincore",
            "key-calls",
            "socket-families",
            "process-count",
            "process-numbers",
        ],
    ),
    // fchmodat(2) to mode 0, which nothing else sets.
    ("proc", "268:2:0", &["global-files"]),
];

#[test]
fn what_one_control_stops_leaks_where_that_control_alone_is_missing() {
    let services = ["left", "right"].map(|name| agent(name, &["say here", "wait"], ""));
    let project = Project::ready("probe-weaker", &services.concat(), &[]);
    for (control, call, attacks) in WITHOUT {
        project.write_policy(&["--allow-weaker", control]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_systemtest-answering"));
        // The call says that it did it, and does nothing.
        command.args(["0", call]).arg(dist().join("casemate"));
        command.args(["up", "-d", "--progress", "plain", "--allow-weaker", control]);
        project.place(&mut command);
        run_bounded(&mut command, project.dir.path(), COMMAND_BOUND, None).assert_ok();
        let mut args = vec!["left", "right"];
        args.extend(attacks.iter().flat_map(|attack| ["--only", *attack]));
        let (mut output, mut pairs) = probe(&project, &args);
        // Others on this machine may drown a channel: it is asked again.
        for _ in 0..3 {
            if with(&pairs[0], "leak").len() < attacks.len() {
                (output, pairs) = probe(&project, &args);
            }
        }
        let mut leaks = with(&pairs[0], "leak");
        leaks.sort_unstable();
        let mut expected = attacks.to_vec();
        expected.sort_unstable();
        assert_eq!(leaks, expected, "{control}: {pairs:#?}");
        let (_, found) = output.assert_refused("probe.leak");
        assert!(attacks.iter().all(|attack| found.contains(attack)), "{found}");
        // A leak that is accepted by name is none.
        args.extend(attacks.iter().flat_map(|attack| ["--accept", *attack]));
        probe(&project, &args).0.assert_ok();
        project.down();
    }
}

#[test]
fn attackers_in_sandboxes_reach_their_own_kernel_and_nothing_of_a_peer() {
    let services = ["left", "right"].map(|name| {
        agent(name, &["say here", "wait"], "x-casemate: { backend: gvisor }")
            .replace("mem_limit: 64m", "mem_limit: 256m")
    });
    let project = Project::ready("probe-gvisor", &services.concat(), &[]);
    project.up();
    let (output, pairs) = probe(&project, &["--short", "left", "right"]);
    output.assert_ok();
    let pair = &pairs[0];
    assert_eq!((with(pair, "leak").len(), with(pair, "allowed").len()), (0, 0), "{pair:#}");
    for (attack, control) in [("io-uring", "the sandbox's own kernel"), ("peer-secret", "private-root")] {
        assert_eq!(row(pair, attack)["control"], control, "{pair:#}");
    }
    // The attacker is killed with its whole sandbox: nothing is said, not even that its limit held it.
    let (output, pairs) = probe(&project, &["--only", "exhaust-memory", "left", "right"]);
    output.assert_ok();
    let row = row(&pairs[0], "exhaust-memory");
    assert_eq!(row["verdict"], "inconclusive", "{row:#}");
    assert!(row["why"].as_str().unwrap().contains("was killed"), "{row:#}");
    project.down();
}

#[test]
fn a_probe_that_is_killed_leaves_nothing_in_the_box_and_the_next_one_begins() {
    let services = ["left", "right"].map(|name| agent(name, &["say here", "wait"], ""));
    let project = Project::ready("probe-killed", &services.concat(), &[]);
    project.up();
    let groups = || {
        ["memory", "pids", "."].into_iter().flat_map(|hierarchy| {
            let name = project.owner().box_name;
            ["left", "right"].map(|agent| {
                PathBuf::from(format!("/sys/fs/cgroup/{hierarchy}/casemate/{name}/{agent}~probe"))
            })
        })
    };
    let mut command = Command::new(dist().join("casemate"));
    command.args(["probe", "left", "right"]);
    project.place(&mut command);
    let mut probing = spawn(&mut command, project.dir.path(), None);
    let end = Instant::now() + COMMAND_BOUND;
    while !groups().any(|group| group.exists()) {
        assert!(probing.runs() && Instant::now() < end, "{}", probing.stdout());
        std::thread::sleep(Duration::from_millis(5));
    }
    probing.signal(Signal::KILL);
    probing.wait(COMMAND_BOUND);
    while groups().any(|group| group.exists()) {
        assert!(Instant::now() < end, "a probe is left in the box");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (output, _) = probe(&project, &["left", "right", "--only", "trace"]);
    output.assert_ok();
    let left = std::fs::read_dir("/var/tmp").unwrap().flatten();
    let left: Vec<_> =
        left.filter(|entry| entry.file_name().to_string_lossy().starts_with("casemate-probe-")).collect();
    assert!(left.is_empty(), "{left:?}");
    // The box ends while a probe is at work.
    let mut command = Command::new(dist().join("casemate"));
    command.args(["probe", "left", "right"]);
    project.place(&mut command);
    let mut probing = spawn(&mut command, project.dir.path(), None);
    while !groups().any(|group| group.exists()) {
        assert!(probing.runs() && Instant::now() < end, "{}", probing.stdout());
        std::thread::sleep(Duration::from_millis(5));
    }
    project.down();
    assert_eq!(probing.wait(COMMAND_BOUND).status.code(), Some(3));
}
