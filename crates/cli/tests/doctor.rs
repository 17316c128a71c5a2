//! `casemate doctor` on this machine, and on a tree of files.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn doctor(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_casemate"))
        .arg("doctor")
        .args(args)
        .current_dir(folder.path())
        .env("CASEMATE_HOME", folder.path())
        .output()
        .unwrap()
}

fn findings(output: &Output) -> Vec<Value> {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["findings"].as_array().unwrap().clone()
}

fn verdict<'a>(findings: &'a [Value], id: &str) -> &'a str {
    findings.iter().find(|finding| finding["id"] == id).unwrap()["verdict"].as_str().unwrap()
}

/// File, what is weak there, and the check that must not pass then. The file is read here by itself.
type RedLine = (&'static str, fn(&str) -> bool, &'static str);

const RED_LINES: [RedLine; 20] = [
    ("/sys/kernel/config/tsm/report", |_| false, "D01.provider"),
    ("/proc/cmdline", |text| text.contains("swiotlb=noforce"), "D06.swiotlb"),
    ("/proc/cmdline", |text| text.contains("no_guest_guest"), "D06.guest-guest"),
    ("/proc/cmdline", |text| text.contains("console=ttyS"), "D06.console"),
    (
        "/sys/devices/system/clocksource/clocksource0/available_clocksource",
        |text| text.contains("kvm-clock"),
        "D07.available",
    ),
    ("/sys/devices/virtual/misc/hw_random/rng_current", |text| text.starts_with("virtio_rng"), "D08.rng"),
    (
        "/sys/devices/system/cpu/vulnerabilities/spec_rstack_overflow",
        |text| text.contains("Vulnerable"),
        "D13.spec_rstack_overflow",
    ),
    (
        "/sys/devices/system/cpu/vulnerabilities/spec_store_bypass",
        |text| text.contains("Vulnerable"),
        "D13.spec_store_bypass",
    ),
    ("/sys/devices/system/cpu/vulnerabilities/spectre_v2", |text| !text.contains("IBPB"), "D13.ibpb"),
    ("/proc/sys/user/max_user_namespaces", |text| text.trim() != "0", "D20.namespaces"),
    ("/proc/sys/kernel/io_uring_disabled", |text| text.trim() == "0", "D21.io-uring"),
    ("/proc/sys/net/core/bpf_jit_harden", |text| text.trim() == "0", "D21.bpf-jit"),
    ("/proc/sys/kernel/yama/ptrace_scope", |text| text.trim() == "0", "D21.ptrace"),
    ("/proc/sys/kernel/kptr_restrict", |text| text.trim() == "0", "D22.kptr"),
    ("/proc/sys/fs/protected_symlinks", |text| text.trim() == "0", "D22.symlinks"),
    ("/proc/sys/fs/protected_fifos", |text| text.trim() == "0", "D22.fifos"),
    ("/proc/sys/dev/tty/legacy_tiocsti", |text| text.trim() == "1", "D22.tiocsti"),
    ("/proc/sys/vm/mmap_min_addr", |text| text.trim() == "4096", "D22.mmap-min"),
    ("/proc/sys/kernel/panic_on_oops", |text| text.trim() == "0", "D22.panic"),
    ("/sys/fs/cgroup/cgroup.controllers", |text| text.is_empty(), "D26.hierarchy"),
];

#[test]
fn what_is_weak_on_this_machine_does_not_pass() {
    let output = doctor(&["--json"]);
    let findings = findings(&output);
    let mut weak = 0;
    for (path, is_weak, id) in RED_LINES {
        // What is absent must not pass either.
        let text = std::fs::read_to_string(path).ok();
        if text.as_deref().is_none_or(is_weak) && !Path::new(path).is_dir() {
            assert_ne!(verdict(&findings, id), "pass", "{id}: {text:?}");
            weak += 1;
        }
    }
    if weak == 0 {
        println!("not run: what_is_weak_on_this_machine_does_not_pass: nothing of the list is weak here");
    }
    // Without a box nothing is said of agents.
    for id in ["D15.seccomp", "D17.files", "D27.tcp"] {
        assert_eq!(verdict(&findings, id), "unknown", "{id}");
    }
    let fails = findings.iter().any(|finding| finding["verdict"] == "fail");
    assert_eq!(output.status.code(), Some(i32::from(fails)));
}

#[test]
fn a_tree_of_files_is_looked_at_in_place_of_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let empty = doctor(&["--json", "--root", root]);
    assert_eq!(empty.status.code(), Some(0));
    assert!(findings(&empty).iter().all(|finding| finding["verdict"] == "unknown"));
    std::fs::create_dir_all(folder.path().join("sys/kernel/mm/ksm")).unwrap();
    std::fs::write(folder.path().join("sys/kernel/mm/ksm/run"), "1\n").unwrap();
    let merging = doctor(&["--root", root]);
    assert_eq!(merging.status.code(), Some(1));
    let text = String::from_utf8(merging.stdout).unwrap();
    assert!(text.contains("  fail D16.ksm: equal pages merged (KSM): 1\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 96), "{text}");
    let none = doctor(&["--root", "/none/such"]);
    assert_eq!(none.status.code(), Some(2));
}

#[test]
fn a_change_is_told_while_somebody_watches() {
    use std::io::{BufRead as _, BufReader};
    use std::process::Stdio;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sys/kernel/mm/ksm/run");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "0\n").unwrap();
    let mut watcher = Command::new(env!("CARGO_BIN_EXE_casemate"))
        .args(["doctor", "--json", "--watch", "1", "--root", folder.path().to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    let first: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert_eq!(first["summary"]["fail"], 0);
    std::fs::write(&file, "1\n").unwrap();
    let change: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert_eq!((&change["id"], &change["before"]["verdict"]), (&"D16.ksm".into(), &"pass".into()));
    assert_eq!(change["now"], serde_json::json!({ "verdict": "fail", "observed": "1" }));
    // It ends when nobody reads any more.
    drop(lines);
    assert_eq!(watcher.wait().unwrap().code(), Some(0));
}

#[test]
fn a_report_that_is_none_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report");
    std::fs::write(&path, [0; 1184]).unwrap();
    let output =
        doctor(&["--json", "--root", folder.path().to_str().unwrap(), "--report", path.to_str().unwrap()]);
    assert_eq!(verdict(&findings(&output), "D05.debug"), "unknown");
    std::fs::write(&path, vec![0; (8 << 20) + 1]).unwrap();
    assert_eq!(doctor(&["--report", path.to_str().unwrap()]).status.code(), Some(2));
    std::fs::write(&path, "{\"x\": 1}").unwrap();
    assert_eq!(doctor(&["--report", path.to_str().unwrap()]).status.code(), Some(2));
}

#[test]
fn errors_of_setting_up_are_explained() {
    let known = doctor(&["--host", "--explain", "tdx_att_get_quote failed: 0xb033"]);
    assert!(String::from_utf8(known.stdout).unwrap().starts_with("cause: "));
    assert_eq!(doctor(&["--host", "--explain", "something else"]).status.code(), Some(2));
    assert_eq!(doctor(&["--explain", "0xb033"]).status.code(), Some(2));
    let host = doctor(&["--host", "--json"]);
    assert!(findings(&host).iter().all(|finding| finding["id"].as_str().unwrap().starts_with('H')));
}
