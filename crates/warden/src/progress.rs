//! What the start of each agent has come to, for whoever watches.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use casemate_composition::lock::AgentName;
use casemate_protocol::control::{Phase, Progress, StepState};
use tokio::sync::Notify;

use crate::error::WardenError;

/// Most steps that are kept for late watchers; older ones are forgotten.
const HISTORY_MAX: usize = 10_000;

/// The latest steps.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    steps: RefCell<VecDeque<Progress>>,
    /// How many were forgotten.
    forgotten: Cell<usize>,
    more: Notify,
}

impl Journal {
    /// Adds a step.
    pub(crate) fn add(&self, step: Progress) {
        let mut steps = self.steps.borrow_mut();
        if steps.len() >= HISTORY_MAX {
            steps.pop_front();
            self.forgotten.set(self.forgotten.get().saturating_add(1));
        }
        steps.push_back(step);
        drop(steps);
        self.more.notify_waiters();
    }

    /// The position after the last step.
    pub(crate) fn end(&self) -> usize {
        self.forgotten.get().saturating_add(self.steps.borrow().len())
    }

    /// The steps from `position` on, as soon as there is one; moves it behind them.
    pub(crate) async fn from(&self, position: &mut usize) -> Vec<Progress> {
        loop {
            let more = self.more.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            let skipped = position.saturating_sub(self.forgotten.get());
            let new: Vec<Progress> = self.steps.borrow().iter().skip(skipped).cloned().collect();
            if !new.is_empty() {
                *position = self.end();
                return new;
            }
            more.await;
        }
    }
}

/// One agent's start: its clock and its place in the journal.
#[derive(Debug, Clone)]
pub(crate) struct Steps {
    agent: AgentName,
    journal: Rc<Journal>,
    began: Instant,
}

impl Steps {
    pub(crate) fn begin(agent: &AgentName, journal: &Rc<Journal>) -> Self {
        Self { agent: agent.clone(), journal: Rc::clone(journal), began: Instant::now() }
    }

    pub(crate) fn note(&self, phase: Phase, state: StepState, detail: &str) {
        self.add(phase, state, detail.to_owned(), None, None);
    }

    pub(crate) fn failed(&self, phase: Phase, error: &WardenError) {
        let detail = format!("{error}\n{}", error.todo());
        self.add(phase, StepState::Failed, detail, error.refusal().cloned(), error.not_executed());
    }

    fn add(
        &self,
        phase: Phase,
        state: StepState,
        detail: String,
        refusal: Option<casemate_protocol::Refusal>,
        not_executed: Option<i32>,
    ) {
        let elapsed_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let agent = self.agent.clone();
        self.journal.add(Progress { agent, phase, state, elapsed_ms, detail, refusal, not_executed });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_late_watcher_gets_the_latest_steps_and_none_twice() {
        let journal = Rc::new(Journal::default());
        let steps = Steps::begin(&"a".parse().unwrap(), &journal);
        for _ in 0..HISTORY_MAX + 5 {
            steps.note(Phase::Run, StepState::Done, "");
        }
        let mut position = 0;
        assert_eq!(journal.from(&mut position).await.len(), HISTORY_MAX);
        assert_eq!(position, journal.end());
        steps.note(Phase::Exited, StepState::Done, "");
        assert_eq!(journal.from(&mut position).await.len(), 1);
    }
}
