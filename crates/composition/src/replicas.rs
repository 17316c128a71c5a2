//! Replicas: several agents that run one service, each with a name, a compartment and evidence of its own.
//!
//! What it is: how they are named, and who they are in a lock. What it is not: a way to start one more while a box runs.
//! A composition is bound when its box is launched, and the number of replicas is part of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::lock::{AgentName, Lock};
use crate::lock_file::LockError;

/// Most replicas of one service.
pub const REPLICAS_MAX: u32 = 100;

/// The agents of a service that `count` of them run: its own name where it is alone, `NAME-1` and so on where it is not.
/// A name that would be too long is left out.
#[must_use]
pub fn names_of(service: &AgentName, count: u32) -> Vec<AgentName> {
    if count == 1 {
        return vec![service.clone()];
    }
    (1..=count).filter_map(|number| replica(service, number)).collect()
}

/// The name of one of several replicas; none where it would be longer than a name may be.
#[must_use]
pub fn replica(service: &AgentName, number: u32) -> Option<AgentName> {
    format!("{service}-{number}").parse().ok()
}

impl Lock {
    /// The replicas of a service, in the order of their numbers; none where the service has no replicas.
    #[must_use]
    pub fn replicas(&self, service: &AgentName) -> Vec<AgentName> {
        let is_one = |number: &u32| {
            let agent = replica(service, *number).and_then(|name| self.agents.get(&name));
            agent.is_some_and(|agent| agent.replica_of.as_ref() == Some(service))
        };
        (1..=REPLICAS_MAX).take_while(is_one).filter_map(|number| replica(service, number)).collect()
    }

    /// Whom a name means: the agent that has it, or all replicas of that service. Nobody where it is neither.
    #[must_use]
    pub fn meant_by(&self, name: &AgentName) -> Vec<AgentName> {
        if self.agents.contains_key(name) { vec![name.clone()] } else { self.replicas(name) }
    }

    /// Each service with replicas.
    #[must_use]
    pub fn replicated(&self) -> BTreeSet<&AgentName> {
        self.agents.values().filter_map(|agent| agent.replica_of.as_ref()).collect()
    }

    /// A name means one agent, or all replicas of one service: an edge to it leads nowhere else.
    pub(crate) fn require_numbered_replicas(&self) -> Result<(), LockError> {
        let mut counts: BTreeMap<&AgentName, usize> = BTreeMap::new();
        for service in self.agents.values().filter_map(|agent| agent.replica_of.as_ref()) {
            let count = counts.entry(service).or_default();
            *count = count.saturating_add(1);
        }
        for (service, count) in counts {
            let refused = |found: String| Err(LockError::Replicas { service: service.clone(), found });
            if self.agents.contains_key(service) {
                return refused("an agent has that name".to_owned());
            }
            let numbered = self.replicas(service).len();
            if count < 2 || numbered != count {
                return refused(format!("{numbered} of {count} replicas are numbered from 1"));
            }
        }
        Ok(())
    }
}
