//! The posture in evidence: what agents have in common, what the machine looks like, and policies that ask for it.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::project::{Project, agent};

/// A check of the kernel that a value of `/proc/sys` decides, and two values between which its verdict changes.
const CHECK: &str = "D22.kptr";
const VALUE: &str = "/proc/sys/kernel/kptr_restrict";
/// The box looks every ten seconds.
const CHANGE_BOUND: Duration = Duration::from_secs(60);

/// Puts a value of the machine back.
struct Restored(String);

impl Drop for Restored {
    fn drop(&mut self) {
        std::fs::write(VALUE, &self.0).unwrap();
    }
}

fn set(value: &str) {
    std::fs::write(Path::new(VALUE), value).unwrap();
}

#[test]
fn agents_with_a_volume_in_common_are_told_apart_from_those_without() {
    let services = [
        agent("left", &["say here", "wait"], "volumes: [\"common:/data\"]"),
        agent("right", &["say here", "wait"], "volumes: [\"common:/data\"]"),
        agent("alone", &["say here", "wait"], ""),
    ];
    let services = format!("{}volumes: {{ common: {{ }} }}\n", services.concat());
    let project = Project::ready("posture-apart", &services, &[]);
    project.up();
    for (name, holds) in [("left", false), ("alone", true)] {
        let asked = format!("\n[agents.{name}.posture]\nno-shared-inode-with = [\"*\"]\n");
        project.edit("policy.toml", |text| format!("{text}{asked}"));
        project.attest(name, "nonce-one", "e.json").assert_ok();
        let verified = project.run(&["verify", "e.json", "--nonce", "nonce-one"]);
        if holds {
            verified.assert_ok();
        } else {
            verified.assert_refused("posture.inode");
        }
        project.edit("policy.toml", |text| text.replace(&asked, ""));
    }
    project.down();
}

#[test]
fn a_secret_is_refused_where_the_posture_does_not_show_what_the_policy_asks_for() {
    let services = agent("left", &["secret api_token", "wait"], "secrets: [api_token]");
    let project = Project::ready("posture-secret", &services, &[("api_token", "s3cret")]);
    let asked = format!("\n[agents.left.posture]\nchecks = [\"{CHECK}\"]\n");
    project.edit("policy.toml", |text| format!("{text}{asked}"));
    let _restored = Restored(std::fs::read_to_string(VALUE).unwrap());
    set("0");
    project.try_up(&[]).assert_refused("posture.check");
    set("2");
    project.up();
    project.attest("left", "nonce-one", "before.json").assert_ok();
    project.run(&["verify", "before.json", "--nonce", "nonce-one"]).assert_ok();

    // The machine changes while the box runs: the log has it, and the next evidence.
    set("0");
    let end = Instant::now() + CHANGE_BOUND;
    while !project.run(&["events"]).stdout.contains(&format!("posture changed      {CHECK}")) {
        assert!(Instant::now() < end, "{}", project.run(&["events"]).stdout);
        std::thread::sleep(Duration::from_millis(500));
    }
    project.attest("left", "nonce-two", "after.json").assert_ok();
    project.run(&["verify", "after.json", "--nonce", "nonce-two"]).assert_refused("posture.check");
    project.down();
}
