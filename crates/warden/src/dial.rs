//! Connections to agents' Unix sockets, which the gateway asks for and cannot make: it has no right inside any agent.
//!
//! What it is: the check that the composition offers the socket, and the connection by the backend, off the thread that
//! everything else lives on. What it is not: a judge of who calls; the gateway knows whose listener it was.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use casemate_composition::lock::AgentName;
use casemate_composition::sockets::SocketPath;
use casemate_protocol::gateway::{Dialled, ToGateway};
use casemate_sys::unix_edge::DialError;

use crate::agent::blocking;
use crate::world::World;

/// Most connections that are being made. An agent whose disk does not answer can hold up as many as the gateway makes to
/// one agent, not all.
const DIALS_MAX: usize = 256;

/// Answers the gateway's question with this number, now or from a task of its own.
pub(crate) async fn answer(world: &Rc<World>, id: u64, agent: &AgentName, path: SocketPath) {
    // Counted by its holders; one is the world's own.
    if Rc::strong_count(&world.dials) > DIALS_MAX {
        return say(world, id, Err(DialError::Full)).await;
    }
    let (world, agent, turn) = (Rc::clone(world), agent.clone(), Rc::clone(&world.dials));
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
