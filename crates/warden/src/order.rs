//! What a user has asked of one agent, as its task sees it.

use std::time::Duration;

use casemate_composition::lock::Agent;
use casemate_protocol::lifecycle::Standing;

use crate::agent::Record;
use crate::world::World;

/// The order that an agent is under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// None: it does not run.
    Rest,
    /// To run, and to start again as its policy says.
    Run,
    /// To go on until it ends, and not to start again.
    Last,
    /// To end, within this time where one is named.
    Stop { grace_ms: Option<u64> },
}

impl Record {
    /// Asks an agent that rests to run. Whether it rested.
    pub(crate) fn ask_to_run(&self) -> bool {
        if *self.order.borrow() != Order::Rest {
            return false;
        }
        // Before its task wakes: who waits for it must not take how its last run ended for how this one stands.
        self.stage.send_replace(crate::agent::Stage::Before);
        self.stand(Standing::Up);
        self.order.send_replace(Order::Run);
        true
    }

    /// Asks an agent to end. Whether it did not rest.
    pub(crate) fn ask_to_stop(&self, grace_ms: Option<u64>) -> bool {
        if *self.order.borrow() == Order::Rest {
            return false;
        }
        self.stand(Standing::Stopping);
        self.order.send_replace(Order::Stop { grace_ms });
        true
    }

    /// Says what the box means to do with it.
    pub(crate) fn stand(&self, standing: Standing) {
        self.status.borrow_mut().standing = standing;
    }

    /// Waits until it was asked to end.
    pub(crate) async fn asked_to_stop(&self) {
        let mut order = self.order.subscribe();
        // The sender lives as long as the record.
        let _ = order.wait_for(|order| matches!(order, Order::Stop { .. })).await;
    }

    /// Waits until it rests.
    pub(crate) async fn rests(&self) {
        let mut order = self.order.subscribe();
        let _ = order.wait_for(|order| *order == Order::Rest).await;
    }

    /// Whether it may start again.
    pub(crate) fn may_run_again(&self) -> bool {
        *self.order.borrow() == Order::Run
    }
}

/// Waits until the agent, or the whole box, was asked to end.
pub(crate) async fn asked_to_end(world: &World, record: &Record) {
    let mut shutdown = world.shutdown.subscribe();
    tokio::select! {
        _ = shutdown.wait_for(Option::is_some) => {}
        () = record.asked_to_stop() => {}
    }
}

/// The time the agent has between its stop signal and SIGKILL: the least that was asked for, or its own.
pub(crate) fn grace(world: &World, agent: &Agent, record: &Record) -> Duration {
    let of_box = world.shutdown.borrow().flatten();
    let of_agent = match *record.order.borrow() {
        Order::Stop { grace_ms } => grace_ms,
        _ => None,
    };
    let asked = of_box.into_iter().chain(of_agent).min();
    Duration::from_millis(asked.unwrap_or(agent.stop.grace_ms))
}
