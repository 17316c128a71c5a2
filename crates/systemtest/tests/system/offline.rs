//! Verification needs no network and opens nothing: in an empty network namespace, under filters that kill.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use crate::project::{COMMAND_BOUND, Output, Project, agent, dist, run_bounded};

/// Signal of a process that a system call filter killed (Linux, SIGSYS).
const SIGSYS: i32 = 31;
const WITHOUT_SOCKETS: &str = env!("CARGO_BIN_EXE_systemtest-without-sockets");
const SEALED_APPRAISAL: &str = env!("CARGO_BIN_EXE_systemtest-sealed-appraisal");

/// A command in a network namespace with nothing in it.
fn run(project: &Project, program: impl AsRef<Path>, args: &[&str]) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--net", "--"]).arg(program.as_ref()).args(args);
    project.place(&mut command);
    run_bounded(&mut command, project.dir.path(), COMMAND_BOUND, None)
}

/// Likewise, killed where it makes a socket.
pub(crate) fn without_sockets(project: &Project, program: &str, args: &[&str]) -> Output {
    run(project, WITHOUT_SOCKETS, &[&[program], args].concat())
}

fn attested(name: &str) -> Project {
    let project = Project::ready(name, &agent("one", &["say here", "wait"], ""), &[]);
    project.up();
    project.attest("one", "nonce-one", "e.json").assert_ok();
    project.down();
    project
}

#[test]
fn verify_works_in_an_empty_network_namespace_and_makes_no_socket() {
    let project = attested("offline");
    let devices = run(&project, "cat", &["/proc/net/dev"]).stdout;
    let devices: Vec<&str> =
        devices.lines().filter_map(|line| line.split_once(':')).map(|(n, _)| n).collect();
    assert_eq!(devices.iter().map(|name| name.trim()).collect::<Vec<_>>(), ["lo"]);

    let casemate = dist().join("casemate");
    let casemate = casemate.to_str().unwrap();
    let good = without_sockets(&project, casemate, &["verify", "e.json", "--nonce", "nonce-one"]);
    good.assert_ok();
    assert!(good.stdout.contains("verdict: warning"), "{}", good.stdout);
    let wrong = without_sockets(&project, casemate, &["verify", "e.json", "--nonce", "nonce-two"]);
    assert_eq!(wrong.status.code(), Some(1), "{}{}", wrong.stdout, wrong.stderr);
    assert!(wrong.stderr.contains("rule      nonce"), "{}", wrong.stderr);
}

#[test]
fn the_filter_kills_a_program_that_makes_a_socket() {
    let project = Project::empty("killed");
    let connect = ["-c", "exec 3<>/dev/tcp/127.0.0.1/9"];
    let killed = without_sockets(&project, "bash", &connect);
    assert_eq!(killed.status.signal(), Some(SIGSYS), "{:?}", killed);
    let not_killed = run(&project, "bash", &connect);
    assert_eq!(not_killed.status.code(), Some(1), "{not_killed:?}");
}

#[test]
fn an_appraisal_asks_nothing_of_the_kernel_but_memory() {
    for platform in ["tdx", "snp"] {
        let project = Project::new(&format!("sealed-{platform}"), &agent("one", &["wait"], ""), &[]);
        project.write_policy(&["--platform", platform]);
        project.up_with(&["--platform", platform]);
        project.attest("one", "nonce-one", "e.json").assert_ok();
        project.down();
        let bundle = project.project_dir().join("emulator/bundle.json");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let appraised = |nonce: &str| {
            let now = now.to_string();
            let words = ["e.json", "policy.toml", bundle.to_str().unwrap(), &now, nonce];
            let mut command = Command::new(SEALED_APPRAISAL);
            command.args(words);
            project.place(&mut command);
            run_bounded(&mut command, project.dir.path(), COMMAND_BOUND, None)
        };
        let good = appraised("nonce-one");
        good.assert_ok();
        assert!(good.stdout.starts_with("warning "), "{}", good.stdout);
        let refused = appraised("nonce-two");
        assert_eq!((refused.status.code(), refused.stdout.as_str()), (Some(1), "refused nonce\n"));
        // The controls: a file and a socket.
        for instead in ["--then-open", "--then-connect"] {
            assert_eq!(appraised(instead).status.signal(), Some(SIGSYS), "{instead}");
        }
    }
}
