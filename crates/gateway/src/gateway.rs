//! The gateway itself: what belongs to which agent, and the loop that takes the warden's orders.
//!
//! What it is: one thread, one runtime, a task for each listening socket and connection. Everything that an
//! agent owns hangs off its entry and ends with `Forget`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use casemate_composition::lock::AgentName;
use casemate_protocol::gateway::FromGateway;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, LocalSet, spawn_local};

use crate::connections::{self, Table};
use crate::control::{Control, Order};
use crate::denials::Denials;
use crate::error::GatewayError;
use crate::limits::Limits;
use crate::pools::Pool;
use crate::resolver::Resolver;

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
    agents: RefCell<BTreeMap<AgentName, Agent>>,
    outbox: mpsc::Sender<FromGateway>,
}

#[derive(Debug)]
struct Agent {
    /// Accept loops and resolvers.
    tasks: Vec<AbortHandle>,
    pool: Rc<Pool>,
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
        Self { limits, connections: Rc::new(RefCell::new(table)), agents: RefCell::default(), outbox }
    }

    /// The pool of `agent`; none where there are too many agents.
    pub(crate) fn pool(&self, agent: &AgentName) -> Option<Rc<Pool>> {
        self.with_agent(agent, |entry| Rc::clone(&entry.pool)).ok()
    }

    /// Logs that a connection of `caller` to `target` was not made, within bounds.
    pub(crate) fn log_denial(&self, caller: &AgentName, target: &str, rule: &str) {
        let now = Instant::now();
        let report = self.with_agent(caller, |entry| entry.denials.report(target, now));
        if report.unwrap_or(false) {
            tracing::warn!(%caller, target, "connection not made: {rule}");
        }
    }

    fn obey(self: &Rc<Self>, order: Order) -> Result<(), GatewayError> {
        match order {
            Order::Listen { agent, target, listener } => {
                self.reserve_task(&agent, 1)?;
                let serving = connections::serve(Rc::clone(self), agent.clone(), target, listener);
                self.keep_task(&agent, spawn_local(serving).abort_handle())
            }
            Order::Resolver { agent, names, udp, tcp } => {
                self.reserve_task(&agent, 2)?;
                if names.len() > self.limits.names_per_agent_max {
                    return Err(GatewayError::TooMany {
                        what: "names",
                        max: self.limits.names_per_agent_max,
                    });
                }
                let resolver =
                    Rc::new(Resolver::new(agent.clone(), names, self.outbox.clone(), &self.limits));
                let udp = spawn_local(Rc::clone(&resolver).serve_udp(udp));
                self.keep_task(&agent, udp.abort_handle())?;
                self.keep_task(&agent, spawn_local(resolver.serve_tcp(tcp)).abort_handle())
            }
            Order::Pool { agent, sockets } => self.with_agent(&agent, |entry| entry.pool.put(sockets)),
            Order::Forget { agent } => {
                self.forget(&agent);
                Ok(())
            }
        }
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
            pool: Rc::new(Pool::new(agent.clone(), self.outbox.clone(), &self.limits)),
            denials: Denials::new(self.limits.denials_per_second_max, Instant::now()),
        };
        Ok(act(agents.entry(agent.clone()).or_insert_with(fresh)))
    }
}
