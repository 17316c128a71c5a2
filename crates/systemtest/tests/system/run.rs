//! `run`: a one-off agent in a box of its own, measured as such, with secrets only where a policy expects it.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::census::{Census, Owner};
use crate::inside::User;
use crate::lifecycle::runs;
use crate::project::{COMMAND_BOUND, Output, Project, agent, dist};

const COMMAND: [&str; 4] = ["say once", "secret token", "call base:8080", "exit 3"];

fn project(name: &str) -> Project {
    let base = agent("base", &["serve 8080 hi", "wait"], "expose: [\"8080\"]");
    let job = agent(
        "job",
        &["say usual", "wait"],
        "depends_on: [base]\nrestart: always\nsecrets: [token]\nx-casemate:\n  talks-to: [\"base:8080\"]",
    );
    let other = agent("other", &["wait"], "");
    Project::ready(name, &format!("{base}{job}{other}"), &[("token", "t")])
}

fn run(project: &Project, options: &[&str], command: &[&str]) -> Output {
    project.run(&[&["run"], options, &["job"], command].concat())
}

fn with_policy(project: &Project, command: &[&str]) {
    let wrote = run(project, &["--write-policy", "run.toml"], command);
    wrote.assert_ok();
    assert!(wrote.stdout.contains("for one-off composition sha384:"), "{}", wrote.stdout);
}

fn box_dir(project: &Project) -> std::path::PathBuf {
    project.home().join("projects").join(format!("{}-run-job", project.name))
}

/// The one-off box has nothing on the machine.
fn assert_gone(project: &Project) {
    let name = format!("{}-run-job", project.name);
    let owner = Owner {
        home: box_dir(project),
        project_dir: box_dir(project),
        box_name: casemate_sys::cgroup::box_name(&name, &box_dir(project)),
        bin: dist(),
    };
    let end = Instant::now() + Duration::from_secs(15);
    let left = || {
        let Census { mounts, cgroups, loop_devices, run, .. } = owner.count(&mut BTreeSet::new());
        (mounts.is_empty() && cgroups.is_empty() && loop_devices.is_empty() && run.is_empty())
            .then_some(())
            .ok_or(format!("{mounts:?} {cgroups:?} {loop_devices:?} {run:?}"))
    };
    while left().is_err() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(left(), Ok(()));
}

fn assert_not_begun(output: &Output, said: &str) {
    assert_eq!(output.status.code(), Some(125), "{}{}", output.stdout, output.stderr);
    assert!(output.stderr.contains(said), "no `{said}` in:\n{}", output.stderr);
}

#[test]
fn a_one_off_agent_beside_its_project_has_its_secrets_and_ends_with_its_exit_code() {
    let project = project("one-off");
    project.up();
    let pid = runs(&project, "job", 1)["pid"].clone();
    with_policy(&project, &COMMAND);
    let output = run(&project, &["--rm", "--policy", "run.toml"], &COMMAND);
    assert_eq!(output.status.code(), Some(3), "{}{}", output.stdout, output.stderr);
    assert_eq!(
        output.stdout,
        "once\nsecret token mode 0400 owner 1000:1000 reversed t\ncall base:8080 answered hi\n"
    );
    let said = "one-off box one-off-run-job: 2 agents, composition sha384:";
    assert!(output.stderr.contains(said), "{}", output.stderr);
    assert!(!box_dir(&project).exists(), "--rm leaves the folder");
    assert_gone(&project);
    // Nothing of it came into the box that runs, and what the two share is still there.
    let agents = project.ps()["agents"].clone();
    assert_eq!(agents["job"]["pid"], pid);
    assert_eq!(agents["job"]["tainted"], false);
    assert!(project.run(&["secret", "ls"]).stdout.contains("token"));
    assert!(!project.logs("job").contains("once"));
    project.down();
}

#[test]
fn a_policy_that_expects_another_composition_refuses_a_one_off_agent_before_it_starts() {
    let project = project("one-off-policy");
    let refused = run(&project, &["--rm"], &COMMAND);
    assert_not_begun(&refused, "rule      composition.digest");
    assert!(refused.stderr.contains("--write-policy"), "{}", refused.stderr);
    assert!(!box_dir(&project).exists(), "nothing was begun");
    with_policy(&project, &COMMAND);
    run(&project, &["--write-policy", "run.toml"], &COMMAND).assert_fails(
        125,
        "there is a file already",
        "remove",
    );
    // Each word counts, and so does each option.
    let other = run(&project, &["--policy", "run.toml"], &["secret token"]);
    assert_not_begun(&other, "composition.digest");
    let variable = run(&project, &["--policy", "run.toml", "-e", "A=b"], &COMMAND);
    assert_not_begun(&variable, "composition.digest");
    let alone = run(&project, &["--policy", "run.toml", "--no-deps"], &COMMAND);
    assert_not_begun(&alone, "composition.digest");
    // A policy that expects the composition and grants no secret.
    project.edit("run.toml", |text| {
        text.replacen("secrets = [\"one-off-policy/secret/token\"]", "secrets = []", 1)
    });
    let ungranted = run(&project, &["--policy", "run.toml"], &COMMAND);
    assert_not_begun(&ungranted, "agent.secrets");
    assert!(!ungranted.stdout.contains("once"));
    project.assert_nothing_left();
    // The broker asks by itself: the one of the box that runs has the policy of the files.
    project.up();
    let said = fs::read_to_string(project.project_dir().join("logs/box-broker.txt")).unwrap();
    let ready: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    let broker =
        ["--broker", ready["url"].as_str().unwrap(), "--broker-cert", ready["certificate"].as_str().unwrap()];
    let by_broker = run(&project, &broker, &COMMAND);
    assert_not_begun(&by_broker, "rule      composition.digest");
    assert!(by_broker.stderr.contains("failed at appraise"), "{}", by_broker.stderr);
    assert_eq!(by_broker.stdout, "");
    project.run(&["down", "-t", "0"]).assert_ok();
    assert_gone(&project);
    project.assert_nothing_left();
}

#[test]
fn a_one_off_agent_has_the_variables_user_folder_and_program_that_are_asked_for() {
    let project = project("one-off-options");
    let options = ["--no-deps", "-e", "WORD=here", "-u", "7:8", "-w", "/tmp", "--entrypoint", "/agent"];
    let command = ["variable WORD", "status Uid", "folder"];
    run(&project, &[&options[..], &["--write-policy", "run.toml"]].concat(), &command).assert_ok();
    let output = run(&project, &[&options[..], &["--policy", "run.toml"]].concat(), &command);
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    assert_eq!(output.stdout, "WORD=here\nUid: 7 7 7 7\nin /tmp\n");
    // Without --rm, what it wrote is kept.
    let logs = project.run(&["-p", "one-off-options-run-job", "logs", "job"]);
    assert!(logs.stdout.contains("WORD=here"), "{}{}", logs.stdout, logs.stderr);
    project.run(&["run", "nobody"]).assert_fails(125, "no agent `nobody`", "job");
    assert_gone(&project);
    project.assert_nothing_left();
}

#[test]
fn a_one_off_agent_reads_the_input_of_its_caller_to_its_end_and_is_tainted_by_the_first_byte_alone() {
    let project = project("one-off-in");
    let command = ["secret token", "input", "exit 4"];
    with_policy(&project, &command);
    let options = ["--policy", "run.toml", "-T"];
    let words = [&["run"], &options[..], &["job"], &command].concat();
    let typed = project.run_with(&words, COMMAND_BOUND, Some("one\ntwo"));
    assert_eq!(typed.status.code(), Some(4), "{}", typed.stderr);
    let secret = "secret token mode 0400 owner 1000:1000 reversed t\n";
    assert_eq!(typed.stdout, format!("{secret}read one\nread two\ninput ended\n"));
    let events = || fs::read_to_string(box_dir(&project).join("events.jsonl")).unwrap();
    assert!(events().contains("agent-tainted"), "{}", events());
    // Nothing is there to read, and nothing enters.
    let nothing = project.run_with(&words, COMMAND_BOUND, Some(""));
    assert_eq!(nothing.status.code(), Some(4), "{}", nothing.stderr);
    assert_eq!(nothing.stdout, format!("{secret}input ended\n"));
    assert!(!events().contains("agent-tainted"), "{}", events());
    // Without an input it is another composition.
    let without = run(&project, &["--policy", "run.toml", "--interactive=false"], &command);
    assert_not_begun(&without, "composition.digest");
    let none = ["--interactive=false", "--write-policy", "none.toml"];
    run(&project, &none, &command).assert_ok();
    let words = [&["run", "--policy", "none.toml", "--interactive=false", "job"][..], &command].concat();
    let without = project.run_with(&words, COMMAND_BOUND, Some("one"));
    assert_eq!(without.stdout, format!("{secret}input ended\n"), "{}", without.stderr);
    assert!(!events().contains("agent-tainted"), "{}", events());
    assert_gone(&project);
}

#[test]
fn an_input_that_the_composition_forbids_ends_the_run_and_is_not_left_out() {
    let project = Project::ready("one-off-deny", &agent("job", &["wait"], "x-casemate: { exec: deny }"), &[]);
    let command = ["input", "exit 0"];
    with_policy(&project, &command);
    let words = [&["run", "--policy", "run.toml", "-T", "job"][..], &command].concat();
    let refused = project.run_with(&words, COMMAND_BOUND, Some("drop"));
    assert_not_begun(&refused, "agent.exec");
    assert_gone(&project);
    // Where nothing is to be passed on, nothing is refused.
    let nothing = project.run_with(&words, COMMAND_BOUND, Some(""));
    assert_eq!(nothing.status.code(), Some(0), "{}", nothing.stderr);
    assert_gone(&project);
}

#[test]
fn a_one_off_agent_with_a_terminal_has_its_callers_keys_and_shows_all_it_prints() {
    let project = project("one-off-tty");
    let command = ["say early", "terminal", "input", "exit 4"];
    run(&project, &["-t", "--write-policy", "run.toml"], &command).assert_ok();
    let words = [&["run", "-t", "--policy", "run.toml", "job"][..], &command].concat();
    let mut user = User::starts(&project, &words);
    user.sees("early");
    user.sees("own Ok(())");
    user.types("typed\r");
    user.sees("read typed");
    user.types("\u{4}");
    user.sees("input ended");
    assert_eq!(user.ends(), Some(4));
    // Where the caller has none, it says so before anything starts.
    assert_not_begun(&run(&project, &["-t", "--policy", "run.toml"], &command), "standard input is none");
    assert_gone(&project);
    // One that ends before anybody could be attached.
    fs::remove_file(project.file("run.toml")).unwrap();
    let short = ["say short"];
    run(&project, &["-t", "--write-policy", "run.toml"], &short).assert_ok();
    let mut user = User::starts(&project, &["run", "-t", "--policy", "run.toml", "job", "say short"]);
    user.sees("short");
    assert_eq!(user.ends(), Some(0));
    assert_gone(&project);
}

#[test]
fn a_one_off_run_ends_as_shells_and_compose_do() {
    let project = project("one-off-codes");
    for (program, code, said) in [("/none", 127, "No such file"), ("/etc/hosts", 126, "denied")] {
        let options = ["--no-deps", "--entrypoint", program];
        run(&project, &[&options[..], &["--write-policy", "run.toml"]].concat(), &[]).assert_ok();
        let output = run(&project, &[&options[..], &["--rm", "--policy", "run.toml"]].concat(), &[]);
        output.assert_fails(code, said, "image");
        fs::remove_file(project.file("run.toml")).unwrap();
    }
    // The program's own code counts, also where its box cannot be removed.
    let command = ["exit 3"];
    run(&project, &["--no-deps", "--write-policy", "run.toml"], &command).assert_ok();
    let kept = box_dir(&project).join("logs/kept");
    fs::create_dir_all(&kept).unwrap();
    let flags = |flags| {
        let file = fs::File::open(&kept).unwrap();
        rustix::fs::ioctl_setflags(&file, flags)
    };
    if let Err(errno) = flags(rustix::fs::IFlags::IMMUTABLE) {
        eprintln!("not run: a box that cannot be removed: no immutable files here: {errno}");
        return;
    }
    let output = run(&project, &["--no-deps", "--rm", "--policy", "run.toml"], &command);
    flags(rustix::fs::IFlags::empty()).unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", output.stderr);
    assert!(output.stderr.contains("error: ") && output.stderr.contains("by hand"), "{}", output.stderr);
    assert_gone(&project);
}

#[test]
fn a_detached_one_off_box_is_attested_as_itself_and_runs_until_it_is_ended() {
    let project = project("one-off-d");
    let command = ["say here", "wait"];
    with_policy(&project, &command);
    let started = run(&project, &["-d", "--policy", "run.toml"], &command);
    started.assert_ok();
    assert_eq!(started.stdout, "one-off-d-run-job\n");
    let of_box = |args: &[&str]| project.run(&[&["-p", "one-off-d-run-job"], args].concat());
    let status: serde_json::Value = serde_json::from_str(&of_box(&["--json", "ps"]).stdout).unwrap();
    assert_eq!(status["agents"].as_object().unwrap().keys().collect::<Vec<_>>(), ["base", "job"]);
    of_box(&["attest", "job", "--nonce", "nonce-of-a-run", "-o", "e.json"]).assert_ok();
    of_box(&["verify", "e.json", "--policy", "run.toml", "--nonce", "nonce-of-a-run"]).assert_ok();
    // The policy of the files does not take it for theirs.
    let taken = of_box(&["verify", "e.json", "--nonce", "nonce-of-a-run"]);
    assert_eq!(taken.status.code(), Some(1), "{}", taken.stdout);
    // The name is the box's: one of them at a time.
    assert_not_begun(&run(&project, &["--policy", "run.toml"], &command), "--name");
    of_box(&["down", "-t", "0"]).assert_ok();
    assert_gone(&project);
    project.assert_nothing_left();
}

#[test]
fn an_interrupted_run_ends_its_box() {
    let project = project("one-off-int");
    let command = ["say here", "wait"];
    with_policy(&project, &command);
    let args = [&["run", "--rm", "--policy", "run.toml", "job"][..], &command].concat();
    let spawned = project.spawn(&args);
    let end = Instant::now() + Duration::from_secs(30);
    while !spawned.stdout().contains("here") {
        assert!(
            Instant::now() < end,
            "{}",
            fs::read_to_string(box_dir(&project).join("logs/job.log")).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    spawned.signal(Signal::INT);
    let output = spawned.wait(COMMAND_BOUND);
    assert_eq!(output.status.code(), Some(130), "{}", output.stderr);
    assert!(!box_dir(&project).exists());
    assert_gone(&project);
}

#[test]
fn a_one_off_agent_whose_dependency_fails_does_not_begin_and_says_which() {
    let base = agent("base", &["exit 4"], "");
    let job =
        agent("job", &["say usual"], "depends_on:\n  base: { condition: service_completed_successfully }");
    let project = Project::ready("one-off-dep", &format!("{base}{job}"), &[]);
    with_policy(&project, &["say once"]);
    let output = run(&project, &["--rm", "--policy", "run.toml"], &["say once"]);
    assert_not_begun(&output, "dependency `base` ended with status 4");
    assert_eq!(output.stdout, "");
    assert!(!box_dir(&project).exists());
    assert_gone(&project);
}
