//! What a battery came to, for people and for programs.

use std::time::Duration;

use serde::Serialize;

use crate::attack::{Attack, Length};
use crate::run::Seen;
use crate::verdict::Verdict;

/// One attack in one target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Name of the attack.
    pub attack: &'static str,
    /// What it is.
    pub title: &'static str,
    /// What it came to.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What was seen between plain processes.
    pub positive_control: String,
    /// What was seen there with an idle victim; none where it was not needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_control: Option<String>,
    /// What was seen in the target.
    pub seen: String,
    /// What was seen there with an idle victim; none where it was not needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_idle: Option<String>,
    /// How long the target took.
    pub took_ms: u64,
    /// Whether the short battery has it.
    pub short: bool,
}

impl Row {
    pub(crate) fn of(
        attack: &Attack,
        verdict: Verdict,
        control: &Seen,
        idle: Option<&Seen>,
        seen: &Seen,
        seen_idle: Option<&Seen>,
        took: Duration,
    ) -> Self {
        Self {
            attack: attack.name,
            title: attack.title,
            verdict,
            positive_control: control.describe(),
            negative_control: idle.map(Seen::describe),
            seen: seen.describe(),
            seen_idle: seen_idle.map(Seen::describe),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            short: attack.length == Length::Short,
        }
    }

    /// Whether it leaks what nothing allows.
    #[must_use]
    pub const fn leaks(&self) -> bool {
        matches!(self.verdict, Verdict::Leak { .. })
    }
}

/// How many of each verdict, in the order of names.
#[must_use]
pub fn summary(rows: &[Row]) -> String {
    let count = |name: &str| rows.iter().filter(|row| row.verdict.name() == name).count();
    format!(
        "{} blocked, {} leak, {} allowed, {} inconclusive",
        count("blocked"),
        count("leak"),
        count("allowed"),
        count("inconclusive")
    )
}
