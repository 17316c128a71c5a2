//! What the composition lets two agents have in common and the battery does not try.
//!
//! What it is: edges and volumes, read from the lock. What it is not: something that was seen. The probe's compartments have neither: behind
//! an edge and in a volume is the agent itself, and an attack there would be one on it. So they are told for each pair, and never left
//! out in silence. Who trusts it: who reads a matrix in which nothing leaks.

use std::collections::BTreeMap;
use std::fmt;

use casemate_composition::lock::{Agent, AgentName, Lock, Mount};
use casemate_composition::network::Target;
use serde::Serialize;

/// One channel between the two that the file declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Declared {
    /// A TCP edge.
    Edge {
        /// Who may connect.
        from: AgentName,
        /// To whom.
        to: AgentName,
        /// To which port.
        port: u16,
    },
    /// An edge between Unix sockets.
    Socket {
        /// Who may connect.
        from: AgentName,
        /// To whom.
        to: AgentName,
        /// To which socket.
        path: String,
    },
    /// A volume that both mount.
    Volume {
        /// Its name.
        name: AgentName,
        /// Who may write to it.
        writers: Vec<AgentName>,
    },
    /// The box's disk, on which each has a volume of its own: its free room, and the time that it takes.
    Disk,
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edge { from, to, port } => write!(f, "TCP edge {from} -> {to}:{port}"),
            Self::Socket { from, to, path } => write!(f, "socket edge {from} -> {to}:{path}"),
            Self::Volume { name, writers } if writers.is_empty() => {
                write!(f, "volume {name}, which neither may write to")
            }
            Self::Volume { name, writers } => {
                let writers: Vec<&str> = writers.iter().map(AgentName::as_str).collect();
                write!(f, "volume {name}, which {} may write to", writers.join(" and "))
            }
            Self::Disk => f.write_str("the box's disk: each has a volume on it (free room, time of fsync)"),
        }
    }
}

/// All of them between two agents: edges both ways, then volumes, then the disk.
pub(crate) fn between(lock: &Lock, one: &AgentName, other: &AgentName) -> Vec<Declared> {
    let mut all = Vec::new();
    for (from, to) in [(one, other), (other, one)] {
        let edges = lock.agents.get(from).into_iter().flat_map(|agent| &agent.edges);
        for edge in edges {
            let reaches = match Target::of_edge(lock, edge) {
                Target::Agent { agent, .. } => agent == *to,
                Target::Service { replicas, .. } => replicas.contains(to),
                Target::Host { .. } => false,
            };
            if reaches {
                all.push(Declared::Edge { from: from.clone(), to: to.clone(), port: edge.port });
            }
        }
    }
    for (from, to) in [(one, other), (other, one)] {
        let sockets = lock.agents.get(from).into_iter().flat_map(|agent| &agent.socket_edges);
        all.extend(sockets.filter(|edge| edge.to == *to).map(|edge| Declared::Socket {
            from: from.clone(),
            to: to.clone(),
            path: edge.path.to_string(),
        }));
    }
    let (own, theirs) = (volumes(lock, one), volumes(lock, other));
    for (name, writes) in &own {
        let Some(they_write) = theirs.get(name) else { continue };
        let writers = [(one, *writes), (other, *they_write)].into_iter().filter(|(_, writes)| *writes);
        let writers = writers.map(|(agent, _)| agent.clone()).collect();
        all.push(Declared::Volume { name: (*name).clone(), writers });
    }
    if both_on_disk(lock, one, other) {
        all.push(Declared::Disk);
    }
    all
}

/// Whether both have volumes, and so the box's disk in common.
pub(crate) fn both_on_disk(lock: &Lock, one: &AgentName, other: &AgentName) -> bool {
    [one, other].into_iter().all(|name| !volumes(lock, name).is_empty())
}

/// An agent's volumes, and whether it may write to each.
fn volumes<'a>(lock: &'a Lock, name: &AgentName) -> BTreeMap<&'a AgentName, bool> {
    let mounts = lock.agents.get(name).into_iter().flat_map(|agent: &Agent| &agent.mounts);
    let mut all = BTreeMap::new();
    for mount in mounts {
        if let Mount::Volume { name, read_only, .. } = mount {
            let writes = all.entry(name).or_insert(false);
            *writes = *writes || !read_only;
        }
    }
    all
}
