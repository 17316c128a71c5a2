//! Connections to Unix sockets of agents. The gateway has no right inside any agent: the warden connects, and hands over the
//! connection.
//!
//! What it is: the questions that wait for an answer, few of one called agent at a time, and the patience where its queue is
//! full. What it is not: a pool; who listens at a path may change at any time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use casemate_composition::lock::AgentName;
use casemate_composition::sockets::SocketPath;
use casemate_protocol::gateway::{Dialled, FromGateway};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use crate::edges::Rule;
use crate::gateway::Gateway;

/// Questions about one agent that the warden has at a time.
pub(crate) const PER_AGENT_MAX: usize = 8;
/// Questions of one calling agent: half, so that no caller has all turns of one that others call as well.
pub(crate) const PER_CALLER_MAX: usize = 4;
/// A turn lasts no less, so that nobody asks the warden more often than 400 times a second, nor about one agent than 800.
const TURN_MIN: Duration = Duration::from_millis(10);
/// How long to wait before a full queue is tried again: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// What became of a question.
#[derive(Debug)]
pub(crate) enum Answer {
    Connected(UnixStream),
    Full,
    Refused,
}

/// The questions that wait.
#[derive(Debug, Default)]
pub(crate) struct Dials {
    next: Cell<u64>,
    waiting: RefCell<BTreeMap<u64, oneshot::Sender<Answer>>>,
}

impl Dials {
    fn ask(&self) -> (Question<'_>, oneshot::Receiver<Answer>) {
        let id = self.next.get();
        self.next.set(id.wrapping_add(1));
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().insert(id, sender);
        (Question { id, of: self }, receiver)
    }

    /// Takes the warden's answer. One that nobody waits for any more is dropped, and its connection with it.
    pub(crate) fn answer(&self, id: u64, outcome: Dialled, stream: Option<UnixStream>) {
        let Some(waits) = self.waiting.borrow_mut().remove(&id) else { return };
        let answer = match (outcome, stream) {
            (Dialled::Connected, Some(stream)) => Answer::Connected(stream),
            (Dialled::Full, None) => Answer::Full,
            _ => Answer::Refused,
        };
        let _ = waits.send(answer);
    }
}

/// A question that waits; forgotten when dropped.
struct Question<'d> {
    id: u64,
    of: &'d Dials,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.of.waiting.borrow_mut().remove(&self.id);
    }
}

/// Connects to the socket at `path` of `agent`, for `caller`.
pub(crate) async fn dial(
    gateway: &Gateway,
    caller: &AgentName,
    agent: &AgentName,
    path: &SocketPath,
) -> Result<UnixStream, Rule> {
    let deadline = Instant::now() + gateway.limits.connect_max;
    let turns = gateway.turns(agent).ok_or(Rule::Capacity)?;
    let calling = gateway.calling(caller).ok_or(Rule::Capacity)?;
    let mut pause = PAUSE_MIN;
    loop {
        let attempt = async {
            let own = Arc::clone(&calling).acquire_owned().await.ok()?;
            let turn = Rc::new((own, Arc::clone(&turns).acquire_owned().await.ok()?));
            let kept = Rc::clone(&turn);
            tokio::task::spawn_local(async move {
                sleep(TURN_MIN).await;
                drop(kept);
            });
            let (question, answer) = gateway.dials.ask();
            let message = FromGateway::Dial { id: question.id, agent: agent.clone(), path: path.clone() };
            gateway.tell(message).await?;
            let answer = answer.await.ok();
            drop(turn);
            answer
        };
        match timeout_at(deadline, attempt).await {
            Ok(Some(Answer::Connected(stream))) => return Ok(stream),
            Ok(Some(Answer::Full)) if Instant::now() + pause < deadline => sleep(pause).await,
            _ => return Err(Rule::Answers),
        }
        pause = pause.saturating_mul(2).min(PAUSE_MAX);
    }
}
