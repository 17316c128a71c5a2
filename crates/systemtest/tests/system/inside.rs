//! Reaching into an agent that runs, and looking at it: `exec`, `attach`, `cp`, `logs`, `stats`, `top`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use casemate_sys::terminal::{self, Size};
use rustix::process::Signal;
use serde_json::Value;

use crate::project::{COMMAND_BOUND, Project, agent, casemate};

fn one(more: &str) -> String {
    agent("one", &["say begun", "wait"], more)
}

/// The verdict on evidence about an agent, by the project's policy.
pub(crate) fn verdict(project: &Project, agent: &str, nonce: &str) -> Value {
    project.attest(agent, nonce, "e.json").assert_ok();
    let output = project.run(&["--json", "verify", "e.json", "--nonce", nonce]);
    serde_json::from_str(&output.stdout).unwrap()
}

/// The names of the rules that do not hold.
pub(crate) fn failed_rules(verdict: &Value) -> Vec<String> {
    let rules = verdict["rules"].as_array().unwrap();
    let failed = rules.iter().filter(|rule| rule["passed"] == false);
    failed.map(|rule| rule["rule"].as_str().unwrap_or_default().to_owned()).collect()
}

pub(crate) fn exec(project: &Project, args: &[&str]) -> crate::project::Output {
    project.run(&[&["exec"], args].concat())
}

#[test]
fn a_command_is_confined_as_the_agent_and_taints_it_in_log_token_and_ps() {
    let services = format!("{}{}", one(""), agent("other", &["wait"], ""));
    let project = Project::ready("exec-taint", &services, &[]);
    project.up();
    assert!(failed_rules(&verdict(&project, "one", "nonce-before")).is_empty());

    let fields = ["Seccomp", "NoNewPrivs", "CapEff", "CapBnd", "Uid"];
    let own: Vec<String> = fields.map(|field| format!("status {field}")).to_vec();
    let words: Vec<&str> = ["one", "/agent"].into_iter().chain(own.iter().map(String::as_str)).collect();
    let output = exec(&project, &words);
    output.assert_ok();
    let pid = project.ps()["agents"]["one"]["pid"].as_u64().unwrap();
    let agents = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for (field, line) in fields.iter().zip(output.stdout.lines()) {
        let of_agent = agents.lines().find(|line| line.split(':').next() == Some(field)).unwrap();
        let of_agent = of_agent.split_whitespace().collect::<Vec<_>>().join(" ");
        if *field == "Uid" {
            assert_eq!(line, "Uid: 1000 1000 1000 1000");
        } else {
            assert_eq!(line, of_agent);
        }
    }

    let ps = project.ps();
    assert_eq!(ps["agents"]["one"]["tainted"], true, "{ps}");
    assert_eq!(ps["agents"]["other"]["tainted"], false, "{ps}");
    assert!(project.run(&["ps"]).stdout.contains("tainted"));
    assert!(project.run(&["events"]).stdout.contains("agent tainted        one by exec"));
    assert_eq!(failed_rules(&verdict(&project, "one", "nonce-after")), ["agent.taint"]);
    assert!(failed_rules(&verdict(&project, "other", "nonce-other")).is_empty());
    project.edit("policy.toml", |text| text.replacen("allow-tainted = false", "allow-tainted = true", 1));
    assert!(
        failed_rules(&verdict(&project, "one", "nonce-allowed")).is_empty(),
        "`one` is the first in the file"
    );
    project.down();
}

#[test]
fn streams_status_variables_user_and_folder_are_the_commands_own() {
    let project = Project::ready("exec-streams", &one("environment: { A: from-file, B: kept }"), &[]);
    project.up();
    let output = exec(
        &project,
        &[
            "-e",
            "A=given",
            "-w",
            "/data",
            "-u",
            "0:7",
            "one",
            "/agent",
            "variable A",
            "variable B",
            "folder",
            "status Uid",
            "status Gid",
            "terminal",
            "exit 7",
        ],
    );
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(output.stdout, "A=given\nB=kept\nin /data\nUid: 0 0 0 0\nGid: 7 7 7 7\nno terminal\n");
    let input = "first\nsecond";
    let output = project.run_with(&["exec", "-i", "one", "/agent", "input"], COMMAND_BOUND, Some(input));
    assert_eq!(
        (output.status.code(), output.stdout.as_str()),
        (Some(0), "read first\nread second\ninput ended\n")
    );
    let unread = project.run_with(&["exec", "one", "/agent", "input"], COMMAND_BOUND, Some(input));
    assert_eq!(unread.stdout, "input ended\n");
    let much = exec(&project, &["one", "/agent", "flood 20000"]);
    assert_eq!(much.stdout.len(), 20_000 * 101);

    assert_eq!(exec(&project, &["one", "/none"]).status.code(), Some(127));
    exec(&project, &["one", "/none"]).assert_fails(127, "No such file", "image");
    exec(&project, &["one", "/etc/hosts"]).assert_fails(126, "denied", "image");
    exec(&project, &["one", "-w", "/none", "/agent"]).assert_fails(126, "/none", "");
    exec(&project, &["nobody", "/agent"]).assert_fails(125, "nobody", "");
    exec(&project, &["-it", "one", "/agent"]).assert_fails(125, "no terminal", "-t");
    project.down();
    exec(&project, &["one", "/agent"]).assert_fails(125, "does not run", "casemate up");
}

#[test]
fn a_composition_can_forbid_it_and_the_refusal_names_its_rule() {
    let project = Project::ready("exec-deny", &one("stdin_open: true\nx-casemate: { exec: deny }"), &[]);
    project.up();
    fs::write(project.file("f"), "x").unwrap();
    let run = |args: &[&str]| project.run(args);
    for (output, code) in [
        (run(&["exec", "one", "/agent", "say x"]), 125),
        (run(&["cp", "one:/etc/hosts", "."]), 1),
        (run(&["cp", "f", "one:/tmp/f"]), 1),
        (run(&["attach", "one"]), 1),
    ] {
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let rule = output.stderr.lines().any(|line| line.trim() == "rule      agent.exec");
        assert!(rule && output.stderr.contains("exec: deny"), "{}", output.stderr);
    }
    assert_eq!(project.ps()["agents"]["one"]["tainted"], false);
    assert!(!project.file("hosts").exists());
    assert!(failed_rules(&verdict(&project, "one", "nonce-deny")).is_empty());
    project.down();
}

/// A user at a terminal.
pub(crate) struct User {
    pub(crate) master: fs::File,
    pub(crate) child: std::process::Child,
    pub(crate) seen: String,
}

impl User {
    pub(crate) fn starts(project: &Project, args: &[&str]) -> Self {
        let pair = terminal::open(0, 0, Size { rows: 13, columns: 57 }).unwrap();
        let slave = || Stdio::from(pair.slave.try_clone().unwrap());
        let mut command: Command = casemate(args);
        project.place(&mut command);
        let child = command.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        let flags = rustix::fs::fcntl_getfl(&pair.master).unwrap();
        rustix::fs::fcntl_setfl(&pair.master, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
        // The slave stays open here, so that its modes can be looked at after the end.
        std::mem::forget(pair.slave.try_clone().unwrap());
        Self { master: fs::File::from(pair.master), child, seen: String::new() }
    }

    pub(crate) fn sees(&mut self, text: &str) {
        let end = Instant::now() + COMMAND_BOUND;
        while !self.seen.contains(text) {
            let mut piece = [0; 4096];
            match self.master.read(&mut piece) {
                Ok(count) => self.seen.push_str(&String::from_utf8_lossy(&piece[..count])),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
            assert!(Instant::now() < end, "`{text}` is not in {:?}", self.seen);
        }
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn ends(&mut self) -> Option<i32> {
        let end = Instant::now() + COMMAND_BOUND;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("no end; seen: {:?}", self.seen);
    }
}

#[test]
fn a_terminal_belongs_to_the_command_alone_and_keys_reach_it() {
    let project = Project::ready("exec-terminal", &one(""), &[]);
    project.up();
    let mut user = User::starts(
        &project,
        &["exec", "-it", "one", "/agent", "terminal", "say ready", "input", "terminal"],
    );
    user.sees("terminal of 13 rows and 57 columns, own Ok(())");
    user.sees("ready");
    user.types("typed\r");
    user.sees("read typed");
    terminal::resize(&user.master, Size { rows: 20, columns: 99 }).unwrap();
    crate::project::kill(user.child.id(), Signal::WINCH);
    std::thread::sleep(Duration::from_millis(300));
    // Ctrl-D ends the input of the command's terminal.
    user.types("\u{4}");
    user.sees("input ended");
    user.sees("terminal of 20 rows and 99 columns");
    assert_eq!(user.ends(), Some(0));
    // The user's own terminal is as it was: it echoes and edits lines again.
    let modes = rustix::termios::tcgetattr(&user.master).unwrap();
    assert!(
        modes.local_modes.contains(rustix::termios::LocalModes::ICANON | rustix::termios::LocalModes::ECHO)
    );

    let mut user = User::starts(&project, &["exec", "-it", "one", "/agent", "say ready", "wait"]);
    user.sees("ready");
    user.types("\u{3}");
    assert_eq!(user.ends(), Some(130), "Ctrl-C is a key of the command's terminal");
    project.down();
}

#[test]
fn ctrl_c_reaches_a_command_without_a_terminal_and_nothing_stays_when_the_caller_is_killed() {
    let project = Project::ready("exec-signals", &one(""), &[]);
    project.up();
    let processes = |count: usize| {
        let end = Instant::now() + COMMAND_BOUND;
        loop {
            let output = project.run(&["--json", "top", "one"]);
            output.assert_ok();
            let found: Value = serde_json::from_str(&output.stdout).unwrap();
            let all = found.as_array().unwrap().clone();
            if all.len() == count {
                return all;
            }
            assert!(Instant::now() < end, "not {count} processes: {found}");
        }
    };
    let alone = processes(2).len();
    let mut waiting = project.spawn(&["exec", "one", "/agent", "say ready", "wait"]);
    let appears = |spawned: &crate::project::Spawned| {
        let end = Instant::now() + COMMAND_BOUND;
        while !spawned.stdout().contains("ready") {
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    appears(&waiting);
    assert!(waiting.runs());
    waiting.signal(Signal::INT);
    assert_eq!(waiting.wait(COMMAND_BOUND).status.code(), Some(130));
    processes(alone);
    let killed = project.spawn(&["exec", "one", "/agent", "say ready", "spawn 3", "wait"]);
    appears(&killed);
    killed.signal(Signal::KILL);
    let _ = killed.wait(COMMAND_BOUND);
    processes(alone);
    // The agent's end ends its visitors.
    let visitor = project.spawn(&["exec", "one", "/agent", "say ready", "wait"]);
    appears(&visitor);
    project.run(&["down", "-t", "0"]).assert_ok();
    let code = visitor.wait(COMMAND_BOUND).status.code();
    assert!(matches!(code, Some(137 | 3)), "{code:?}");
    project.assert_nothing_left();
}

#[test]
fn files_go_in_and_out_as_the_agent_sees_them_and_taint_it() {
    let services = one("tmpfs: [\"/tmp:size=8m,mode=1777\"]");
    let project = Project::ready("cp", &services, &[]);
    project.up();
    fs::create_dir_all(project.file("tree/deep")).unwrap();
    fs::write(project.file("tree/deep/file"), "content").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", project.file("tree/link")).unwrap();
    let into = project.run(&["cp", "tree", "one:/tmp"]);
    into.assert_ok();
    assert!(into.stderr.contains("not copied: tree/link: a symbolic link"), "{into:?}");
    assert_eq!(project.ps()["agents"]["one"]["tainted"], true);
    let read = exec(&project, &["one", "/agent", "read /tmp/tree/deep/file", "read /tmp/tree/link"]);
    assert_eq!(read.stdout, "/tmp/tree/deep/file has content\n/tmp/tree/link fails NotFound\n");

    // A link of the agent's leads inside, never to the box's own file.
    project.run(&["cp", "one:/tmp/tree", "back"]).assert_ok();
    assert_eq!(fs::read_to_string(project.file("back/deep/file")).unwrap(), "content");
    project.run(&["cp", "one:/etc/hostname", "name"]).assert_ok();
    assert_eq!(fs::read_to_string(project.file("name")).unwrap(), "one\n");
    project.run(&["cp", "one:/proc/self/root/etc/hostname", "again"]).assert_ok();
    assert_eq!(fs::read_to_string(project.file("again")).unwrap(), "one\n");

    project.run(&["cp", "one:/none", "x"]).assert_fails(3, "one:/none: No such file", "path");
    project.run(&["cp", "tree", "one:/etc/new"]).assert_fails(3, "Read-only", "read-only");
    project.run(&["cp", "one:/dev/zero", "x"]).assert_fails(3, "neither a file nor a folder", "");
    project.run(&["cp", "--max-mib", "0", "one:/tmp/tree", "less"]).assert_fails(
        3,
        "more than 0 bytes",
        "--max-mib",
    );
    project.run(&["cp", "a", "b"]).assert_fails(2, "neither side", "AGENT:PATH");
    let events = project.run(&["events"]).stdout;
    assert!(events.contains("one by copy-in") && events.contains("one by copy-out"), "{events}");
    project.down();
}

#[test]
fn input_of_attach_reaches_an_agent_that_reads_and_taints_it() {
    let reader = agent("reader", &["say begun", "input", "say after"], "stdin_open: true");
    let project = Project::ready("attach", &format!("{reader}{}", one("")), &[]);
    project.up();
    let output = project.run_with(&["attach", "reader"], COMMAND_BOUND, Some("question\n"));
    output.assert_ok();
    project.logs_with("reader", "read question");
    assert_eq!(project.ps()["agents"]["reader"]["tainted"], true);
    assert!(!project.logs("reader").contains("input ended"), "its input stays open for the next one");
    let mut watching = project.spawn(&["attach", "one"]);
    std::thread::sleep(Duration::from_millis(300));
    assert!(watching.runs());
    watching.signal(Signal::INT);
    let _ = watching.wait(COMMAND_BOUND);
    assert_eq!(project.ps()["agents"]["one"]["tainted"], false, "who only looks taints nothing");
    project.down();
}

#[test]
fn what_a_visit_may_have_left_on_a_volume_taints_the_next_start_too() {
    let steps = ["say begun", "until /data/go 1"];
    let more = "volumes: [\"kept:/data\"]\nrestart: always\nsecrets: [token]";
    let project = Project::empty("taint-volume");
    let text = format!(
        "name: taint-volume\nservices:\n{}volumes:\n  kept:\nsecrets:\n  token: {{ external: true }}\n",
        agent("one", &steps, more)
    );
    fs::write(project.file("compose.yaml"), text).unwrap();
    crate::image::link_into(&project.home());
    project.put_secret("token", "x");
    project.write_policy(&[]);
    project.up();
    // The agent ends as soon as it sees the file, and its end may come before that of the command.
    let code = exec(&project, &["one", "/agent", "write /data/go now"]).status.code();
    assert!(matches!(code, Some(0 | 137)), "{code:?}");
    // The default policy gives a tainted agent no secret: it does not come up again.
    project.wait_for_agent("one", "refused", |one| one["state"] == "failed" && one["phase"] == "appraise");
    assert!(project.run(&["events"]).stdout.contains("one by volume"));
    project.down();
}

#[test]
fn usage_and_processes_are_told() {
    let busy = agent("busy", &["spawn 3", "eat 16", "wait"], "");
    let project = Project::ready("stats", &format!("{busy}{}", one("")), &[]);
    project.up();
    project.logs_with("busy", "ate");
    let output = project.run(&["--json", "stats", "--no-stream"]);
    output.assert_ok();
    let all: Value = serde_json::from_str(&output.stdout).unwrap();
    let of = |name: &str| all.as_array().unwrap().iter().find(|one| one["agent"] == name).unwrap().clone();
    let busy = of("busy");
    assert_eq!((&busy["pids"], &busy["pids_max"]), (&4.into(), &16.into()), "{busy}");
    assert_eq!(busy["memory_bytes_max"], 64 << 20, "{busy}");
    assert!(busy["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0 && bytes < 64 << 20), "{busy}");
    assert!(busy["cpu_milli"].is_u64(), "{busy}");
    let table = project.run(&["stats", "--no-stream", "one"]);
    table.assert_ok();
    assert!(table.stdout.starts_with("AGENT") && table.stdout.lines().count() == 2, "{}", table.stdout);

    let output = project.run(&["--json", "top", "busy"]);
    output.assert_ok();
    let processes: Value = serde_json::from_str(&output.stdout).unwrap();
    let processes = processes.as_array().unwrap();
    assert_eq!(processes.len(), 5, "{processes:?}");
    assert_eq!(processes.iter().filter(|process| process["pid_inside"] == 1).count(), 1, "{processes:?}");
    assert!(processes.iter().all(|process| process["user"] == 1000), "{processes:?}");
    assert!(project.run(&["top", "busy"]).stdout.contains("/agent wait"));
    assert_eq!(project.ps()["agents"]["busy"]["tainted"], false, "who only looks taints nothing");
    project.run(&["top", "nobody"]).assert_fails(2, "nobody", "");
    project.down();
}

#[test]
fn logs_are_cut_by_lines_and_time_and_rotate_at_the_size_that_the_file_asks_for() {
    let steps = ["say first", "sleep 1500", "say second", "flood 3000", "say last", "wait"];
    let loud = agent("loud", &steps, "logging: { options: { max-size: 64k, max-file: 3 } }");
    let project = Project::ready("logs", &format!("{loud}{}", one("")), &[]);
    project.up();
    project.logs_with("loud", "last");
    let logs = |args: &[&str]| {
        let output = project.run(&[&["logs"], args].concat());
        output.assert_ok();
        output.stdout
    };
    assert_eq!(logs(&["--tail", "1", "--no-log-prefix", "loud"]), "last\n");
    assert_eq!(logs(&["--tail", "1", "loud"]), "loud | last\n");
    assert_eq!(logs(&["--tail", "1000", "--no-log-prefix", "loud"]).lines().count(), 1000, "from two files");
    assert_eq!(logs(&["--no-log-prefix", "one"]), "begun\n");
    assert_eq!(logs(&["--since", "0s", "one"]), "");
    assert_eq!(logs(&["--since", "1h", "--no-log-prefix", "one"]), "begun\n");
    assert_eq!(logs(&["--until", "1h", "one"]), "");
    let stamped = logs(&["-t", "--no-log-prefix", "one"]);
    let (time, text) = stamped.trim().split_once(' ').unwrap();
    assert!(text == "begun" && time.len() == 27 && time.ends_with('Z'), "{stamped}");
    let both = logs(&["--tail", "1"]);
    assert!(both.lines().count() == 2 && both.contains("one  | begun"), "{both}");

    let files: Vec<_> = fs::read_dir(project.project_dir().join("logs"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("loud.log"))
        .map(|entry| entry.metadata().unwrap())
        .collect();
    assert_eq!(files.len(), 3);
    for file in files {
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o777;
        assert!(file.len() < 96 << 10 && mode == 0o600, "{} {mode:o}", file.len());
    }
    assert!(!logs(&["loud"]).contains("first"), "the oldest file is gone");
    let mut following = project.spawn(&["logs", "-f", "--tail", "0", "one"]);
    assert!(following.runs());
    project.run(&["down", "-t", "0"]).assert_ok();
    following.wait(COMMAND_BOUND).assert_ok();
    project.assert_nothing_left();
}

#[test]
fn ports_of_the_box_are_told() {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let server = agent("server", &["wait"], &format!("ports: [\"{free}:80\"]"));
    let project = Project::ready("port", &server, &[]);
    project.up();
    let told = |args: &[&str]| project.run(&[&["port"], args].concat());
    assert_eq!(told(&["server"]).stdout, format!("80/tcp -> 127.0.0.1:{free}\n"));
    assert_eq!(told(&["server", "80"]).stdout, format!("127.0.0.1:{free}\n"));
    told(&["server", "81"]).assert_fails(2, "port 81 of server", "ports:");
    project.down();
}
