//! The emulator as a command: what it prints, what it writes, how it refuses.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn run(state: &Path, platform: &str, more: &[&str]) -> Output {
    Command::new("timeout")
        .args(["60", env!("CARGO_BIN_EXE_casemate-emulator"), "--platform", platform, "--state"])
        .arg(state)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn reference_values_and_bundle_are_written_without_mounting_and_stay_the_same() {
    let dir = tempfile::tempdir().unwrap();
    // One state directory serves both kinds.
    let state = dir.path().join("state");
    for (platform, members) in [
        ("tdx", vec!["development-root", "mrtd", "rtmr0", "rtmr1", "rtmr2", "tee"]),
        ("snp", vec!["development-root", "measurement", "product", "tee", "vmpl"]),
    ] {
        let arguments = ["--program", "/bin/true", "--print-reference-values"];
        let first = run(&state, platform, &arguments);
        assert!(first.status.success(), "{first:?}");
        let written = fs::read(state.join("reference-values.json")).unwrap();
        assert_eq!(first.stdout, written);
        let values: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&written).unwrap();
        assert_eq!(values.keys().collect::<Vec<_>>(), members);
        assert_eq!(values["tee"], platform);
        let bundle = casemate_endorsements::read(&fs::read(state.join("bundle.json")).unwrap()).unwrap();
        let bundle = bundle.contents();
        assert_eq!((bundle.tdx.is_some(), bundle.snp.is_some()), (platform == "tdx", platform == "snp"));

        let again = run(&state, platform, &arguments);
        assert_eq!(again.stdout, written);
        let other = run(&state, platform, &["--program", "/bin/false", "--print-reference-values"]);
        assert_ne!(other.stdout, written, "another program is another measurement");
    }
}

#[test]
fn a_refusal_is_two_lines_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let absent = dir.path().join("absent");
    let digest = format!("sha384:{}", "00".repeat(48));
    let absent = absent.to_str().unwrap();
    for (arguments, says) in [
        (vec!["--program", absent, "--print-reference-values"], "cannot be read"),
        (
            vec!["--program", "/bin/true", "--mount", absent, "--composition-digest", &digest],
            "cannot mount on",
        ),
    ] {
        let refused = run(&state, "tdx", &arguments);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        let text = String::from_utf8(refused.stderr).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("error: ") && lines[0].contains(says), "{text}");
    }
    // A damaged PKI is not silently replaced: policies name its root.
    let broken = state.join("pki/tdx/pki.json");
    fs::write(&broken, b"{}").unwrap();
    let refused = run(&state, "tdx", &["--program", "/bin/true", "--print-reference-values"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(String::from_utf8(refused.stderr).unwrap().contains("pki.json is not usable"));
    for arguments in [
        vec!["--program", "/bin/true"],
        vec!["--program", "/bin/true", "--mount", "/tmp", "--composition-digest", "sha384:00"],
        vec!["--print-reference-values"],
    ] {
        assert_eq!(run(&state, "tdx", &arguments).status.code(), Some(2), "{arguments:?}");
    }
}
