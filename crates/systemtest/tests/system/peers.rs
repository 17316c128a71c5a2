//! One agent attacks another: each known way that two processes of one kernel have to each other is tried between two
//! real compartments, and, as the positive control, between two plain processes of one user, where it must work.

use std::collections::BTreeMap;
use std::process::Command;

use rustix::process::Signal;

use crate::programs::{log_of_all, present, project, service};
use crate::project::{COMMAND_BOUND, run_bounded, spawn};

const PYTHON: &str = "/usr/bin/python3.11";
/// Attacks that a plain process of this machine may lack too: as the kernel is configured or restricted.
const MAY_FAIL_OUTSIDE: [&str; 4] = ["kernel-log", "bpf", "perf", "user-namespace"];

/// The program in one role. `file` is a file that both can open by one name.
fn script(role: &str, mark: &str, file: &str, keep: bool) -> String {
    let keep = if keep { "True" } else { "False" };
    format!(
        "ROLE, MARK, PORT, KEY, FILE, SHM, KEEP = {role:?}, {mark:?}, 47321, 0x00c0ffee, {file:?}, 0, {keep}\n{}",
        include_str!("peers/peer.py")
    )
}

/// What each attack came to, by its name: `got …` or `nothing …`.
fn outcomes(output: &str, kind: &str) -> BTreeMap<String, String> {
    let lines = output.lines().filter_map(|line| {
        let at = line.find(&format!("{kind}\t"))?;
        let mut words = line.get(at..)?.split('\t').skip(1);
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    });
    lines.collect()
}

#[test]
fn no_attack_of_one_agent_on_another_gets_anything() {
    if !present("attacks between agents", &[PYTHON]) {
        return;
    }
    // Two plain processes of one user.
    let mark = format!("m{}", std::process::id());
    let outside = plain(&mark);
    let works: Vec<&String> = outside.iter().filter(|(_, o)| o.starts_with("got")).map(|(n, _)| n).collect();

    // Two agents.
    let file = PYTHON;
    let secret = "environment: { VICTIM: secret-of-inside, HOME: /tmp }";
    let (victim, config) = service("victim", "python3", &script("victim", "inside", file, true), "");
    let victim = victim.replace("environment: { HOME: /tmp }", secret);
    let attacker =
        service("attacker", "python3", &script("attacker", "inside", file, true), "depends_on: [victim]");
    let project = project("peers", &[(victim, config), attacker], "");
    project.up();
    project.logs_with("victim", "victim ready");
    let log = log_of_all(&project, "attacker");
    let inside = outcomes(&log, "attack");
    let gaps = outcomes(&log, "gap");
    project.down();

    assert_eq!(inside.keys().collect::<Vec<_>>(), outside.keys().collect::<Vec<_>>());
    let got: Vec<_> = inside.iter().filter(|(_, outcome)| outcome.starts_with("got")).collect();
    assert!(got.is_empty(), "{got:#?}");
    for (name, outcome) in &outside {
        if outcome.starts_with("got") {
            continue;
        }
        let of_this_machine = name.starts_with("file ") || name.starts_with("socket-");
        println!("not run: attack {name}: it does not work outside of compartments either: {outcome}");
        assert!(of_this_machine || MAY_FAIL_OUTSIDE.contains(&name.as_str()), "{name}: {outcome}");
    }
    assert!(works.len() >= 40, "{works:?}");
    // What the documentation says gets through does.
    for (name, outcome) in &gaps {
        assert!(outcome.starts_with("got"), "{name}: {outcome}: take it out of docs/controls.md");
    }
}

/// The attacks between two plain processes of one user.
fn plain(mark: &str) -> BTreeMap<String, String> {
    let dir = tempfile::Builder::new().prefix("cst").tempdir_in("/tmp").unwrap();
    std::os::unix::fs::chown(dir.path(), Some(65534), Some(65534)).unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, [b'x'; 8192]).unwrap();
    std::os::unix::fs::chown(&file, Some(65534), Some(65534)).unwrap();
    let command = |role: &str| {
        let path = dir.path().join(role);
        std::fs::write(&path, script(role, mark, file.to_str().unwrap(), false)).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", PYTHON]).arg(path);
        command
    };
    let mut start = command("victim");
    start.env("VICTIM", format!("secret-of-{mark}"));
    let mut victim = spawn(&mut start, dir.path(), None);
    let end = std::time::Instant::now() + COMMAND_BOUND;
    while !victim.stdout().contains("victim ready") {
        assert!(victim.runs() && std::time::Instant::now() < end, "{}", victim.stdout());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let output = run_bounded(&mut command("attacker"), dir.path(), COMMAND_BOUND, None);
    victim.signal(Signal::KILL);
    let said = victim.wait(COMMAND_BOUND).stdout;
    for folder in ["/dev/shm", "/tmp"] {
        let _ = std::fs::remove_file(format!("{folder}/{mark}"));
    }
    let _ = std::process::Command::new("ipcrm").args(["-M", "0x00c0ffee"]).status();
    output.assert_ok();
    print!("{said}");
    outcomes(&output.stdout, "attack")
}
