//! What the command does where standard output takes nothing: a full disk is a failure, a reader who left is not.

#![expect(clippy::unwrap_used, reason = "a test that cannot start the command must fail")]

use std::fs::OpenOptions;
use std::process::{Command, Output, Stdio};

fn completions(stdout: impl Into<Stdio>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_casemate"))
        .args(["completions", "bash"])
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap()
}

#[test]
fn a_full_disk_is_a_failure_in_two_lines() {
    let output = completions(OpenOptions::new().write(true).open("/dev/full").unwrap());
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: standard output: No space left on device\nto do: free some space, or write elsewhere\n"
    );
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = completions(writer);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}
