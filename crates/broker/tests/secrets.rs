//! `secret put|ls|rm` on a state directory, with and without a running broker.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::os::unix::fs::MetadataExt as _;

use support::{files_with, run};

const MARKER: &[u8] = b"marker-7d3f9a-never-on-disk";

fn state() -> (tempfile::TempDir, String) {
    let root = tempfile::tempdir().unwrap();
    let state = root.path().join("state").to_str().unwrap().to_owned();
    (root, state)
}

#[test]
fn a_stored_secret_is_nowhere_in_clear_and_never_printed() {
    let (root, state) = state();
    let output = run(&["secret", "put", "desk/secret/token", "--state", &state], MARKER);
    assert!(output.status.success(), "{output:?}");
    let replaced = [MARKER, b"2"].concat();
    assert!(run(&["secret", "put", "desk/secret/token", "--state", &state], &replaced).status.success());
    let listed = run(&["secret", "ls", "--state", &state], b"");
    assert_eq!(String::from_utf8(listed.stdout).unwrap(), "desk/secret/token\tversion 2\n");
    assert_eq!(files_with(root.path(), MARKER), Vec::<std::path::PathBuf>::new());
    for entry in std::fs::read_dir(&state).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
    }
}

#[test]
fn takes_a_file_and_removes_once() {
    let (root, state) = state();
    let file = root.path().join("secret");
    std::fs::write(&file, b"from a file\n").unwrap();
    let put = ["secret", "put", "a/b/c", "--file", file.to_str().unwrap(), "--state", &state];
    assert!(run(&put, b"").status.success());
    assert!(run(&["secret", "rm", "a/b/c", "--state", &state], b"").status.success());
    let output = run(&["secret", "rm", "a/b/c", "--state", &state], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no secret is stored under `a/b/c`"));
}

#[test]
fn refuses_bad_paths_and_lengths_in_two_lines() {
    let (_root, state) = state();
    let long = vec![b'x'; casemate_protocol::rcar::SECRET_BYTES_MAX + 1];
    for (path, secret) in [("a/b", MARKER), ("../b/c", MARKER), ("a/b/c", b""), ("a/b/c", &long)] {
        let output = run(&["secret", "put", path, "--state", &state], secret);
        assert_eq!(output.status.code(), Some(2), "{path}");
        assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), 2);
    }
    let fits = vec![b'x'; casemate_protocol::rcar::SECRET_BYTES_MAX];
    assert!(run(&["secret", "put", "a/b/c", "--state", &state], &fits).status.success());
}

#[test]
fn two_first_users_agree_on_one_key() {
    let (_root, state) = state();
    std::thread::scope(|scope| {
        for resource in ["a/b/1", "a/b/2", "a/b/3", "a/b/4"] {
            let state = &state;
            scope.spawn(move || {
                let output = run(&["secret", "put", resource, "--state", state], MARKER);
                assert!(output.status.success(), "{output:?}");
            });
        }
    });
    let listed = run(&["secret", "ls", "--state", &state], b"");
    assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().count(), 4);
    let log = run(&["log", "--state", &state], b"");
    assert!(String::from_utf8(log.stdout).unwrap().contains("intact: 4 decisions"));
}
