//! The six refusals: each ends with its rule, what was expected and what was found.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::census::entries;
use crate::image;
use crate::project::{Project, agent};

/// Steps that only wait.
const IDLE: [&str; 2] = ["say here", "wait"];

/// Changes the byte in the middle of a file; a second call puts it back.
fn flip_byte(path: &Path) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
}

fn largest_file(dir: &Path) -> PathBuf {
    entries(dir).into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

/// A project whose image store shares no file with other tests.
fn with_own_images(name: &str) -> Project {
    let project = Project::empty(name);
    project.write_compose(&agent("one", &IDLE, ""), &[]);
    image::import_into(&project.home(), image::tar());
    project.write_policy(&[]);
    project
}

#[test]
fn a_changed_byte_of_a_layer_is_refused() {
    let project = with_own_images("layer");
    let layer = largest_file(&project.home().join("images/blobs/sha256"));
    flip_byte(&layer);
    // What runs is the root file system made of it, which the lock pins: the layer is read to make it anew.
    fs::remove_file(largest_file(&project.home().join("images/erofs"))).unwrap();
    let (expected, found) = project.try_up(&[]).assert_refused("image.layer.digest");
    assert!(layer.ends_with(expected.trim_start_matches("sha256:")), "{expected} {}", layer.display());
    assert!(found.contains("sha256:"), "{found}");
    project.assert_nothing_left();
    flip_byte(&layer);
    project.up();
    project.down();
}

#[test]
fn a_changed_byte_of_the_assembled_root_file_system_is_never_run() {
    let project = with_own_images("rootfs");
    project.up();
    project.down();
    let blob = largest_file(&project.home().join("images/blobs/sha256"));
    let store = project.home().join("images");
    let mut dirs = vec![store];
    let mut candidates = Vec::new();
    while let Some(dir) = dirs.pop() {
        for path in entries(&dir) {
            if path.is_dir() {
                dirs.push(path);
            } else if path != blob && path.metadata().unwrap().len() > 1 << 20 {
                candidates.push(path);
            }
        }
    }
    assert_eq!(candidates.len(), 1, "{candidates:?}");
    flip_byte(&candidates[0]);
    let output = project.try_up(&[]);
    // It is refused, or made anew from the verified layers: what was changed does not run.
    if output.status.success() {
        project.down();
        let made_anew = largest_file(candidates[0].parent().unwrap());
        flip_byte(&made_anew);
        panic!("a changed root file system was started, or repaired without a word:\n{}", output.stdout);
    }
    output.assert_refused("image.rootfs.digest");
    flip_byte(&candidates[0]);
    // Nor a changed name or inode: these are in the file beside it.
    flip_byte(&candidates[0].with_extension("metadata"));
    project.try_up(&[]).assert_refused("image.rootfs.digest");
    project.assert_nothing_left();
}

#[test]
fn an_argument_changed_after_the_policy_was_written_is_refused() {
    let project = Project::ready("argument", &agent("one", &IDLE, ""), &[]);
    let before = project.run(&["--json", "lock"]).stdout;
    project.edit("compose.yaml", |text| text.replace("say here", "say there"));
    let (expected, found) = project.try_up(&[]).assert_refused("composition.digest");
    assert!(before.contains(&expected), "{expected} is not in {before}");
    let after = project.run(&["--json", "lock"]).stdout;
    assert!(after.contains(&found), "{found} is not in {after}");
    project.assert_nothing_left();

    // A policy whose composition alone was updated, by hand.
    project.edit("policy.toml", |text| text.replace(&expected, &found));
    let (expected, found) = project.try_up(&[]).assert_refused("agent.measurement");
    assert!(before.contains(&expected) && after.contains(&found), "{expected} {found}\n{before}\n{after}");
    project.assert_nothing_left();
}

#[test]
fn an_agent_gets_no_secret_of_another_through_its_own_socket() {
    let thief = agent(
        "thief",
        &[
            r#"ask {"method":"secret","name":"api_token"}"#,
            r#"ask {"method":"secret","name":"api_token","agent":"holder"}"#,
            r#"ask {"method":"identity","agent":"holder"}"#,
            r#"ask {"method":"evidence","nonce":"12345678","agent":"holder"}"#,
            r#"ask {"method":"secret","name":"../api_token"}"#,
            "ask nonsense",
            r#"ask {"method":"identity"}"#,
            "say asked",
            "wait",
        ],
        "depends_on:\n  holder: { condition: service_started }",
    );
    let holder = agent(
        "holder",
        &[r#"ask {"method":"secret","name":"api_token"}"#, "say asked", "wait"],
        "secrets: [api_token]",
    );
    let secret = "the-secret-of-the-holder";
    let project = Project::ready("socket", &format!("{thief}{holder}"), &[("api_token", secret)]);
    project.up();
    let logs = project.logs_with("thief", "asked");
    let answers: Vec<&str> = logs.lines().filter_map(|l| Some(l.split_once("box says ")?.1)).collect();
    assert_eq!(answers.len(), 7, "{logs}");
    assert!(answers[0].contains(r#""refused""#) && answers[0].contains("agent.secrets"), "{logs}");
    assert!(answers[0].contains("no secret (thief has none)"), "{logs}");
    for answer in &answers[1..4] {
        assert!(answer.contains(r#""error""#) && answer.contains("unknown field `agent`"), "{logs}");
    }
    assert!(answers[4].contains("agent.secrets"), "{logs}");
    assert!(answers[5].contains(r#""error""#), "{logs}");
    assert!(answers[6].contains(r#""agent":"thief""#), "{logs}");
    assert!(!logs.contains(secret), "{logs}");
    // The same request of the agent that holds it is granted: the refusal is not for want of a secret.
    let own = project.logs_with("holder", "asked");
    assert!(own.contains(r#""ok""#) && own.contains(secret), "{own}");
    project.down();
}

#[test]
fn an_undeclared_port_and_an_undeclared_host_are_out_of_reach() {
    let server = agent(
        "server",
        &["serve 8080 declared", "serve 9999 undeclared", "wait"],
        "expose: [\"8080\", \"9999\"]\nhealthcheck: { test: [\"CMD\", \"/agent\", \"reach 8080\"], interval: 60s, start_interval: 100ms }",
    );
    let caller = agent(
        "caller",
        &[
            "call server:8080",
            "call server:9999",
            "call exfil.example:80",
            "call 127.0.0.1:9999",
            "call 1.1.1.1:53",
            "say tried",
            "wait",
        ],
        "depends_on:\n  server: { condition: service_healthy }\nx-casemate:\n  talks-to: [\"server:8080\"]",
    );
    let project = Project::ready("edges", &format!("{server}{caller}"), &[]);
    project.up();
    let logs = project.logs_with("caller", "tried");
    assert!(logs.contains("call server:8080 answered declared"), "{logs}");
    assert!(logs.contains("call server:9999 failed ConnectionRefused"), "{logs}");
    assert!(logs.contains("call exfil.example:80 failed"), "{logs}");
    assert!(logs.contains("call 127.0.0.1:9999 failed ConnectionRefused"), "{logs}");
    assert!(logs.contains("call 1.1.1.1:53 failed NetworkUnreachable"), "{logs}");
    assert!(!logs.contains("undeclared"), "{logs}");

    project.run(&["why", "caller", "server:8080"]).assert_ok();
    project.run(&["why", "caller", "server:9999"]).assert_refused("edge.declared");
    project.run(&["why", "caller", "exfil.example:80"]).assert_refused("egress.declared");
    project.run(&["why", "server", "caller:1"]).assert_refused("edge.declared");
    project.run(&["why", "nobody", "caller:1"]).assert_refused("agent.declared");
    // The box itself records the name that was asked for.
    let warden = fs::read_to_string(project.project_dir().join("logs/box-warden.txt")).unwrap();
    assert!(warden.contains("name.declared") && warden.contains("exfil.example"), "{warden}");
    project.down();
}

#[test]
fn only_the_declared_port_of_a_declared_host_is_in_reach() {
    let serve = |text: &'static str| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // The thread lives as long as this program.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.write_all(text.as_bytes());
            }
        });
        port
    };
    let (open, closed) = (serve("the-declared-one"), serve("the-other-one"));
    let caller = agent(
        "caller",
        &[
            &format!("call api.test:{open}"),
            &format!("call api.test:{closed}"),
            &format!("call 127.0.0.1:{closed}"),
            "say tried",
            "wait",
        ],
        &format!("extra_hosts: [\"api.test:127.0.0.1\"]\nx-casemate:\n  egress: [\"api.test:{open}\"]"),
    );
    let peer = agent("peer", &[&format!("call api.test:{open}"), "say tried", "wait"], "");
    let project = Project::ready("egress", &format!("{caller}{peer}"), &[]);
    project.up();
    let logs = project.logs_with("caller", "tried");
    assert!(logs.contains(&format!("call api.test:{open} answered the-declared-one")), "{logs}");
    assert!(!logs.contains("the-other-one"), "{logs}");
    assert_eq!(logs.matches("ConnectionRefused").count(), 2, "{logs}");
    // What one agent may reach, its peer may not.
    let logs = project.logs_with("peer", "tried");
    assert!(!logs.contains("answered"), "{logs}");
    project.down();
}

#[test]
fn evidence_is_refused_for_another_nonce_and_under_production_roots() {
    let project = Project::ready("evidence", &agent("one", &IDLE, ""), &[]);
    project.up();
    project.attest("one", "nonce-one", "e.json").assert_ok();
    project.run(&["verify", "e.json", "--nonce", "nonce-one"]).assert_ok();
    let (expected, found) =
        project.run(&["verify", "e.json", "--nonce", "nonce-two"]).assert_refused("nonce");
    assert_eq!((expected.as_str(), found.as_str()), ("nonce-two", "nonce-one"));
    project
        .run(&["verify", "e.json", "--nonce", "nonce-one", "--roots", "production"])
        .assert_refused("platform.roots");

    // A member of the evidence replaced by that of another nonce: each part is bound to its nonce.
    project.attest("one", "nonce-two", "other.json").assert_ok();
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(project.file(name)).unwrap()).unwrap()
    };
    let (one, two) = (read("e.json"), read("other.json"));
    let mut mixed = 0;
    for (member, value) in two.as_object().unwrap() {
        if one[member] == *value {
            continue;
        }
        let mut both = one.clone();
        both[member] = value.clone();
        fs::write(project.file("mixed.json"), both.to_string()).unwrap();
        let output = project.run(&["verify", "mixed.json", "--nonce", "nonce-one"]);
        assert_ne!(output.status.code(), Some(0), "{member} of another nonce was accepted");
        mixed += 1;
    }
    assert!(mixed >= 2, "{mixed} members differ");
    project.down();
}

#[test]
fn evidence_of_a_box_that_ended_says_so_by_its_nonce_alone() {
    let project = Project::ready("stale", &agent("one", &IDLE, ""), &[]);
    project.up();
    project.attest("one", "nonce-one", "e.json").assert_ok();
    project.down();
    // Verification needs no running box.
    project.run(&["verify", "e.json", "--nonce", "nonce-one"]).assert_ok();
    project.attest("one", "nonce-two", "late.json").assert_fails(3, "does not run", "casemate up");
    assert!(!project.file("late.json").exists());
}

#[test]
fn evidence_is_refused_where_its_endorsements_are_not_valid_at_the_time_of_appraisal() {
    let project = Project::ready("when", &agent("one", &IDLE, ""), &[]);
    project.up();
    project.attest("one", "nonce-one", "e.json").assert_ok();
    project.down();
    for now in ["2001-01-01T00:00:00Z", "2099-01-01T00:00:00Z"] {
        let output = project.run(&["verify", "e.json", "--nonce", "nonce-one", "--now", now]);
        assert_eq!(output.status.code(), Some(1), "{now}: {}{}", output.stdout, output.stderr);
        assert_eq!(output.report().len(), 5, "{now}: {}", output.stderr);
    }
}

#[test]
fn evidence_under_another_development_root_is_refused() {
    // Each project's emulator has a root of its own: one project's evidence is worth nothing to another.
    let (one, two) = ("root-one", "root-two");
    let [one, two] = [one, two].map(|name| Project::ready(name, &agent("one", &IDLE, ""), &[]));
    one.up();
    one.attest("one", "nonce-one", "e.json").assert_ok();
    one.down();
    fs::copy(one.file("e.json"), two.file("e.json")).unwrap();
    let bundle = one.project_dir().join("emulator/bundle.json");
    let bundle = bundle.to_str().unwrap();
    two.up();
    two.down();
    for more in [vec![], vec!["--bundle", bundle]] {
        let args = [&["verify", "e.json", "--nonce", "nonce-one"][..], &more].concat();
        let output = two.run(&args);
        assert_eq!(output.status.code(), Some(1), "{}{}", output.stdout, output.stderr);
        assert_eq!(output.report().len(), 5, "{}", output.stderr);
    }
}
