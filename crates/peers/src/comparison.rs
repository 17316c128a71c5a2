//! Comparing verdicts: equal, or different for a reason that stands in [`crate::differences`].

use std::collections::BTreeMap;

use crate::differences::{DIFFERENCES, Difference, Peer};

/// What a verifier says: the status it accepts with, or why it refuses.
pub type Verdict = Result<String, String>;

/// One run of cases whose names begin alike.
#[derive(Debug)]
pub struct Comparison {
    peer: Peer,
    prefix: &'static str,
    used: Vec<bool>,
    /// By case and verdicts: how often, and one of them in detail.
    unexplained: BTreeMap<String, (usize, String)>,
    compared: usize,
    different: usize,
}

impl Comparison {
    /// For cases whose names begin with `prefix`.
    #[must_use]
    pub fn new(peer: Peer, prefix: &'static str) -> Self {
        Self {
            peer,
            prefix,
            used: vec![false; DIFFERENCES.len()],
            unexplained: BTreeMap::new(),
            compared: 0,
            different: 0,
        }
    }

    /// Compares the verdicts on one case; `detail` is only for the message.
    pub fn add(&mut self, case: &str, detail: &str, ours: &Verdict, theirs: &Verdict) {
        self.compared += 1;
        let same = match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => ours == theirs,
            (Err(_), Err(_)) => true,
            _ => false,
        };
        if same {
            return;
        }
        self.different += 1;
        let case = format!("{}{case}", self.prefix);
        let explains = |row: &Difference| {
            row.peer == self.peer
                && matches(row.case, &case)
                && says(row.ours, ours)
                && says(row.theirs, theirs)
        };
        match DIFFERENCES.iter().position(explains) {
            Some(row) => {
                if let Some(used) = self.used.get_mut(row) {
                    *used = true;
                }
            }
            None => {
                let kind = format!("{case}: ours {ours:?}, theirs {theirs:?}");
                self.unexplained.entry(kind).or_insert_with(|| (0, detail.to_owned())).0 += 1;
            }
        }
    }

    /// How many cases were compared, and how many differed with a reason.
    ///
    /// # Errors
    /// The differences without a reason, and the reasons that no case has any more.
    pub fn finish(self) -> Result<(usize, usize), String> {
        let several = |(kind, (count, detail))| format!("{count} x {kind}, as {detail}");
        let mut problems: Vec<String> = self.unexplained.into_iter().map(several).collect();
        for (row, used) in DIFFERENCES.iter().zip(&self.used) {
            if row.peer == self.peer && row.case.starts_with(self.prefix) && !used {
                problems.push(format!("no case differs as this row says: {row:?}"));
            }
        }
        const SHOWN: usize = 100;
        let count = problems.len();
        problems.truncate(SHOWN);
        if count == 0 {
            return Ok((self.compared, self.different));
        }
        Err(format!("{count} kinds in {} cases:\n{}", self.compared, problems.join("\n")))
    }
}

/// Whether a verdict is what a row says: `accepts`, or part of the reason of a refusal.
fn says(row: &str, verdict: &Verdict) -> bool {
    match verdict {
        Ok(status) => {
            row == "accepts" || row.strip_prefix("accepts: ").is_some_and(|text| status.contains(text))
        }
        Err(reason) => !row.starts_with("accepts") && reason.contains(row),
    }
}

/// Whether a name matches a pattern in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => {
            let Some(rest) = name.strip_prefix(head) else { return false };
            (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| matches(tail, rest)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/bc", false),
            ("a/*", "a/", true),
            ("a/*/c", "a/b/b/c", true),
            ("a/*/c", "a/b/d", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_difference_without_a_row_fails_and_two_refusals_are_none() {
        let mut comparison = Comparison::new(Peer::DcapQvl, "no such prefix/");
        comparison.add("x", "", &Err("a".into()), &Err("b".into()));
        comparison.add("x", "", &Ok("UpToDate".into()), &Ok("UpToDate".into()));
        comparison.add("x", "1", &Ok("UpToDate".into()), &Ok("OutOfDate".into()));
        comparison.add("x", "2", &Ok("UpToDate".into()), &Ok("OutOfDate".into()));
        comparison.add("x", "", &Err("a".into()), &Ok("UpToDate".into()));
        assert_eq!(comparison.unexplained.len(), 2);
        assert!(comparison.finish().unwrap_err().starts_with("2 kinds"));
    }
}
