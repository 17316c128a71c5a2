//! The truth about controls: each one is taken away in turn, and its status follows.
//!
//! The kernel seems to lack what the control needs, or, worse, says that it applied it and did nothing. In both cases no
//! agent starts, under the control's own name; and where user and policy accept the gap, everybody is told.

use std::process::Command;

use casemate_protocol::agent_token::Control;
use casemate_protocol::controls::Need;

use crate::project::{COMMAND_BOUND, Output, Project, agent, dist, run_bounded};

/// Error numbers (linux/asm-generic/errno-base.h): one that answers success, "operation not permitted", and no such call.
const DOES_NOTHING: &str = "0";
const REFUSES: &str = "1";
/// ENOSYS: what starts programs falls back from the same call.
const IS_NOT_THERE: &str = "38";

/// What is taken away: a control, how the call that applies it answers, and that call as `NUMBER[:ARGUMENT:VALUE]`.
struct Without {
    control: Control,
    answers: &'static str,
    call: &'static str,
    /// The status where user and policy accept the gap; none where no compartment can be built without it.
    status: Option<&'static str>,
}

const fn without(
    control: Control,
    answers: &'static str,
    call: &'static str,
    status: Option<&'static str>,
) -> Without {
    Without { control, answers, call, status }
}

/// Numbers of calls (linux, syscall_64.tbl): prctl 157, seccomp 317, keyctl 250, fchmodat 268, setsockopt 54,
/// landlock_restrict_self 446, unshare 272, clone3 435, fsopen 430, mkdir 83.
const CASES: [Without; 13] = [
    // Without a flag: gateway and courier load theirs for all threads, and serve nobody without.
    without(Control::Seccomp, DOES_NOTHING, "317:1:0", Some("not-enforced")),
    without(Control::Seccomp, REFUSES, "317:1:0", Some("not-enforced")),
    without(Control::Landlock, DOES_NOTHING, "446", Some("unknown")),
    without(Control::Landlock, REFUSES, "446", Some("not-enforced")),
    without(Control::Keyring, DOES_NOTHING, "250", Some("unknown")),
    without(Control::Keyring, REFUSES, "250", Some("not-enforced")),
    // SO_PASSRIGHTS.
    without(Control::AgentSocket, DOES_NOTHING, "54:2:83", Some("not-enforced")),
    // Mode 0, which nothing else sets.
    without(Control::Proc, DOES_NOTHING, "268:2:0", Some("not-enforced")),
    // PR_SET_MDWE.
    without(Control::DenyWriteExecute, DOES_NOTHING, "157:0:65", Some("not-enforced")),
    // PR_CAPBSET_DROP.
    without(Control::NoPrivileges, DOES_NOTHING, "157:0:24", None),
    // CLONE_NEWUSER.
    without(Control::UserNamespace, REFUSES, "272:0:268435456", None),
    without(Control::Namespaces, IS_NOT_THERE, "435", None),
    without(Control::PrivateRoot, REFUSES, "430", None),
];

fn up_without(project: &Project, case: &Without, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_systemtest-answering"));
    command.args([case.answers, case.call]).arg(dist().join("casemate"));
    command.args(["up", "-d", "--progress", "plain"]).args(more);
    project.place(&mut command);
    run_bounded(&mut command, project.dir.path(), COMMAND_BOUND, None)
}

#[test]
fn each_control_that_is_taken_away_stops_the_start_or_shows() {
    let strict = "x-casemate: { memory: deny-write-execute }";
    let project = Project::ready("controls", &agent("one", &["say here", "wait"], strict), &[]);
    project.up();
    project.logs_with("one", "here");
    let status = project.ps();
    for control in Control::ALL.into_iter().filter(|control| control.need() != Need::WhereThereIs) {
        assert_eq!(status["agents"]["one"]["controls"][control.name()], "enforced");
    }
    let table = project.run(&["ps", "--controls"]).stdout;
    for control in Control::ALL {
        let row = table.lines().find(|line| line.trim_start().starts_with(&format!("{} ", control.name())));
        let row = row.unwrap_or_else(|| panic!("{table}"));
        assert!(row.contains(control.applied()) && row.contains(&control.checked().describe()), "{row}");
    }
    project.down();
    for case in &CASES {
        let (name, what) = (case.control.name(), format!("{} {}", case.call, case.answers));
        let output = up_without(&project, case, &[]);
        assert_eq!(output.status.code(), Some(1), "{name} {what}: {}{}", output.stdout, output.stderr);
        let report = output.report().join("\n");
        assert!(report.contains(&format!("control.{name}")), "{name} {what}: {report}");
        assert_eq!(project.logs("one").matches("here").count(), 1, "{name} {what}");
        project.assert_nothing_left();
        let Some(expected) = case.status else {
            assert!(!case.control.may_be_missing());
            continue;
        };
        project.write_policy(&["--allow-weaker", name]);
        up_without(&project, case, &["--allow-weaker", name]).assert_ok();
        let found = project.ps()["agents"]["one"]["controls"][name].clone();
        assert_eq!(found, expected, "{name} {what}");
        project.run(&["down", "-t", "0"]).assert_ok();
        project.assert_nothing_left();
        project.write_policy(&[]);
        std::fs::remove_file(project.project_dir().join("logs/one.log")).unwrap();
        std::fs::write(project.project_dir().join("logs/one.log"), "1.000000 here\n").unwrap();
    }
}

#[test]
fn where_launcher_and_first_process_both_fail_the_launchers_failure_is_told() {
    let project = Project::empty("two-failures");
    // The first process finds no place for the volume; the launcher cannot narrow `/proc/self/net`.
    let one = agent("one", &["wait"], "volumes: [\"kept:/not-in-the-image\"]");
    let text = format!("name: two-failures\nservices:\n{one}volumes:\n  kept:\n");
    std::fs::write(project.file("compose.yaml"), text).unwrap();
    crate::image::link_into(&project.home());
    project.write_policy(&[]);
    let (_, found) = project.try_up(&[]).assert_refused("mount.target");
    assert!(found.contains("/not-in-the-image"), "{found}");
    let launcher = without(Control::Proc, REFUSES, "268:2:0", None);
    for _ in 0..5 {
        let (_, found) = up_without(&project, &launcher, &[]).assert_refused("control.proc");
        assert!(found.contains("/proc/self/net"), "{found}");
        project.assert_nothing_left();
    }
}

#[test]
fn what_a_machine_need_not_have_is_told_and_a_policy_may_ask_for_it() {
    let project = Project::ready("machine", &agent("one", &["say here", "wait"], ""), &[]);
    project.up();
    let status = project.ps();
    let found = |control: Control| status["agents"]["one"]["controls"][control.name()].clone();
    let has = |control: Control| found(control) == "enforced";
    // What the kernel says of this very process's CPU and of itself, read apart from the code under test.
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let switchless = own.contains("Speculation_Store_Bypass:\tvulnerable")
        && own.contains("SpeculationIndirectBranch:\talways enabled");
    assert_eq!(found(Control::Speculation) == "not-enforced", switchless, "{own}");
    if switchless {
        println!("not run: speculation in force: this machine has none of the two switches");
    }
    if !has(Control::CoreScheduling) {
        println!("not run: core scheduling in force: this kernel has none, or no core has two threads");
    }
    assert_eq!(found(Control::DenyWriteExecute), "not-enforced");
    project.attest("one", "nonce-one", "e.json").assert_ok();
    project.run(&["verify", "e.json", "--nonce", "nonce-one"]).assert_ok();
    for control in [Control::Speculation, Control::CoreScheduling, Control::DenyWriteExecute] {
        project.write_policy(&[]);
        project.edit("policy.toml", |text| {
            let line = format!("allow-weaker = []\nrequire-controls = [\"{}\"]", control.name());
            text.replace("allow-weaker = []", &line)
        });
        let verdict = project.run(&["verify", "e.json", "--nonce", "nonce-one"]);
        if has(control) {
            verdict.assert_ok();
        } else {
            let (_, found) = verdict.assert_refused("agent.controls");
            assert!(found.contains(control.name()), "{found}");
        }
    }
    project.down();
}
