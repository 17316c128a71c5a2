//! Time as an argument: the verifier has no clock.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use der::DateTime;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Seconds of a day.
const DAY_SECONDS: u64 = 86_400;

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// From `YYYY-MM-DDTHH:MM:SSZ`, the one form in Intel's documents.
    pub(crate) fn from_rfc3339(text: &str) -> Option<Self> {
        let date: DateTime = text.parse().ok()?;
        let time = Self(date.unix_duration().as_secs());
        (time.to_string() == text).then_some(time)
    }

    /// Whether more than `days` days passed since `earlier`: a second more is more.
    pub(crate) fn is_later_by_more_than(self, days: u32, earlier: Self) -> bool {
        self.0.saturating_sub(earlier.0) > u64::from(days).saturating_mul(DAY_SECONDS)
    }

    /// Whole days from `earlier` to here; zero where `earlier` is later.
    pub(crate) fn days_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / DAY_SECONDS
    }
}

impl<'de> Deserialize<'de> for UnixTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::from_rfc3339(&text).ok_or_else(|| D::Error::custom("not a time as 2026-01-31T00:00:00Z"))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_unix_duration(Duration::from_secs(self.0)) {
            Ok(date) => date.fmt(f),
            Err(_) => write!(f, "second {} since 1970", self.0),
        }
    }
}

/// The time in which a signed statement holds, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from: UnixTime,
    pub(crate) until: UnixTime,
}

impl Window {
    pub(crate) fn holds_at(&self, now: UnixTime) -> bool {
        self.from <= now && now <= self.until
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.from, self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_only_the_form_that_it_writes() {
        let time = UnixTime::from_rfc3339("2026-03-20T10:41:15Z");
        assert_eq!(time, Some(UnixTime(1_774_003_275)));
        assert_eq!(UnixTime(1_774_003_275).to_string(), "2026-03-20T10:41:15Z");
        for bad in
            ["", "2026-03-20", "2026-03-20T10:41:15", "2026-03-20T10:41:15+00:00", "2026-13-20T10:41:15Z"]
        {
            assert_eq!(UnixTime::from_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_window_includes_both_its_ends() {
        let window = Window { from: UnixTime(10), until: UnixTime(20) };
        let held = [9, 10, 20, 21].map(|second| window.holds_at(UnixTime(second)));
        assert_eq!(held, [false, true, true, false]);
    }
}
