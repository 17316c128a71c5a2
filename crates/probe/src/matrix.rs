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

    /// In a word.
    fn cell(&self) -> String {
        match self.verdict {
            Verdict::Leak { .. } | Verdict::Allowed { .. } if self.seen.contains("bit/s") => {
                let rate = self.seen.split(',').next().unwrap_or_default();
                format!("{} {rate}", self.verdict.name())
            }
            _ => self.verdict.name().to_owned(),
        }
    }

    /// Whether it leaks what nothing allows.
    #[must_use]
    pub const fn leaks(&self) -> bool {
        matches!(self.verdict, Verdict::Leak { .. })
    }
}

/// One line for each attack, one column for each target, one word for each verdict; a channel with its bit/s.
#[must_use]
pub fn table(targets: &[(String, &[Row])]) -> Vec<Vec<String>> {
    let mut head = vec!["ATTACK".to_owned()];
    head.extend(targets.iter().map(|(name, _)| name.clone()));
    let mut table = vec![head];
    let names = targets.first().map_or(&[][..], |(_, rows)| rows).iter().map(|row| row.attack);
    for name in names {
        let cell = |rows: &[Row]| {
            let row = rows.iter().find(|row| row.attack == name);
            row.map_or_else(|| "-".to_owned(), |row| row.cell())
        };
        let mut line = vec![name.to_owned()];
        line.extend(targets.iter().map(|(_, rows)| cell(rows)));
        table.push(line);
    }
    table
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attacks::by_name;

    fn row(name: &str, verdict: Verdict, seen: &str) -> Row {
        let attack = by_name(name).unwrap();
        let seen = Seen::Got(seen.into());
        Row::of(attack, verdict, &seen, None, &seen, None, Duration::ZERO)
    }

    #[test]
    fn a_table_has_a_line_for_each_attack_and_a_column_for_each_target() {
        let leak = || Verdict::Leak { signal: "x".into() };
        let one = [row("trace", leak(), "a hold"), row("inode-numbers", leak(), "250 bit/s, 0.0 % wrong")];
        let other = [row("trace", Verdict::Blocked { control: "seccomp".into() }, "")];
        let table = table(&[("one".into(), &one), ("other".into(), &other)]);
        assert_eq!(table[0], ["ATTACK", "one", "other"]);
        assert_eq!(table[1], ["trace", "leak", "blocked"]);
        assert_eq!(table[2], ["inode-numbers", "leak got 250 bit/s", "-"]);
        assert_eq!(summary(&one), "0 blocked, 2 leak, 0 allowed, 0 inconclusive");
    }
}
