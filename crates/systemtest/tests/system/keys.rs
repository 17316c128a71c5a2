//! Keys of the Compose file, as they hold in a running box.

use std::fs;
use std::time::{Duration, Instant};

use crate::project::{Project, agent};

/// The value of the first of `files` in the control group of `agent`, version 2 or 1.
fn group_value(box_prefix: &str, agent: &str, files: [&str; 2]) -> String {
    for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory"] {
        let boxes = fs::read_dir(format!("{mount}/casemate")).into_iter().flatten().flatten();
        for folder in boxes.filter(|entry| entry.file_name().to_string_lossy().starts_with(box_prefix)) {
            for file in files {
                if let Ok(text) = fs::read_to_string(folder.path().join(agent).join(file)) {
                    return text.trim().to_owned();
                }
            }
        }
    }
    panic!("no {files:?} of {agent}");
}

#[test]
fn what_the_compose_file_asks_for_holds_in_the_box() {
    let server = agent("server", &["read /run/app/conf", "write /run/app/conf x"], "");
    let named = agent(
        "named",
        &["serve 8080 answer-of-the-named", "wait"],
        "expose: [\"8080\"]\ncontainer_name: own-name\nnetworks: { default: { aliases: [colleague] } }\ncpu_shares: 512\nmem_reservation: 32m\nhealthcheck: { test: [\"CMD\", \"/agent\", \"reach 8080\"], interval: 60s, start_interval: 100ms }",
    );
    let server = server.trim_end().to_owned()
        + "\n    configs: [{ source: conf, target: /run/app/conf, mode: 0444 }]\n    restart: on-failure:1\n";
    let gives_up = agent(
        "gives_up",
        &["exit 3"],
        "deploy: { restart_policy: { condition: on-failure, max_attempts: 2, delay: 1500ms } }",
    );
    let caller = agent(
        "caller",
        &["call colleague:8080", "call own-name:8080", "call named:8080", "wait"],
        "depends_on:\n  named: { condition: service_healthy }\n  gives_up: { condition: service_completed_successfully, required: false }\nx-casemate: { talks-to: [\"named:8080\"], trust: desk }",
    );
    let project = Project::empty("keys");
    let text = format!(
        "name: keys\nservices:\n{server}{named}{gives_up}{caller}configs:\n  conf: {{ content: setting-one }}\n"
    );
    fs::write(project.file("compose.yaml"), text).unwrap();
    crate::image::link_into(&project.home());
    project.write_policy(&[]);
    let began = Instant::now();
    project.up();

    let logs = project.logs_with("caller", "call named:8080");
    for name in ["colleague", "own-name", "named"] {
        assert!(logs.contains(&format!("call {name}:8080 answered answer-of-the-named")), "{logs}");
    }
    let logs = project.logs_with("server", "failed: write");
    assert!(logs.contains("/run/app/conf has setting-one"), "{logs}");
    project.wait_for_agent("gives_up", "given up", |agent| {
        agent["instance"] == 3 && agent["exit_status"] == 3 && agent["phase"] == "exited"
    });
    // With the growing pause it would be 0.3 s.
    assert!(began.elapsed() > Duration::from_secs(3), "{:?}", began.elapsed());

    let shares = group_value("keys-", "named", ["cpu.weight", "cpu.shares"]);
    assert!(["20", "512"].contains(&shares.as_str()), "{shares}");
    let reserved = group_value("keys-", "named", ["memory.low", "memory.soft_limit_in_bytes"]);
    assert_eq!(reserved, (32 << 20).to_string());
    project.down();
}
