//! What a composition would change of another one, agent by agent: which measurements, who gains or loses what, what is
//! shared with whom, and what it costs. For a person who decides before `up`, and for scripts.
//!
//! What it is not: a decision, and not what a policy says of it. The gateway, the broker and the verifier decide.

mod text;

use std::collections::{BTreeMap, BTreeSet};

use casemate_canon::{CanonicalError, Sha256, Sha384};
use serde::Serialize;
use serde_json::Value;

use crate::explain::{Change, diff};
use crate::lock::{Agent, AgentName, Lock, Mount};
use crate::sockets::SocketPath;

/// Memory that an idle agent takes because it shares no page of its image with another: measured, see
/// `docs/performance.md`, "Memory of an agent that shares no pages".
pub const UNSHARED_PAGES_BYTES: u64 = 5 << 20;

/// What one composition changes of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Whether anything differs.
    pub changed: bool,
    /// Composition digest before; none where there is nothing before.
    pub old: Option<Sha384>,
    /// Composition digest after.
    pub new: Sha384,
    /// What differs of what is global.
    pub changes: Vec<Change>,
    /// Every agent of both.
    pub agents: BTreeMap<AgentName, AgentPlan>,
    /// Volumes that more than one agent mounts, after: who, and whether it writes.
    pub shared_volumes: BTreeMap<AgentName, BTreeMap<AgentName, Writes>>,
    /// Agents that see through the page cache what the others read of their image (`share`), after.
    pub shared_roots: Vec<SharedRoot>,
    /// What it takes, after.
    pub cost: Cost,
}

/// Agents that have one mount of one root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SharedRoot {
    /// Their group.
    pub group: AgentName,
    /// Digest of the root file system.
    pub rootfs: Sha256,
    /// Who they are: more than one.
    pub agents: BTreeSet<AgentName>,
}

/// Whether an agent may write to a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Writes {
    /// It reads.
    No,
    /// It reads and writes.
    Yes,
}

/// What becomes of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AgentPlan {
    /// In one word.
    pub fate: Fate,
    /// Measurement before.
    pub old: Option<Sha384>,
    /// Measurement after.
    pub new: Option<Sha384>,
    /// Fields that differ, where the agent is in both.
    pub changes: Vec<Change>,
    /// What it may do after, and might not before.
    pub gains: BTreeSet<Access>,
    /// What it might do before, and may not after.
    pub loses: BTreeSet<Access>,
    /// Limits that differ, where the agent is in both.
    pub limits: Vec<LimitChange>,
}

/// What becomes of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It was not there.
    New,
    /// It is not there any more.
    Gone,
    /// Its measurement changes.
    Changes,
    /// Its measurement stays.
    Stays,
}

/// Something that an agent may do to others or with what is not its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Access {
    /// Open connections to a port of another agent.
    Call {
        /// The other agent.
        to: AgentName,
        /// Its port.
        port: u16,
    },
    /// Open connections to a Unix socket of another agent.
    CallSocket {
        /// The other agent.
        to: AgentName,
        /// Its socket.
        path: SocketPath,
    },
    /// Open connections to an outside endpoint.
    Egress {
        /// The host's name.
        host: String,
        /// Port.
        port: u16,
        /// Address that stands for the name; none means the gateway resolves it.
        address: Option<std::net::IpAddr>,
    },
    /// Receive a secret.
    Secret {
        /// Resource path at the broker.
        resource: String,
    },
    /// Mount a volume.
    Volume {
        /// Its name.
        name: AgentName,
        /// Whether it may write.
        writes: Writes,
    },
    /// Learn through the page cache what others of a group read of their common image, and be seen likewise.
    Pages {
        /// The group.
        group: AgentName,
    },
    /// Be called by whoever reaches a port of the box.
    Port {
        /// Address of the box.
        address: std::net::IpAddr,
        /// Port of the box.
        port: u16,
        /// Its own port.
        target: u16,
    },
}

/// One limit that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LimitChange {
    /// Field below `limits`.
    pub field: String,
    /// Before; none means unlimited.
    pub old: Option<u64>,
    /// After; none means unlimited.
    pub new: Option<u64>,
}

impl LimitChange {
    /// Whether the agent gets more.
    #[must_use]
    pub fn is_more(&self) -> bool {
        match (self.old, self.new) {
            (Some(old), Some(new)) => new > old,
            (old, _) => old.is_some(),
        }
    }
}

/// What a composition takes. Volumes without a size are not in its sums: they have no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Most memory that each agent can take, its tmpfs included.
    pub memory_bytes: BTreeMap<AgentName, u64>,
    /// Sum of these.
    pub memory_bytes_sum: u64,
    /// Memory because agents share no pages, while all are idle: [`UNSHARED_PAGES_BYTES`] for each, and once for those
    /// that share.
    pub unshared_pages_bytes: u64,
    /// Each root file system, once on disk whoever uses it.
    pub images: BTreeMap<String, ImageCost>,
    /// Size of each volume that is mounted, set aside on disk; none means no limit.
    pub volumes: BTreeMap<AgentName, Option<u64>>,
}

/// What one root file system takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageCost {
    /// Its size; none where it is not known.
    pub bytes: Option<u64>,
    /// Who uses it.
    pub agents: BTreeSet<AgentName>,
}

impl Plan {
    /// What `new` changes of `old`, where there is an old one. `rootfs_bytes` has the sizes of root file systems by
    /// digest, as far as they are known.
    ///
    /// # Errors
    /// [`CanonicalError`] where a number is 2^53 or more.
    pub fn new(
        old: Option<&Lock>,
        new: &Lock,
        rootfs_bytes: &BTreeMap<Sha256, u64>,
    ) -> Result<Self, CanonicalError> {
        let (mut global, mut of_agents) = (Vec::new(), BTreeMap::<AgentName, Vec<Change>>::new());
        for change in old.map(|old| diff(old, new)).unwrap_or_default() {
            match &change.agent {
                None => global.push(change),
                Some(name) => of_agents.entry(name.clone()).or_default().push(change),
            }
        }
        let before = |name: &AgentName| old.and_then(|old| old.agents.get(name));
        let names: BTreeSet<&AgentName> =
            old.into_iter().flat_map(|old| old.agents.keys()).chain(new.agents.keys()).collect();
        let agents = names
            .into_iter()
            .map(|name| {
                let changes = of_agents.remove(name).unwrap_or_default();
                Ok((name.clone(), AgentPlan::new(before(name), new.agents.get(name), changes)?))
            })
            .collect::<Result<_, CanonicalError>>()?;
        let old = old.map(Lock::digest).transpose()?;
        let digest = new.digest()?;
        let shared_roots = shared_roots(new);
        Ok(Self {
            changed: old != Some(digest),
            old,
            new: digest,
            changes: global,
            agents,
            shared_volumes: shared_volumes(new),
            cost: Cost::of(new, rootfs_bytes, &shared_roots),
            shared_roots,
        })
    }
}

impl AgentPlan {
    fn new(old: Option<&Agent>, new: Option<&Agent>, changes: Vec<Change>) -> Result<Self, CanonicalError> {
        let (before, after) = (old.map(accesses).unwrap_or_default(), new.map(accesses).unwrap_or_default());
        let both = old.zip(new);
        let (old, new) = (old.map(Agent::measurement).transpose()?, new.map(Agent::measurement).transpose()?);
        Ok(Self {
            fate: match (old, new) {
                (None, _) => Fate::New,
                (_, None) => Fate::Gone,
                (old, new) if old == new => Fate::Stays,
                _ => Fate::Changes,
            },
            old,
            new,
            changes: if both.is_some() { changes } else { Vec::new() },
            gains: after.difference(&before).cloned().collect(),
            loses: before.difference(&after).cloned().collect(),
            limits: both.map(|(old, new)| limit_changes(old, new)).unwrap_or_default(),
        })
    }
}

fn accesses(agent: &Agent) -> BTreeSet<Access> {
    let calls = agent.edges.iter().map(|edge| Access::Call { to: edge.to.clone(), port: edge.port });
    let sockets = agent
        .socket_edges
        .iter()
        .map(|edge| Access::CallSocket { to: edge.to.clone(), path: edge.path.clone() });
    let egress = agent.egress.iter().map(|egress| Access::Egress {
        host: egress.host.clone(),
        port: egress.port,
        address: egress.address,
    });
    let secrets = agent.secrets.iter().map(|secret| Access::Secret { resource: secret.resource.clone() });
    let volumes = volumes(agent).map(|(name, writes)| Access::Volume { name: name.clone(), writes });
    let pages = agent.share.iter().map(|group| Access::Pages { group: group.clone() });
    let ports = agent.ports.iter().map(|port| Access::Port {
        address: port.address,
        port: port.port,
        target: port.target,
    });
    calls.chain(sockets).chain(egress).chain(secrets).chain(volumes).chain(pages).chain(ports).collect()
}

fn volumes(agent: &Agent) -> impl Iterator<Item = (&AgentName, Writes)> {
    agent.mounts.iter().filter_map(|mount| match mount {
        Mount::Volume { name, read_only, .. } => {
            Some((name, if *read_only { Writes::No } else { Writes::Yes }))
        }
        _ => None,
    })
}

/// Limits that are numbers, or null for none.
fn limit_changes(old: &Agent, new: &Agent) -> Vec<LimitChange> {
    let members = |agent: &Agent| match serde_json::to_value(&agent.limits) {
        Ok(Value::Object(members)) => members,
        _ => serde_json::Map::new(),
    };
    let (old, new) = (members(old), members(new));
    let number = |value: &Value| value.is_null() || value.is_u64();
    new.iter()
        .filter_map(|(field, after)| Some((field, old.get(field)?, after)))
        .filter(|(_, before, after)| before != after && number(before) && number(after))
        .map(|(field, before, after)| LimitChange {
            field: field.clone(),
            old: before.as_u64(),
            new: after.as_u64(),
        })
        .collect()
}

fn shared_volumes(lock: &Lock) -> BTreeMap<AgentName, BTreeMap<AgentName, Writes>> {
    let mut all = BTreeMap::<AgentName, BTreeMap<AgentName, Writes>>::new();
    for (agent, (volume, writes)) in
        lock.agents.iter().flat_map(|(name, agent)| volumes(agent).map(move |volume| (name, volume)))
    {
        let access = all.entry(volume.clone()).or_default().entry(agent.clone()).or_insert(writes);
        *access = (*access).max(writes);
    }
    all.retain(|_, agents| agents.len() > 1);
    all
}

fn shared_roots(lock: &Lock) -> Vec<SharedRoot> {
    let mut all = BTreeMap::<(&AgentName, Sha256), BTreeSet<AgentName>>::new();
    for (name, agent) in &lock.agents {
        let Some(group) = &agent.share else { continue };
        all.entry((group, agent.image.rootfs)).or_default().insert(name.clone());
    }
    all.retain(|_, agents| agents.len() > 1);
    let shared = all.into_iter();
    shared.map(|((group, rootfs), agents)| SharedRoot { group: group.clone(), rootfs, agents }).collect()
}

impl Cost {
    fn of(lock: &Lock, rootfs_bytes: &BTreeMap<Sha256, u64>, shared: &[SharedRoot]) -> Self {
        let memory_bytes: BTreeMap<AgentName, u64> =
            lock.agents.iter().map(|(name, agent)| (name.clone(), agent.limits.memory_bytes)).collect();
        let mut images = BTreeMap::<String, ImageCost>::new();
        for (name, agent) in &lock.agents {
            let rootfs = &agent.image.rootfs;
            let new = || ImageCost { bytes: rootfs_bytes.get(rootfs).copied(), agents: BTreeSet::new() };
            images.entry(rootfs.to_string()).or_insert_with(new).agents.insert(name.clone());
        }
        // Those that share have one set of pages together.
        let saved: usize = shared.iter().map(|root| root.agents.len().saturating_sub(1)).sum();
        let count = u64::try_from(lock.agents.len().saturating_sub(saved)).unwrap_or(u64::MAX);
        Self {
            memory_bytes_sum: memory_bytes.values().fold(0, |sum, bytes| sum.saturating_add(*bytes)),
            memory_bytes,
            unshared_pages_bytes: UNSHARED_PAGES_BYTES.saturating_mul(count),
            images,
            volumes: lock
                .agents
                .values()
                .flat_map(volumes)
                .map(|(name, _)| (name.clone(), lock.volumes.get(name).and_then(|volume| volume.size_bytes)))
                .collect(),
        }
    }
}
