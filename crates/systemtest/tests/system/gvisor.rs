//! Agents in gVisor sandboxes: the same life, edges, secrets and evidence as native ones, and what is different.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use casemate_protocol::agent_token::Control;
use casemate_protocol::controls::Need;
use rustix::process::Signal;

use casemate_sys::terminal::{self, Size};

use crate::census::{command_line, entries};
use crate::inside::User;
use crate::project::{COMMAND_BOUND, Project, casemate, kill, run_bounded, runsc};

/// The secret's content.
const TOKEN: &str = "tok-91c2-77de";
/// What an agent adds to be in a sandbox.
const GVISOR: &str = "backend: gvisor";

/// Compose text of an agent, with room for a sandbox.
fn agent(name: &str, steps: &[&str], extension: &str, more: &str) -> String {
    let more = format!("x-casemate: {{ {extension} }}\n{more}");
    crate::project::agent(name, steps, &more).replace("mem_limit: 64m", "mem_limit: 256m")
}

fn controls_not_enforced(agent: &serde_json::Value) -> Vec<(String, String)> {
    let controls = agent["controls"].as_object().unwrap();
    let status = |(name, status): (&String, &serde_json::Value)| {
        (name.clone(), status.as_str().unwrap_or_default().to_owned())
    };
    let always = |name: &str| Control::from_name(name).is_some_and(|control| control.need() == Need::Always);
    controls.iter().map(status).filter(|(name, status)| always(name) && status != "enforced").collect()
}

#[test]
fn agents_of_both_backends_call_each_other_and_are_attested() {
    let health =
        "healthcheck: { test: [\"CMD\", \"/agent\", \"reach 8081\"], interval: 1s, timeout: 5s, retries: 5 }";
    let inside = agent(
        "inside",
        &[
            "secret api_token",
            "serve 8081 answer-of-the-sandbox",
            "call outside:8082",
            "call outside:9",
            "call nobody:1",
            "call exfil.example:443",
            r#"ask {"method":"identity"}"#,
            "wait",
        ],
        "backend: gvisor, talks-to: [\"outside:8082\"]",
        &format!("expose: [\"8081\"]\nsecrets: [api_token]\n{health}"),
    );
    let outside = agent(
        "outside",
        &["serve 8082 answer-of-the-native", "wait"],
        "backend: native",
        "expose: [\"8082\"]",
    );
    let caller = agent(
        "caller",
        &["call inside:8081", "wait"],
        "talks-to: [\"inside:8081\"]",
        "depends_on:\n  inside: { condition: service_healthy }",
    );
    let project = Project::ready("gvisor", &format!("{inside}{outside}{caller}"), &[("api_token", TOKEN)]);
    project.up();

    let reversed: String = TOKEN.chars().rev().collect();
    let log = project.logs_with("inside", "box says");
    for text in [
        &format!("secret api_token mode 0400 owner 1000:1000 reversed {reversed}"),
        "serving on 8081",
        "call outside:8082 answered answer-of-the-native",
        "call outside:9 failed",
        "call nobody:1 failed",
        "call exfil.example:443 failed",
        "\"agent\":\"inside\"",
    ] {
        assert!(log.contains(text), "{text}: {log}");
    }
    project.logs_with("caller", "call inside:8081 answered answer-of-the-sandbox");
    project.run(&["why", "inside", "exfil.example:443"]).assert_refused("egress.declared");

    let status = project.ps();
    let (inside, outside) = (&status["agents"]["inside"], &status["agents"]["outside"]);
    assert_eq!((&inside["backend"], &outside["backend"]), (&"gvisor".into(), &"native".into()));
    assert_eq!(
        (&inside["health"], &inside["secrets"]),
        (&"healthy".into(), &serde_json::json!(["api_token"]))
    );
    let gaps = [
        ("landlock", "not-enforced"),
        ("no-privileges", "enforced-with-gaps"),
        ("proc", "enforced-with-gaps"),
    ];
    let gaps = gaps.map(|(name, status)| (name.to_owned(), status.to_owned()));
    assert_eq!(controls_not_enforced(inside), gaps);
    assert_eq!(controls_not_enforced(outside), []);
    assert!(project.run(&["ps"]).stdout.contains("gvisor"));

    project.attest("inside", "nonce-one", "e.json").assert_ok();
    let verdict = project.run(&["verify", "e.json", "--nonce", "nonce-one"]);
    verdict.assert_ok();
    assert!(verdict.stdout.contains("gvisor"), "{}", verdict.stdout);
    let digest = casemate_canon::Sha256::of(&fs::read(runsc()).unwrap()).to_string();
    let all = project.run(&["--json", "verify", "e.json", "--nonce", "nonce-one"]).stdout;
    assert!(all.contains(&digest), "{all}");

    // An owner who wants another backend is heard.
    project.edit("policy.toml", |text| text.replace("backends = [\"gvisor\"]", "backends = [\"native\"]"));
    let refused = project.run(&["verify", "e.json", "--nonce", "nonce-one"]);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stdout);
    assert!(refused.stdout.contains("agent.backend"), "{}", refused.stdout);
    project.down();
}

/// Device and inode of the agent's program as its sandbox's file server sees it, and what is in its root.
fn program_of(project: &Project, name: &str) -> (String, Vec<PathBuf>) {
    use std::os::unix::fs::MetadataExt as _;
    let gofer = process_of(project, name, "runsc-gofer");
    let root = PathBuf::from(format!("/proc/{gofer}/root"));
    let metadata = fs::metadata(root.join("agent")).unwrap();
    (format!("{}:{}", metadata.dev(), metadata.ino()), entries(&root))
}

/// The process of an agent's sandbox whose command line begins so.
fn process_of(project: &Project, name: &str, begins: &str) -> u32 {
    let group = format!("casemate/{}/{name}", project.owner().box_name);
    let found = project.processes().into_iter().find(|pid| {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        cgroup.lines().any(|line| line.ends_with(&group)) && command_line(*pid).starts_with(begins)
    });
    found.unwrap_or_else(|| panic!("{name} has no {begins}"))
}

#[test]
fn two_sandboxes_of_one_image_share_no_inode_and_see_nothing_of_the_box() {
    let services = ["one", "two"].map(|name| agent(name, &["say here", "wait"], GVISOR, "")).concat();
    let project = Project::ready("gvisor-roots", &services, &[]);
    project.up();
    project.logs_with("one", "here");
    project.logs_with("two", "here");
    let (one, two) = (program_of(&project, "one"), program_of(&project, "two"));
    assert_ne!(one.0, two.0);
    assert!(one.1.iter().all(|path| !path.ends_with("root") && !path.ends_with("home")), "{:?}", one.1);
    for name in ["one", "two"] {
        let sentry = process_of(&project, name, "runsc-sandbox");
        // Its own root is empty but for what it needs of /proc; the box's file system is in none of its mounts.
        let mounts = fs::read_to_string(format!("/proc/{sentry}/mountinfo")).unwrap();
        let devices = mounts.lines().filter(|line| line.contains(" - ext4 ") || line.contains(" - xfs "));
        assert_eq!(devices.collect::<Vec<_>>(), Vec::<&str>::new(), "{mounts}");
        let status = fs::read_to_string(format!("/proc/{sentry}/status")).unwrap();
        let filters = status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:")).unwrap();
        assert!(filters.trim().parse::<u32>().unwrap() >= 2, "{status}");
    }
    project.down();
}

#[test]
fn no_instruction_of_an_agent_runs_in_a_sandbox_that_is_refused() {
    let one = agent("one", &["say here", "wait"], GVISOR, "secrets: [api_token]");
    let project = Project::ready("gvisor-refused", &one, &[("api_token", TOKEN)]);
    project.edit("policy.toml", |text| text.replace("backends = [\"gvisor\"]", "backends = [\"native\"]"));
    // The sandbox stands, and what would start the agent in it waits, when the broker refuses.
    project.try_up(&[]).assert_refused("agent.backend");
    assert_eq!(project.logs("one"), "");
    project.run(&["down"]);
    project.assert_nothing_left();
}

#[test]
fn a_sandbox_ends_as_its_agent_does() {
    let services = [
        agent("code", &["exit 7"], GVISOR, ""),
        agent("again", &["crash-until 3 4", "say third", "wait"], GVISOR, "restart: on-failure"),
        agent("asked", &["say here", "wait"], GVISOR, "").replace("SIGKILL", "SIGTERM"),
    ];
    let project = Project::ready("gvisor-ends", &services.concat(), &[]);
    project.up();
    project.wait_for_agent("code", "ended with 7", |one| one["exit_status"] == 7);
    project.logs_with("again", "third");
    project.wait_for_agent("again", "in its third start", |one| one["instance"] == 3);
    project.logs_with("asked", "here");
    // Its stop signal ends it, long before its grace time is over.
    let down = project.run(&["down"]);
    down.assert_ok();
    assert!(down.took.as_secs() < 8, "{:?}", down.took);
    project.assert_nothing_left();
    let events = project.run(&["events"]).stdout;
    assert!(events.contains("143"), "{events}");
}

#[test]
fn commands_in_a_sandbox_have_terminals_and_hooks_and_health_checks_say_why() {
    let more = "post_start:\n  - command: [\"/agent\", \"status Uid\"]\n    user: \"0:0\"\nhealthcheck:\n  test: [\"CMD\", \
                \"/agent\", \"say no database\", \"exit 4\"]\n  interval: 1s\n  timeout: 20s\n  retries: 1000";
    let project = Project::ready("gvisor-inside", &agent("one", &["say here", "wait"], GVISOR, more), &[]);
    let mut starting = project.spawn(&["up", "-d", "--progress", "plain"]);
    while !project.run(&["ps"]).status.success() {
        assert!(starting.runs());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    project.logs_with("one", "Uid: 0 0 0 0");
    let one = project.wait_for_agent("one", "told why", |one| one["health_said"].is_string());
    assert_eq!(one["health_said"], "ended with status 4 and printed: no database");
    assert_eq!(one["tainted"], false);
    assert!(starting.runs());
    let mut user = User::starts(&project, &["exec", "-it", "one", "/agent", "terminal", "input", "terminal"]);
    // The sandbox has no `/dev/tty` for a terminal from outside.
    user.sees("terminal of 13 rows and 57 columns, own Err");
    user.types("typed\r");
    user.sees("read typed");
    terminal::resize(&user.master, Size { rows: 20, columns: 99 }).unwrap();
    kill(user.child.id(), Signal::WINCH);
    std::thread::sleep(std::time::Duration::from_millis(300));
    user.types("\u{4}");
    user.sees("terminal of 20 rows and 99 columns");
    assert_eq!(user.ends(), Some(0));
    let mut user = User::starts(&project, &["exec", "-it", "one", "/agent", "say ready", "wait"]);
    user.sees("ready");
    user.types("\u{3}");
    assert_eq!(user.ends(), Some(130), "Ctrl-C is a key of the command's terminal");
    starting.signal(Signal::INT);
    let _ = starting.wait(crate::project::COMMAND_BOUND);
    project.assert_nothing_left();
}

#[test]
fn an_agent_in_a_sandbox_has_a_terminal_whose_keys_reach_all_in_the_foreground() {
    let steps =
        ["terminal", "hear INT", "with hear INT", "hear WINCH", "input", "terminal", "say done", "wait"];
    let one = agent("one", &steps, GVISOR, "stdin_open: true\ntty: true");
    let mute = agent("mute", &["terminal", "wait"], GVISOR, "tty: true");
    let project = Project::ready("gvisor-tty", &format!("{one}{mute}"), &[]);
    project.up();
    let log = project.logs_with("one", "hears WINCH");
    assert!(log.contains("one | terminal of 24 rows and 80 columns, own Err"), "{log}");
    project.logs_with("mute", "terminal of 24 rows");
    assert_eq!(project.ps()["agents"]["one"]["tainted"], false);
    let mut user = User::starts(&project, &["attach", "one"]);
    user.sees("heard WINCH\r\n");
    user.types("typed\r");
    user.sees("read typed\r\n");
    // An order to the agent is for its first process alone; a key is for all that its terminal has in the foreground.
    project.run(&["kill", "-s", "INT", "one"]).assert_ok();
    user.sees("heard INT\r\n");
    user.types("\u{3}");
    let heard = |project: &Project| project.logs("one").matches("heard INT").count();
    let end = std::time::Instant::now() + COMMAND_BOUND;
    while heard(&project) < 3 {
        assert!(std::time::Instant::now() < end, "{}", project.logs("one"));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    user.types("\u{4}");
    user.sees("input ended");
    user.sees("terminal of 13 rows and 57 columns");
    assert_eq!(heard(&project), 3, "one order, and one key for two");
    assert_eq!(project.ps()["agents"]["one"]["tainted"], true);
    user.types("\u{10}\u{11}");
    assert_eq!(user.ends(), Some(0));
    // Ctrl-\ is a key that ends it, and that ends `attach`.
    let mut user = User::starts(&project, &["attach", "one"]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    user.types("\u{1c}");
    user.sees("one has ended");
    assert_eq!(user.ends(), Some(0));
    project.wait_for_agent("one", "ended", |one| one["exit_status"] == 131);
    project.down();
}

#[test]
fn replicas_in_sandboxes_are_agents_of_their_own_and_are_called_in_turn() {
    let web = agent(
        "web",
        &["serve 8080 @", "secret token", "wait"],
        GVISOR,
        "expose: [\"8080\"]\nsecrets: [token]",
    );
    let client = crate::project::agent(
        "client",
        &["watch web:8080"],
        "depends_on: [web]\nx-casemate:\n  talks-to: [\"web:8080\"]",
    );
    let project = Project::ready("gvisor-scale", &format!("{web}{client}"), &[("token", "t")]);
    project.try_up(&["--scale", "web=2"]).assert_refused("composition.digest");
    project.write_policy(&["--scale", "web=2"]);
    project.up_with(&["--scale", "web=2"]);
    let agents = project.ps()["agents"].clone();
    assert_ne!(agents["web-1"]["measurement"], agents["web-2"]["measurement"]);
    for number in 1..=2 {
        let name = format!("web-{number}");
        assert_eq!(agents[&name]["backend"], "gvisor");
        project.logs_with(&name, "secret token mode 0400 owner 1000:1000 reversed t");
        project.logs_with("client", &format!("call web:8080 answered {name}"));
    }
    project.down();
}

#[test]
fn a_one_off_agent_in_a_sandbox_has_its_secrets_and_ends_with_its_exit_code() {
    let job = agent("job", &["say usual", "wait"], GVISOR, "secrets: [token]");
    let project = Project::ready("gvisor-once", &job, &[("token", "t")]);
    let run = |options: &[&str]| {
        let command = ["job", "say once", "secret token", "exit 3"];
        project.run(&[&["run"], options, &command].concat())
    };
    assert_eq!(run(&["--rm"]).status.code(), Some(125), "its composition is another one");
    run(&["--write-policy", "run.toml"]).assert_ok();
    let output = run(&["--rm", "--policy", "run.toml"]);
    assert_eq!(output.status.code(), Some(3), "{}{}", output.stdout, output.stderr);
    assert_eq!(output.stdout, "once\nsecret token mode 0400 owner 1000:1000 reversed t\n");
    assert!(!project.home().join("projects/gvisor-once-run-job").exists(), "--rm leaves the folder");
    project.assert_nothing_left();
}

#[test]
fn files_go_in_and_out_of_a_sandbox_as_its_agent_sees_them() {
    let more = "volumes: [\"kept:/data\"]\ntmpfs: [\"/tmp:size=8m,mode=1777\"]";
    let project = Project::empty("gvisor-cp");
    let one = agent("one", &["say here", "until /data/tree/deep/file 0"], GVISOR, more);
    let wait = agent("other", &["write /tmp/own inside", "say here", "wait"], GVISOR, "");
    let text = format!("name: gvisor-cp\nservices:\n{one}{wait}volumes:\n  kept:\n");
    fs::write(project.file("compose.yaml"), text).unwrap();
    crate::image::link_into(&project.home());
    project.write_policy(&[]);
    project.up();
    fs::create_dir_all(project.file("tree/deep")).unwrap();
    fs::write(project.file("tree/deep/file"), "content").unwrap();

    // In, while the agent looks for it; and what it wrote itself, out.
    project.run(&["cp", "tree", "other:/tmp"]).assert_ok();
    let read = project.run(&["exec", "other", "/agent", "read /tmp/tree/deep/file"]);
    assert_eq!(read.stdout, "/tmp/tree/deep/file has content\n", "{read:?}");
    project.run(&["cp", "other:/tmp/own", "own"]).assert_ok();
    assert_eq!(fs::read_to_string(project.file("own")).unwrap(), "inside");
    project.run(&["cp", "other:/etc/hostname", "name"]).assert_ok();
    assert_eq!(fs::read_to_string(project.file("name")).unwrap(), "other\n");
    assert_eq!(project.ps()["agents"]["other"]["tainted"], true);
    project.run(&["cp", "tree", "one:/data"]).assert_ok();
    project.wait_for_agent("one", "seeing the file", |one| one["exit_status"] == 0);

    // Nothing but the agent's tree is there, and of that nothing that it could not write.
    project.run(&["cp", "tree", "other:/etc/new"]).assert_fails(3, "Read-only", "read-only");
    for path in ["/proc/self/environ", "/dev/null"] {
        project.run(&["cp", &format!("other:{path}"), "x"]).assert_refused("backend.visit");
    }
    project.run(&["cp", "other:/rootfs/etc/hostname", "x"]).assert_fails(3, "No such file", "path");
    project.run(&["cp", "other:/../bundle/config.json", "x"]).assert_fails(3, "No such file", "path");
    project.down();
}

#[test]
fn nothing_is_left_of_a_killed_sandbox() {
    let project = Project::ready("gvisor-killed", &agent("one", &["say here", "wait"], GVISOR, ""), &[]);
    for program in ["runsc-sandbox", "runsc-gofer"] {
        project.up();
        project.logs_with("one", "here");
        kill(process_of(&project, "one", program), Signal::KILL);
        project.wait_for_agent("one", "ended", |one| one["pid"].is_null() && one["exit_status"].is_number());
        assert!(project.run(&["ps"]).stdout.contains("exited"));
        project.down();
    }
    project.up();
    project.kill("casemate-warden");
    project.assert_nothing_left();
}

#[test]
fn gvisor_that_is_missing_or_another_one_is_told_before_anything_starts() {
    let project = Project::ready("gvisor-missing", &agent("one", &["wait"], GVISOR, ""), &[]);
    let up = |program: &str| {
        let mut up = casemate(&["up", "-d", "--progress", "plain"]);
        project.place(&mut up);
        run_bounded(up.env("CASEMATE_RUNSC", program), project.dir.path(), COMMAND_BOUND, None)
    };
    up("/nowhere/runsc").assert_fails(3, "CASEMATE_RUNSC is /nowhere/runsc", "runsc");
    // Another program is another composition, and no sandbox.
    up("/bin/true").assert_fails(3, "create the sandbox", "");
    project.assert_nothing_left();
    project.up();
    project.down();
}

/// An image with Python and SQLite, of this machine's own packages.
fn python_image(project: &Project) {
    let tar = project.file("python.tar");
    let script = "set -e; cd /; list=$(for f in /usr/bin/python3 /usr/lib/python3.*/lib-dynload/_sqlite3*.so; \
                  do ldd $f | grep -o '/[^ ]*'; done | sort -u); mkdir -p \"$1/empty\"; cd \"$1/empty\"; \
                  mkdir -p data tmp proc dev run etc; touch etc/hosts etc/hostname etc/resolv.conf; \
                  tar -cf \"$2\" data tmp proc dev run etc; cd /; tar -rhf \"$2\" --exclude='*/test/*' \
                  --exclude='*/__pycache__/*' --exclude='*/idlelib/*' $list usr/bin/python3 usr/lib/python3.[0-9]*";
    let mut make = Command::new("sh");
    make.args(["-c", script, "sh"]).arg(project.dir.path()).arg(&tar);
    run_bounded(&mut make, project.dir.path(), COMMAND_BOUND, None).assert_ok();
    let mut import =
        casemate(&["image", "import", "localhost/python:1", "--entrypoint", "/usr/bin/python3", "--tar"]);
    import.arg(&tar).env("CASEMATE_HOME", project.home());
    run_bounded(&mut import, project.dir.path(), COMMAND_BOUND, None).assert_ok();
}

/// Two threads of one process and a second process write to one database in WAL mode, on a volume.
const WAL: &str = "
import sqlite3, subprocess, sys, threading, os, socket
path = '/data/t.db'
def open_it():
    c = sqlite3.connect(path, timeout=30)
    return c
c = open_it(); mode = c.execute('pragma journal_mode=wal').fetchone()[0]
c.execute('create table if not exists t(x)'); c.commit()
def write(n):
    d = open_it()
    for i in range(n):
        d.execute('insert into t values (?)', (i,)); d.commit()
    d.close()
if len(sys.argv) > 1:
    write(50); sys.exit()
child = subprocess.Popen([sys.executable, '-c', open('/proc/self/cmdline').read().split(chr(0))[2], 'child'])
threads = [threading.Thread(target=write, args=(50,)) for _ in range(2)]
[t.start() for t in threads]; [t.join() for t in threads]
assert child.wait() == 0
s = socket.socket(socket.AF_UNIX); s.bind('/tmp/s.sock'); s.listen(1)
print(mode, c.execute('select count(*) from t').fetchone()[0], c.execute('pragma integrity_check').fetchone()[0], os.path.exists('/data/t.db-wal'), flush=True)
";

#[test]
fn python_and_sqlite_in_wal_mode_work_in_a_sandbox() {
    let project = Project::empty("gvisor-python");
    let script = serde_json::to_string(WAL).unwrap();
    let services = format!(
        "  one:\n    image: localhost/python:1\n    user: \"1000:1000\"\n    command: [\"-c\", {script}]\n    \
         mem_limit: 384m\n    tmpfs: [/tmp]\n    volumes: [\"store:/data\"]\n    x-casemate: {{ backend: gvisor }}\n"
    );
    fs::write(
        project.file("compose.yaml"),
        format!("name: gvisor-python\nservices:\n{services}volumes:\n  store: {{}}\n"),
    )
    .unwrap();
    python_image(&project);
    project.write_policy(&[]);
    project.up();
    let log = project.logs_with("one", "ok");
    assert!(log.contains("wal 150 ok True"), "{log}");
    // The volume keeps it, and a native agent could read it: the file is a plain one with inner ids.
    project.wait_for_agent("one", "ended with 0", |one| one["exit_status"] == 0);
    assert!(project.project_dir().join("volumes/store/t.db").is_file());
    project.down();
}
