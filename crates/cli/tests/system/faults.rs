//! Faults: whatever is killed, nothing is left, and a second `up` works.

use std::io::Read as _;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::bench::{Bench, assert_fails, assert_ok, stderr};

#[test]
#[ignore = "system test"]
fn down_leaves_nothing_and_a_second_up_works() {
    let bench = Bench::ready("t-down");
    for _ in 0..2 {
        bench.up();
        assert_ok(&bench.run(&["ps"]));
        assert_ok(&bench.run(&["down"]));
        bench.assert_gone();
    }
}

#[test]
#[ignore = "system test"]
fn a_second_up_while_it_runs_is_refused_and_harms_nothing() {
    let bench = Bench::ready("t-twice");
    bench.up();
    assert_fails(&bench.run(&["up", "-d"]), 3, "runs already", "down");
    assert_ok(&bench.run(&["ps"]));
}

fn ends_everything(name: &str, program: &str) {
    let bench = Bench::ready(name);
    bench.up();
    bench.kill(program);
    bench.assert_gone();
    bench.up();
    assert_ok(&bench.run(&["down", "-t", "0"]));
    bench.assert_gone();
}

#[test]
#[ignore = "system test"]
fn a_killed_warden_ends_everything() {
    ends_everything("t-warden", "casemate-warden");
}

#[test]
#[ignore = "system test"]
fn a_killed_broker_ends_everything() {
    ends_everything("t-broker", "casemate-broker");
}

#[test]
#[ignore = "system test"]
fn a_killed_emulator_ends_everything() {
    ends_everything("t-emulator", "casemate-emulator");
}

#[test]
#[ignore = "system test"]
fn a_killed_supervisor_leaves_nothing_that_a_second_up_minds() {
    let bench = Bench::ready("t-super");
    bench.up();
    bench.kill("box-supervisor");
    bench.up();
    assert_ok(&bench.run(&["down", "-t", "0"]));
    bench.assert_gone();
}

#[test]
#[ignore = "system test"]
fn a_killed_courier_leaves_nothing_after_down() {
    let bench = Bench::ready("t-courier");
    bench.up();
    bench.kill("casemate-courier");
    std::thread::sleep(Duration::from_millis(300));
    assert_ok(&bench.run(&["down", "-t", "0"]));
    bench.assert_gone();
    bench.up();
}

#[test]
#[ignore = "system test"]
fn ctrl_c_at_any_moment_of_up_leaves_nothing() {
    let bench = Bench::ready("t-ctrlc");
    for after_ms in [150, 300, 450, 600, 900, 1500] {
        let mut child = bench.spawn(&["up"]);
        std::thread::sleep(Duration::from_millis(after_ms));
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        let status = child.wait().unwrap();
        let mut text = String::new();
        child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        // Before anything is started the signal ends it; while starting it says so; while running it stops in order.
        use std::os::unix::process::ExitStatusExt as _;
        assert!(
            matches!(status.code(), Some(0 | 130)) || status.signal() == Some(2),
            "{after_ms}: {status} {text}"
        );
        bench.assert_gone();
    }
    bench.up();
}

#[test]
#[ignore = "system test"]
fn a_full_disk_stops_up_and_a_second_up_works() {
    let bench = Bench::ready("t-full");
    let projects = bench.home().join("projects");
    let script = r#"
        cp -a "$1" "$1.copy" && mount -t tmpfs -o size=2m none "$1" && cp -a "$1.copy"/. "$1"/ || exit 9
        dd if=/dev/zero of="$1/filler" bs=4k 2>/dev/null
        "$2" up -d; echo "full: $?"
        rm "$1/filler"; "$2" up -d >/dev/null; echo "freed: $?"; "$2" down -t 0 >/dev/null; echo "down: $?""#;
    let casemate = std::path::PathBuf::from(std::env::var_os("CASEMATE_BIN").unwrap()).join("casemate");
    let mut command = std::process::Command::new("timeout");
    command.args(["90", "unshare", "-m", "sh", "-c", script, "sh"]).arg(&projects).arg(casemate);
    command.current_dir(bench.dir.path()).env("CASEMATE_HOME", bench.home());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("full: 3"), "{text}{}", stderr(&output));
    assert!(text.contains("freed: 0") && text.contains("down: 0"), "{text}{}", stderr(&output));
    bench.assert_gone();
}
