//! Why something was refused: the rule, what it expected and what it found.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest text of one part, in bytes. Longer parts are cut, with a mark.
pub const REFUSAL_PART_BYTES_MAX: usize = 600;

/// One refusal. Parts are single lines of printable text: they may quote hostile input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Stable name of the rule, e.g. `agent.measurement`.
    pub rule: String,
    /// What the rule expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl Refusal {
    /// A refusal with its parts made printable and bounded.
    #[must_use]
    pub fn new(rule: &str, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self {
            rule: printable(rule),
            expected: printable(&expected.to_string()),
            found: printable(&found.to_string()),
        }
    }

    /// The same refusal after a journey through a process that is not trusted.
    #[must_use]
    pub fn cleaned(self) -> Self {
        Self::new(&self.rule, self.expected, self.found)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused by rule {}: expected {}, found {}", self.rule, self.expected, self.found)
    }
}

impl std::error::Error for Refusal {}

fn printable(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() >= REFUSAL_PART_BYTES_MAX {
            out.push('\u{2026}');
            break;
        }
        out.push(if c.is_control() { '\u{fffd}' } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cannot_forge_a_second_line_or_a_terminal_sequence() {
        let refusal = Refusal::new("nonce", "a\nb", "\u{1b}[2Jc");
        assert_eq!(refusal.to_string(), "refused by rule nonce: expected a\u{fffd}b, found \u{fffd}[2Jc");
    }

    #[test]
    fn bounds_each_part() {
        let refusal = Refusal::new("nonce", "x".repeat(100_000), "");
        assert!(refusal.expected.len() < REFUSAL_PART_BYTES_MAX + 8);
    }
}
