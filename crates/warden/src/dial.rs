//! Connections to agents' Unix sockets, which the gateway asks for and cannot make: it has no right inside any agent.
//!
//! What it is: the check that the composition offers the socket, and the connection by the backend, off the thread that
//! everything else lives on. What it is not: a judge of who calls; the gateway knows whose listener it was.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use casemate_composition::lock::AgentName;
use casemate_composition::sockets::SocketPath;
use casemate_protocol::gateway::{Dialled, ToGateway};
use casemate_sys::unix_edge::DialError;

use crate::agent::blocking;
use crate::world::World;

/// Most connections to one agent that are being made: as many as the gateway asks for at a time. Each counts until its thread
/// is back, so an agent whose disk does not answer holds up its own callers, and as many threads.
const DIALS_PER_AGENT_MAX: usize = 8;

/// Likewise, to all agents: half of the threads that the warden has for what blocks.
const DIALS_MAX: usize = 256;

/// Connections that are being made, by who is called.
#[derive(Debug, Default)]
pub(crate) struct Dials(RefCell<BTreeMap<AgentName, usize>>);

impl Dials {
    /// One more to `agent`, until the turn is dropped; none where there are as many as may be.
    fn turn(self: &Rc<Self>, agent: &AgentName) -> Option<Turn> {
        let mut all = self.0.borrow_mut();
        if all.values().sum::<usize>() >= DIALS_MAX {
            return None;
        }
        let count = all.entry(agent.clone()).or_default();
        *count = count.checked_add(1).filter(|count| *count <= DIALS_PER_AGENT_MAX)?;
        Some(Turn { of: Rc::clone(self), agent: agent.clone() })
    }
}

struct Turn {
    of: Rc<Dials>,
    agent: AgentName,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut all = self.of.0.borrow_mut();
        if let Some(count) = all.get_mut(&self.agent) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                all.remove(&self.agent);
            }
        }
    }
}

/// Answers the gateway's question with this number, now or from a task of its own.
pub(crate) async fn answer(world: &Rc<World>, id: u64, agent: &AgentName, path: SocketPath) {
    let Some(turn) = world.dials.turn(agent) else {
        return say(world, id, Err(DialError::Full)).await;
    };
    let (world, agent) = (Rc::clone(world), agent.clone());
    tokio::task::spawn_local(async move {
        let outcome = dial(&world, &agent, path).await;
        drop(turn);
        say(&world, id, outcome).await;
    });
}

async fn dial(world: &World, name: &AgentName, path: SocketPath) -> Result<OwnedFd, DialError> {
    const GONE: DialError = DialError::System(rustix::io::Errno::SRCH);
    let (agent, record) = world.agent(name).ok_or(GONE)?;
    if !agent.sockets.contains(&path) {
        tracing::error!(agent = %name, %path, "the gateway asks for a socket that the composition does not offer");
        return Err(DialError::NotASocket(rustix::io::Errno::ACCESS));
    }
    let compartment = record.running.borrow().as_ref().map(|running| Arc::clone(&running.compartment));
    let compartment = compartment.ok_or(GONE)?;
    let backend = casemate_compartment::backend(agent.backend);
    let at = path.clone();
    let outcome = blocking(move || backend.dial(&compartment, &at)).await.unwrap_or(Err(GONE));
    if let Err(error @ DialError::NotTheAgents { .. }) = &outcome {
        tracing::warn!(agent = %name, %path, "{error}");
    }
    outcome
}

async fn say(world: &World, id: u64, outcome: Result<OwnedFd, DialError>) {
    let (outcome, descriptor) = match outcome {
        Ok(descriptor) => (Dialled::Connected, Some(descriptor)),
        Err(DialError::Full) => (Dialled::Full, None),
        Err(_) => (Dialled::Refused, None),
    };
    let message = ToGateway::Dialled { id, outcome };
    if let Err(error) = world.gateway.send(&message, descriptor.as_slice()).await {
        tracing::warn!("answer the gateway: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_hang_in_one_agent_leave_turns_to_the_others() {
        let (dials, slow, other) =
            (Rc::new(Dials::default()), "slow".parse().unwrap(), "other".parse().unwrap());
        let hang: Vec<Turn> = (0..DIALS_PER_AGENT_MAX).map(|_| dials.turn(&slow).unwrap()).collect();
        assert!(dials.turn(&slow).is_none());
        assert!(dials.turn(&other).is_some());
        drop(hang);
        assert!(dials.turn(&slow).is_some());
        assert!(dials.0.borrow().is_empty());
        let names = (0..DIALS_MAX).map(|number| format!("a{number}").parse().unwrap());
        let all: Vec<Turn> = names.map(|name| dials.turn(&name).unwrap()).collect();
        assert!(dials.turn(&other).is_none());
        drop(all);
    }
}
