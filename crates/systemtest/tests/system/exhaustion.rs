//! Agents that take all they can get: each is held, or killed, and a peer that needs a little of everything goes on.

use std::time::{Duration, Instant};

use crate::project::{Project, agent};

/// Beats of the peer that must come after all others have what they get.
const BEATS: usize = 5;
/// Time for these, on a machine that all others keep busy.
const BEATS_BOUND: Duration = Duration::from_secs(50);

fn beats(project: &Project) -> usize {
    let logs = project.logs("peer");
    assert!(!logs.contains("failed"), "{logs}");
    logs.lines().filter(|line| line.contains("beat ")).count()
}

/// The peer, and whom it calls.
fn bystanders() -> String {
    let healthy =
        "healthcheck: { test: [\"CMD\", \"/agent\", \"reach 8080\"], interval: 60s, start_interval: 100ms }";
    let exposes = format!("expose: [\"8080\"]\n{healthy}");
    let server = agent("server", &["serve 8080 answer", "wait"], &exposes);
    let calls = "x-casemate: { talks-to: [\"server:8080\"] }\ncpu_shares: 4096\nulimits: { sigpending: 50 }\n\
                 depends_on: { server: { condition: service_healthy } }";
    format!("{server}{}", agent("peer", &["beat server:8080"], calls))
}

fn goes_on(project: &Project) {
    let before = beats(project);
    let end = Instant::now() + BEATS_BOUND;
    while beats(project) < before + BEATS {
        assert!(Instant::now() < end, "{}", project.logs("peer"));
        std::thread::sleep(Duration::from_millis(200));
    }
    for name in ["peer", "server"] {
        let status = project.ps();
        let agent = &status["agents"][name];
        assert!(agent["pid"].is_number() && agent["instance"] == 1, "{agent}");
    }
}

/// The number that a log says a kind of thing is held at, and why.
fn held(project: &Project, name: &str, kind: &str) -> (u64, String) {
    let logs = project.logs_with(name, "held at");
    let (_, line) = logs.split_once(&format!("{kind} held at ")).unwrap();
    let (count, why) = line.lines().next().unwrap().split_once(": ").unwrap();
    (count.parse().unwrap(), why.to_owned())
}

/// Most memory that the agent's control group had, by either version.
fn memory_peak(project: &Project, name: &str) -> Option<u64> {
    let places = [("memory/", "memory.max_usage_in_bytes"), ("", "memory.peak")];
    places.into_iter().find_map(|(hierarchy, file)| {
        let group = format!("/sys/fs/cgroup/{hierarchy}casemate/{}/{name}", project.owner().box_name);
        std::fs::read_to_string(format!("{group}/{file}")).ok()?.trim().parse().ok()
    })
}

fn sysctl(name: &str) -> u64 {
    std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap().trim().parse().unwrap()
}

#[test]
fn agents_that_use_up_what_the_kernel_counts_for_each_user_are_held_and_a_peer_is_not() {
    let all = |name: &str, steps: &[&str], more: &str| agent(name, &[steps, &["wait"]].concat(), more);
    let services = [
        all("files", &["exhaust files"], ""),
        all("inotify", &["exhaust inotify"], ""),
        all("pipes", &["exhaust pipes"], ""),
        all("timers", &["exhaust timers"], "ulimits: { sigpending: 50 }"),
        all("tmp", &["exhaust disk /tmp"], "tmpfs: [\"/tmp:size=8m\"]"),
        all(
            "connections",
            &["exhaust connections server:8080"],
            "x-casemate: { talks-to: [\"server:8080\"] }",
        ),
        bystanders(),
    ];
    let project = Project::ready("exhaust-counts", &services.concat(), &[]);
    project.up();

    let (count, why) = held(&project, "files", "files");
    assert!((900..1024).contains(&count) && why.ends_with("(os error 24)"), "{count}: {why}");
    let (count, why) = held(&project, "inotify", "inotify");
    assert!(
        count <= sysctl("fs/inotify/max_user_instances") && why.ends_with("(os error 24)"),
        "{count}: {why}"
    );
    let (count, why) = held(&project, "pipes", "pipes");
    // In pages; each pipe is given 256 of them.
    let pages = sysctl("fs/pipe-user-pages-soft");
    assert!(count <= pages / 256 && why.ends_with("(os error 1)"), "{count} of {pages}: {why}");
    let (count, why) = held(&project, "timers", "timers");
    assert!(count <= 50 && why.starts_with("EAGAIN"), "{count}: {why}");
    let (count, why) = held(&project, "tmp", "disk");
    assert!(count <= 8 << 4 && why.ends_with("(os error 28)"), "{count}: {why}");
    let (count, why) = held(&project, "connections", "connections");
    assert!(count < 1024, "{count}: {why}");
    goes_on(&project);
    project.down();
}

#[test]
fn agents_that_fork_allocate_print_and_send_without_end_are_held_or_killed_and_a_peer_is_not() {
    let services = [
        agent("bomb", &["bomb"], ""),
        agent("memory", &["eat 256", "wait"], ""),
        agent("sockets", &["exhaust sockets", "wait"], ""),
        agent("tcp", &["exhaust tcp", "wait"], ""),
        agent("loud", &["flood-on"], ""),
        agent("spin", &["spin"], "cpus: \"0.5\""),
        bystanders(),
    ];
    let project = Project::ready("exhaust-memory", &services.concat(), &[]);
    project.up();

    project.logs_with("bomb", "bomb held: Resource temporarily unavailable (os error 11)");
    project.wait_for_agent("memory", "killed", |agent| agent["exit_status"] == 137);
    // What waits in sockets is memory of the agent: it comes up to its limit, or is killed there.
    project.wait_for_agent("sockets", "charged for its sockets", |agent| {
        agent["exit_status"] == 137 || memory_peak(&project, "sockets").is_some_and(|bytes| bytes > 40 << 20)
    });
    assert!(memory_peak(&project, "sockets").unwrap_or(0) <= 64 << 20);
    goes_on(&project);
    let logs = std::fs::read_dir(project.project_dir().join("logs")).unwrap().flatten();
    let loud = logs.filter(|entry| entry.file_name().to_string_lossy().starts_with("loud"));
    let bytes: u64 = loud.map(|entry| entry.metadata().unwrap().len()).sum();
    assert!(bytes < 40 << 20, "{bytes}");
    project.down();
}
