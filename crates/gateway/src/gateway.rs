//! The gateway itself: what belongs to which agent, and the loop that takes the warden's orders.
//!
//! What it is: one thread, one runtime, a task for each listening socket and connection. Everything that an
//! agent owns hangs off its entry and ends with `Forget`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use casemate_composition::lock::AgentName;
use casemate_protocol::gateway::{FromGateway, Verdict};
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, LocalSet, spawn_local};

use crate::buffers::Buffers;
use crate::connections::{self, Table};
use crate::control::{Control, Order};
use crate::denials::Denials;
use crate::dials::{self, Dials};
use crate::edges::{Edge, Edges, Rule};
use crate::error::GatewayError;
use crate::limits::Limits;
use crate::pools::Pool;
use crate::resolver::Resolver;
use crate::streams::Listener;

/// Messages to the warden that may wait. Past this they are dropped; requests are repeated.
const OUTBOX_MESSAGES_MAX: usize = 256;
/// Threads for name lookups, which block.
const LOOKUP_THREADS_MAX: usize = 16;

/// Serves until the warden closes its end of `control`.
///
/// # Errors
/// [`GatewayError`]: the warden broke the protocol, or the machine refused something.
pub fn serve(control: OwnedFd, limits: Limits) -> Result<(), GatewayError> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(LOOKUP_THREADS_MAX)
        .build()
        .map_err(GatewayError::system("start the runtime"))?;
    let outcome = LocalSet::new().block_on(&runtime, run(control, limits));
    // A lookup that hangs must not keep the process.
    runtime.shutdown_background();
    outcome
}

/// What belongs to whom.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) limits: Limits,
    pub(crate) connections: Rc<RefCell<Table>>,
    pub(crate) buffers: Buffers,
    pub(crate) dials: Dials,
    edges: Edges,
    agents: RefCell<BTreeMap<AgentName, Agent>>,
    outbox: mpsc::Sender<FromGateway>,
}

#[derive(Debug)]
struct Agent {
    /// Accept loops and resolvers.
    tasks: Vec<AbortHandle>,
    resolver: Option<Rc<Resolver>>,
    pool: Rc<Pool>,
    /// Of the connections to its Unix sockets that are being made.
    turns: Arc<Semaphore>,
    calling: Arc<Semaphore>,
    /// Bounds the log lines that its connections cause.
    denials: Denials,
}

async fn run(control: OwnedFd, limits: Limits) -> Result<(), GatewayError> {
    let control = Rc::new(Control::new(control)?);
    let (outbox, mut waiting) = mpsc::channel(OUTBOX_MESSAGES_MAX);
    let gateway = Rc::new(Gateway::new(limits, outbox));
    let sender = Rc::clone(&control);
    spawn_local(async move {
        while let Some(message) = waiting.recv().await {
            if sender.send(&message).await.is_err() {
                // The warden is gone; the receiving side sees that too and ends.
                return;
            }
        }
    });
    let _ = gateway.outbox.try_send(FromGateway::Ready);
    while let Some(order) = control.receive().await? {
        gateway.obey(order)?;
    }
    Ok(())
}

impl Gateway {
    fn new(limits: Limits, outbox: mpsc::Sender<FromGateway>) -> Self {
        let table = Table::new(limits.connections_per_agent_max, limits.connections_max);
        Self {
            limits,
            connections: Rc::new(RefCell::new(table)),
            buffers: Buffers::default(),
            dials: Dials::default(),
            edges: Edges::default(),
            agents: RefCell::default(),
            outbox,
        }
    }

    /// The pool of `agent`; none where there are too many agents.
    pub(crate) fn pool(&self, agent: &AgentName) -> Option<Rc<Pool>> {
        self.with_agent(agent, |entry| Rc::clone(&entry.pool)).ok()
    }

    /// The pool of `agent` where sockets have come for it: it runs.
    pub(crate) fn pool_of_running(&self, agent: &AgentName) -> Option<Rc<Pool>> {
        let agents = self.agents.borrow();
        agents.get(agent).map(|entry| &entry.pool).filter(|pool| pool.was_filled()).map(Rc::clone)
    }

    /// The turns of those that connect to Unix sockets of `agent`; none where there are too many agents.
    pub(crate) fn turns(&self, agent: &AgentName) -> Option<Arc<Semaphore>> {
        self.with_agent(agent, |entry| Arc::clone(&entry.turns)).ok()
    }

    /// The turns of `agent` itself, whichever Unix sockets it calls.
    pub(crate) fn calling(&self, agent: &AgentName) -> Option<Arc<Semaphore>> {
        self.with_agent(agent, |entry| Arc::clone(&entry.calling)).ok()
    }

    /// Sends the warden a message that somebody waits for.
    pub(crate) async fn tell(&self, message: FromGateway) -> Option<()> {
        self.outbox.send(message).await.ok()
    }

    /// Counts that `rule` refused or ended a connection of `edge`; logs it and tells the warden, within bounds.
    pub(crate) fn refuse(&self, edge: &Edge, rule: Rule) {
        edge.refuse(rule);
        let (agent, from, to) = (edge.caller.agent(), &edge.from, edge.target.to_string());
        let now = Instant::now();
        let about = format!("{from} {to} {}", rule.name());
        if self.with_agent(agent, |entry| entry.denials.report(&about, now)).unwrap_or(false) {
            tracing::warn!(%from, to, "connection refused or ended by rule {}", rule.name());
            let (agent, rule) = (agent.clone(), rule.name().to_owned());
            // A full outbox means that the warden is behind: the count of the edge stands.
            let _ = self.outbox.try_send(FromGateway::EdgeDenied { agent, to, rule });
        }
    }

    fn obey(self: &Rc<Self>, order: Order) -> Result<(), GatewayError> {
        match order {
            Order::Listen { agent, target, limits, listener } => {
                let edge = self.edges.of_agent(&agent, target, limits)?;
                self.serve(&agent, edge, listener)
            }
            Order::Publish { agent, port, listener } => {
                let address = listener.local_addr().map_err(GatewayError::system("name a listener"))?;
                let edge = self.edges.of_port(address, &agent, port)?;
                self.serve(&agent, edge, Listener::Tcp(listener))
            }
            Order::Judge { agent, target, verdict } => {
                let edge = self.edges.judge(&agent, target, verdict)?;
                if verdict == Verdict::Denied {
                    self.connections.borrow_mut().end_all_on(&edge);
                }
                Ok(())
            }
            Order::Resolver { agent, names, udp, tcp } => {
                self.reserve_task(&agent, 2)?;
                self.require_few(&names)?;
                let resolver =
                    Rc::new(Resolver::new(agent.clone(), names, self.outbox.clone(), &self.limits));
                let udp = spawn_local(Rc::clone(&resolver).serve_udp(udp));
                self.keep_task(&agent, udp.abort_handle())?;
                self.with_agent(&agent, |entry| entry.resolver = Some(Rc::clone(&resolver)))?;
                self.keep_task(&agent, spawn_local(resolver.serve_tcp(tcp)).abort_handle())
            }
            Order::Names { agent, names } => {
                self.require_few(&names)?;
                let resolver = self.with_agent(&agent, |entry| entry.resolver.clone())?;
                // An agent that ended meanwhile has none.
                if let Some(resolver) = resolver {
                    resolver.set_names(names);
                }
                Ok(())
            }
            Order::Pool { agent, sockets } => self.with_agent(&agent, |entry| entry.pool.put(sockets)),
            Order::Forget { agent } => {
                self.forget(&agent);
                Ok(())
            }
            Order::Dialled { id, outcome, stream } => {
                self.dials.answer(id, outcome, stream);
                Ok(())
            }
            Order::Report => {
                self.report();
                Ok(())
            }
        }
    }

    fn serve(
        self: &Rc<Self>,
        agent: &AgentName,
        edge: Rc<Edge>,
        listener: Listener,
    ) -> Result<(), GatewayError> {
        self.reserve_task(agent, 1)?;
        let serving = connections::serve(Rc::clone(self), edge, listener);
        self.keep_task(agent, spawn_local(serving).abort_handle())
    }

    /// Tells the warden what passed. A message that finds no room waits.
    fn report(&self) {
        let outbox = self.outbox.clone();
        let mut pieces = self.edges.traffic().into_iter().peekable();
        spawn_local(async move {
            while let Some(edges) = pieces.next() {
                let last = pieces.peek().is_none();
                if outbox.send(FromGateway::Traffic { edges, last }).await.is_err() {
                    return;
                }
            }
        });
    }

    fn require_few(&self, names: &BTreeMap<String, Ipv4Addr>) -> Result<(), GatewayError> {
        let max = self.limits.names_per_agent_max;
        if names.len() > max { Err(GatewayError::TooMany { what: "names", max }) } else { Ok(()) }
    }

    fn forget(&self, agent: &AgentName) {
        let entry = self.agents.borrow_mut().remove(agent);
        entry.iter().flat_map(|entry| &entry.tasks).for_each(AbortHandle::abort);
        self.connections.borrow_mut().end_all_of(agent);
    }

    fn reserve_task(&self, agent: &AgentName, count: usize) -> Result<(), GatewayError> {
        let max = self.limits.listeners_per_agent_max;
        let have = self.with_agent(agent, |entry| entry.tasks.len())?;
        if have + count > max { Err(GatewayError::TooMany { what: "listeners", max }) } else { Ok(()) }
    }

    fn keep_task(&self, agent: &AgentName, task: AbortHandle) -> Result<(), GatewayError> {
        self.with_agent(agent, |entry| entry.tasks.push(task))
    }

    fn with_agent<T>(&self, agent: &AgentName, act: impl FnOnce(&mut Agent) -> T) -> Result<T, GatewayError> {
        let mut agents = self.agents.borrow_mut();
        if !agents.contains_key(agent) && agents.len() >= self.limits.agents_max {
            return Err(GatewayError::TooMany { what: "agents", max: self.limits.agents_max });
        }
        let fresh = || Agent {
            tasks: Vec::new(),
            resolver: None,
            turns: Arc::new(Semaphore::new(dials::PER_AGENT_MAX)),
            calling: Arc::new(Semaphore::new(dials::PER_CALLER_MAX)),
            pool: Rc::new(Pool::new(agent.clone(), self.outbox.clone(), &self.limits)),
            denials: Denials::new(self.limits.denials_per_second_max, Instant::now()),
        };
        Ok(act(agents.entry(agent.clone()).or_insert_with(fresh)))
    }
}
