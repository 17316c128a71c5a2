//! Restart policies: whether an agent that ended starts again, and after which pause.

use std::time::Duration;

use casemate_composition::lock::{Restart, RestartCondition};

/// Pause before the first restart; it doubles up to the largest.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// An agent that ran this long starts with the smallest pause again.
const BACKOFF_RESET: Duration = Duration::from_secs(60);

/// The restarts of one agent since a user last asked it to run.
#[derive(Debug)]
pub(crate) struct Restarts {
    policy: Restart,
    /// Since the agent last ran for the window of its policy.
    count: u32,
    backoff: Duration,
}

impl Restarts {
    /// None yet.
    pub(crate) const fn of(policy: Restart) -> Self {
        Self { policy, count: 0, backoff: BACKOFF_MIN }
    }

    /// Whether an agent starts again that ran this long and ended with this status.
    pub(crate) fn allow(&mut self, status: i32, ran: Duration) -> bool {
        if self.policy.window_ms.is_some_and(|window| ran >= Duration::from_millis(window)) {
            self.count = 0;
        }
        if ran > BACKOFF_RESET {
            self.backoff = BACKOFF_MIN;
        }
        let asked = match self.policy.condition {
            RestartCondition::No => false,
            RestartCondition::Always => true,
            RestartCondition::OnFailure => status != 0,
        };
        asked && self.policy.attempts_max.is_none_or(|most| self.count < most)
    }

    /// The pause before the restart that follows: as long as the policy says, or longer each time.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.policy.delay_ms.map_or(self.backoff, Duration::from_millis);
        self.backoff = self.backoff.saturating_mul(2).min(BACKOFF_MAX);
        self.count = self.count.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(10);

    #[test]
    fn each_condition_allows_what_it_says() {
        for (condition, well, badly) in [
            (RestartCondition::No, false, false),
            (RestartCondition::OnFailure, false, true),
            (RestartCondition::Always, true, true),
        ] {
            let mut restarts = Restarts::of(Restart::on(condition));
            assert_eq!((restarts.allow(0, SHORT), restarts.allow(1, SHORT)), (well, badly), "{condition:?}");
        }
    }

    #[test]
    fn attempts_are_counted_until_a_run_of_the_window() {
        let policy =
            Restart { attempts_max: Some(2), window_ms: Some(1000), ..Restart::on(RestartCondition::Always) };
        let mut restarts = Restarts::of(policy);
        for allowed in [true, true, false] {
            assert_eq!(restarts.allow(1, SHORT), allowed);
            restarts.pause();
        }
        assert!(restarts.allow(1, Duration::from_secs(1)));
    }

    #[test]
    fn pauses_double_to_a_minute_and_begin_anew_after_a_long_run() {
        let mut restarts = Restarts::of(Restart::on(RestartCondition::Always));
        let pauses: Vec<u128> = (0..12).map(|_| restarts.pause().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
        restarts.allow(1, Duration::from_secs(61));
        assert_eq!(restarts.pause(), BACKOFF_MIN);
        let fixed = Restart { delay_ms: Some(5000), ..Restart::on(RestartCondition::Always) };
        let mut restarts = Restarts::of(fixed);
        assert_eq!((restarts.pause().as_secs(), restarts.pause().as_secs()), (5, 5));
    }
}
