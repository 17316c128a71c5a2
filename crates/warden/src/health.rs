//! Health checks: a command inside the compartment, confined as the agent is, that ends with 0.

use std::rc::Rc;
use std::time::{Duration, Instant};

use casemate_compartment::Visit;
use casemate_composition::lock::{Agent, Health};
use casemate_protocol::control::{Phase, StepState};
use casemate_sys::spawn::Streams;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;

use crate::agent::{Record, Running, Stage};
use crate::error::WardenError;
use crate::guest::{self, NotBegun};
use crate::output::{PIECE_BYTES, pipe};
use crate::progress::Steps;
use crate::tail::Tail;

/// After each piece of a check's output, however small: reading it is the warden's work.
const PIECE_PAUSE: Duration = Duration::from_millis(5);
/// Pieces that a pipe may hold when the check has ended.
const LEFT_PIECES_MAX: usize = 4;

/// Keeps the health of a running agent up to date, for ever. Without a health check it is healthy while it runs.
pub(crate) async fn watch(agent: &Agent, record: &Record, steps: &Steps, running: &Rc<Running>) {
    let healthy = || {
        if *record.stage.borrow() != Stage::Healthy {
            {
                let mut status = record.status.borrow_mut();
                status.phase = Phase::Healthy;
                status.state = StepState::Done;
            }
            record.stage.send_replace(Stage::Healthy);
            steps.note(Phase::Healthy, StepState::Done, "");
        }
    };
    let Some(health) = &agent.health else {
        healthy();
        return std::future::pending().await;
    };
    steps.note(Phase::Healthy, StepState::Started, "");
    record.status.borrow_mut().health = Some("starting".into());
    let (began, start_period) = (Instant::now(), Duration::from_millis(health.start_period_ms));
    let mut failures = 0_u32;
    let mut passed_once = false;
    loop {
        drop(record.pause.open_door().await);
        let pauses = record.pause.count();
        let checked = check(agent, record, health, running).await;
        // Where it stood still during the check, that says nothing of it.
        if pauses == record.pause.count() {
            record.status.borrow_mut().health_said = checked.as_ref().err().cloned();
            match checked {
                Ok(()) => {
                    failures = 0;
                    passed_once = true;
                    record.status.borrow_mut().health = Some("healthy".into());
                    healthy();
                }
                Err(how) if passed_once || began.elapsed() > start_period => {
                    failures = failures.saturating_add(1);
                    if failures == health.retries.max(1) {
                        record.status.borrow_mut().health = Some("unhealthy".into());
                        let what = format!("{failures} health checks failed in a row; the last one {how}");
                        steps.note(Phase::Healthy, StepState::Failed, &what);
                    }
                }
                Err(_) => {}
            }
        }
        let interval = Duration::from_millis(health.interval_ms.max(1));
        let start_interval = Duration::from_millis(health.start_interval_ms.max(1));
        // Starting up, look often; once it was healthy or is given up, at the asked pace.
        let settled = passed_once || failures >= health.retries.max(1);
        tokio::time::sleep(if settled { interval } else { start_interval }).await;
    }
}

/// Runs the check to its end. The error says how it failed, and the end of what it printed.
async fn check(agent: &Agent, record: &Record, health: &Health, running: &Running) -> Result<(), String> {
    let tail = Tail::default();
    let bound = Duration::from_millis(health.timeout_ms.max(1));
    let how = match tokio::time::timeout(bound, run(agent, record, health, running, &tail)).await {
        Ok(Ok(0)) => return Ok(()),
        Ok(Ok(status)) => format!("ended with status {status}"),
        Ok(Err(error)) => format!("did not run: {error}"),
        Err(_) => format!("took longer than {} ms", health.timeout_ms),
    };
    Err(match tail.told() {
        said if said.is_empty() => how,
        said => format!("{how} and printed: {said}"),
    })
}

/// The status of the check's command.
async fn run(
    agent: &Agent,
    record: &Record,
    health: &Health,
    running: &Running,
    tail: &Tail,
) -> Result<i32, NotBegun> {
    let (output, stdout) = pipe()?;
    let stderr = stdout.try_clone().map_err(WardenError::file("pipe"))?;
    let mut output = Receiver::from_owned_fd(output).map_err(WardenError::file("pipe"))?;
    let streams = Streams::Output { stdout, stderr };
    let door = record.pause.open_door().await;
    let mut guest = guest::begin(agent.backend, running, &Visit::of(health.command.clone()), streams).await?;
    drop(door);
    let mut piece = vec![0; PIECE_BYTES];
    let (ended, mut open) = (guest.ended(), true);
    tokio::pin!(ended);
    let status = loop {
        tokio::select! {
            status = &mut ended => break status,
            read = output.read(&mut piece), if open => match read {
                Ok(count @ 1..) => {
                    tail.add(piece.get(..count).unwrap_or_default());
                    tokio::time::sleep(PIECE_PAUSE).await;
                }
                _ => open = false,
            },
        }
    };
    // What is left in the pipe; who goes on writing is not waited for.
    for _ in 0..LEFT_PIECES_MAX {
        match output.try_read(&mut piece) {
            Ok(count @ 1..) => tail.add(piece.get(..count).unwrap_or_default()),
            _ => break,
        }
    }
    Ok(status)
}
