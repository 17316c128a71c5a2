//! Edges as they stand: what is declared, what was changed while the box runs, and what passed.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use casemate_composition::lock::{AgentName, Lock, TrafficLimits};
use casemate_composition::network;
use serde::{Deserialize, Serialize};

use crate::gateway::Target;

/// Who calls over an edge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Origin {
    /// An agent.
    Agent(AgentName),
    /// Whoever connects to this address of the box (`ports`).
    Port(SocketAddr),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(agent) => write!(f, "{agent}"),
            Self::Port(address) => write!(f, "{address} of the box"),
        }
    }
}

/// How an edge stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeState {
    /// As the composition declares it.
    Declared,
    /// Closed while the box runs.
    Denied,
    /// Opened while the box runs; the composition does not declare it.
    Added,
}

/// One edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeStatus {
    /// Who calls.
    pub from: Origin,
    /// Who is called.
    pub target: Target,
    /// How it stands.
    pub state: EdgeState,
    /// Its limits.
    pub limits: Option<TrafficLimits>,
    /// What passed since the box started; none where it does not run.
    pub traffic: Option<Traffic>,
}

/// What passed over one edge since the box started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// Open connections.
    pub open: u32,
    /// Connections ever.
    pub connections: u64,
    /// Bytes, both ways together.
    pub bytes: u64,
    /// Connections that were refused or ended by a rule.
    pub refused: u64,
    /// The rule that did it last.
    pub last_refusal: Option<String>,
}

/// What passed, by edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeTraffic {
    /// Who calls.
    pub from: Origin,
    /// Who is called, as [`Target`]'s text.
    pub to: String,
    /// What passed.
    pub traffic: Traffic,
}

/// Whom `agent` may call as the lock declares it.
#[must_use]
pub fn declared_targets(lock: &Lock, agent: &AgentName) -> BTreeSet<Target> {
    let aliases = network::aliases(lock, agent);
    let ports = aliases.iter().flat_map(|alias| alias.ports.values()).map(Target::from);
    let sockets = lock.agents.get(agent).into_iter().flat_map(|agent| &agent.socket_edges).map(Target::from);
    ports.chain(sockets).collect()
}

/// All edges that the lock declares, by agent: calls first, then ports of the box.
#[must_use]
pub fn declared(lock: &Lock) -> Vec<EdgeStatus> {
    let mut edges = Vec::new();
    let edge =
        |from, target, limits| EdgeStatus { from, target, state: EdgeState::Declared, limits, traffic: None };
    for (name, agent) in &lock.agents {
        edges.extend(declared_targets(lock, name).into_iter().map(|target| {
            let limits = agent.traffic.get(&target.to_string()).copied();
            edge(Origin::Agent(name.clone()), target, limits)
        }));
        edges.extend(agent.ports.iter().map(|port| {
            let target = Target::Agent { agent: name.clone(), port: port.target };
            edge(Origin::Port(SocketAddr::new(port.address, port.port)), target, None)
        }));
    }
    edges
}
