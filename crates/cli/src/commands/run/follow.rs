//! The life of a one-off box as its user sees it: what the agent writes, and how it ends.

use std::collections::BTreeSet;
use std::time::Duration;

use casemate_composition::lock::AgentName;
use casemate_protocol::control::{ControlRequest, Phase, Progress, Reply, StepState};

use super::input::{self, Input, Keyboard, Refused};
use crate::commands::up::{Start, interrupted};
use crate::control::unexpected_reply;
use crate::failure::{Failure, Outcome};
use crate::follow::{Follower, LineStyle, POLL, Shown, Wanted};
use crate::lines;
use crate::orders::{Conversation, explain, refused};
use crate::progress::phase_name;

/// Time until the agent's program runs.
const START_BOUND: Duration = Duration::from_secs(300);

/// When `run` returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// The program runs. The box goes on.
    Running,
    /// The program has ended, which reads this. The box ends with it.
    Ended(Input),
}

/// Starts the box and follows its agent. Gives the agent's exit code.
pub(super) fn run(start: &Start<'_>, agent: &AgentName, until: Until) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::environment(format!("event loop: {error}"), "free some descriptors, then try again")
    })?;
    runtime.block_on(async {
        let signals = interrupted()?;
        let style = match start.lines {
            LineStyle::Json => LineStyle::Json,
            LineStyle::Text { .. } => LineStyle::Text { prefix: Shown::No, times: Shown::No },
        };
        let wanted = Wanted { tail: Some(0), ..Wanted::default() };
        let mut follower = Follower::new(start.project, std::slice::from_ref(agent), wanted, style);
        let mut supervisor = start.spawn_supervisor().map_err(Failure::before_the_command)?;
        let mut keyboard = None;
        let outcome = tokio::select! {
            outcome = follow(start, &mut supervisor, agent, (until, &mut keyboard), &mut follower) => outcome,
            () = signals => Err(Failure::interrupted()),
            () = lines::until_output_ends(), if until != Until::Running => Err(Failure::interrupted()),
        };
        if let (Until::Running, Ok(code)) = (until, &outcome) {
            let name = &start.project.name;
            lines::print(name);
            lines::note(format!(
                "`casemate -p {name} logs -f` shows what it writes; `casemate -p {name} down` ends the box"
            ));
            return Ok(*code);
        }
        if let Err(failure) = start.stop(&mut supervisor).await {
            // How the program ended is what the caller asks for.
            failure.tell();
        }
        let shown = keyboard.is_some_and(Keyboard::end);
        if !shown {
            while follower.print_new() {}
            follower.print_rest();
        }
        outcome
    })
}

async fn follow(
    start: &Start<'_>,
    supervisor: &mut tokio::process::Child,
    agent: &AgentName,
    (until, keyboard): (Until, &mut Option<Keyboard>),
    follower: &mut Follower,
) -> Outcome {
    let begun = async {
        start.follow_steps(supervisor, |_| {}).await?;
        let mut watched = Conversation::begin(start.project, &ControlRequest::Watch).await?;
        runs(start, agent, &mut watched).await?;
        Ok(watched)
    };
    let late = || {
        let what = format!("agent {agent} does not run after {} s", START_BOUND.as_secs());
        Err(Failure::environment(what, format!("read the logs in {}", start.project.logs().display())))
    };
    let begun = tokio::time::timeout(START_BOUND, begun).await.unwrap_or_else(|_| late());
    let mut watched = begun.map_err(Failure::before_the_command)?;
    let no_input = Refused::default();
    match until {
        Until::Running => return Ok(0),
        Until::Ended(Input::None) => {}
        Until::Ended(Input::Stream) => input::pass_on(start.project, agent, &no_input),
        Until::Ended(Input::Terminal) => *keyboard = Some(Keyboard::attach(start.project, agent, &no_input)),
    }
    loop {
        let left = keyboard.as_ref().is_some_and(Keyboard::was_left);
        if left {
            return Err(Failure::interrupted());
        }
        if let Some(failure) = no_input.take() {
            return Err(failure.before_the_command());
        }
        tokio::select! {
            reply = watched.next() => {
                let Reply::Progress(step) = reply? else { continue };
                match (step.state, step.phase) {
                    _ if step.agent != *agent => {}
                    (StepState::Done, Phase::Exited) => return status(start, agent).await,
                    (StepState::Failed, _) => return Err(failure(start, &step).before_the_command()),
                    _ => {}
                }
            }
            () = tokio::time::sleep(POLL) => {
                if keyboard.is_none() {
                    follower.print_new();
                }
            }
        }
    }
}

/// Waits until the agent's program runs, or says why it does not.
async fn runs(start: &Start<'_>, agent: &AgentName, watched: &mut Conversation<'_>) -> Outcome<()> {
    let mut others = Vec::new();
    loop {
        let step = match watched.next().await? {
            Reply::Progress(step) => step,
            Reply::Refused { refusal } => return Err(refused(start.project, refusal)),
            _ => return Err(unexpected_reply()),
        };
        match (step.state, step.phase) {
            (StepState::Done, Phase::Run) if step.agent == *agent => return Ok(()),
            (StepState::Failed, _) if step.agent == *agent => {
                // What became of those that it waits for says more.
                let mut all = others.into_iter().chain([failure(start, &step)]);
                let first = all.next().unwrap_or_else(unexpected_reply);
                return Err(Failure { more: all.collect(), ..first });
            }
            (StepState::Failed, _) => others.push(failure(start, &step)),
            _ => {}
        }
    }
}

fn failure(start: &Start<'_>, step: &Progress) -> Failure {
    let what = format!("agent {} failed at {}", step.agent, phase_name(step.phase));
    let failure = explain(start.project, step, what);
    match step.not_executed {
        Some(status) => failure.of_program(status),
        None => failure,
    }
}

/// The exit code that the agent's status is.
async fn status(start: &Start<'_>, agent: &AgentName) -> Outcome {
    let request = ControlRequest::Wait { agents: BTreeSet::from([agent.clone()]) };
    let mut conversation = Conversation::begin(start.project, &request).await?;
    match conversation.next().await? {
        Reply::Ended { status, .. } => match status.map(u8::try_from) {
            Some(Ok(code)) => Ok(code),
            _ => {
                let what = format!("agent {agent} ended without a status of its program");
                let todo = format!("read {}", start.project.program_log("warden").display());
                Err(Failure::environment(what, todo).before_the_command())
            }
        },
        Reply::Refused { refusal } => Err(refused(start.project, refusal)),
        _ => Err(unexpected_reply()),
    }
}
