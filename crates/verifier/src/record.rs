//! What a ledger was told, in one text with marks where each part stands.
//!
//! Most appraisals pass, and nobody reads their rules. So a part is written down once, where it comes up, and becomes a
//! text of its own where somebody asks: bounded and printable, because it may quote a hostile certificate or a guest.

use std::fmt::{self, Write as _};
use std::ops::Range;

use casemate_protocol::Refusal;
use casemate_protocol::refusal::into_printable_line;

use crate::ledger::{Claim, RuleResult, Voucher};

/// Longest name of a claim, in characters.
const CLAIM_NAME_CHARS_MAX: usize = 128;
/// Longest value of a claim, in characters. Digests have 128.
const CLAIM_VALUE_CHARS_MAX: usize = 1024;
/// Most bytes that are kept of a part. A character has up to four, and a refusal fewer of them than a claim: what is cut
/// here is beyond every bound of what is shown.
const PART_BYTES_MAX: usize = 4 * (CLAIM_VALUE_CHARS_MAX + 1);

/// Room for an appraisal of real evidence.
const ROWS: usize = 64;
const TEXT_BYTES: usize = 12 << 10;

/// Rules and claims in the order in which they came up.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    text: String,
    rules: Vec<RuleRow>,
    claims: Vec<ClaimRow>,
}

#[derive(Debug, Clone)]
struct RuleRow {
    passed: bool,
    rule: &'static str,
    expected: Range<usize>,
    found: Range<usize>,
}

#[derive(Debug, Clone)]
struct ClaimRow {
    part: &'static str,
    name: Range<usize>,
    value: Range<usize>,
    voucher: Voucher,
}

impl Record {
    pub(crate) fn new() -> Self {
        Self {
            text: String::with_capacity(TEXT_BYTES),
            rules: Vec::with_capacity(ROWS),
            claims: Vec::with_capacity(ROWS),
        }
    }

    pub(crate) fn rule(
        &mut self,
        rule: &'static str,
        passed: bool,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) {
        let expected = self.write(expected);
        let found = self.write(found);
        self.rules.push(RuleRow { passed, rule, expected, found });
    }

    /// A rule that holds because what was found equals what was expected, which reads the same.
    pub(crate) fn rule_of_equals(&mut self, rule: &'static str, found: impl fmt::Display) {
        let found = self.write(found);
        self.rules.push(RuleRow { passed: true, rule, expected: found.clone(), found });
    }

    pub(crate) fn claim(
        &mut self,
        part: &'static str,
        name: &str,
        value: impl fmt::Display,
        voucher: Voucher,
    ) {
        let name = self.write(name);
        let value = self.write(value);
        self.claims.push(ClaimRow { part, name, value, voucher });
    }

    pub(crate) fn any_failed(&self) -> bool {
        self.rules.iter().any(|row| !row.passed)
    }

    pub(crate) fn rules(&self) -> Vec<RuleResult> {
        let read = |row: &RuleRow| {
            let detail = Refusal::new(row.rule, self.part(&row.expected), self.part(&row.found));
            RuleResult { passed: row.passed, detail }
        };
        self.rules.iter().map(read).collect()
    }

    pub(crate) fn claims(&self) -> Vec<Claim> {
        let read = |row: &ClaimRow| Claim {
            part: row.part,
            name: printable(self.part(&row.name), CLAIM_NAME_CHARS_MAX),
            value: printable(self.part(&row.value), CLAIM_VALUE_CHARS_MAX),
            voucher: row.voucher,
        };
        self.claims.iter().map(read).collect()
    }

    fn part(&self, range: &Range<usize>) -> &str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    fn write(&mut self, part: impl fmt::Display) -> Range<usize> {
        let start = self.text.len();
        // A text takes everything; of a part that cannot write itself stays what it wrote.
        let _written = write!(self.text, "{part}");
        let bound = start.saturating_add(PART_BYTES_MAX);
        if self.text.len() > bound
            && let Some(end) = (bound..self.text.len()).find(|end| self.text.is_char_boundary(*end))
        {
            self.text.truncate(end);
        }
        start..self.text.len()
    }
}

/// A name or a value as one bounded line.
fn printable(text: &str, chars_max: usize) -> String {
    let end = text.char_indices().nth(chars_max).map_or(text.len(), |(end, _)| end);
    into_printable_line(text.get(..end).unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_protocol::refusal::REFUSAL_PART_BYTES_MAX;

    fn claims(told: &[(&str, &str)]) -> Vec<Claim> {
        let mut record = Record::new();
        for (name, value) in told {
            record.claim("platform", name, value, Voucher::HostClaimed);
        }
        record.claims()
    }

    #[test]
    fn a_claim_is_one_bounded_line() {
        let long = "x".repeat(CLAIM_VALUE_CHARS_MAX + 1);
        let read = claims(&[("csp-id", "a\n\u{1b}[2Jb"), ("csp-id", &long)]);
        assert_eq!(read[0].value, "a\u{fffd}\u{fffd}[2Jb");
        assert_eq!(read[1].value.len(), CLAIM_VALUE_CHARS_MAX);
        let names = [CLAIM_NAME_CHARS_MAX, CLAIM_NAME_CHARS_MAX + 1].map(|length| "x".repeat(length));
        let read = claims(&[("azure.a\n\u{1b}[2Jb", ""), (&names[0], ""), (&names[1], "")]);
        assert_eq!(read[0].name, "azure.a\u{fffd}\u{fffd}[2Jb");
        assert_eq!(read[1].name.len(), CLAIM_NAME_CHARS_MAX);
        assert_eq!(read[2].name.len(), CLAIM_NAME_CHARS_MAX);
    }

    #[test]
    fn what_is_kept_of_a_part_is_bounded_and_enough_for_what_is_shown() {
        for character in ["x", "\u{e9}", "\u{20ac}", "\u{1f600}", "\u{1}", "\u{e0041}"] {
            let long = character.repeat(100_000);
            let mut record = Record::new();
            record.rule("rule", true, &long, "found");
            record.claim("platform", "name", &long, Voucher::HostClaimed);
            record.rule_of_equals("next", "same");
            assert!(record.text.len() < 2 * PART_BYTES_MAX + 64, "{character:?}");
            let [first, next] = record.rules().try_into().unwrap();
            assert_eq!(first.detail, Refusal::new("rule", &long, "found"), "{character:?}");
            assert!(first.detail.expected.len() >= REFUSAL_PART_BYTES_MAX);
            assert_eq!(next.detail, Refusal::new("next", "same", "same"));
            let shown = into_printable_line(long.chars().take(CLAIM_VALUE_CHARS_MAX).collect());
            assert_eq!(record.claims()[0].value, shown, "{character:?}");
        }
    }
}
