//! `casemate doctor --watch`: looks again and again, and tells what changed.

use std::collections::BTreeMap;
use std::time::Duration;

use casemate_posture::doctor::{Finding, Verdict};
use jiff::Timestamp;
use serde_json::json;

use crate::lines;

type Key = (String, Option<String>);
type State = BTreeMap<Key, (Verdict, String)>;

/// A change of a finding; nothing stands for a finding that was not there, or is no more.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    key: Key,
    before: Option<(Verdict, String)>,
    now: Option<(Verdict, String)>,
}

/// Looks again each `interval`, until nobody reads any more.
pub(super) fn changes(
    as_json: bool,
    interval: Duration,
    findings: Vec<Finding>,
    look: impl Fn() -> Vec<Finding>,
) {
    let mut before = state(findings);
    while !lines::output_ended() {
        std::thread::sleep(interval);
        let now = state(look());
        let at = Timestamp::now();
        for change in between(&before, &now) {
            lines::print(if as_json { change.json(at) } else { change.text(at) });
        }
        before = now;
    }
}

fn state(findings: Vec<Finding>) -> State {
    findings
        .into_iter()
        .map(|finding| ((finding.id.into_owned(), finding.about), (finding.verdict, finding.observed)))
        .collect()
}

fn between(before: &State, now: &State) -> Vec<Change> {
    let keys = before.keys().chain(now.keys().filter(|key| !before.contains_key(key)));
    let change =
        |key: &Key| Change { key: key.clone(), before: before.get(key).cloned(), now: now.get(key).cloned() };
    keys.map(change).filter(|change| change.before != change.now).collect()
}

impl Change {
    fn text(&self, at: Timestamp) -> String {
        let state = |state: &Option<(Verdict, String)>| {
            state.as_ref().map_or_else(
                || "not there".to_owned(),
                |(verdict, observed)| {
                    format!("{} ({})", verdict.name(), lines::printable(observed.as_bytes()))
                },
            )
        };
        let about = self.key.1.as_ref().map(|about| format!(" {about}")).unwrap_or_default();
        format!("{at:.0} {}{about}: {} is now {}", self.key.0, state(&self.before), state(&self.now))
    }

    fn json(&self, at: Timestamp) -> String {
        let state = |state: &Option<(Verdict, String)>| {
            state.as_ref().map(|(verdict, observed)| json!({ "verdict": verdict, "observed": observed }))
        };
        let (before, now) = (state(&self.before), state(&self.now));
        json!({ "at": at.to_string(), "id": self.key.0, "about": self.key.1, "before": before, "now": now })
            .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_changed_came_and_went() {
        let state = |entries: &[(&str, Verdict, &str)]| -> State {
            entries
                .iter()
                .map(|(id, verdict, seen)| (((*id).into(), None), (*verdict, (*seen).into())))
                .collect()
        };
        let before =
            state(&[("a", Verdict::Pass, "1"), ("b", Verdict::Pass, "1"), ("c", Verdict::Fail, "x")]);
        let now = state(&[("a", Verdict::Pass, "1"), ("b", Verdict::Fail, "2"), ("d", Verdict::Warn, "y")]);
        let at = Timestamp::from_second(0).unwrap();
        let told: Vec<String> = between(&before, &now).iter().map(|change| change.text(at)).collect();
        assert_eq!(
            told,
            [
                "1970-01-01T00:00:00Z b: pass (1) is now fail (2)",
                "1970-01-01T00:00:00Z c: fail (x) is now not there",
                "1970-01-01T00:00:00Z d: not there is now warn (y)",
            ]
        );
        assert!(between(&now, &now).is_empty());
    }
}
