//! Sockets that were born in an agent's network namespace, waiting to be connected to one of its ports.
//!
//! What it is: a stock that asks the warden for more before it is empty, and lets a caller wait a bounded time.
//! What it is not: a cache of connections. A socket is used once.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use casemate_composition::lock::AgentName;
use casemate_protocol::gateway::{DESCRIPTORS_MAX, FromGateway};
use tokio::net::TcpSocket;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

use crate::limits::Limits;

/// After this long without an answer, what was asked for is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The stock of one agent.
#[derive(Debug)]
pub(crate) struct Pool {
    owner: AgentName,
    outbox: mpsc::Sender<FromGateway>,
    idle: RefCell<Vec<TcpSocket>>,
    /// How many were asked for and did not come yet.
    asked: Cell<usize>,
    waiting: Cell<usize>,
    /// Whether any socket ever came.
    filled: Cell<bool>,
    arrived: Notify,
    low: usize,
    full: usize,
    max: usize,
    wait_max: Duration,
}

impl Pool {
    pub(crate) fn new(owner: AgentName, outbox: mpsc::Sender<FromGateway>, limits: &Limits) -> Self {
        Self {
            owner,
            outbox,
            idle: RefCell::default(),
            asked: Cell::new(0),
            waiting: Cell::new(0),
            filled: Cell::new(false),
            arrived: Notify::new(),
            low: limits.pool_low,
            full: limits.pool_full,
            max: limits.pool_max,
            wait_max: limits.pool_wait_max,
        }
    }

    /// Puts `sockets` in stock; what goes past the limit is closed.
    pub(crate) fn put(&self, sockets: Vec<TcpSocket>) {
        self.asked.set(self.asked.get().saturating_sub(sockets.len()));
        self.filled.set(self.filled.get() || !sockets.is_empty());
        let mut idle = self.idle.borrow_mut();
        let room = self.max.saturating_sub(idle.len());
        if sockets.len() > room {
            tracing::warn!(agent = %self.owner, closed = sockets.len() - room, "pool is full");
        }
        for socket in sockets.into_iter().take(room) {
            idle.push(socket);
            self.arrived.notify_one();
        }
    }

    /// Whether sockets have come: the agent runs, or ran a moment ago.
    pub(crate) fn was_filled(&self) -> bool {
        self.filled.get()
    }

    /// One socket, or none when the warden sent none in time.
    pub(crate) async fn take(&self) -> Option<TcpSocket> {
        let deadline = Instant::now() + self.wait_max;
        loop {
            let socket = self.idle.borrow_mut().pop();
            if socket.is_some() {
                self.ask();
                return socket;
            }
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            let _counted = Waiting::new(&self.waiting);
            self.ask();
            if timeout(left.min(ASK_AGAIN), self.arrived.notified()).await.is_err() {
                self.asked.set(0);
            }
        }
    }

    /// Asks for more where stock and what is on its way fall below the mark.
    fn ask(&self) {
        let coming = self.idle.borrow().len() + self.asked.get();
        let waiting = self.waiting.get();
        if coming >= self.low + waiting {
            return;
        }
        let wanted = (self.full + waiting).min(self.max).saturating_sub(coming).min(DESCRIPTORS_MAX);
        let Ok(count) = u32::try_from(wanted) else { return };
        let message = FromGateway::NeedSockets { agent: self.owner.clone(), count };
        // A full outbox means that the warden is behind; whoever waits asks again.
        if count > 0 && self.outbox.try_send(message).is_ok() {
            self.asked.set(self.asked.get() + wanted);
        }
    }
}

/// Counts one waiting caller, also when its task is aborted.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
