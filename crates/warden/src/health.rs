//! Health checks: a command inside the compartment, confined as the agent is, that ends with 0.

use std::rc::Rc;
use std::time::{Duration, Instant};

use casemate_composition::lock::{Agent, Health};
use casemate_protocol::control::{Phase, StepState};
use casemate_sys::spawn;
use casemate_sys::spec::Spec;

use crate::agent::{Record, Running, Stage};
use crate::progress::Steps;
use crate::world::World;

/// Time between two checks until the first one passes, where the interval is longer.
const START_INTERVAL: Duration = Duration::from_millis(250);
/// Time between two looks whether a check ended.
const POLL: Duration = Duration::from_millis(10);

/// Keeps the health of a running agent up to date, for ever. Without a health check it is healthy while it runs.
pub(crate) async fn watch(
    world: &World,
    agent: &Agent,
    record: &Record,
    steps: &Steps,
    running: &Rc<Running>,
) {
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
    let began = Instant::now();
    let mut failures = 0_u32;
    let mut passed_once = false;
    loop {
        if check(world, health, running).await {
            failures = 0;
            passed_once = true;
            record.status.borrow_mut().health = Some("healthy".into());
            healthy();
        } else if passed_once || began.elapsed() > Duration::from_millis(health.start_period_ms) {
            failures = failures.saturating_add(1);
            if failures == health.retries.max(1) {
                record.status.borrow_mut().health = Some("unhealthy".into());
                steps.note(
                    Phase::Healthy,
                    StepState::Failed,
                    &format!("{failures} health checks failed in a row"),
                );
            }
        }
        let interval = Duration::from_millis(health.interval_ms.max(1));
        // Starting up, look often; once it was healthy or is given up, at the asked pace.
        let settled = passed_once || failures >= health.retries.max(1);
        tokio::time::sleep(if settled { interval } else { interval.min(START_INTERVAL) }).await;
    }
}

async fn check(world: &World, health: &Health, running: &Running) -> bool {
    let spec = Spec { join: 1, command: health.command.clone(), ..running.spec.clone() };
    let Ok(mut child) = spawn::join(&world.launcher, &spec, &running.first) else { return false };
    let deadline = Instant::now() + Duration::from_millis(health.timeout_ms.max(1));
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
            _ => {
                // The command dies with the launcher, which is its parent.
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}
