//! Bad input: exit code 2, what and where, what to do, and nothing runs.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::project::{COMMAND_BOUND, Project, agent, casemate, kill, run_bounded};

fn project(name: &str) -> Project {
    Project::ready(name, &agent("one", &["say here", "wait"], ""), &[])
}

#[test]
fn a_broken_compose_file_is_named_with_line_and_column() {
    let project = project("in-compose");
    let whole = fs::read_to_string(project.file("compose.yaml")).unwrap();
    let broken = [
        ("unknown key", whole.replace("user:", "usr:"), "compose.yaml:5:5: "),
        ("no end", whole.replace("]\n", "\n"), "compose.yaml:"),
        ("no file at all", String::new(), "compose.yaml"),
        ("not YAML", "services: [\u{1}".to_owned(), "compose.yaml:"),
        ("a number too large", whole.replace("64m", "999999999999999999999g"), "compose.yaml:8:"),
        ("a privilege", format!("{whole}    privileged: true\n"), "compose.yaml:10:5: "),
        ("a bomb", bomb(), "compose.yaml:"),
    ];
    for (what, text, place) in broken {
        fs::write(project.file("compose.yaml"), text).unwrap();
        for command in ["up", "lock"] {
            let args = if command == "up" { vec!["up", "-d"] } else { vec!["lock"] };
            let output = project.run(&args);
            assert_eq!(output.status.code(), Some(2), "{what}: {}", output.stderr);
            let report = output.report();
            assert!(report.len() >= 2 && report[0].contains(place), "{what}: {}", output.stderr);
            let todo = report.iter().skip(1).find(|line| !line.starts_with("  "));
            assert!(todo.is_some_and(|line| line.starts_with("to do: ")), "{what}: {}", output.stderr);
            assert!(!output.stderr.contains("panicked"), "{what}: {}", output.stderr);
        }
    }
    project.assert_nothing_left();
}

/// Aliases of aliases, for a billion words.
fn bomb() -> String {
    let mut text = "x-a: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..10 {
        let before = level - 1;
        let aliases = vec![format!("*a{before}"); 10].join(", ");
        text.push_str(&format!("x-{level}: &a{level} [{aliases}]\n"));
    }
    text + "services:\n  one: { image: x, command: *a9 }\n"
}

#[test]
fn a_lock_changed_by_hand_is_refused_where_it_must_not_change() {
    let project = project("in-lock");
    project.run(&["lock", "--check"]).assert_ok();
    let whole = fs::read_to_string(project.file("compose.lock")).unwrap();
    for (what, text, says) in [
        ("content", whole.replace("say here", "say there"), "`about.measurements.one` says sha384:"),
        ("form", whole.replacen("  ", "\t", 1), "line 2 is not as `casemate lock` writes it"),
        ("half", whole[..whole.len() / 2].to_owned(), "not a lock: "),
        ("empty", String::new(), "not a lock: "),
    ] {
        assert_ne!(text, whole, "{what}");
        fs::write(project.file("compose.lock"), text).unwrap();
        project.run(&["up", "-d", "--locked"]).assert_fails(2, says, "lock --check");
        project.run(&["lock", "--check"]).assert_fails(3, says, "compose.yaml lock");
    }
    project.assert_nothing_left();
    project.run(&["lock"]).assert_ok();
    assert_eq!(fs::read_to_string(project.file("compose.lock")).unwrap(), whole);
    project.run(&["up", "-d", "--locked"]).assert_ok();
    project.down();
}

#[test]
fn a_lock_that_would_change_is_told_by_3_and_each_change_is_shown() {
    let project = project("in-check");
    project.edit("compose.yaml", |text| text.replace("say here", "say there"));
    let check = project.run(&["lock", "--check"]);
    check.assert_fails(3, "compose.lock: the lock is not what the files give now", "compose.yaml lock");
    let line = check.stdout.lines().next().unwrap_or_default();
    let (before, after) = line.split_once(" to ").unwrap_or_default();
    assert!(before.starts_with("agent one: command changed from [") && before.contains("say here"), "{line}");
    assert!(after.contains("say there"), "{line}");
    let check = project.run(&["lock", "--check", "--json"]);
    assert_eq!(check.status.code(), Some(3), "{}", check.stderr);
    let answer: serde_json::Value = serde_json::from_str(&check.stdout).unwrap();
    assert_eq!(
        (&answer["changed"], &answer["changes"][0]["field"]),
        (&true.into(), &"command".into()),
        "{answer}"
    );
    assert_eq!(
        (&answer["changes"][0]["agent"], answer["changes"].as_array().unwrap().len()),
        (&"one".into(), 1),
        "{answer}"
    );
    // Another file than the one beside the Compose file.
    let other = ["lock", "-o", "other.lock"];
    let check_other = ["lock", "--check", "-o", "other.lock"];
    project.run(&check_other).assert_fails(3, "other.lock: there is no lock", "lock");
    project.run(&other).assert_ok();
    project.run(&check_other).assert_ok();
    project.run(&["lock", "--check"]).assert_fails(3, "compose.lock", "lock");
    project.run(&["lock"]).assert_ok();
    project.run(&["lock", "--check"]).assert_ok();
    assert_eq!(
        fs::read(project.file("other.lock")).unwrap(),
        fs::read(project.file("compose.lock")).unwrap()
    );
    // Neither same nor different: the file cannot be read.
    project.run(&["lock", "--check", "-o", "."]).assert_fails(2, "not a regular file", "");
}

#[test]
fn a_script_of_others_recomputes_the_digests_of_the_lock_that_runs() {
    let project = project("in-script");
    project.up();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recompute.py");
    let recompute = |lock: &Path| {
        let mut python = Command::new("python3");
        python.arg("-I").arg(&script).arg(lock);
        run_bounded(&mut python, project.dir.path(), COMMAND_BOUND, None)
    };
    let composition = project.ps()["composition"].as_str().unwrap().to_owned();
    for lock in [project.file("compose.lock"), project.project_dir().join("compose.lock")] {
        let output = recompute(&lock);
        output.assert_ok();
        assert_eq!(output.stdout, format!("composition {composition}: all agrees\n"));
    }
    project.down();
    project.edit("compose.lock", |text| text.replace("say here", "say there"));
    let output = recompute(&project.file("compose.lock"));
    assert_eq!(output.status.code(), Some(1), "{}{}", output.stdout, output.stderr);
}

#[test]
fn a_broken_or_missing_policy_is_named_with_its_place() {
    let project = project("in-policy");
    let whole = fs::read_to_string(project.file("policy.toml")).unwrap();
    let broken = [
        ("no TOML", "version = ".to_owned()),
        ("another version", whole.replace("version = 1", "version = 7")),
        ("an unknown key", whole.replace("allow-tainted", "allow-everything")),
        ("a short digest", whole.replace("digest = \"sha384:", "digest = \"sha384:0")),
        ("no digest", whole.replace("[composition]\ndigest", "[composition]\n#digest")),
        ("an unknown control", whole.replace("allow-weaker = []", "allow-weaker = [\"all\"]")),
        ("roots of no kind", whole.replace("roots = \"development\"", "roots = \"any\"")),
        ("empty", String::new()),
    ];
    for (what, text) in broken {
        assert_ne!(text, whole, "{what}");
        fs::write(project.file("policy.toml"), text).unwrap();
        let output = project.try_up(&[]);
        assert_eq!(output.status.code(), Some(2), "{what}: {}", output.stderr);
        output.assert_fails(2, "policy.toml:", "");
    }
    fs::remove_file(project.file("policy.toml")).unwrap();
    project.try_up(&[]).assert_fails(2, "policy.toml", "policy write");
    project.assert_nothing_left();
}

#[test]
fn a_policy_that_is_broken_while_the_box_runs_releases_nothing() {
    let one = agent("one", &["secret s", "wait"], "secrets: [s]\nrestart: always");
    let project = Project::ready("in-live", &one, &[("s", "x")]);
    project.up();
    project.attest("one", "nonce-one", "e.json").assert_ok();
    fs::write(project.file("policy.toml"), "version = ").unwrap();
    project.run(&["verify", "e.json", "--nonce", "nonce-one"]).assert_fails(2, "policy.toml:", "");
    let pid = project.ps()["agents"]["one"]["pid"].as_u64().unwrap();
    kill(u32::try_from(pid).unwrap(), Signal::KILL);
    let one = project.wait_for_agent("one", "failed", |agent| agent["state"] == "failed");
    assert_eq!((&one["instance"], &one["secrets"]), (&serde_json::json!(2), &serde_json::json!([])), "{one}");
    assert_eq!(project.logs("one").matches("secret s").count(), 1);
    project.down();
}

#[test]
fn broken_evidence_and_bundles_are_unusable_not_refused() {
    let project = project("in-evidence");
    project.up();
    project.attest("one", "nonce-one", "e.json").assert_ok();
    let whole = fs::read(project.file("e.json")).unwrap();
    let verify = ["verify", "e.json", "--nonce", "nonce-one"];
    let broken: [(&str, Vec<u8>); 6] = [
        ("half", whole[..whole.len() / 2].to_vec()),
        ("empty", Vec::new()),
        ("another object", b"{}".to_vec()),
        ("no object", b"[1]".to_vec()),
        ("zeros", vec![0; 4096]),
        ("deep", vec![b'['; 100_000]),
    ];
    for (what, bytes) in broken {
        fs::write(project.file("e.json"), bytes).unwrap();
        let output = project.run(&verify);
        assert_eq!(output.status.code(), Some(2), "{what}: {}{}", output.stdout, output.stderr);
        output.assert_fails(2, "e.json", "casemate attest");
    }
    fs::write(project.file("e.json"), vec![b' '; 64 << 20]).unwrap();
    project.run(&verify).assert_fails(2, "8388608 bytes", "a file that exists");
    fs::write(project.file("e.json"), &whole).unwrap();
    project.run(&verify).assert_ok();

    let bundle = fs::read(project.project_dir().join("emulator/bundle.json")).unwrap();
    let with_bundle = [&verify[..], &["--bundle", "b.json"]].concat();
    project.run(&with_bundle).assert_fails(2, "b.json", "bundle create");
    for bytes in [bundle[..bundle.len() / 2].to_vec(), b"{}".to_vec(), Vec::new(), vec![b'{'; 1 << 20]] {
        fs::write(project.file("b.json"), bytes).unwrap();
        project.run(&with_bundle).assert_fails(2, "b.json", "bundle create");
    }
    fs::write(project.file("b.json"), &bundle).unwrap();
    project.run(&with_bundle).assert_ok();

    // Arguments.
    project.run(&["attest", "nobody", "--nonce", "nonce-one"]).assert_fails(2, "nobody", "");
    for args in [
        vec!["attest", "one", "--nonce", "short"],
        vec!["attest", "one"],
        vec!["up", "--platform", "sgx"],
        vec!["up", "--allow-weaker", "everything"],
        vec!["verify", "e.json"],
    ] {
        let output = project.run(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", output.stderr);
    }
    project.down();
}

#[test]
fn every_changed_byte_of_evidence_is_noticed() {
    let project = project("in-bytes");
    project.up();
    project.attest("one", "nonce-one", "e.json").assert_ok();
    project.down();
    let whole = fs::read(project.file("e.json")).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 41 + 1) {
        let mut bytes = whole.clone();
        // Another character of the same kind, so that it stays JSON and base64 where it was.
        bytes[at] = match bytes[at] {
            b'A'..=b'Y' | b'a'..=b'y' | b'0'..=b'8' => bytes[at] + 1,
            b'Z' => b'A',
            b'z' => b'a',
            b'9' => b'0',
            other => other ^ 1,
        };
        fs::write(project.file("changed.json"), &bytes).unwrap();
        let output = project.run(&["verify", "changed.json", "--nonce", "nonce-one"]);
        assert!(matches!(output.status.code(), Some(1 | 2)), "byte {at}: {}{}", output.stdout, output.stderr);
    }
}

#[test]
fn an_archive_that_is_no_root_file_system_is_unusable() {
    let project = Project::empty("in-image");
    let import = |file: &str| project.run(&["image", "import", "localhost/x:1", "--tar", file]);
    import("none.tar").assert_fails(2, "none.tar", "--tar");
    let whole = fs::read(crate::image::tar()).unwrap();
    let garbage: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (what, bytes) in [("garbage", garbage), ("half", whole[..whole.len() / 2].to_vec())] {
        fs::write(project.file("x.tar"), bytes).unwrap();
        let output = import("x.tar");
        assert_eq!(output.status.code(), Some(2), "{what}: {}{}", output.stdout, output.stderr);
        output.assert_fails(2, "", "");
        assert!(!project.run(&["image", "ls"]).stdout.contains("localhost/x:1"), "{what}");
    }
    let mut outside = casemate(&["image", "import", "Not A Name", "--tar"]);
    project.place(&mut outside);
    outside.arg(crate::image::tar());
    run_bounded(&mut outside, project.dir.path(), COMMAND_BOUND, None).assert_fails(2, "Not A Name", "");
    project.assert_nothing_left();
}

#[test]
fn a_missing_image_is_named_with_its_place_in_the_compose_file() {
    let project = project("in-noimage");
    project.run(&["image", "rm", crate::image::IMAGE]).assert_ok();
    project.try_up(&[]).assert_fails(2, "compose.yaml:4:", "image import");
    project.assert_nothing_left();
}

#[test]
fn the_broker_that_does_not_belong_to_its_certificate_is_not_used() {
    let project = project("in-cert");
    fs::write(project.file("cert.pem"), "no certificate").unwrap();
    let args = ["--broker", "https://127.0.0.1:1", "--broker-cert"];
    let missing = project.try_up(&[&args[..], &["none.pem"]].concat());
    missing.assert_fails(2, "none.pem", "--broker-cert");
    let output = project.try_up(&[&args[..], &["cert.pem"]].concat());
    assert!(matches!(output.status.code(), Some(2 | 3)), "{}{}", output.stdout, output.stderr);
    project.assert_nothing_left();
}

#[test]
fn a_root_directory_whose_sockets_would_have_no_address_is_unusable() {
    let project = project("in-long");
    let mut up = casemate(&["up", "-d"]);
    project.place(&mut up);
    up.env("CASEMATE_HOME", project.dir.path().join("x".repeat(100)));
    run_bounded(&mut up, project.dir.path(), COMMAND_BOUND, None).assert_fails(2, "107", "CASEMATE_HOME");
    let mut up = casemate(&["up", "-d"]);
    project.place(&mut up);
    up.env("CASEMATE_HOME", "/proc/casemate");
    let output = run_bounded(&mut up, project.dir.path(), COMMAND_BOUND, None);
    assert!(matches!(output.status.code(), Some(2 | 3)), "{}{}", output.stdout, output.stderr);
    assert_eq!(output.report().len(), 2, "{}", output.stderr);
    project.assert_nothing_left();
}

#[test]
fn a_folder_with_spaces_and_signs_is_a_folder_like_any_other() {
    let project = project("in-spaces");
    let home = project.file("a b\\,:'\"é%s");
    fs::rename(project.home(), &home).unwrap();
    let run = |args: &[&str]| {
        let mut command = casemate(args);
        project.place(&mut command);
        run_bounded(command.env("CASEMATE_HOME", &home), project.dir.path(), COMMAND_BOUND, None)
    };
    let up = run(&["up", "-d"]);
    let ps = run(&["ps"]);
    let down = run(&["down", "-t", "0"]);
    up.assert_ok();
    ps.assert_ok();
    down.assert_ok();
    let left = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!left.contains("in-spaces"), "{left}");
}
