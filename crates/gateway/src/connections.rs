//! Connections: accepted on a listening socket of one agent, dialled to the target of that socket, carried.
//!
//! What it is: the accept loop, the table of what is open, and its limits.
//! What it is not: a judge of payloads. Caller and target are fixed by the listening socket alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use casemate_composition::lock::AgentName;
use casemate_protocol::gateway::Target;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, spawn_local, yield_now};
use tokio::time::timeout;

use crate::carry::{Side, carry};
use crate::egress::{self, EgressError};
use crate::gateway::Gateway;

/// How long an accept loop rests after an error, which mostly is a lack of descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// After this many connections in a row, the other tasks get their turn.
const TURN_ACCEPTS_MAX: u64 = 32;
/// A refusal is logged for the first and then each so many of an agent.
const REFUSALS_PER_LOG_LINE: u64 = 1000;

/// Serves `listener`, which was born with `agent`, until aborted.
pub(crate) async fn serve(gateway: Rc<Gateway>, agent: AgentName, target: Target, listener: TcpListener) {
    let target = Rc::new(target);
    for turn in 1_u64.. {
        if turn.is_multiple_of(TURN_ACCEPTS_MAX) {
            yield_now().await;
        }
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let caller = Side::new(stream);
        // Over a limit the caller is dropped here, which resets it.
        let Some(slot) = Table::reserve(&gateway.connections, &agent, &target) else { continue };
        let id = slot.id;
        let task = spawn_local(serve_one(Rc::clone(&gateway), Rc::clone(&target), caller, slot));
        gateway.connections.borrow_mut().started(id, task.abort_handle());
    }
}

async fn serve_one(gateway: Rc<Gateway>, target: Rc<Target>, caller: Side, slot: Slot) {
    let Some(stream) = dial(&gateway, &target, &slot.caller).await else { return };
    // How it ended is known to both ends already: an error on one side reset the other.
    let _ = carry(caller, Side::new(stream)).await;
}

async fn dial(gateway: &Gateway, target: &Target, caller: &AgentName) -> Option<TcpStream> {
    match target {
        Target::Agent { agent, port } => {
            let Some(socket) = gateway.pool(agent)?.take().await else {
                gateway.log_denial(caller, &format!("{agent}:{port}"), "no socket came for its pool");
                return None;
            };
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
            let stream = timeout(gateway.limits.connect_max, socket.connect(address)).await.ok()?.ok()?;
            // With nobody listening, a source port that happens to be the target's connects to itself.
            let itself = stream.local_addr().ok()? == address;
            (!itself).then_some(stream)
        }
        Target::Host { host, port, address } => {
            let dialled = egress::dial(host, *port, *address, &gateway.limits).await;
            let log = |rule: &EgressError| {
                gateway.log_denial(caller, &format!("{host}:{port}"), &format!("{rule}"))
            };
            dialled.inspect_err(log).ok()
        }
    }
}

/// What is open.
#[derive(Debug)]
pub(crate) struct Table {
    per_agent_max: usize,
    all_max: usize,
    next: u64,
    open: BTreeMap<u64, Open>,
    callers: BTreeMap<AgentName, Caller>,
}

#[derive(Debug)]
struct Open {
    caller: AgentName,
    target: Option<AgentName>,
    task: Option<AbortHandle>,
}

#[derive(Debug, Default)]
struct Caller {
    open: usize,
    refused: u64,
}

/// A place in the table, given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    id: u64,
    caller: AgentName,
    table: Rc<RefCell<Table>>,
}

impl Table {
    pub(crate) fn new(per_agent_max: usize, all_max: usize) -> Self {
        Self { per_agent_max, all_max, next: 0, open: BTreeMap::new(), callers: BTreeMap::new() }
    }

    fn reserve(shared: &Rc<RefCell<Self>>, caller: &AgentName, target: &Target) -> Option<Slot> {
        let mut table = shared.borrow_mut();
        let full = table.open.len() >= table.all_max;
        let per_agent_max = table.per_agent_max;
        let count = table.callers.entry(caller.clone()).or_default();
        if full || count.open >= per_agent_max {
            if count.refused.is_multiple_of(REFUSALS_PER_LOG_LINE) {
                tracing::warn!(%caller, refused = count.refused + 1, "connection limit reached");
            }
            count.refused = count.refused.saturating_add(1);
            return None;
        }
        count.open += 1;
        let id = table.next;
        table.next += 1;
        let target = match target {
            Target::Agent { agent, .. } => Some(agent.clone()),
            Target::Host { .. } => None,
        };
        table.open.insert(id, Open { caller: caller.clone(), target, task: None });
        Some(Slot { id, caller: caller.clone(), table: Rc::clone(shared) })
    }

    fn started(&mut self, id: u64, task: AbortHandle) {
        if let Some(open) = self.open.get_mut(&id) {
            open.task = Some(task);
        }
    }

    /// Ends every connection that `agent` made or received.
    pub(crate) fn end_all_of(&mut self, agent: &AgentName) {
        let touches = |open: &&Open| open.caller == *agent || open.target.as_ref() == Some(agent);
        // The tasks are dropped by their runtime later, so that no slot is given back during this borrow.
        self.open.values().filter(touches).filter_map(|open| open.task.as_ref()).for_each(AbortHandle::abort);
    }

    fn release(&mut self, id: u64) {
        let Some(open) = self.open.remove(&id) else { return };
        if let Some(caller) = self.callers.get_mut(&open.caller) {
            caller.open = caller.open.saturating_sub(1);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.table.borrow_mut().release(self.id);
    }
}
