//! What the gateway takes, seen before it is sent: it ends where the warden sends more, and the box with it.
//!
//! What it is: the sums over what the composition declares and what was added by hand, against the gateway's bounds.
//! What it is not: a bound of its own. The numbers are the protocol's.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use casemate_composition::lock::{AgentName, Lock};
use casemate_composition::network;
use casemate_protocol::Refusal;
use casemate_protocol::gateway::{EDGES_MAX, LISTENERS_MAX, NAMES_MAX, PACKET_BYTES_MAX, ToGateway};

/// Tasks of an agent's resolver, which count as listeners.
const RESOLVER_LISTENERS: usize = 2;

/// Refuses a composition of which the gateway would not take all.
pub(crate) fn require_for(lock: &Lock) -> Result<(), Refusal> {
    for agent in lock.agents.keys() {
        let aliases = network::aliases(lock, agent).into_iter();
        let names = aliases.map(|alias| (alias.name, alias.address)).collect();
        require(agent, &names, listeners(lock, agent))?;
    }
    require_edges(declared(lock))
}

/// Sockets that listen for an agent, as its lock entry says.
pub(crate) fn listeners(lock: &Lock, agent: &AgentName) -> usize {
    let ports = lock.agents.get(agent).map_or(0, |agent| agent.ports.len());
    let sockets = lock.agents.get(agent).map_or(0, |agent| agent.socket_edges.len());
    let count = network::listeners(&network::aliases(lock, agent)).count();
    count.saturating_add(ports).saturating_add(sockets)
}

/// Edges of all agents, at most.
pub(crate) fn declared(lock: &Lock) -> usize {
    lock.agents.keys().map(|agent| listeners(lock, agent)).fold(0, usize::saturating_add)
}

/// Refuses more names or sockets of one agent than the gateway takes.
pub(crate) fn require(
    agent: &AgentName,
    names: &BTreeMap<String, Ipv4Addr>,
    listeners: usize,
) -> Result<(), Refusal> {
    let refuse = |what: &str, most: usize, found: usize| {
        Err(Refusal::new("edge.count", format!("at most {most} {what} of {agent}"), found))
    };
    let most = LISTENERS_MAX.saturating_sub(RESOLVER_LISTENERS);
    if listeners > most {
        return refuse("edges and ports", most, listeners);
    }
    if names.len() > NAMES_MAX {
        return refuse("names that it may call", NAMES_MAX, names.len());
    }
    let message = ToGateway::Resolver { agent: agent.clone(), names: names.clone() };
    let bytes = serde_json::to_vec(&message).map_or(usize::MAX, |bytes| bytes.len());
    if bytes > PACKET_BYTES_MAX {
        return refuse("bytes of names that it may call", PACKET_BYTES_MAX, bytes);
    }
    Ok(())
}

/// Refuses more edges of all agents than the gateway remembers.
pub(crate) fn require_edges(all: usize) -> Result<(), Refusal> {
    if all > EDGES_MAX {
        return Err(Refusal::new("edge.count", format!("at most {EDGES_MAX} edges of all agents"), all));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize, length: usize) -> BTreeMap<String, Ipv4Addr> {
        (0..count).map(|number| (format!("{number:0length$}"), Ipv4Addr::new(127, 127, 255, 255))).collect()
    }

    #[test]
    fn as_much_as_the_gateway_takes_is_let_through_and_no_more() {
        let agent: AgentName = "a".parse().unwrap();
        assert_eq!(require(&agent, &names(NAMES_MAX, 4), 1022), Ok(()));
        assert!(require(&agent, &names(NAMES_MAX, 4), 1023).is_err(), "sockets");
        assert!(require(&agent, &names(NAMES_MAX + 1, 4), 1).is_err(), "names");
        assert_eq!(require(&agent, &names(200, 253), 1), Ok(()));
        assert!(require(&agent, &names(256, 253), 1).is_err(), "bytes");
        assert_eq!(require_edges(EDGES_MAX), Ok(()));
        assert!(require_edges(EDGES_MAX + 1).is_err());
    }
}
