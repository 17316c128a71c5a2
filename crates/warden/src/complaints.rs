//! Lines in the warden's own log that an agent can cause: at most one a second each, so that no agent fills the disk.

use std::cell::Cell;
use std::time::{Duration, Instant};

use casemate_composition::lock::AgentName;
use casemate_protocol::Refusal;

/// Time between two lines.
const INTERVAL: Duration = Duration::from_secs(1);

/// The lines about one agent.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    last: Cell<Option<Instant>>,
    untold: Cell<u64>,
}

impl Complaints {
    /// Tells of a refusal, or counts it for the next line.
    pub(crate) fn tell(&self, agent: &AgentName, refusal: &Refusal) {
        if let Some(untold) = self.turn(Instant::now()) {
            tracing::warn!(agent = %agent, untold, "{refusal}");
        }
    }

    /// How many were not told since the last line, when it is time for one.
    fn turn(&self, now: Instant) -> Option<u64> {
        if self.last.get().is_some_and(|last| now.duration_since(last) < INTERVAL) {
            self.untold.set(self.untold.get().saturating_add(1));
            return None;
        }
        self.last.set(Some(now));
        Some(self.untold.replace(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_once_a_second_and_counts_the_rest() {
        let complaints = Complaints::default();
        let start = Instant::now();
        assert_eq!(complaints.turn(start), Some(0));
        for _ in 0..1000 {
            assert_eq!(complaints.turn(start + INTERVAL / 2), None);
        }
        assert_eq!(complaints.turn(start + INTERVAL), Some(1000));
        assert_eq!(complaints.turn(start + 3 * INTERVAL), Some(0));
    }
}
