//! Loopback aliases: which address, inside an agent's network namespace, stands for which name it may call.
//!
//! Derived from the lock alone, so launcher, gateway and whoever checks them come to the same addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::lock::{AgentName, Edge, Lock};

/// First address of 127.64.0.0/10, from which aliases are taken: 127.64.0.1 is the first alias.
pub const ALIAS_NETWORK: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 0);
/// Most aliases of one agent: the size of 127.64.0.0/10 without its first and last address.
pub const ALIASES_MAX: u32 = (1 << 22) - 2;

/// First address for names that are added while the box runs, above all that a lock gives: it has far fewer names.
pub const ADDED_ALIASES: Ipv4Addr = Ipv4Addr::new(127, 127, 0, 0);
/// Most edges that are added to one agent, and so most such names.
pub const ADDED_ALIASES_MAX: u32 = 128;

/// A name that an agent may call, and its address in that agent's network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// Agent name or host name.
    pub name: String,
    /// Address inside the compartment.
    pub address: Ipv4Addr,
    /// The ports to listen on, and where each leads.
    pub ports: BTreeMap<u16, Target>,
}

/// Where a connection to an alias leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Another agent's port.
    Agent {
        /// Which agent.
        agent: AgentName,
        /// Its port.
        port: u16,
    },
    /// A port of any replica of a service.
    Service {
        /// Which service.
        service: AgentName,
        /// Its replicas, in the order of their numbers.
        replicas: Vec<AgentName>,
        /// Their port.
        port: u16,
    },
    /// An outside endpoint.
    Host {
        /// Host name.
        host: String,
        /// Port.
        port: u16,
        /// Address that the lock names for it; none means the gateway resolves the name.
        address: Option<IpAddr>,
    },
}

impl Target {
    /// Where an edge leads: to the agent of that name, or to the replicas of that service.
    #[must_use]
    pub fn of_edge(lock: &Lock, edge: &Edge) -> Self {
        let (to, port) = (edge.to.clone(), edge.port);
        let replicas = lock.replicas(&to);
        if replicas.is_empty() {
            Self::Agent { agent: to, port }
        } else {
            Self::Service { service: to, replicas, port }
        }
    }
}

/// Each listener that is born in an agent's network: its address and port, and where it leads.
pub fn listeners(aliases: &[Alias]) -> impl Iterator<Item = (([u8; 4], u16), &Target)> {
    let of = |alias: &Alias| alias.address.octets();
    aliases
        .iter()
        .flat_map(move |alias| alias.ports.iter().map(move |(port, target)| ((of(alias), *port), target)))
}

/// The aliases of `agent`, in the order of their names; none for an agent that is not in the lock.
#[must_use]
pub fn aliases(lock: &Lock, agent: &AgentName) -> Vec<Alias> {
    let Some(agent) = lock.agents.get(agent) else { return Vec::new() };
    let mut names: BTreeMap<String, BTreeMap<u16, Target>> = BTreeMap::new();
    for egress in &agent.egress {
        let target = Target::Host { host: egress.host.clone(), port: egress.port, address: egress.address };
        names.entry(egress.host.clone()).or_default().insert(egress.port, target);
    }
    // Later, so that in a lock where a host has an agent's name, the name means the agent.
    for edge in &agent.edges {
        let target = Target::of_edge(lock, edge);
        let further = agent.names.iter().filter(|(_, to)| **to == edge.to).map(|(name, _)| name);
        for name in std::iter::once(&edge.to).chain(further) {
            names.entry(name.to_string()).or_default().insert(edge.port, target.clone());
        }
    }
    (1..=ALIASES_MAX)
        .zip(names)
        .map(|(number, (name, ports))| {
            let address = Ipv4Addr::from_bits(ALIAS_NETWORK.to_bits() | number);
            Alias { name, address, ports }
        })
        .collect()
}
