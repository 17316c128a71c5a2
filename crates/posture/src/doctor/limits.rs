//! Group 26: control groups.

use super::facts::Facts;
use super::{Check, Heading, Look, Seen, Vantage, Verdict, says};
use crate::agents::AgentFacts;
use crate::tree::Unread;

const MOUNT: &str = "/sys/fs/cgroup";
/// Controllers that limits of agents need.
const CONTROLLERS: [&str; 4] = ["cpu", "io", "memory", "pids"];
/// What version 1 writes for a limit that is none is close to 2^63, rounded to pages.
const NO_LIMIT_MIN: u64 = 1 << 62;

/// The checks of this group.
pub(crate) fn checks() -> Vec<Check> {
    CHECKS.to_vec()
}

/// A limit of each agent.
macro_rules! limit {
    ($id:literal, $what:literal, $place:literal, $expected:literal, $attack:literal, $verdicts:expr, $look:expr) => {
        Check {
            id: $id,
            heading: Heading::Separation,
            vantage: Vantage::GuestObserved,
            what: $what,
            place: $place,
            expected: $expected,
            attack: $attack,
            fix: "set the limit of the agent in the Compose file",
            verdicts: $verdicts,
            look: Look::Each($look),
        }
    };
}

const CHECKS: [Check; 7] = [
    Check {
        id: "D26.hierarchy",
        heading: Heading::Separation,
        vantage: Vantage::GuestObserved,
        what: "hierarchy of control groups",
        place: "/sys/fs/cgroup/cgroup.controllers",
        expected: "version 2 alone",
        attack: "limits of version 1 stand each for themselves: a process can be outside of one of them",
        fix: "boot with `systemd.unified_cgroup_hierarchy=1`, or mount cgroup2 at /sys/fs/cgroup",
        verdicts: says::PASS_WARN,
        look: Look::Machine(hierarchy),
    },
    Check {
        id: "D26.controllers",
        heading: Heading::Separation,
        vantage: Vantage::GuestObserved,
        what: "controllers in use below the root",
        place: "/sys/fs/cgroup/cgroup.subtree_control",
        expected: "cpu, io, memory, pids",
        attack: "what no controller limits, an agent can take all of",
        fix: "write `+cpu +io +memory +pids` to /sys/fs/cgroup/cgroup.subtree_control",
        verdicts: says::PASS_WARN,
        look: Look::Machine(controllers),
    },
    limit!(
        "D26.pids",
        "limit of processes",
        "pids.max of its group",
        "a number",
        "fork bomb",
        says::PASS_FAIL_NONE,
        |facts, agent| limit(facts, agent, "pids", "pids.max", "pids.max")
    ),
    limit!(
        "D26.memory",
        "limit of memory",
        "memory.max of its group",
        "a number",
        "one agent takes all memory, and others are killed",
        says::PASS_FAIL_NONE,
        |facts, agent| limit(facts, agent, "memory", "memory.max", "memory.limit_in_bytes")
    ),
    limit!(
        "D26.swap",
        "swap of an agent",
        "memory.swap.max of its group; /proc/swaps",
        "0, or no swap in the box",
        "memory of an agent is written to a disk of the host",
        says::PASS_FAIL_NONE,
        swap
    ),
    limit!(
        "D26.cpu",
        "limit of CPU time",
        "cpu.max of its group",
        "a quota",
        "one agent takes all cores",
        says::PASS_WARN_NONE,
        cpu
    ),
    limit!(
        "D26.io",
        "limit of disk traffic",
        "io.max of its group",
        "a limit",
        "one agent keeps the disk busy for all",
        says::PASS_WARN_NONE,
        io
    ),
];

fn hierarchy(facts: &Facts<'_>) -> Seen {
    let names = match facts.tree.list(MOUNT) {
        Err(why) => return Seen::unread(MOUNT, &why),
        Ok(names) => names,
    };
    if names.iter().any(|name| name == "cgroup.controllers") {
        return match facts.tree.line(&format!("{MOUNT}/cgroup.controllers")) {
            Ok(line) if line.split(' ').any(|name| name == "memory") => Seen::new(Verdict::Pass, "version 2"),
            Ok(line) => Seen::unknown(format!("no memory controller: {line}")),
            Err(why) => Seen::unread("cgroup.controllers", &why),
        };
    }
    let is_v1 = |name: &String| matches!(name.as_str(), "memory" | "pids" | "cpu" | "unified");
    if names.iter().any(is_v1) {
        return Seen::new(Verdict::Warn, "version 1, or both");
    }
    Seen::unknown(format!("{MOUNT}: no hierarchy that is known here"))
}

fn controllers(facts: &Facts<'_>) -> Seen {
    const FILE: &str = "/sys/fs/cgroup/cgroup.subtree_control";
    match facts.tree.line(FILE) {
        Err(why) => Seen::unread(FILE, &why),
        Ok(line) => {
            let has = |wanted: &&&str| line.split(' ').any(|name| name == **wanted);
            let all = CONTROLLERS.iter().filter(has).count() == CONTROLLERS.len();
            Seen::new(if all { Verdict::Pass } else { Verdict::Warn }, line)
        }
    }
}

/// The folder of an agent's group, and whether it is of version 2.
fn folder(facts: &Facts<'_>, agent: &AgentFacts, controller: &str) -> Result<(String, bool), Unread> {
    let pid = agent.first()?;
    let text = facts.tree.text(&format!("/proc/{pid}/cgroup"))?;
    // `NUMBER:CONTROLLERS:PATH`; version 2 is `0::PATH` (cgroups(7)).
    let mut lines = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        rest.split_once(':')
    });
    let of_v1 = lines.clone().find(|(names, _)| names.split(',').any(|name| name == controller));
    if let Some((_, path)) = of_v1 {
        return Ok((format!("{MOUNT}/{controller}{path}"), false));
    }
    match lines.find(|(names, _)| names.is_empty()) {
        Some((_, path)) => Ok((format!("{MOUNT}{path}"), true)),
        None => Err(Unread::Failed("in no group".into())),
    }
}

fn limit(facts: &Facts<'_>, agent: &AgentFacts, controller: &str, v2: &str, v1: &str) -> Seen {
    let value = folder(facts, agent, controller)
        .and_then(|(folder, is_v2)| facts.tree.line(&format!("{folder}/{}", if is_v2 { v2 } else { v1 })));
    match value.as_deref() {
        Err(why) => Seen::unread(v2, why),
        Ok("max") => Seen::new(Verdict::Fail, "none"),
        Ok(text) => match text.parse::<u64>() {
            Ok(NO_LIMIT_MIN..) => Seen::new(Verdict::Fail, "none"),
            Ok(value) => Seen::new(Verdict::Pass, value.to_string()),
            Err(_) => Seen::unknown(format!("{v2}: not a number")),
        },
    }
}

fn swap(facts: &Facts<'_>, agent: &AgentFacts) -> Seen {
    let own = folder(facts, agent, "memory").and_then(|(folder, is_v2)| {
        if is_v2 { facts.tree.line(&format!("{folder}/memory.swap.max")) } else { Err(Unread::Absent) }
    });
    match own.as_deref() {
        Ok("0") => return Seen::new(Verdict::Pass, "0"),
        Ok(other) if other != "max" && other.parse::<u64>().is_err() => {
            return Seen::unknown("memory.swap.max: not a number");
        }
        _ => {}
    }
    match facts.tree.text("/proc/swaps") {
        Ok(text) if text.starts_with("Filename") && text.lines().count() == 1 => {
            Seen::new(Verdict::Pass, "the box has no swap")
        }
        Ok(text) if text.starts_with("Filename") => Seen::new(Verdict::Fail, "it may use swap of the box"),
        Ok(_) => Seen::unknown("/proc/swaps: not understood"),
        Err(why) => Seen::unread("/proc/swaps", &why),
    }
}

fn cpu(facts: &Facts<'_>, agent: &AgentFacts) -> Seen {
    let value = folder(facts, agent, "cpu").and_then(|(folder, is_v2)| {
        facts.tree.line(&format!("{folder}/{}", if is_v2 { "cpu.max" } else { "cpu.cfs_quota_us" }))
    });
    match value {
        Err(why) => Seen::unread("cpu.max", &why),
        Ok(text) => {
            let quota = text.split(' ').next().unwrap_or_default();
            match (quota, quota.parse::<u64>()) {
                ("max" | "-1", _) => Seen::new(Verdict::Warn, "none"),
                (_, Ok(_)) => Seen::new(Verdict::Pass, text),
                _ => Seen::unknown("cpu.max: not understood"),
            }
        }
    }
}

fn io(facts: &Facts<'_>, agent: &AgentFacts) -> Seen {
    let value = folder(facts, agent, "io").and_then(|(folder, is_v2)| {
        if is_v2 { facts.tree.text(&format!("{folder}/io.max")) } else { Err(Unread::Absent) }
    });
    match value {
        Err(why) => Seen::unread("io.max", &why),
        Ok(text) if text.trim().is_empty() => Seen::new(Verdict::Warn, "none"),
        Ok(text) if text.lines().all(|line| line.contains("bps=") && line.contains(':')) => {
            Seen::new(Verdict::Pass, text.trim().replace('\n', "; "))
        }
        Ok(_) => Seen::unknown("io.max: not understood"),
    }
}
