//! A running agent until its end: its hooks, its health, and how it is asked to end.

use std::rc::Rc;
use std::time::Instant;

use casemate_composition::lock::Agent;

use crate::agent::{Record, Running, came_up, ended};
use crate::error::WardenError;
use crate::progress::Steps;
use crate::world::World;
use crate::{health, hooks, order, pause};

/// Waits for the agent's end, while its health is checked and a shutdown may come. Gives its exit status, and what of its
/// start failed.
pub(crate) async fn watch_over(
    world: &Rc<World>,
    agent: &Agent,
    record: &Record,
    steps: &Steps,
    running: &Rc<Running>,
) -> (i32, Option<WardenError>) {
    let first = &running.compartment.first;
    let attended = async {
        if !agent.post_start.is_empty() {
            hooks::post_start(agent, record, running).await?;
            came_up(record, steps);
        }
        health::watch(agent, record, steps, running).await;
        Ok::<_, WardenError>(())
    };
    let failed = tokio::select! {
        status = ended(first) => return (status, None),
        attended = attended => attended.err(),
        () = order::asked_to_end(world, record) => None,
    };
    let asked = Instant::now();
    if failed.is_none() && !agent.pre_stop.is_empty() {
        pause::go_on_to_end(world, record, running).await;
        let hooks = hooks::pre_stop(agent, record, running, steps);
        tokio::select! {
            status = ended(first) => return (status, None),
            () = hooks => {}
            () = out_of_time(world, agent, record, asked) => {}
        }
    }
    let signalled = first.signal(agent.stop.signal).is_ok();
    // Signals wait for those who stand still.
    pause::go_on_to_end(world, record, running).await;
    if signalled {
        tokio::select! {
            status = ended(first) => return (status, failed),
            () = out_of_time(world, agent, record, asked) => {}
        }
    }
    pause::kill(record, running).await;
    (ended(first).await, failed)
}

/// Waits until the time is over that an agent has to end, from when it was asked to. Who asks again may leave it less.
async fn out_of_time(world: &World, agent: &Agent, record: &Record, asked: Instant) {
    let mut order = record.order.subscribe();
    let mut shutdown = world.shutdown.subscribe();
    loop {
        let left = order::grace(world, agent, record).saturating_sub(asked.elapsed());
        tokio::select! {
            () = tokio::time::sleep(left) => return,
            _ = order.changed() => {}
            _ = shutdown.changed() => {}
        }
    }
}
