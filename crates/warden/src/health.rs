//! Health checks: a command inside the compartment, confined as the agent is, that ends with 0.

use std::rc::Rc;
use std::time::{Duration, Instant};

use casemate_compartment::backend;
use casemate_composition::lock::{Agent, Health};
use casemate_protocol::control::{Phase, StepState};

use crate::agent::{Record, Running, Stage};
use crate::guest::Guest;
use crate::progress::Steps;

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
    let began = Instant::now();
    let mut failures = 0_u32;
    let mut passed_once = false;
    loop {
        record.pause.goes_on().await;
        let pauses = record.pause.count();
        let passed = check(agent, health, running).await;
        if pauses != record.pause.count() {
            // It stood still during the check, which says nothing of it.
        } else if passed {
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
        let start_interval = Duration::from_millis(health.start_interval_ms.max(1));
        // Starting up, look often; once it was healthy or is given up, at the asked pace.
        let settled = passed_once || failures >= health.retries.max(1);
        tokio::time::sleep(if settled { interval } else { start_interval }).await;
    }
}

async fn check(agent: &Agent, health: &Health, running: &Running) -> bool {
    let started = backend(agent.backend).command(&running.compartment, &health.command);
    let Ok(child) = started else { return false };
    let mut check = Guest::new(child);
    let bound = Duration::from_millis(health.timeout_ms.max(1));
    tokio::time::timeout(bound, check.ended()).await == Ok(0)
}
