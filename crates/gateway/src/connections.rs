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
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, spawn_local, yield_now};
use tokio::time::timeout;

use crate::carry::{Ended, Side, carry};
use crate::dials;
use crate::edges::{Caller, Edge, Passage, Rule};
use crate::egress::{self, EgressError};
use crate::gateway::Gateway;
use crate::pools::Pool;
use crate::streams::{Listener, Stream};

/// How long an accept loop rests after an error, which mostly is a lack of descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// After this many connections in a row, the other tasks get their turn.
const TURN_ACCEPTS_MAX: u64 = 32;

/// Serves `listener`, at which `edge` begins, until aborted.
pub(crate) async fn serve(gateway: Rc<Gateway>, edge: Rc<Edge>, listener: Listener) {
    for turn in 1_u64.. {
        if turn.is_multiple_of(TURN_ACCEPTS_MAX) {
            yield_now().await;
        }
        let Ok(stream) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let caller = Side::new(stream);
        // Where a rule refuses it the caller is dropped here, which resets it.
        let slot = match Table::reserve(&gateway.connections, &edge) {
            Ok(slot) => slot,
            Err(rule) => {
                gateway.refuse(&edge, rule);
                continue;
            }
        };
        let id = slot.id;
        let task = spawn_local(serve_one(Rc::clone(&gateway), caller, slot));
        gateway.connections.borrow_mut().started(id, task.abort_handle());
    }
}

async fn serve_one(gateway: Rc<Gateway>, caller: Side, slot: Slot) {
    let edge = &slot.passage.edge;
    let stream = match dial(&gateway, &slot).await {
        Ok(stream) => stream,
        Err(rule) => return gateway.refuse(edge, rule),
    };
    // How it ended is known to both ends already: an error on one side reset the other.
    if let Err(Ended::ByRule(rule)) = carry(caller, Side::new(stream), edge, &gateway.buffers).await {
        gateway.refuse(edge, rule);
    }
}

async fn dial(gateway: &Gateway, slot: &Slot) -> Result<Stream, Rule> {
    let edge = &slot.passage.edge;
    let stream = match &edge.target {
        Target::Socket { agent, path } => {
            return dials::dial(gateway, edge.caller.agent(), agent, path).await.map(Stream::Unix);
        }
        Target::Agent { agent, port } => {
            let pool = gateway.pool(agent).ok_or(Rule::Capacity)?;
            dial_agent(gateway, &pool, *port).await
        }
        Target::Service { replicas, port, .. } => dial_one_of(gateway, slot, replicas, *port).await,
        Target::Host { host, port, address } => {
            let dialled = egress::dial(host, *port, *address, &gateway.limits).await;
            dialled.map_err(|error| match error {
                EgressError::AddressRefused { .. } | EgressError::Own { .. } => Rule::Address,
                EgressError::Unresolved => Rule::Resolves,
                EgressError::Unreachable => Rule::Answers,
            })
        }
    };
    stream.map(Stream::Tcp)
}

async fn dial_agent(gateway: &Gateway, pool: &Pool, port: u16) -> Result<TcpStream, Rule> {
    // No socket in time: the agent does not run.
    let socket = pool.take().await.ok_or(Rule::Answers)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let connected = timeout(gateway.limits.connect_max, socket.connect(address)).await;
    let stream = connected.map_err(|_| Rule::Answers)?.map_err(|_| Rule::Answers)?;
    // With nobody listening, a source port that happens to be the target's connects to itself.
    let itself = stream.local_addr().is_ok_and(|local| local == address);
    if itself { Err(Rule::Answers) } else { Ok(stream) }
}

/// Each connection begins with the replica after the one that the last began with. Who does not run, or has nobody
/// listening, is passed over.
async fn dial_one_of(
    gateway: &Gateway,
    slot: &Slot,
    replicas: &[AgentName],
    port: u16,
) -> Result<TcpStream, Rule> {
    let first = slot.passage.edge.next_turn(replicas.len());
    let in_turn = replicas.iter().cycle().skip(first).take(replicas.len());
    for agent in in_turn {
        let Some(pool) = gateway.pool_of_running(agent) else { continue };
        // From now on the end of this agent is the end of the connection.
        slot.leads_to(agent);
        if let Ok(stream) = dial_agent(gateway, &pool, port).await {
            return Ok(stream);
        }
    }
    Err(Rule::Answers)
}

/// What is open.
#[derive(Debug)]
pub(crate) struct Table {
    per_agent_max: usize,
    all_max: usize,
    next: u64,
    open: BTreeMap<u64, Open>,
    callers: BTreeMap<Caller, usize>,
}

#[derive(Debug)]
struct Open {
    edge: Rc<Edge>,
    /// Of the replicas of a service, the one that is called.
    replica: Option<AgentName>,
    task: Option<AbortHandle>,
}

/// A place in the table and on its edge, given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    id: u64,
    passage: Passage,
    table: Rc<RefCell<Table>>,
}

impl Slot {
    fn leads_to(&self, agent: &AgentName) {
        if let Some(open) = self.table.borrow_mut().open.get_mut(&self.id) {
            open.replica = Some(agent.clone());
        }
    }
}

impl Table {
    pub(crate) fn new(per_agent_max: usize, all_max: usize) -> Self {
        Self { per_agent_max, all_max, next: 0, open: BTreeMap::new(), callers: BTreeMap::new() }
    }

    fn reserve(shared: &Rc<RefCell<Self>>, edge: &Rc<Edge>) -> Result<Slot, Rule> {
        let mut table = shared.borrow_mut();
        let full = table.open.len() >= table.all_max;
        let per_agent_max = table.per_agent_max;
        let open = table.callers.entry(edge.caller.clone()).or_default();
        if full || *open >= per_agent_max {
            return Err(Rule::Capacity);
        }
        let passage = edge.admit()?;
        *open += 1;
        let id = table.next;
        table.next += 1;
        table.open.insert(id, Open { edge: Rc::clone(edge), replica: None, task: None });
        Ok(Slot { id, passage, table: Rc::clone(shared) })
    }

    fn started(&mut self, id: u64, task: AbortHandle) {
        if let Some(open) = self.open.get_mut(&id) {
            open.task = Some(task);
        }
    }

    /// Ends every connection that `agent` made or received.
    pub(crate) fn end_all_of(&mut self, agent: &AgentName) {
        let is_called = |target: &Target| match target {
            Target::Agent { agent: to, .. } | Target::Socket { agent: to, .. } => to == agent,
            Target::Service { .. } | Target::Host { .. } => false,
        };
        self.end(|open| {
            let edge = &open.edge;
            edge.caller.agent() == agent || is_called(&edge.target) || open.replica.as_ref() == Some(agent)
        });
    }

    /// Ends every connection of `edge`.
    pub(crate) fn end_all_on(&mut self, edge: &Rc<Edge>) {
        self.end(|open| Rc::ptr_eq(&open.edge, edge));
    }

    fn end(&mut self, ends: impl Fn(&Open) -> bool) {
        // The tasks are dropped by their runtime later, so that no slot is given back during this borrow.
        let open = self.open.values().filter(|open| ends(open));
        open.filter_map(|open| open.task.as_ref()).for_each(AbortHandle::abort);
    }

    fn release(&mut self, id: u64) {
        let Some(open) = self.open.remove(&id) else { return };
        if let Some(count) = self.callers.get_mut(&open.edge.caller) {
            *count = count.saturating_sub(1);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.table.borrow_mut().release(self.id);
    }
}
