//! Unusable input: exit code 2, what and where, what to do, and nothing is started.

use std::fs;

use crate::bench::{Bench, assert_fails, assert_ok, stderr};

#[test]
#[ignore = "system test"]
fn a_broken_compose_file_is_named_with_line_and_column() {
    let bench = Bench::ready("t-compose");
    let path = bench.dir.path().join("compose.yaml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("secrets: [marker]", "secretz: [marker]")).unwrap();
    let output = bench.run(&["up", "-d"]);
    assert_fails(&output, 2, "compose.yaml:7:5:", "");
    fs::write(&path, "services: [").unwrap();
    assert_fails(&bench.run(&["-p", "t-compose", "up", "-d"]), 2, "compose.yaml:", "");
    bench.assert_gone();
}

#[test]
#[ignore = "system test"]
fn a_missing_policy_is_refused_with_the_command_that_writes_one() {
    let bench = Bench::new("t-nopolicy");
    assert_fails(&bench.run(&["up", "-d"]), 2, "policy.toml", "casemate -f compose.yaml policy write");
    bench.assert_gone();
}

#[test]
#[ignore = "system test"]
fn a_broken_policy_is_named_with_line_and_column() {
    let bench = Bench::ready("t-policy");
    let path = bench.dir.path().join("policy.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("version = 1", "version = 7")).unwrap();
    assert_fails(&bench.run(&["up", "-d"]), 2, "policy.toml:2:", "version = 1");
    bench.assert_gone();
}

#[test]
#[ignore = "system test"]
fn a_missing_image_is_named_with_line_and_column() {
    let bench = Bench::ready("t-image");
    assert_ok(&bench.run(&["image", "rm", "localhost/system-test:1"]));
    assert_fails(&bench.run(&["up", "-d"]), 2, "compose.yaml:4:", "casemate image import");
    bench.assert_gone();
}

#[test]
#[ignore = "system test"]
fn a_changed_lock_is_refused_where_it_must_not_change() {
    let bench = Bench::ready("t-locked");
    let path = bench.dir.path().join("casemate.lock");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("t-locked", "t-other")).unwrap();
    assert_fails(&bench.run(&["up", "-d", "--locked"]), 2, "casemate.lock", "casemate -f compose.yaml lock");
    assert_ok(&bench.run(&["lock"]));
    assert_ok(&bench.run(&["lock", "--check"]));
    bench.assert_gone();
}

#[test]
#[ignore = "system test"]
fn broken_evidence_is_unusable_and_replayed_evidence_is_refused() {
    let bench = Bench::ready("t-evidence");
    bench.up();
    assert_ok(&bench.run(&["attest", "keeper", "--nonce", "nonce-one", "-o", "e.json"]));
    assert_ok(&bench.run(&["verify", "e.json", "--nonce", "nonce-one"]));
    assert_fails(&bench.run(&["verify", "e.json", "--nonce", "nonce-two"]), 1, "refused", "fresh evidence");
    let production = bench.run(&["verify", "e.json", "--nonce", "nonce-one", "--roots", "production"]);
    assert_fails(&production, 1, "refused", "real hardware");
    assert!(stderr(&production).contains("rule      platform.roots"), "{}", stderr(&production));

    let path = bench.dir.path().join("e.json");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert_fails(
        &bench.run(&["verify", "e.json", "--nonce", "nonce-one"]),
        2,
        "e.json:1:",
        "casemate attest",
    );
    fs::write(&path, "{}").unwrap();
    assert_fails(
        &bench.run(&["verify", "e.json", "--nonce", "nonce-one"]),
        2,
        "not evidence",
        "casemate attest",
    );
    assert_fails(&bench.run(&["attest", "nobody", "--nonce", "nonce-one"]), 2, "nobody", "");
}

#[test]
#[ignore = "system test"]
fn an_argument_changed_after_the_policy_was_written_is_refused() {
    let bench = Bench::ready("t-argument");
    let path = bench.dir.path().join("compose.yaml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("time.sleep(600)", "time.sleep(601)")).unwrap();
    let output = bench.run(&["up", "-d"]);
    assert_fails(&output, 1, "failed at appraise", "policy write --force");
    assert!(stderr(&output).contains("rule      composition.digest"), "{}", stderr(&output));
    bench.assert_gone();
}
