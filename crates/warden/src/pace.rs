//! How fast something may go on: so much at once, and then so much in a second.

use std::time::{Duration, Instant};

/// An allowance that fills with time.
pub(crate) struct Pace {
    burst: u64,
    a_second: u64,
    left: u64,
    filled: Instant,
}

impl Pace {
    /// A full allowance of `burst`, into which `a_second` flows.
    pub(crate) const fn new(burst: u64, a_second: u64, now: Instant) -> Self {
        Self { burst, a_second, left: burst, filled: now }
    }

    /// Takes `amount`, of which there may be less than asked for left. How long to pause until that is paid back.
    pub(crate) fn pause_after(&mut self, amount: u64, now: Instant) -> Duration {
        let flowed = now.saturating_duration_since(self.filled).as_micros() * u128::from(self.a_second);
        let flowed = u64::try_from(flowed / 1_000_000).unwrap_or(u64::MAX);
        if flowed > 0 {
            self.left = self.left.saturating_add(flowed).min(self.burst);
            self.filled = now;
        }
        let missing = amount.saturating_sub(self.left);
        self.left = self.left.saturating_sub(amount);
        if missing == 0 {
            return Duration::ZERO;
        }
        let pause = u128::from(missing) * 1_000_000 / u128::from(self.a_second.max(1));
        let pause = Duration::from_micros(u64::try_from(pause).unwrap_or(u64::MAX));
        // The time of the pause pays for what was missing, and for nothing after it.
        self.filled = now + pause;
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_passes_and_then_a_second_brings_so_much() {
        let begin = Instant::now();
        let mut pace = Pace::new(100, 10, begin);
        assert_eq!(pace.pause_after(100, begin), Duration::ZERO);
        assert_eq!(pace.pause_after(5, begin), SECOND / 2);
        assert_eq!(pace.pause_after(5, begin + SECOND / 2), SECOND / 2, "a pause is no allowance");
        assert_eq!(pace.pause_after(10, begin + 2 * SECOND), Duration::ZERO);
    }

    #[test]
    fn an_allowance_never_exceeds_the_burst() {
        let begin = Instant::now();
        let mut pace = Pace::new(100, 10, begin);
        assert_eq!(pace.pause_after(110, begin + 1000 * SECOND), SECOND);
    }

    #[test]
    fn looks_at_short_times_lose_nothing() {
        let begin = Instant::now();
        let mut pace = Pace::new(100, 10, begin);
        let _ = pace.pause_after(100, begin);
        for step in 1..=1000 {
            let _ = pace.pause_after(0, begin + Duration::from_millis(step));
        }
        assert_eq!(pace.pause_after(10, begin + SECOND), Duration::ZERO);
    }
}
