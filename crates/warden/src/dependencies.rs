//! Waiting for the agents that an agent depends on.

use casemate_composition::lock::{Agent, Condition};
use casemate_protocol::control::{Phase, StepState};

use crate::agent::Stage;
use crate::error::WardenError;
use crate::order::Order;
use crate::progress::Steps;
use crate::world::World;

/// Waits until each dependency is what `depends_on` asks for. One that cannot become that any more, or that nobody has
/// asked to start, ends the wait.
pub(crate) async fn wait(world: &World, agent: &Agent, steps: &Steps) -> Result<(), WardenError> {
    for (name, dependency) in &agent.depends_on {
        let Some((_, other)) = world.agent(name) else { continue };
        let mut stage = other.stage.subscribe();
        let comes = |stage: Stage| {
            let rests = *other.order.borrow() == Order::Rest;
            answer(dependency.condition, stage).or_else(|| rests.then_some(Answer::Not))
        };
        let mut order = other.order.subscribe();
        let (met, last) = loop {
            let now = *stage.borrow_and_update();
            if let Some(answer) = comes(now) {
                break (answer == Answer::Met, now);
            }
            // Both senders live as long as the world.
            tokio::select! {
                _ = stage.changed() => {}
                _ = order.changed() => {}
            }
        };
        if !met && !dependency.required {
            let what = format!("goes on without `{name}`, which is not required");
            steps.note(Phase::Waiting, StepState::Started, &what);
        } else if !met {
            return Err(WardenError::Environment {
                what: format!(
                    "dependency `{name}` {}, and `depends_on` asks for `{}`",
                    how(last),
                    asked_for(dependency.condition)
                ),
                todo: "see what it wrote with `casemate logs NAME`, or start it with `casemate start NAME`",
            });
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Met,
    Not,
}

/// How a dependency stands that will not become what is asked for, in words.
fn how(stage: Stage) -> String {
    match stage {
        Stage::Before => "was not started".to_owned(),
        Stage::Running => "runs, is not healthy, and is about to end".to_owned(),
        Stage::Healthy => "is healthy, and is about to end".to_owned(),
        Stage::Ended(status) => format!("ended with status {status}"),
        Stage::Failed => "did not start".to_owned(),
    }
}

/// The condition as a Compose file has it.
const fn asked_for(condition: Condition) -> &'static str {
    match condition {
        Condition::ServiceStarted => "service_started",
        Condition::ServiceHealthy => "service_healthy",
        Condition::ServiceCompletedSuccessfully => "service_completed_successfully",
    }
}

/// Whether a dependency at this stage is what the condition asks for; none where it may still become that.
const fn answer(condition: Condition, stage: Stage) -> Option<Answer> {
    match (condition, stage) {
        (_, Stage::Failed) => Some(Answer::Not),
        (_, Stage::Before) => None,
        (Condition::ServiceStarted, _) => Some(Answer::Met),
        (Condition::ServiceHealthy, Stage::Healthy) => Some(Answer::Met),
        (Condition::ServiceHealthy, Stage::Ended(_)) => Some(Answer::Not),
        (Condition::ServiceCompletedSuccessfully, Stage::Ended(0)) => Some(Answer::Met),
        (Condition::ServiceCompletedSuccessfully, Stage::Ended(_)) => Some(Answer::Not),
        (Condition::ServiceHealthy | Condition::ServiceCompletedSuccessfully, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_condition_has_its_answer_at_each_stage() {
        use Answer::{Met, Not};
        let stages =
            [Stage::Before, Stage::Running, Stage::Healthy, Stage::Ended(0), Stage::Ended(1), Stage::Failed];
        for (condition, expected) in [
            (Condition::ServiceStarted, [None, Some(Met), Some(Met), Some(Met), Some(Met), Some(Not)]),
            (Condition::ServiceHealthy, [None, None, Some(Met), Some(Not), Some(Not), Some(Not)]),
            (Condition::ServiceCompletedSuccessfully, [None, None, None, Some(Met), Some(Not), Some(Not)]),
        ] {
            assert_eq!(stages.map(|stage| answer(condition, stage)), expected, "{condition:?}");
        }
    }
}
