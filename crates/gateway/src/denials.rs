//! Which denied names are reported: each at most once a second, and only so many of one agent.
//!
//! What it is: the bound on what an agent can make the warden read and log by asking for names without end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(1);

/// The names that one agent was denied in the current second.
#[derive(Debug)]
pub(crate) struct Denials {
    names_max: usize,
    since: Instant,
    names: BTreeSet<String>,
    /// Distinct names or repetitions that were not reported, ever.
    unreported: u64,
}

impl Denials {
    pub(crate) fn new(names_max: usize, now: Instant) -> Self {
        Self { names_max, since: now, names: BTreeSet::new(), unreported: 0 }
    }

    /// Whether the denial of `name` at `now` is one to report.
    pub(crate) fn report(&mut self, name: &str, now: Instant) -> bool {
        if now.duration_since(self.since) >= WINDOW {
            self.since = now;
            self.names.clear();
        }
        let report = self.names.len() < self.names_max && self.names.insert(name.to_owned());
        if !report {
            self.unreported = self.unreported.saturating_add(1);
        }
        report
    }

    /// How many were not reported, ever.
    pub(crate) fn unreported(&self) -> u64 {
        self.unreported
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_a_name_once_a_second_and_only_so_many_names() {
        let start = Instant::now();
        let mut denials = Denials::new(2, start);
        let asked = ["a", "a", "b", "c", "a"].map(|name| denials.report(name, start));
        assert_eq!((asked, denials.unreported()), ([true, false, true, false, false], 3));
        assert!(!denials.report("c", start + WINDOW - Duration::from_millis(1)));
        assert!(denials.report("c", start + WINDOW));
    }
}
