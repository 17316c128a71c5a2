//! What the start of each agent has come to, for whoever watches.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use casemate_composition::lock::AgentName;
use casemate_protocol::control::{Phase, Progress, StepState};
use tokio::sync::Notify;

use crate::error::WardenError;

/// Most steps that are kept for late watchers.
const HISTORY_MAX: usize = 10_000;

/// All steps so far.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    steps: RefCell<Vec<Progress>>,
    more: Notify,
}

impl Journal {
    /// Adds a step.
    pub(crate) fn add(&self, step: Progress) {
        let mut steps = self.steps.borrow_mut();
        if steps.len() < HISTORY_MAX {
            steps.push(step);
        }
        drop(steps);
        self.more.notify_waiters();
    }

    /// The steps from `position` on, as soon as there is one.
    pub(crate) async fn from(&self, position: usize) -> Vec<Progress> {
        loop {
            let more = self.more.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            let new: Vec<Progress> = self.steps.borrow().iter().skip(position).cloned().collect();
            if !new.is_empty() {
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
        self.add(phase, state, detail.to_owned(), None);
    }

    pub(crate) fn failed(&self, phase: Phase, error: &WardenError) {
        let detail = format!("{error}\n{}", error.todo());
        self.add(phase, StepState::Failed, detail, error.refusal().cloned());
    }

    fn add(
        &self,
        phase: Phase,
        state: StepState,
        detail: String,
        refusal: Option<casemate_protocol::Refusal>,
    ) {
        let elapsed_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.journal.add(Progress { agent: self.agent.clone(), phase, state, elapsed_ms, detail, refusal });
    }
}
