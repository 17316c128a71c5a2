//! The life of agents in a running box: start, stop, restart, kill, pause, wait, and what `ps` and `events` show of it.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::project::{COMMAND_BOUND, Project, agent};

/// Time for something to show that must not come.
const NOTHING_COMES: Duration = Duration::from_millis(600);
const MARKER: &str = "secret marker mode 0400 owner 1000:1000 reversed m";

/// An agent that ends by SIGTERM within a second.
pub(crate) fn gentle(name: &str, steps: &[&str], more: &str) -> String {
    agent(name, steps, more)
        .replace("stop_signal: SIGKILL", "stop_signal: SIGTERM\n    stop_grace_period: 1s")
}

pub(crate) fn runs(project: &Project, name: &str, instance: u64) -> serde_json::Value {
    project.wait_for_agent(name, &format!("running as instance {instance}"), |agent| {
        agent["instance"] == instance && agent["uptime_s"].is_number() && agent["standing"] == "up"
    })
}

fn events(project: &Project) -> String {
    let output = project.run(&["events"]);
    output.assert_ok();
    output.stdout
}

fn two() -> String {
    let keeper = gentle("keeper", &["secret marker", "wait"], "secrets: [marker]\nrestart: always");
    format!("{keeper}{}", gentle("other", &["say here", "wait"], ""))
}

#[test]
fn a_stopped_agent_stays_and_starts_again_as_a_new_instance_with_its_secrets() {
    let project = Project::ready("stop-start", &two(), &[("marker", "m")]);
    project.up();
    runs(&project, "keeper", 1);
    project.logs_with("keeper", MARKER);
    let stopped = project.run(&["stop", "keeper"]);
    stopped.assert_ok();
    assert_eq!(stopped.stdout, "keeper stopped\n");
    // No restart policy undoes what a user asked for.
    std::thread::sleep(NOTHING_COMES);
    let keeper = project.ps()["agents"]["keeper"].clone();
    assert_eq!((&keeper["standing"], &keeper["exit_status"]), (&"stopped".into(), &143.into()), "{keeper}");
    let table = project.run(&["ps"]).stdout;
    assert!(table.contains("stopped (143)") && table.contains("running"), "{table}");
    assert!(events(&project).contains("agent exited         keeper #1 status 143"));
    project.attest("keeper", "nonce-one", "e.json").assert_refused("agent.running");
    runs(&project, "other", 1);

    let started = project.run(&["start", "keeper"]);
    started.assert_ok();
    assert_eq!(started.stdout, "keeper started\n");
    runs(&project, "keeper", 2);
    project.logs_with("keeper", &format!("{MARKER}\nkeeper | {MARKER}\n"));
    project.attest("keeper", "nonce-two", "e.json").assert_ok();
    project.run(&["verify", "e.json", "--nonce", "nonce-two"]).assert_ok();
    let log = events(&project);
    assert!(log.contains("agent launched       keeper #2"), "{log}");
    assert_eq!(log.matches("secret delivered     keeper").count(), 2, "{log}");

    // What is so already is said, and is no failure.
    let again = project.run(&["start"]);
    again.assert_ok();
    assert_eq!(again.stdout, "keeper runs already\nother runs already\n");
    project.run(&["stop"]).assert_ok();
    let again = project.run(&["--json", "stop"]);
    again.assert_ok();
    let all: serde_json::Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(all, serde_json::json!({"agents": {"keeper": "already", "other": "already"}}));
    project.run(&["start", "--wait"]).assert_ok();
    project.down();
}

#[test]
fn an_agent_that_ignores_its_stop_signal_is_killed_after_its_grace_time() {
    let deaf = gentle("deaf", &["hear TERM", "wait"], "init: true");
    let project = Project::ready("deaf", &deaf, &[]);
    project.up();
    project.logs_with("deaf", "hears TERM");
    let stopped = project.run(&["stop", "-t", "2"]);
    stopped.assert_ok();
    assert!(stopped.took >= Duration::from_secs(2) && stopped.took < Duration::from_secs(10), "{stopped:?}");
    project.logs_with("deaf", "heard TERM");
    assert_eq!(project.ps()["agents"]["deaf"]["exit_status"], 137);
    project.run(&["start"]).assert_ok();
    project.logs_with("deaf", "hears TERM\ndeaf | heard TERM\ndeaf | hears TERM");
    // Its own: one second. Who asks again may leave it less.
    let waiting = project.spawn(&["stop", "-t", "30"]);
    project.wait_for_agent("deaf", "about to end", |agent| agent["standing"] == "stopping");
    let killed = project.run(&["stop", "-t", "0"]);
    killed.assert_ok();
    assert!(killed.took < Duration::from_secs(10), "{killed:?}");
    waiting.wait(COMMAND_BOUND).assert_ok();
    project.down();
}

#[test]
fn a_stop_signal_of_any_kind_reaches_the_agent() {
    let one = agent("one", &["hear WINCH", "wait"], "stop_grace_period: 1s")
        .replace("stop_signal: SIGKILL", "stop_signal: SIGWINCH");
    let project = Project::ready("winch", &one, &[]);
    project.up();
    project.logs_with("one", "hears WINCH");
    project.run(&["stop"]).assert_ok();
    project.logs_with("one", "heard WINCH");
    project.down();
}

#[test]
fn a_signal_is_passed_on_and_only_an_end_that_was_asked_for_is_final() {
    let one = gentle("one", &["hear USR1", "wait"], "restart: always");
    let project = Project::ready("signals-in", &one, &[]);
    project.up();
    project.logs_with("one", "hears USR1");
    project.run(&["kill", "-s", "SIGUSR1", "one"]).assert_ok();
    project.logs_with("one", "heard USR1");
    // HUP ends it, and its policy starts it again.
    project.run(&["kill", "-s", "HUP", "one"]).assert_ok();
    runs(&project, "one", 2);
    // TERM is its stop signal, and KILL is what it says: both are final.
    for (signal, status, instance) in [("TERM", 143, 2), ("KILL", 137, 3)] {
        project.run(&["kill", "-s", signal]).assert_ok();
        let ended = project.wait_for_agent("one", "stopped", |agent| agent["standing"] == "stopped");
        assert_eq!(
            (&ended["exit_status"], &ended["instance"]),
            (&status.into(), &instance.into()),
            "{ended}"
        );
        project.run(&["start"]).assert_ok();
    }
    let refused = project.run(&["kill", "-s", "STOP", "one"]);
    refused.assert_refused("signal.passed-on");
    project.run(&["kill", "-s", "NOSUCH", "one"]).assert_fails(2, "NOSUCH", "kill --help");
    project.down();
}

#[test]
fn a_paused_agent_stands_still_and_is_not_attested() {
    let ticking = gentle(
        "ticking",
        &["tick 20", "wait"],
        "healthcheck:\n  test: [\"CMD\", \"/agent\", \"exit 0\"]\n  interval: 200ms\n  timeout: 300ms\n  retries: 1",
    );
    let project = Project::ready("pause", &ticking, &[]);
    project.up();
    let paused = project.run(&["pause", "ticking"]);
    paused.assert_ok();
    assert_eq!(paused.stdout, "ticking paused\n");
    let before = project.logs("ticking");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(project.logs("ticking"), before);
    let status = project.ps()["agents"]["ticking"].clone();
    assert_eq!((&status["paused"], &status["health"]), (&true.into(), &"healthy".into()), "{status}");
    assert!(project.run(&["ps"]).stdout.contains("paused"));
    assert_eq!(project.run(&["ps", "-q", "--status", "paused"]).stdout, "ticking\n");
    project.attest("ticking", "nonce-one", "e.json").assert_refused("agent.running");
    let refused = project.run(&["exec", "ticking", "/agent", "exit 0"]);
    assert_eq!(refused.status.code(), Some(125), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("agent.running") && refused.stderr.contains("it is paused"),
        "{}",
        refused.stderr
    );
    assert_eq!(project.run(&["pause"]).stdout, "ticking is paused already\n");

    let on = project.run(&["unpause"]);
    on.assert_ok();
    assert_eq!(on.stdout, "ticking goes on\n");
    let end = Instant::now() + Duration::from_secs(10);
    while project.logs("ticking") == before {
        assert!(Instant::now() < end, "it does not go on");
        std::thread::sleep(Duration::from_millis(20));
    }
    project.attest("ticking", "nonce-one", "e.json").assert_ok();
    project.run(&["verify", "e.json", "--nonce", "nonce-one"]).assert_ok();
    let log = events(&project);
    assert!(log.contains("agent paused         ticking #1"), "{log}");
    assert!(log.contains("agent resumed        ticking #1"), "{log}");

    // Stopped while it stands still, it takes its signal and ends at once.
    project.run(&["pause"]).assert_ok();
    let stopped = project.run(&["stop", "-t", "20"]);
    stopped.assert_ok();
    assert!(stopped.took < Duration::from_secs(10), "{stopped:?}");
    assert_eq!(project.ps()["agents"]["ticking"]["exit_status"], 143);
    project.run(&["start"]).assert_ok();
    // Killed likewise.
    project.run(&["pause"]).assert_ok();
    project.run(&["kill"]).assert_ok();
    project
        .wait_for_agent("ticking", "killed", |agent| agent["exit_status"] == 137 && agent["paused"] == false);
    project.run(&["start"]).assert_ok();
    project.run(&["pause"]).assert_ok();
    project.down();
}

#[test]
fn nothing_of_a_paused_agent_is_left_after_any_end_of_the_box() {
    for program in ["casemate-warden", "box-supervisor"] {
        let project = Project::ready("pause-end", &gentle("one", &["spawn 3", "wait"], ""), &[]);
        project.up();
        project.logs_with("one", "spawned all 3");
        project.run(&["pause"]).assert_ok();
        project.kill(program);
        if program == "box-supervisor" {
            project.run(&["down", "-t", "0"]).assert_ok();
        }
        project.assert_nothing_left();
    }
}

#[test]
fn what_is_asked_of_an_agent_that_cannot_take_it_is_refused_in_words() {
    let waiting = gentle("waiting", &["wait"], "depends_on:\n  slow: { condition: service_healthy }");
    let slow = gentle(
        "slow",
        &["wait"],
        "healthcheck:\n  test: [\"CMD\", \"/agent\", \"reach 1\"]\n  interval: 1s\n  start_period: 60s\n  retries: 100",
    );
    let ended = gentle("ended", &["exit 4"], "");
    let crashing =
        gentle("crashing", &["exit 5"], "deploy:\n  restart_policy: { condition: any, delay: 60s }");
    let project = Project::ready("states", &format!("{waiting}{slow}{ended}{crashing}"), &[]);
    // Nothing runs yet.
    for command in ["start", "stop", "restart", "kill", "pause", "unpause"] {
        project.run(&[command]).assert_fails(3, "has never run", "casemate up");
    }
    let mut up = project.spawn(&["up", "-d", "--progress", "plain"]);
    let end = Instant::now() + COMMAND_BOUND;
    // An agent that had ended before it was looked at is told as failed.
    let told =
        |all: &str, name: &str| ["ok  ", "FAIL"].iter().any(|mark| all.contains(&format!("{mark} {name}")));
    while !told(&up.stdout(), "ended") || !told(&up.stdout(), "crashing") {
        assert!(up.runs() && Instant::now() < end, "{}", up.stdout());
        std::thread::sleep(Duration::from_millis(20));
    }
    project.wait_for_agent("ended", "ended", |agent| agent["standing"] == "ended");
    project.wait_for_agent("crashing", "waiting for its restart", |agent| agent["standing"] == "restarting");
    for command in ["kill", "pause", "unpause"] {
        for (name, found) in [
            ("waiting", "its program does not run yet"),
            ("ended", "it ended with status 4"),
            ("crashing", "starts again in a moment"),
        ] {
            let (_, seen) = project.run(&[command, name]).assert_refused("agent.running");
            assert!(seen.contains(found), "{command} {name}: {seen}");
        }
    }
    for command in ["start", "stop", "restart", "kill", "pause", "unpause", "wait"] {
        project.run(&[command, "nobody"]).assert_fails(2, "no agent `nobody`", "crashing");
    }
    // A start that waits, and one that is about to be tried again, can be stopped.
    project.run(&["stop", "crashing"]).assert_ok();
    let table = project.run(&["ps"]).stdout;
    assert!(table.contains("stopped (5)") && table.contains("exited (4)"), "{table}");
    let stopped = project.run(&["stop", "waiting"]);
    stopped.assert_ok();
    assert_eq!(stopped.stdout, "waiting stopped\n");
    // The first `up` is told that an agent that it waits for will not come.
    up.wait(COMMAND_BOUND).assert_fails(3, "waiting", "");
    project.assert_nothing_left();
}

#[test]
fn a_restart_reaches_those_that_say_so_and_stops_them_first() {
    let base = gentle("base", &["wait"], "");
    let close =
        gentle("close", &["wait"], "depends_on:\n  base: { condition: service_started, restart: true }");
    let far = gentle("far", &["wait"], "depends_on: [base]");
    let project = Project::ready("restart", &format!("{base}{close}{far}"), &[]);
    project.up();
    let restarted = project.run(&["restart", "--wait", "base"]);
    restarted.assert_ok();
    assert_eq!(restarted.stdout, "base started anew\nclose started anew\n");
    for (name, instance) in [("base", 2), ("close", 2), ("far", 1)] {
        runs(&project, name, instance);
    }
    let log = events(&project);
    let place = |text: &str| log.find(text).unwrap_or_else(|| panic!("no `{text}` in {log}"));
    assert!(place("agent exited         close #1") < place("agent exited         base #1"), "{log}");
    assert!(place("agent started        base #2") < place("agent launched       close #2"), "{log}");
    project.run(&["restart", "--no-deps", "base"]).assert_ok();
    runs(&project, "base", 3);
    runs(&project, "close", 2);
    // An agent that does not run starts, and so does what it depends on.
    project.run(&["stop"]).assert_ok();
    project.run(&["start", "--no-deps", "far"]).assert_ok();
    assert_eq!(project.ps()["agents"]["base"]["standing"], "stopped");
    project.run(&["restart", "far"]).assert_ok();
    runs(&project, "far", 3);
    runs(&project, "base", 4);
    assert_eq!(project.ps()["agents"]["close"]["standing"], "stopped");
    project.down();
}

#[test]
fn wait_tells_how_agents_ended_for_good() {
    let job = gentle("job", &["sleep 700", "exit 4"], "");
    let again = gentle("again", &["sleep 300", "crash-until 2 9", "exit 0"], "restart: on-failure:3");
    let never = gentle("never", &["wait"], "");
    let project = Project::ready("wait", &format!("{job}{again}{never}"), &[]);
    project.run(&["up", "-d", "job", "again"]).assert_ok();
    let waited = project.run(&["wait", "again", "job"]);
    assert_eq!(waited.status.code(), Some(4), "{waited:?}");
    let mut lines: Vec<&str> = waited.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["again 0", "job 4"]);
    assert_eq!(project.run(&["wait", "again"]).status.code(), Some(0));
    let json = project.run(&["--json", "wait", "job"]);
    assert_eq!(json.stdout, "{\"agent\":\"job\",\"status\":4}\n");
    project.run(&["wait", "never"]).assert_refused("agent.started");
    // Ctrl-C ends the wait, and nothing else.
    project.run(&["start", "never"]).assert_ok();
    let waiting = project.spawn(&["wait", "never"]);
    std::thread::sleep(NOTHING_COMES);
    waiting.signal(Signal::INT);
    waiting.wait(COMMAND_BOUND).assert_fails(130, "interrupted", "casemate ps");
    runs(&project, "never", 1);
    project.down();
}

#[test]
fn a_start_that_fails_in_a_running_box_leaves_the_others_alone() {
    let keeper = gentle("keeper", &["secret marker", "wait"], "secrets: [marker]");
    let project = Project::ready(
        "late-fail",
        &format!("{keeper}{}", gentle("other", &["wait"], "")),
        &[("marker", "m")],
    );
    project.up();
    project.run(&["stop", "keeper"]).assert_ok();
    project.run(&["secret", "rm", "marker"]).assert_ok();
    let failed = project.run(&["start", "keeper"]);
    assert!(matches!(failed.status.code(), Some(1 | 3)), "{failed:?}");
    let status = project.ps()["agents"]["keeper"].clone();
    assert_eq!((&status["standing"], &status["state"]), (&"ended".into(), &"failed".into()), "{status}");
    runs(&project, "other", 1);
    project.put_secret("marker", "m");
    project.run(&["start", "keeper"]).assert_ok();
    runs(&project, "keeper", 3);
    project.down();
}

#[test]
fn restarts_begin_to_be_counted_anew_after_the_window() {
    // Each run is longer than the window, so that one attempt is enough for ever; the other's never is.
    let long = "deploy:\n  restart_policy: { condition: any, delay: 100ms, max_attempts: 1, window: 100ms }";
    let short = "deploy:\n  restart_policy: { condition: any, delay: 100ms, max_attempts: 1, window: 1h }";
    let services =
        format!("{}{}", gentle("long", &["sleep 300"], long), gentle("short", &["sleep 300"], short));
    let project = Project::ready("window", &services, &[]);
    project.up();
    project.wait_for_agent("long", "started four times", |agent| agent["instance"].as_u64() >= Some(4));
    let short = project.wait_for_agent("short", "given up", |agent| agent["standing"] == "ended");
    assert_eq!(short["instance"], 2, "{short}");
    // Stopped in between, it stays stopped; started again, it counts from nothing.
    project.run(&["stop", "long"]).assert_ok();
    project.run(&["start", "short"]).assert_ok();
    project.wait_for_agent("short", "given up once more", |agent| {
        agent["standing"] == "ended" && agent["instance"] == 4
    });
    assert_eq!(project.ps()["agents"]["long"]["standing"], "stopped");
    project.down();
}

#[test]
fn after_a_crash_of_the_warden_the_next_command_says_what_happened() {
    let project = Project::ready("crash-told", &gentle("one", &["wait"], ""), &[]);
    project.up();
    project.kill("casemate-warden");
    project.assert_nothing_left();
    for command in ["ps", "start", "stop"] {
        project.run(&[command]).assert_fails(3, "its box ended at", "nothing of the box is left");
    }
    assert!(project.run(&["ps"]).stderr.contains("warden ended"));
    project.up();
    project.run(&["ps"]).assert_ok();
    project.down();
    project.run(&["ps"]).assert_fails(3, "does not run", "casemate up");
    // The supervisor itself cannot say anything.
    project.up();
    project.kill("box-supervisor");
    let end = Instant::now() + COMMAND_BOUND;
    while !project.processes().is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    project.run(&["ps"]).assert_fails(3, "could not say why", "casemate down");
    project.down();
}

#[test]
fn events_are_followed_to_the_end_of_the_box() {
    let project = Project::ready("events-f", &gentle("one", &["wait"], ""), &[]);
    project.run(&["events", "-f"]).assert_fails(3, "has never run", "casemate up");
    project.up();
    let mut follow = project.spawn(&["--json", "events", "-f"]);
    project.run(&["restart"]).assert_ok();
    let end = Instant::now() + COMMAND_BOUND;
    while !follow.stdout().contains("\"instance\":2") {
        assert!(follow.runs() && Instant::now() < end, "{}", follow.stdout());
        std::thread::sleep(Duration::from_millis(20));
    }
    project.down();
    let output = follow.wait(COMMAND_BOUND);
    output.assert_ok();
    for line in output.stdout.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(event["event"].is_string(), "{line}");
    }
    assert!(output.stdout.lines().last().unwrap().contains("agent-exited"), "{}", output.stdout);
}

#[test]
fn ps_shows_what_is_asked_for() {
    let project = Project::ready("ps-forms", &two(), &[("marker", "m")]);
    project.up();
    project.run(&["stop", "other"]).assert_ok();
    assert_eq!(project.run(&["ps", "-q"]).stdout, "keeper\nother\n");
    assert_eq!(project.run(&["ps", "-a", "-q", "--status", "running"]).stdout, "keeper\n");
    assert_eq!(project.run(&["ps", "-q", "--status", "stopped"]).stdout, "other\n");
    let json = project.run(&["ps", "--format", "json", "keeper"]);
    let status: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(status["agents"].as_object().unwrap().len(), 1, "{status}");
    project.run(&["ps", "nobody"]).assert_fails(2, "no agent `nobody`", "keeper");
    project.down();
}
