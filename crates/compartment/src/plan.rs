//! From a lock entry to the launcher's specification.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use casemate_composition::lock::{Agent, AgentName, Lock, Memory, Mount, Ulimit, UlimitValues};
use casemate_composition::network::{self, Alias};
use casemate_composition::rules::LANDLOCK_RULES;
use casemate_composition::sockets;
use casemate_protocol::agent_token::Control;
use casemate_sys::cgroup::disk::{Disk, DiskLimits};
use casemate_sys::cgroup::{CgroupError, Group, GroupLimits};
use casemate_sys::spec::{Config, Rlimit, Spec, Tmpfs, Volume};

use crate::{Cores, Programs};

/// First outer id of the first agent; each agent has 65536 of its own.
const UID_FIRST: u32 = 0x4000_0000;
/// Sockets that the gateway has in stock to reach one agent with.
const POOL: u32 = 8;

/// The first outer id of an agent: by its place in the composition, so never shared in one box.
#[must_use]
pub fn uid_base(lock: &Lock, name: &AgentName) -> u32 {
    let place = lock.agents.keys().position(|known| known == name).unwrap_or(0);
    u32::try_from(place).unwrap_or(0).saturating_mul(casemate_sys::spec::ID_RANGE).saturating_add(UID_FIRST)
}

/// What is asked for: one agent of a lock, in one box.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The whole composition.
    pub lock: &'a Lock,
    /// The agent's name.
    pub name: &'a AgentName,
    /// Its entry in the lock.
    pub agent: &'a Agent,
    /// The project's folder.
    pub project_dir: &'a Path,
    /// The folder of the images.
    pub images: &'a Path,
    /// The launcher's program.
    pub launcher: &'a Path,
    /// Where agents run.
    pub cores: &'a Cores,
    /// The folders of the agent's volumes; ids on disk are inner ids.
    pub volumes: &'a BTreeMap<AgentName, PathBuf>,
    /// Compiled system call filter.
    pub seccomp: &'a [u8],
    /// Programs that backends need besides.
    pub programs: &'a Programs,
    /// Controls that may be missing.
    pub weaker: &'a BTreeSet<Control>,
    /// The box's name among control groups.
    pub box_name: &'a str,
    /// Whether the compartment is the agent's own.
    pub tenant: Tenant<'a>,
}

/// Whose compartment is built.
#[derive(Debug, Clone, Copy)]
pub enum Tenant<'a> {
    /// The agent's.
    Agent,
    /// One beside it that is like the agent's in all but its program: the box's probe, which is this file.
    Probe(&'a [u8]),
}

/// Where the probe's program is inside.
pub const PROBE_PATH: &str = "/run/casemate/probe";

impl Plan<'_> {
    /// The name of its control group. No agent has one with this sign.
    pub(crate) fn group_name(&self) -> String {
        match self.tenant {
            Tenant::Agent => self.name.to_string(),
            Tenant::Probe(_) => format!("{}~probe", self.name),
        }
    }

    /// The first id outside: of a probe, one beyond those of all agents.
    fn uid_base(&self) -> u32 {
        let own = uid_base(self.lock, self.name);
        match self.tenant {
            Tenant::Agent => own,
            Tenant::Probe(_) => {
                let agents = u32::try_from(self.lock.agents.len()).unwrap_or(u32::MAX);
                own.saturating_add(agents.saturating_mul(casemate_sys::spec::ID_RANGE))
            }
        }
    }
}

/// The launcher's specification of one compartment.
pub(crate) fn spec(plan: &Plan<'_>, group: &Group) -> Spec {
    let Plan { lock, name, agent, project_dir, .. } = *plan;
    let aliases = network::aliases(lock, name);
    let mut spec = Spec {
        uid_base: plan.uid_base(),
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
        listeners: network::listeners(&aliases).map(|(address, _)| address).collect(),
        socket_paths: sockets::listeners(agent).map(|(path, _)| path).collect(),
        resolver: 1,
        pool: POOL,
        seccomp: plan.seccomp.to_vec(),
        deny_write_execute: u8::from(agent.memory == Some(Memory::DenyWriteExecute)),
        weaker: plan.weaker.iter().map(|control| control.name().to_owned()).collect(),
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
                let source = plan.volumes.get(name).map(|folder| folder.display().to_string());
                let source = source.unwrap_or_default();
                spec.volumes.push(Volume { source, target: target.clone(), read_only: u8::from(*read_only) });
            }
            Mount::Config { target, content, uid, gid, mode } => spec.configs.push(Config {
                target: target.clone(),
                content: content.clone().into_bytes(),
                uid: *uid,
                gid: *gid,
                mode: *mode,
            }),
        }
    }
    if let Tenant::Probe(program) = plan.tenant {
        spec.configs.push(Config {
            target: PROBE_PATH.to_owned(),
            content: program.to_vec(),
            uid: 0,
            gid: 0,
            mode: 0o555,
        });
    }
    spec.landlock = landlock_lines(&writable);
    spec
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

/// What the agent may read and write, and on which disks: those of its volumes, and those of the box's state and images.
///
/// # Errors
/// [`CgroupError`] where one of them is on no disk.
pub(crate) fn disks(plan: &Plan<'_>) -> Result<Option<(Vec<Disk>, DiskLimits)>, CgroupError> {
    let Some(limits) = plan.agent.limits.disk else { return Ok(None) };
    let folders = plan.volumes.values().map(PathBuf::as_path).chain([plan.project_dir, plan.images]);
    let all: BTreeSet<Disk> = folders.map(Disk::of).collect::<Result<_, _>>()?;
    let limits = DiskLimits {
        read_bytes: limits.read_bytes,
        write_bytes: limits.write_bytes,
        read_operations: limits.read_operations,
        write_operations: limits.write_operations,
    };
    Ok(Some((all.into_iter().collect(), limits)))
}

/// Whether the kernel shows the limits that [`disks`] gives, where there are any.
pub(crate) fn disks_in_force(plan: &Plan<'_>, group: &Group) -> bool {
    match disks(plan) {
        Ok(None) => true,
        Ok(Some((disks, limits))) => group.disks_in_force(&disks, limits),
        Err(_) => false,
    }
}

fn hosts(agent: &Agent, aliases: &[Alias]) -> String {
    let mut text = format!("127.0.0.1 localhost {}\n", agent.hostname);
    for alias in aliases {
        text.push_str(&format!("{} {}\n", alias.address, alias.name));
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_like_its_agent_and_has_ids_and_a_group_that_no_agent_has() {
        let bytes = include_bytes!("../../../docs/vectors/research-desk/compose.lock");
        let lock = Lock::from_json(bytes).unwrap();
        let (cores, programs) = (Cores::place(&lock, &BTreeSet::new()), Programs::default());
        let (volumes, weaker) = (BTreeMap::new(), BTreeSet::new());
        let plan = |name, tenant| Plan {
            lock: &lock,
            name,
            agent: &lock.agents[name],
            project_dir: Path::new("/p"),
            images: Path::new("/i"),
            launcher: Path::new("/l"),
            cores: &cores,
            volumes: &volumes,
            seccomp: &[],
            programs: &programs,
            weaker: &weaker,
            box_name: "b",
            tenant,
        };
        let mut bases = BTreeSet::new();
        for name in lock.agents.keys() {
            let (own, probe) = (plan(name, Tenant::Agent), plan(name, Tenant::Probe(b"program")));
            assert!(bases.insert(own.uid_base()) && bases.insert(probe.uid_base()));
            assert!(probe.group_name().parse::<AgentName>().is_err());
            assert_eq!(own.group_name(), name.as_str());
        }
    }

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
    fn the_agent_socket_is_where_agents_are_told() {
        assert_eq!(
            casemate_sys::compartment::inside::AGENT_SOCKET,
            casemate_protocol::agent_api::AGENT_SOCKET_PATH
        );
    }
}
