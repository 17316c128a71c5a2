//! Commands that the composition has run in a compartment when its agent has started, and before it is asked to end.
//!
//! They are part of the measurement, so they taint nobody; they are confined as the agent is, and print to its log.

use std::time::Duration;

use casemate_compartment::{Visit, Work};
use casemate_composition::lock::{Agent, Hook};
use casemate_protocol::control::{Phase, StepState};
use casemate_sys::spawn::Streams;
use tokio::sync::oneshot;

use crate::agent::{Record, Running};
use crate::error::WardenError;
use crate::guest;
use crate::output::pipe;
use crate::progress::Steps;
use crate::tail::Tail;

/// How long the last words of a hook that failed may take to arrive.
const LAST_WORDS_WAIT_MAX: Duration = Duration::from_millis(200);

/// Runs those of a start, one after the other, until one fails.
pub(crate) async fn post_start(agent: &Agent, record: &Record, running: &Running) -> Result<(), WardenError> {
    for (number, hook) in (1_u32..).zip(&agent.post_start) {
        run(agent, record, running, hook).await.map_err(|how| WardenError::Environment {
            what: format!("`post_start` hook {number} {how}"),
            todo: "correct the hook in the Compose file, or what it needs; its output is in `casemate logs NAME`",
        })?;
    }
    Ok(())
}

/// Runs those of an end, one after the other. One that fails is told, and keeps nobody from ending.
pub(crate) async fn pre_stop(agent: &Agent, record: &Record, running: &Running, steps: &Steps) {
    for (number, hook) in (1_u32..).zip(&agent.pre_stop) {
        if let Err(how) = run(agent, record, running, hook).await {
            let what = format!("`pre_stop` hook {number} {how}");
            tracing::warn!(agent = %running.subject.agent, "{what}");
            steps.note(Phase::Run, StepState::Started, &what);
        }
    }
}

/// Runs one to its end. The error says how it failed.
async fn run(agent: &Agent, record: &Record, running: &Running, hook: &Hook) -> Result<(), String> {
    let visit = Visit {
        work: Work::Command(hook.command.clone()),
        user: hook.user.map(|user| (user.uid, user.gid)),
        working_dir: hook.working_dir.clone(),
        environment: hook.environment.clone(),
    };
    let (tail, printed) = (Tail::default(), pipe().map_err(|e| e.to_string())?);
    let (output, stdout) = printed;
    let stderr = stdout.try_clone().map_err(|e| e.to_string())?;
    let (open, closed) = oneshot::channel::<()>();
    let kept = tail.clone();
    running.own.output.copy_with(output, move |piece| {
        let _until_the_end = &open;
        kept.add(piece);
    });
    let door = record.pause.open_door().await;
    let begun = guest::begin(agent.backend, running, &visit, Streams::Output { stdout, stderr }).await;
    drop(door);
    let status = begun.map_err(|error| format!("did not run: {error}"))?.ended().await;
    if status == 0 {
        return Ok(());
    }
    let _ = tokio::time::timeout(LAST_WORDS_WAIT_MAX, closed).await;
    Err(match tail.told() {
        said if said.is_empty() => format!("ended with status {status}"),
        said => format!("ended with status {status} and printed: {said}"),
    })
}
