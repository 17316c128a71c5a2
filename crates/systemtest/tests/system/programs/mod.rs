//! Real programs in real compartments: each control is worth nothing that people switch off because their program
//! breaks.

pub(crate) mod image;
mod rules;

use std::time::{Duration, Instant};

use crate::project::Project;

/// What a script says when it did all that it should.
const DONE: &str = "all done";
/// Time for that: programs that start slowly, on a machine that does much else.
const DONE_BOUND: Duration = Duration::from_secs(150);

/// A service that runs a script, and the script as a config.
pub(crate) fn service(name: &str, program: &str, script: &str, more: &str) -> (String, String) {
    let more: String = more.lines().map(|line| format!("    {}\n", line.trim_end())).collect();
    let service = format!(
        "  {name}:\n    image: {}\n    user: \"1000:1000\"\n    command: [{program}, /run/test/script]\n    stop_signal: SIGKILL\n    mem_limit: 384m\n    pids_limit: 64\n    tmpfs: [\"/tmp:size=64m\"]\n    environment: {{ HOME: /tmp }}\n    configs: [{{ source: {name}, target: /run/test/script }}]\n{more}",
        image::IMAGE
    );
    // As JSON text, which is YAML: a script has characters that both would read otherwise; `$` is doubled for Compose.
    let content = serde_json::to_string(&script.replace('$', "$$")).unwrap();
    (service, format!("  {name}: {{ content: {content} }}\n"))
}

/// A project of such services.
pub(crate) fn project(name: &str, services: &[(String, String)], more: &str) -> Project {
    let project = Project::empty(name);
    let part = |part: fn(&(String, String)) -> &str| services.iter().map(part).collect::<String>();
    let (all, configs) = (part(|s| &s.0), part(|s| &s.1));
    std::fs::write(
        project.file("compose.yaml"),
        format!("name: {name}\nservices:\n{all}configs:\n{configs}{more}"),
    )
    .unwrap();
    image::link_into(&project.home());
    project.write_policy(&[]);
    project
}

/// The log of an agent that runs a script, once it did all.
pub(crate) fn log_of_all(project: &Project, name: &str) -> String {
    let end = Instant::now() + DONE_BOUND;
    loop {
        let log = project.logs(name);
        if log.contains(DONE) {
            return log;
        }
        assert!(Instant::now() < end, "{name} is not done:\n{log}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Whether all these are there; else says so.
pub(crate) fn present(test: &str, programs: &[&str]) -> bool {
    match programs.iter().find(|program| !image::has(program)) {
        None => true,
        Some(absent) => {
            println!("not run: {test}: this machine has no {absent}");
            false
        }
    }
}

/// Runs one script to its end.
fn works(name: &str, needed: &[&str], program: &str, script: &str) {
    if !present(name, needed) {
        return;
    }
    let project = project(name, &[service(name, program, script, "")], "");
    project.up();
    log_of_all(&project, name);
    project.down();
}

#[test]
fn python_runs_threads_processes_sockets_and_a_package_that_pip_installs() {
    works(
        "python",
        &["/usr/bin/python3.11", "/usr/share/python-wheels"],
        "python3",
        include_str!("python.py"),
    );
}

#[test]
fn node_runs_workers_files_and_servers() {
    works("node", &["/usr/bin/node"], "node", include_str!("node.js"));
}

#[test]
fn sqlite_keeps_a_write_ahead_log() {
    works("sqlite", &["/usr/bin/sqlite3"], "sh", include_str!("sqlite.sh"));
}

#[test]
fn git_commits_clones_and_collects_garbage() {
    works("git", &["/usr/bin/git"], "sh", include_str!("git.sh"));
}

#[test]
fn memory_is_not_writable_and_executable_where_the_file_says_so() {
    if !present("deny-write-execute", &["/usr/bin/python3.11"]) {
        return;
    }
    let script = include_str!("executable.py");
    let services = [
        service("strict", "python3", script, "x-casemate: { memory: deny-write-execute }"),
        service("plain", "python3", script, ""),
    ];
    let project = project("executable", &services, "");
    project.up();
    for (name, expected, status) in [("strict", "denied", "enforced"), ("plain", "allowed", "not-enforced")] {
        let log = log_of_all(&project, name);
        for way in ["at once", "one after the other"] {
            assert!(log.contains(&format!("{way} {expected}")), "{name}: {log}");
        }
        assert_eq!(project.ps()["agents"][name]["controls"]["deny-write-execute"], status);
    }
    project.down();
}

#[test]
fn curl_reaches_a_threaded_server_over_an_edge() {
    if !present("curl", &["/usr/bin/curl"]) {
        return;
    }
    let web = "  web:\n    image: localhost/programs:1\n    user: \"1000:1000\"\n    command: [/bin/server, \"8080\", \"8\"]\n    stop_signal: SIGKILL\n    mem_limit: 64m\n    pids_limit: 32\n    expose: [8080]\n";
    let client = service(
        "client",
        "sh",
        include_str!("curl.sh"),
        "x-casemate: { talks-to: [\"web:8080\"] }\ndepends_on: [web]",
    );
    let project = project("curl", &[(web.to_owned(), String::new()), client], "");
    project.up();
    log_of_all(&project, "client");
    project.down();
}
