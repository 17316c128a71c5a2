//! From a lock entry to the launcher's specification, and from what is seen outside to the status of each control.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use casemate_composition::lock::{Agent, AgentName, Lock, Mount, Ulimit, UlimitValues};
use casemate_composition::network::{self, Alias};
use casemate_composition::rules::LANDLOCK_RULES;
use casemate_protocol::Refusal;
use casemate_protocol::agent_token::{Control, ControlStatus};
use casemate_protocol::gateway;
use casemate_sys::cgroup::{Group, GroupLimits};
use casemate_sys::observe::{Observed, Root};
use casemate_sys::spec::{Config, Rlimit, Spec, Tmpfs, Volume};

use crate::error::WardenError;

/// First outer id of the first agent; each agent has 65536 of its own.
const UID_FIRST: u32 = 0x4000_0000;
/// Sockets that the gateway has in stock to reach one agent with.
const POOL: u32 = 8;

/// The first outer id of an agent: by its place in the composition, so never shared in one box.
pub(crate) fn uid_base(lock: &Lock, name: &AgentName) -> u32 {
    let place = lock.agents.keys().position(|known| known == name).unwrap_or(0);
    u32::try_from(place).unwrap_or(0).saturating_mul(casemate_sys::spec::ID_RANGE).saturating_add(UID_FIRST)
}

/// The specification of one compartment.
pub(crate) fn spec(
    lock: &Lock,
    name: &AgentName,
    agent: &Agent,
    project_dir: &Path,
    seccomp: &[u8],
    weaker: &BTreeSet<Control>,
    group: &Group,
) -> Result<Spec, WardenError> {
    let aliases = network::aliases(lock, name);
    let mut spec = Spec {
        uid_base: uid_base(lock, name),
        uid: agent.user.uid,
        gid: agent.user.gid,
        groups: agent.groups.iter().copied().collect(),
        staging: project_dir.join("run").display().to_string(),
        cgroup_join: group.join_files(),
        hostname: agent.hostname.clone(),
        hosts: hosts(agent, &aliases),
        command: agent.command.clone(),
        environment: agent.environment.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        working_dir: agent.working_dir.clone(),
        rlimits: agent.limits.ulimits.iter().map(rlimit).collect(),
        oom_score_adj: agent.limits.oom_score_adj,
        shm_bytes: agent.limits.shm_bytes,
        listeners: listeners(&aliases).map(|(address, _)| address).collect(),
        resolver: 1,
        pool: POOL,
        seccomp: seccomp.to_vec(),
        weaker: weaker.iter().map(|control| control.name().to_owned()).collect(),
        ..Spec::default()
    };
    let mut writable = vec!["/dev/shm".to_owned()];
    for mount in &agent.mounts {
        match mount {
            Mount::Tmpfs { target, size_bytes, mode } => {
                writable.push(target.clone());
                spec.tmpfs.push(Tmpfs { target: target.clone(), size_bytes: *size_bytes, mode: *mode });
            }
            Mount::Volume { name, target, read_only } => {
                if !read_only {
                    writable.push(target.clone());
                }
                let source = volume_directory(project_dir, name, agent)?;
                spec.volumes.push(Volume { source, target: target.clone(), read_only: u8::from(*read_only) });
            }
            Mount::Config { target, content, uid, gid, mode } => spec.configs.push(Config {
                target: target.clone(),
                content: content.clone(),
                uid: *uid,
                gid: *gid,
                mode: *mode,
            }),
        }
    }
    spec.landlock = landlock_lines(&writable);
    Ok(spec)
}

/// A process limit with Linux's number for it.
fn rlimit((name, values): (&Ulimit, &UlimitValues)) -> Rlimit {
    let resource = match name {
        Ulimit::Cpu => 0,
        Ulimit::Fsize => 1,
        Ulimit::Data => 2,
        Ulimit::Stack => 3,
        Ulimit::Nproc => 6,
        Ulimit::Nofile => 7,
        Ulimit::Memlock => 8,
        Ulimit::Sigpending => 11,
        Ulimit::Msgqueue => 12,
    };
    let value = |value: Option<u64>| value.unwrap_or(u64::MAX);
    Rlimit { resource, soft: value(values.soft), hard: value(values.hard) }
}

/// Each listener to be born inside, in the order of the specification, with where it leads.
pub(crate) fn listeners(aliases: &[Alias]) -> impl Iterator<Item = (([u8; 4], u16), gateway::Target)> {
    aliases.iter().flat_map(|alias| {
        alias.ports.iter().map(|(port, target)| ((alias.address.octets(), *port), gateway_target(target)))
    })
}

fn gateway_target(target: &network::Target) -> gateway::Target {
    match target {
        network::Target::Agent { agent, port } => {
            gateway::Target::Agent { agent: agent.clone(), port: *port }
        }
        network::Target::Host { host, port, address } => {
            gateway::Target::Host { host: host.clone(), port: *port, address: *address }
        }
    }
}

/// The limits of an agent's control group.
pub(crate) const fn group_limits(agent: &Agent) -> GroupLimits {
    GroupLimits {
        memory_bytes: agent.limits.memory_bytes,
        pids: agent.limits.pids,
        memory_reserved_bytes: agent.limits.memory_reserved_bytes,
        cpu_milli: agent.limits.cpu_milli,
        cpu_shares: agent.limits.cpu_shares,
    }
}

fn hosts(agent: &Agent, aliases: &[Alias]) -> String {
    let mut text = format!("127.0.0.1 localhost {}\n", agent.hostname);
    for alias in aliases {
        text.push_str(&format!("{} {}\n", alias.address, alias.name));
    }
    text
}

/// The folder of a named volume. It is made for the first agent that mounts it; ids on disk are inner ids.
fn volume_directory(project_dir: &Path, name: &AgentName, agent: &Agent) -> Result<String, WardenError> {
    let parent = project_dir.join("volumes");
    let directory = parent.join(name.as_str());
    let mut builder = std::fs::DirBuilder::new();
    builder.mode(0o700).recursive(true).create(&parent).map_err(WardenError::file(&parent))?;
    if !directory.exists() {
        std::fs::create_dir(&directory).map_err(WardenError::file(&directory))?;
        std::os::unix::fs::chown(&directory, Some(agent.user.uid), Some(agent.user.gid))
            .map_err(WardenError::file(&directory))?;
    }
    Ok(directory.display().to_string())
}

fn landlock_lines(writable: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    for line in
        LANDLOCK_RULES.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match line.strip_suffix("@writable") {
            Some(access) => lines.extend(writable.iter().map(|target| format!("{access}{target}"))),
            None => lines.push(line.to_owned()),
        }
    }
    lines
}

/// Whether the root that is seen is the agent's alone or, where its lock entry says `share`, its group's alone.
/// `others` are the roots of the other agents, by the number of the file system instance.
pub(crate) fn is_root_alone(
    lock: &Lock,
    name: &AgentName,
    seen: Option<&Root>,
    others: &[(AgentName, String)],
) -> bool {
    let shares = lock.agents.get(name).is_some_and(|agent| agent.share.is_some());
    let with = lock.shares_root_with(name);
    seen.is_some_and(|root| {
        let as_the_lock_says =
            |(other, device): &(AgentName, String)| with.contains(other) == (*device == root.device);
        root.past_the_cache != shares && others.iter().all(as_the_lock_says)
    })
}

/// What is seen of an agent's control group: that it is in it, and what the kernel says the limits are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupSeen {
    limits: bool,
    cpu: bool,
}

impl GroupSeen {
    pub(crate) fn look(group: &Group, limits: GroupLimits, pid: i32) -> Self {
        let member = group.contains(pid);
        Self { limits: member && group.limits_in_force(limits), cpu: member && group.cpu_as_asked(limits) }
    }
}

/// The status of each control: as seen from outside; for Landlock and the keyring, which the kernel does not show, as
/// the measured launcher reports.
pub(crate) fn controls(
    seen: &Observed,
    root_alone: bool,
    group: GroupSeen,
    not_applied: &[String],
) -> BTreeMap<Control, ControlStatus> {
    Control::ALL
        .into_iter()
        .map(|control| {
            let in_force = match control {
                Control::UserNamespace => seen.ids_mapped,
                Control::Namespaces => seen.namespaces_own,
                Control::PrivateRoot => root_alone,
                Control::NoPrivileges => seen.unprivileged,
                Control::Seccomp => seen.filtered,
                Control::CgroupLimits => group.limits,
                Control::CgroupCpu => group.cpu,
                Control::Landlock | Control::Keyring | Control::AgentSocket => true,
            } && !not_applied.iter().any(|name| name == control.name());
            (control, if in_force { ControlStatus::Enforced } else { ControlStatus::NotEnforced })
        })
        .collect()
}

/// Refuses the first control that is not in force and may not be missing.
pub(crate) fn require(
    controls: &BTreeMap<Control, ControlStatus>,
    weaker: &BTreeSet<Control>,
) -> Result<(), WardenError> {
    match controls
        .iter()
        .find(|(control, status)| **status != ControlStatus::Enforced && !weaker.contains(control))
    {
        None => Ok(()),
        Some((control, _)) => {
            let rule = format!("control.{}", control.name());
            Err(Refusal::new(&rule, "enforced, seen from outside", "not enforced").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writable_mounts_replace_the_placeholder() {
        let lines = landlock_lines(&["/tmp".into(), "/data".into()]);
        assert!(
            lines.contains(&"all /tmp".to_owned()) && lines.contains(&"all /data".to_owned()),
            "{lines:?}"
        );
        assert!(lines.iter().all(|line| !line.contains('@') && !line.contains('#')), "{lines:?}");
    }

    #[test]
    fn each_control_follows_what_is_seen() {
        let all = Observed {
            ids_mapped: true,
            namespaces_own: true,
            root: None,
            unprivileged: true,
            filtered: true,
        };
        let group = GroupSeen { limits: true, cpu: true };
        assert!(controls(&all, true, group, &[]).values().all(|status| *status == ControlStatus::Enforced));
        let cases = [
            (Control::UserNamespace, Observed { ids_mapped: false, ..all.clone() }, group, vec![]),
            (Control::Namespaces, Observed { namespaces_own: false, ..all.clone() }, group, vec![]),
            (Control::PrivateRoot, all.clone(), group, vec![]),
            (Control::NoPrivileges, Observed { unprivileged: false, ..all.clone() }, group, vec![]),
            (Control::Seccomp, Observed { filtered: false, ..all.clone() }, group, vec![]),
            (Control::CgroupLimits, all.clone(), GroupSeen { limits: false, ..group }, vec![]),
            (Control::CgroupCpu, all.clone(), GroupSeen { cpu: false, ..group }, vec![]),
            (Control::Landlock, all.clone(), group, vec!["landlock".to_owned()]),
            (Control::Keyring, all.clone(), group, vec!["keyring".to_owned()]),
            (Control::AgentSocket, all, group, vec!["agent-socket".to_owned()]),
        ];
        assert_eq!(cases.len(), Control::ALL.len());
        for (control, seen, group, not_applied) in cases {
            let status = controls(&seen, control != Control::PrivateRoot, group, &not_applied);
            assert_eq!(status.get(&control), Some(&ControlStatus::NotEnforced), "{control:?}");
            assert_eq!(
                status.values().filter(|s| **s == ControlStatus::NotEnforced).count(),
                1,
                "{control:?}"
            );
            let refused = require(&status, &BTreeSet::new());
            assert!(matches!(refused, Err(WardenError::Refused(_))), "{control:?}");
        }
    }

    #[test]
    fn a_root_is_the_agents_alone_or_its_groups_alone() {
        let lock = lock_with_groups();
        let name = |text: &str| -> AgentName { text.parse().unwrap() };
        let root = |device: &str, past_the_cache| Root { device: device.into(), past_the_cache };
        let alone = |who: &str, seen: Option<&Root>, others: &[(&str, &str)]| {
            let others: Vec<_> =
                others.iter().map(|(who, device)| (name(who), (*device).to_owned())).collect();
            is_root_alone(&lock, &name(who), seen, &others)
        };
        let (own, common) = (root("0:1", true), root("0:1", false));
        assert!(alone("single", Some(&own), &[("a", "0:2"), ("b", "0:2")]));
        assert!(!alone("single", Some(&own), &[("a", "0:1")]), "an instance of another");
        assert!(!alone("single", Some(&common), &[]), "read through the cache");
        assert!(!alone("single", None, &[]));
        assert!(alone("a", Some(&common), &[("b", "0:1"), ("single", "0:2")]));
        assert!(!alone("a", Some(&common), &[("b", "0:2")]), "the group has two");
        assert!(!alone("a", Some(&common), &[("single", "0:1")]), "somebody outside the group");
        assert!(!alone("a", Some(&common), &[("other-image", "0:1")]), "another image in the group");
        assert!(!alone("a", Some(&own), &[]), "not what the lock says");
    }

    /// `a` and `b` share, `other-image` is in their group, `single` is in none.
    fn lock_with_groups() -> Lock {
        use casemate_composition::{ImageFacts, compose};
        let text = "name: t\nservices:\n  a: &a\n    image: i:1\n    x-casemate: { share: g, trust: t }\n  b: *a\n  other-image:\n    <<: *a\n    image: i:2\n  single:\n    image: i:1\n";
        let facts = |tag: &str| ImageFacts {
            pin: casemate_composition::lock::ImagePin {
                manifest: casemate_canon::Sha256::of(tag.as_bytes()),
                config: casemate_canon::Sha256::of(b"config"),
                rootfs: casemate_canon::Sha256::of(tag.as_bytes()),
            },
            entrypoint: vec!["/entry".into()],
            command: Vec::new(),
            environment: BTreeMap::new(),
            working_dir: "/".into(),
            user: casemate_composition::lock::User { uid: 0, gid: 0 },
        };
        let images = ["i:1", "i:2"].map(|tag| (tag.to_owned(), facts(tag))).into();
        compose::parse("c.yaml", text, &BTreeMap::new()).unwrap().resolve(&images).unwrap()
    }

    #[test]
    fn the_agent_socket_is_where_agents_are_told() {
        assert_eq!(
            casemate_sys::compartment::inside::AGENT_SOCKET,
            casemate_protocol::agent_api::AGENT_SOCKET_PATH
        );
    }
}
