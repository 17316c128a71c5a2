//! `up` that is interrupted: by Ctrl-C, by other signals, by `down`, by another `up`.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::faults::{FAULT_BOUND, project, second_up_works};
use crate::project::{COMMAND_BOUND, Output, Project, Spawned, dist, spawn};

#[test]
fn ctrl_c_at_any_moment_of_up_leaves_nothing() {
    let project = project("ctrl-c");
    project.up();
    project.down();
    // By time, where nothing is shown yet, and by what is shown.
    for after_ms in [5, 30, 60, 100, 150] {
        let up = project.spawn(&["up", "--progress", "plain"]);
        std::thread::sleep(Duration::from_millis(after_ms));
        interrupt(&project, up, &format!("{after_ms} ms"));
    }
    for part in ["lock", "broker", "emulator", "warden"] {
        let mut up = project.spawn(&["up", "--progress", "plain"]);
        let end = Instant::now() + FAULT_BOUND;
        while !up.stdout().contains(&format!("ok   {part}")) {
            assert!(up.runs() && Instant::now() < end, "{}", up.stdout());
            std::thread::sleep(Duration::from_millis(2));
        }
        let output = interrupt(&project, up, part);
        if part != "warden" {
            assert_eq!(output.status.code(), Some(130), "{part}: {}{}", output.stdout, output.stderr);
            output.assert_fails(130, "interrupted", "casemate up");
        }
    }
    second_up_works(&project);
}

fn interrupt(project: &Project, up: Spawned, when: &str) -> Output {
    up.signal(Signal::INT);
    let output = up.wait(COMMAND_BOUND);
    // Once all agents run, Ctrl-C is the way to stop them in good order.
    assert!(
        output.was_interrupted() || output.status.success(),
        "{when}: {}\n{}{}",
        output.status,
        output.stdout,
        output.stderr
    );
    assert!(!output.stderr.contains("panicked"), "{when}: {}", output.stderr);
    project.assert_nothing_left();
    output
}

#[test]
fn ctrl_c_while_agents_run_stops_them_in_good_order() {
    let project = project("ctrl-c-late");
    let mut up = project.spawn(&["up", "--progress", "plain"]);
    let end = Instant::now() + FAULT_BOUND;
    while !up.stdout().contains("| here") {
        assert!(up.runs() && Instant::now() < end, "{}", up.stdout());
        std::thread::sleep(Duration::from_millis(20));
    }
    up.signal(Signal::INT);
    let output = up.wait(COMMAND_BOUND);
    output.assert_ok();
    second_up_works(&project);
}

#[test]
fn a_killed_foreground_up_leaves_nothing_that_down_does_not_clean() {
    let project = project("k-up");
    for after_ms in [80, 250, 700] {
        let up = project.spawn(&["up", "--progress", "plain"]);
        std::thread::sleep(Duration::from_millis(after_ms));
        up.signal(Signal::KILL);
        let _ = up.wait(COMMAND_BOUND);
        project.down();
    }
    second_up_works(&project);
}

#[test]
fn down_during_up_stops_it() {
    let project = project("down-up");
    for after_ms in [100, 250, 400] {
        let mut up = project.spawn(&["up", "--progress", "plain"]);
        std::thread::sleep(Duration::from_millis(after_ms));
        let end = Instant::now() + FAULT_BOUND;
        // The first may come before anything is started: then there is nothing to stop.
        while up.runs() && Instant::now() < end {
            project.run(&["down", "-t", "0"]).assert_ok();
            std::thread::sleep(Duration::from_millis(100));
        }
        let output = up.wait(COMMAND_BOUND);
        assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
        // Either `up` came too late and runs into its end, or it is told that the box ended.
        assert!(
            matches!(output.status.code(), Some(0 | 3)),
            "{after_ms} ms: {}{}",
            output.stdout,
            output.stderr
        );
        project.assert_nothing_left();
    }
    second_up_works(&project);
}

#[test]
fn of_several_ups_at_once_one_starts_the_box_and_the_others_join_it_or_say_so() {
    let project = project("race");
    for _ in 0..2 {
        let ups = [(); 3].map(|()| project.spawn(&["up", "-d", "--progress", "plain"]));
        let ends = ups.map(|up| up.wait(COMMAND_BOUND));
        let started = ends.iter().filter(|end| end.stdout.contains("2 agents run")).count();
        assert_eq!(started, 1, "{ends:?}");
        for lost in ends.iter().filter(|end| !end.status.success()) {
            lost.assert_fails(3, "runs already", "down");
        }
        project.wait_for_agent("keeper", "running", |agent| agent["pid"].is_number());
        project.down();
    }
}

#[test]
fn a_foreground_up_stops_all_in_good_order_when_it_is_told_to_end_or_its_terminal_goes() {
    let project = project("signals");
    for signal in [Signal::TERM, Signal::HUP] {
        for part in ["ok   broker", "| here"] {
            let mut up = project.spawn(&["up", "--progress", "plain"]);
            let end = Instant::now() + FAULT_BOUND;
            while !up.stdout().contains(part) {
                assert!(up.runs() && Instant::now() < end, "{}", up.stdout());
                std::thread::sleep(Duration::from_millis(5));
            }
            up.signal(signal);
            let output = up.wait(COMMAND_BOUND);
            assert!(matches!(output.status.code(), Some(0 | 130)), "{signal:?} {part}: {output:?}");
            project.assert_nothing_left();
        }
    }
    // Unless it was started to outlive its terminal.
    let mut nohup = Command::new("nohup");
    nohup.arg(dist().join("casemate")).args(["up", "--progress", "plain"]);
    project.place(&mut nohup);
    let up = spawn(&mut nohup, project.dir.path(), None);
    let end = Instant::now() + FAULT_BOUND;
    while !up.stdout().contains("| here") {
        assert!(Instant::now() < end, "{}", up.stdout());
        std::thread::sleep(Duration::from_millis(20));
    }
    up.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(300));
    project.wait_for_agent("other", "running", |agent| agent["pid"].is_number());
    up.signal(Signal::TERM);
    up.wait(COMMAND_BOUND).assert_ok();
    second_up_works(&project);
}
