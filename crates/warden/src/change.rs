//! What a user asks of agents over the control socket: start, stop, restart, kill, pause, unpause, wait.
//!
//! Here orders are given and their outcome is awaited; each agent's own task carries its order out.

use std::collections::BTreeMap;
use std::rc::Rc;

use casemate_composition::lock::{AgentName, Condition};
use casemate_protocol::Refusal;
use casemate_protocol::control::{Phase, Progress, Reply, StepState};
use casemate_protocol::lifecycle::{Action, Agents, Dependencies, Done, Standing, Until};
use tokio::net::unix::WriteHalf;
use tokio::sync::mpsc::UnboundedSender;

use crate::agent::{Record, Running, Stage};
use crate::control::{reply_to, send};
use crate::error::WardenError;
use crate::order::Order;
use crate::pause;
use crate::world::World;

const SIGKILL: i32 = 9;
const SIGSTOP: i32 = 19;
/// Signals that the C library keeps for itself.
const INTERNAL: [i32; 2] = [32, 33];

type Outcomes = BTreeMap<AgentName, Done>;

/// Where the answers go. Nobody may be there to take them any more.
type Replies = UnboundedSender<Reply>;

/// Carries out a change to its end, whether or not the asker is still there, and answers.
pub(crate) async fn change(world: &World, replies: &Replies, agents: &Agents, action: Action) {
    let reply = match carry_out(world, replies, agents, action).await {
        Ok(agents) => Reply::Changed { agents },
        Err(error) => reply_to(&error),
    };
    let _ = replies.send(reply);
}

async fn carry_out(
    world: &World,
    replies: &Replies,
    agents: &Agents,
    action: Action,
) -> Result<Outcomes, WardenError> {
    let named = !agents.is_empty();
    let agents = chosen(world, agents)?;
    match action {
        Action::Start { dependencies, until } => {
            let all = to_start(world, &agents, dependencies);
            Ok(start(world, replies, &all, until).await)
        }
        Action::Stop { grace_ms } => Ok(stop(world, &agents, grace_ms).await),
        Action::Restart { grace_ms, dependencies, until } => {
            let ending = match dependencies {
                Dependencies::Follow => world.lock.with_restarting_dependents(&agents),
                Dependencies::Leave => agents.clone(),
            };
            // Who restarts with another only does so where it runs.
            let ending: Agents = ending
                .into_iter()
                .filter(|name| agents.contains(name) || order_of(world, name) != Some(Order::Rest))
                .collect();
            stop(world, &ending, grace_ms).await;
            let all = to_start(world, &ending, dependencies);
            let started = start(world, replies, &all, until).await;
            // A dependency that ran all along is no part of the answer.
            let is_part = |(name, done): &(AgentName, Done)| ending.contains(name) || *done != Done::Already;
            Ok(started.into_iter().filter(is_part).collect())
        }
        Action::Kill { signal } => {
            each(world, &agents, named, async |name| kill(world, name, signal).await).await
        }
        Action::Pause => each(world, &agents, named, async |name| pause::pause(world, name).await).await,
        Action::Unpause => each(world, &agents, named, async |name| pause::unpause(world, name).await).await,
    }
}

/// Waits until these agents have ended for good.
pub(crate) async fn wait(world: &World, writer: &mut WriteHalf<'_>, agents: &Agents) -> std::io::Result<()> {
    let agents = match chosen(world, agents).and_then(|chosen| have_started(world, agents, chosen)) {
        Ok(agents) => agents,
        Err(WardenError::Refused(refusal)) => return send(writer, &Reply::Refused { refusal }).await,
        Err(error) => {
            return send(writer, &Reply::Failed { what: error.to_string(), todo: error.todo() }).await;
        }
    };
    let mut open = agents;
    while !open.is_empty() {
        let resting: Vec<AgentName> =
            open.iter().filter(|name| order_of(world, name) == Some(Order::Rest)).cloned().collect();
        for agent in resting {
            open.remove(&agent);
            let status = world.agent(&agent).and_then(|(_, record)| record.status.borrow().exit_status);
            send(writer, &Reply::Ended { agent, status }).await?;
        }
        if !open.is_empty() {
            one_rests(world, &open).await;
        }
    }
    send(writer, &Reply::Done).await
}

/// Waits until one of these agents rests.
async fn one_rests(world: &World, agents: &Agents) {
    let records = agents.iter().filter_map(|name| Some(world.agent(name)?.1));
    let mut waits: Vec<_> = records.map(|record| Box::pin(record.rests())).collect();
    std::future::poll_fn(|context| {
        let ready = waits.iter_mut().any(|wait| wait.as_mut().poll(context).is_ready());
        if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// Of agents that are not named, those that were never started are nobody to wait for.
fn have_started(world: &World, named: &Agents, agents: Agents) -> Result<Agents, WardenError> {
    let never = |name: &AgentName| {
        world.agent(name).is_some_and(|(_, record)| record.status.borrow().standing == Standing::NotStarted)
    };
    match agents.iter().find(|name| named.contains(name) && never(name)) {
        Some(name) => {
            Err(Refusal::new("agent.started", format!("{name} was started"), "it was not started").into())
        }
        None => Ok(agents.into_iter().filter(|name| !never(name)).collect()),
    }
}

/// The agents that are named, or all.
fn chosen(world: &World, named: &Agents) -> Result<Agents, WardenError> {
    let all: Agents = world.lock.agents.keys().cloned().collect();
    if let Some(unknown) = named.difference(&all).next() {
        let names: Vec<&str> = all.iter().map(AgentName::as_str).collect();
        let expected = format!("one of {}", names.join(", "));
        return Err(Refusal::new("agent.known", expected, unknown).into());
    }
    Ok(if named.is_empty() { all } else { named.clone() })
}

/// These agents and, where asked for, those that they depend on: but for those that have done what was asked of them.
fn to_start(world: &World, agents: &Agents, dependencies: Dependencies) -> Agents {
    if dependencies == Dependencies::Leave {
        return agents.clone();
    }
    let has_done = |name: &AgentName| {
        let asked = world.lock.agents.values().filter_map(|agent| agent.depends_on.get(name));
        let mut conditions = asked.map(|dependency| dependency.condition);
        let ended_well =
            world.agent(name).is_some_and(|(_, record)| *record.stage.borrow() == Stage::Ended(0));
        ended_well && conditions.all(|condition| condition == Condition::ServiceCompletedSuccessfully)
    };
    let all = world.lock.with_dependencies(agents);
    all.into_iter().filter(|name| agents.contains(name) || !has_done(name)).collect()
}

/// Asks agents to run and tells how each comes up, for as long as somebody listens.
async fn start(world: &World, replies: &Replies, agents: &Agents, until: Until) -> Outcomes {
    for name in agents {
        // Who is asked to end ends first.
        if let Some((_, record)) = world.agent(name)
            && matches!(*record.order.borrow(), Order::Stop { .. })
        {
            record.rests().await;
        }
    }
    let mut outcomes = Outcomes::new();
    if world.is_shutting_down() {
        return agents.iter().map(|name| (name.clone(), Done::Failed)).collect();
    }
    // All orders before the first step of any: an agent looks whether those that it depends on are asked for.
    let mut position = world.journal.end();
    let mut open = BTreeMap::new();
    for name in agents {
        let Some((_, record)) = world.agent(name) else { continue };
        let outcome = if record.ask_to_run() { Done::Done } else { Done::Already };
        match outcome == Done::Already {
            true if is_unhealthy(record) && until == Until::Healthy => {
                outcomes.insert(name.clone(), Done::Failed);
            }
            true if has_come_up(record, until) => {
                outcomes.insert(name.clone(), Done::Already);
            }
            // Also of who is on its way already, the end is awaited.
            _ => {
                open.insert(name.clone(), outcome);
            }
        }
    }
    while !open.is_empty() {
        let steps = tokio::select! {
            steps = world.journal.from(&mut position) => steps,
            () = replies.closed() => break,
        };
        for step in steps {
            let Some(outcome) = open.get(&step.agent).copied() else { continue };
            if let Some(came_up) = end_of_start(&step, until) {
                open.remove(&step.agent);
                outcomes.insert(step.agent.clone(), if came_up { outcome } else { Done::Failed });
            }
            let _ = replies.send(Reply::Progress(step));
        }
    }
    outcomes
}

fn has_come_up(record: &Record, until: Until) -> bool {
    match (*record.stage.borrow(), until) {
        (Stage::Before, _) | (Stage::Running, Until::Healthy) => false,
        // It ended, and its policy decides what comes of it.
        _ => true,
    }
}

fn is_unhealthy(record: &Record) -> bool {
    record.status.borrow().health.as_deref() == Some("unhealthy")
}

/// Whether the agent has come up, by this step; none where its start goes on.
const fn end_of_start(step: &Progress, until: Until) -> Option<bool> {
    match (step.state, step.phase, until) {
        (StepState::Done, Phase::Run, Until::Running) | (StepState::Done, Phase::Healthy, _) => Some(true),
        (StepState::Failed, ..) | (StepState::Done, Phase::Exited, _) => Some(false),
        _ => None,
    }
}

/// Asks agents to end and waits for it: nobody before those that depend on it.
async fn stop(world: &World, agents: &Agents, grace_ms: Option<u64>) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for step in world.lock.stop_order(agents) {
        let records: Vec<_> = step.iter().filter_map(|name| Some((name, world.agent(name)?.1))).collect();
        for (name, record) in &records {
            let done = if record.ask_to_stop(grace_ms) { Done::Done } else { Done::Already };
            outcomes.insert((*name).clone(), done);
        }
        for (_, record) in records {
            record.rests().await;
        }
    }
    outcomes
}

/// Sends a signal. After one that ends it, the agent does not start again by itself.
async fn kill(world: &World, name: &AgentName, signal: i32) -> Result<Done, WardenError> {
    let (record, running) = runs(world, name)?;
    if !(1..=64).contains(&signal) || signal == SIGSTOP || INTERNAL.contains(&signal) {
        let expected = "a signal from 1 to 64 other than 19 (`casemate pause` stops an agent), 32 and 33";
        return Err(Refusal::new("signal.passed-on", expected, signal).into());
    }
    if signal == SIGKILL || Some(signal) == stop_signal(world, name) {
        record.order.send_if_modified(|order| {
            let runs = *order == Order::Run;
            if runs {
                *order = Order::Last;
            }
            runs
        });
    }
    running.compartment.first.signal(signal).map_err(WardenError::system("send a signal"))?;
    if signal == SIGKILL {
        pause::go_on_to_die(record).await;
    }
    Ok(Done::Done)
}

fn stop_signal(world: &World, name: &AgentName) -> Option<i32> {
    world.agent(name).map(|(agent, _)| agent.stop.signal)
}

/// Does the same to each. Of agents that are not named, those that do not run are left out.
async fn each(
    world: &World,
    agents: &Agents,
    named: bool,
    act: impl AsyncFn(&AgentName) -> Result<Done, WardenError>,
) -> Result<Outcomes, WardenError> {
    // Nothing is done where one of those that are named cannot take it.
    for name in agents.iter().filter(|_| named) {
        runs(world, name)?;
    }
    let mut outcomes = Outcomes::new();
    for name in agents {
        if named || runs(world, name).is_ok() {
            outcomes.insert(name.clone(), act(name).await?);
        }
    }
    if outcomes.is_empty() {
        return Err(Refusal::new("agent.running", "an agent that runs", "none").into());
    }
    Ok(outcomes)
}

/// An agent whose program runs.
pub(crate) fn runs<'w>(world: &'w World, name: &AgentName) -> Result<(&'w Record, Rc<Running>), WardenError> {
    let refused = |found: String| Refusal::new("agent.running", format!("{name} runs"), found);
    let (_, record) = world.agent(name).ok_or_else(|| refused("no such agent in this composition".into()))?;
    let stage = *record.stage.borrow();
    let running = record.running.borrow().clone();
    match running.filter(|_| matches!(stage, Stage::Running | Stage::Healthy)) {
        Some(running) => Ok((record, running)),
        None => Err(refused(state(record)).into()),
    }
}

/// How an agent stands that does not run, in words.
fn state(record: &Record) -> String {
    let status = record.status.borrow();
    let ended = || status.exit_status.map_or(String::new(), |code| format!(" with status {code}"));
    match status.standing {
        // Its task has not said yet what comes of it.
        Standing::Up if matches!(*record.stage.borrow(), Stage::Ended(_)) => {
            format!("it has just ended{}", ended())
        }
        Standing::NotStarted => "it was not started".into(),
        Standing::Up => "it starts, and its program does not run yet".into(),
        Standing::Restarting => format!("it ended{}, and starts again in a moment", ended()),
        Standing::Stopping => "it is about to end".into(),
        Standing::Stopped => format!("it was stopped{}", ended()),
        Standing::Ended if status.state == StepState::Failed => "its start failed".into(),
        Standing::Ended => format!("it ended{}", ended()),
    }
}

fn order_of(world: &World, name: &AgentName) -> Option<Order> {
    world.agent(name).map(|(_, record)| *record.order.borrow())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_done_when_the_program_runs_or_is_healthy_as_asked() {
        let step = |phase, state| Progress {
            agent: "a".parse().unwrap(),
            phase,
            state,
            elapsed_ms: 0,
            detail: String::new(),
            refusal: None,
            not_executed: None,
        };
        for (phase, state, running, healthy) in [
            (Phase::Run, StepState::Started, None, None),
            (Phase::Run, StepState::Done, Some(true), None),
            (Phase::Healthy, StepState::Done, Some(true), Some(true)),
            (Phase::Healthy, StepState::Failed, Some(false), Some(false)),
            (Phase::Exited, StepState::Done, Some(false), Some(false)),
            (Phase::Attest, StepState::Failed, Some(false), Some(false)),
        ] {
            assert_eq!(end_of_start(&step(phase, state), Until::Running), running, "{phase:?}");
            assert_eq!(end_of_start(&step(phase, state), Until::Healthy), healthy, "{phase:?}");
        }
    }
}
