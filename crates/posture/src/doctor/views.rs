//! Groups 25 and 27 as far as they look at agents: what an agent sees of the kernel, and what listens in its namespace.

use std::collections::BTreeSet;

use super::agents::first_of;
use super::facts::Facts;
use super::{Check, Heading, Look, Seen, Vantage, Verdict, says};
use crate::agents::{self, AgentFacts};
use crate::kernel_text::Mount;
use crate::tree::{Tree, Unread};

/// The checks of these groups.
pub(crate) fn checks() -> Vec<Check> {
    CHECKS.to_vec()
}

const CHECKS: [Check; 4] = [
    each!(
        "D25.proc",
        Look::Each(proc_view),
        Heading::LocalSurface,
        "what `/proc` shows an agent",
        "/proc/PID/mountinfo",
        "hidepid=invisible,subset=pid on each mount of proc",
        "counters of the box are channels between agents",
        "see the control `proc` of `casemate ps --controls`; agents in a gVisor sandbox see a proc of its own kernel",
        says::PASS_FAIL_NONE
    ),
    each!(
        "D25.sys",
        Look::Each(kernel_views),
        Heading::LocalSurface,
        "kernel file systems in an agent's view",
        "/proc/PID/mountinfo",
        "no sysfs, debugfs, tracefs, securityfs, bpf, cgroup, devtmpfs",
        "counters and switches of the box",
        "remove the mount from the Compose file",
        says::PASS_FAIL_NONE
    ),
    each!(
        "D27.tcp",
        Look::Each(listening),
        Heading::LocalSurface,
        "TCP sockets that listen in an agent's namespace",
        "/proc/PID/net/{tcp,tcp6}",
        "ports of its own and of its edges alone",
        "a service that nobody declared waits for whoever reaches the namespace",
        "declare it with `expose`, or make the program not listen",
        says::PASS_WARN_NONE
    ),
    each!(
        "D27.unix",
        Look::Each(abstract_sockets),
        Heading::LocalSurface,
        "abstract sockets in an agent's namespace",
        "/proc/PID/net/unix",
        "none",
        "names without files pass by all file permissions; within one namespace alone",
        "make the program use a socket in a file",
        says::PASS_WARN_NONE
    ),
];

fn proc_view(facts: &Facts<'_>, agent: &AgentFacts) -> Seen {
    of_mounts(facts, agent, |mounts| {
        let procs: Vec<_> = mounts.iter().filter(|mount| mount.kind == "proc").collect();
        let is_narrow = |mount: &&Mount| {
            mount.has_option("subset=pid")
                && (mount.has_option("hidepid=invisible") || mount.has_option("hidepid=2"))
        };
        match (procs.iter().all(is_narrow), procs.first()) {
            (_, None) => Seen::new(Verdict::Pass, "no proc at all"),
            (true, Some(mount)) => Seen::new(Verdict::Pass, format!("mounted with {}", mount.options)),
            (false, Some(mount)) => Seen::new(Verdict::Fail, format!("mounted with {}", mount.options)),
        }
    })
}

fn kernel_views(facts: &Facts<'_>, agent: &AgentFacts) -> Seen {
    of_mounts(facts, agent, |mounts| {
        let is_one = |kind: &str| {
            matches!(
                kind,
                "sysfs"
                    | "debugfs"
                    | "tracefs"
                    | "securityfs"
                    | "bpf"
                    | "cgroup"
                    | "cgroup2"
                    | "devtmpfs"
                    | "configfs"
                    | "pstore"
                    | "efivarfs"
            )
        };
        let found: Vec<&str> = mounts.iter().map(|m| m.kind.as_str()).filter(|kind| is_one(kind)).collect();
        if found.is_empty() {
            Seen::new(Verdict::Pass, format!("{} mounts, none of them", mounts.len()))
        } else {
            Seen::new(Verdict::Fail, found.join(", "))
        }
    })
}

fn of_mounts(facts: &Facts<'_>, agent: &AgentFacts, look: fn(&[Mount]) -> Seen) -> Seen {
    match agent.first().and_then(|pid| agents::mounts(facts.tree, &pid.to_string())) {
        Ok(mounts) => look(&mounts),
        Err(why) => Seen::unread("mountinfo", &why),
    }
}

/// Local ports that listen: state 0A of `/proc/net/tcp` (Documentation/networking/proc_net_tcp.rst).
fn listening_ports(tree: &Tree, path: &str) -> Result<BTreeSet<u16>, Unread> {
    let text = tree.text(path)?;
    if !text.trim_start().starts_with("sl ") {
        return Err(Unread::NotText);
    }
    let mut ports = BTreeSet::new();
    for line in text.lines().skip(1) {
        let mut words = line.split_whitespace().skip(1);
        let (Some(local), Some(_), Some(state)) = (words.next(), words.next(), words.next()) else {
            return Err(Unread::NotText);
        };
        if state == "0A" {
            let port = local.rsplit(':').next().and_then(|hex| u16::from_str_radix(hex, 16).ok());
            ports.insert(port.ok_or(Unread::NotText)?);
        }
    }
    Ok(ports)
}

fn listening(facts: &Facts<'_>, agent: &AgentFacts) -> Seen {
    let pid = match agent.first() {
        Ok(pid) => pid,
        Err(why) => return Seen::unread("agent", &why),
    };
    let mut found = BTreeSet::new();
    for file in ["tcp", "tcp6"] {
        match listening_ports(facts.tree, &format!("/proc/{pid}/net/{file}")) {
            Ok(ports) => found.extend(ports),
            // Without IPv6 in the kernel there is no such file.
            Err(Unread::Absent) if file == "tcp6" => {}
            Err(why) => return Seen::unread(file, &why),
        }
    }
    let list = |ports: &BTreeSet<u16>| ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" ");
    let other: BTreeSet<u16> = found.difference(&agent.ports).copied().collect();
    if other.is_empty() {
        Seen::new(Verdict::Pass, if found.is_empty() { "none".to_owned() } else { list(&found) })
    } else {
        Seen::new(Verdict::Warn, format!("not declared: {}", list(&other)))
    }
}

fn abstract_sockets(facts: &Facts<'_>, agent: &AgentFacts) -> Seen {
    let text = match agent.first().and_then(|pid| facts.tree.text(&format!("/proc/{pid}/net/unix"))) {
        Ok(text) => text,
        Err(why) => return Seen::unread("net/unix", &why),
    };
    if !text.starts_with("Num ") {
        return Seen::unknown("net/unix: not understood");
    }
    let names: BTreeSet<&str> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(7))
        .filter(|name| name.starts_with('@'))
        .collect();
    if names.is_empty() {
        Seen::new(Verdict::Pass, "none")
    } else {
        Seen::new(Verdict::Warn, first_of(&names.into_iter().collect::<Vec<_>>()))
    }
}
