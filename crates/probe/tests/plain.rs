//! The driver, between plain processes: what works there is found, and what does not is not called blocked.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;

use casemate_probe::attack::Length;
use casemate_probe::battery::{Allowed, Battery, Choice};
use casemate_probe::matrix::Row;
use casemate_probe::plain::{Plain, User};
use casemate_probe::target::{Guard, Side, Streams, Target, TargetError};
use casemate_probe::verdict::Verdict;

const PROGRAM: &str = env!("CARGO_BIN_EXE_casemate-probe");

fn only(names: &[&str]) -> Choice {
    Choice { length: Length::Full, only: names.iter().map(|name| (*name).to_owned()).collect() }
}

fn run(target: &dyn Target, names: &[&str], allowed: &Allowed) -> Vec<Row> {
    let mut battery = Battery::new(only(names), Path::new(PROGRAM), Path::new("/no-socket")).unwrap();
    let mut told = 0;
    let rows = battery.run(target, allowed, &mut |_| told += 1).unwrap();
    assert_eq!((told, rows.len()), (names.len(), names.len()));
    rows
}

fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("not run: {test}: only root may start processes of another user");
    }
    root
}

#[test]
fn plain_processes_of_one_user_leak_and_what_a_composition_allows_is_allowed() {
    if !is_root("attacks between plain processes") {
        return;
    }
    let target = Plain::of(Path::new(PROGRAM), User::Nobody).unwrap();
    let names =
        ["read-memory", "temporary-file", "file-lock", "peer-secret", "exhaust-inotify", "box-socket"];
    let allowed = Allowed { root: Some("share: kin".into()), cores: None };
    let rows = run(&target, &names, &allowed);
    let verdict = |name: &str| &rows.iter().find(|row| row.attack == name).unwrap().verdict;
    for name in ["read-memory", "temporary-file", "peer-secret", "exhaust-inotify"] {
        assert!(matches!(verdict(name), Verdict::Leak { .. }), "{name}: {}", verdict(name));
    }
    assert!(matches!(verdict("file-lock"), Verdict::Allowed { by, .. } if by == "share: kin"));
    // There is no such socket: it works nowhere, so that nothing is said of it.
    assert!(matches!(verdict("box-socket"), Verdict::Inconclusive { .. }), "{}", verdict("box-socket"));
}

#[test]
fn plain_processes_fill_count_and_feel_what_they_write_to_in_common() {
    if !is_root("attacks on what is written to in common") {
        return;
    }
    let target = Plain::of(Path::new(PROGRAM), User::Nobody).unwrap();
    let names =
        ["peer-evidence", "missing-names", "free-space", "fsync-time", "exhaust-disk", "exhaust-sockets"];
    for row in run(&target, &names, &Allowed::default()) {
        println!("{}: {} / {} / {:?}", row.attack, row.verdict, row.positive_control, row.negative_control);
        // How fast a disk is decides whether one is felt.
        let told = matches!(row.verdict, Verdict::Leak { .. }) || row.attack == "fsync-time";
        assert!(told, "{}: {}", row.attack, row.verdict);
    }
    assert!(!Path::new("/proc/self/mountinfo").exists() || !mounts().contains("casemate-probe"));
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap()
}

/// Probes that go away at once.
struct Gone;

impl Target for Gone {
    fn name(&self) -> String {
        "nobody".into()
    }

    fn start(&self, _: Side) -> Result<Streams, TargetError> {
        let (output, _) = rustix::pipe::pipe().unwrap();
        let (_, input) = rustix::pipe::pipe().unwrap();
        Ok(Streams { input, output, guard: Box::new(Ended(None)) })
    }
}

#[test]
fn a_target_that_goes_away_is_an_error_and_no_verdict() {
    if !is_root("a target that goes away") {
        return;
    }
    let mut battery =
        Battery::new(only(&["read-memory"]), Path::new(PROGRAM), Path::new("/no-socket")).unwrap();
    let error = battery.run(&Gone, &Allowed::default(), &mut |_| ()).unwrap_err();
    assert!(matches!(error, TargetError::Gone { .. }), "{error}");
}

/// Plain processes, of which the attacker goes away as it begins; its place ends with this status.
struct Ending(Plain, Option<i32>);

struct Ended(Option<i32>);

impl Guard for Ended {
    fn ended(&self) -> Option<i32> {
        self.0
    }
}

impl Target for Ending {
    fn name(&self) -> String {
        "an attacker that ends".into()
    }

    fn start(&self, side: Side) -> Result<Streams, TargetError> {
        if side == Side::Victim {
            return self.0.start(side);
        }
        let (output, says) = rustix::pipe::pipe().unwrap();
        let (_, input) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&says, b"up\n").unwrap();
        Ok(Streams { input, output, guard: Box::new(Ended(self.1)) })
    }
}

#[test]
fn of_an_attacker_that_was_killed_nothing_is_said_where_its_victim_goes_on() {
    if !is_root("an attacker that ends") {
        return;
    }
    let verdict = |name: &str, status: Option<i32>| {
        let target = Ending(Plain::of(Path::new(PROGRAM), User::Nobody).unwrap(), status);
        run(&target, &[name], &Allowed::default()).remove(0).verdict
    };
    let held = verdict("exhaust-memory", Some(137));
    if matches!(&held, Verdict::Inconclusive { why } if why.contains("nobody tried")) {
        println!("not run: an attacker that ends: the machine has no control groups to bound it");
        return;
    }
    assert!(matches!(&held, Verdict::Inconclusive { why } if why.contains("was killed")), "{held}");
    for (name, status) in [("exhaust-memory", Some(1)), ("exhaust-memory", None), ("read-memory", Some(137))]
    {
        let untold = verdict(name, status);
        assert!(matches!(untold, Verdict::Inconclusive { .. }), "{name} {status:?}: {untold}");
    }
}
