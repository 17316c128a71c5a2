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
            rule: printable(rule.to_owned()),
            expected: printable(expected.to_string()),
            found: printable(found.to_string()),
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

/// The text as one line that shows what it is: what would end the line, turn it around or hide in it becomes U+FFFD.
#[must_use]
pub fn printable_line(text: &str) -> String {
    into_printable_line(text.to_owned())
}

/// Likewise, for text that is at hand: it is given back where nothing in it had to change.
#[must_use]
pub fn into_printable_line(text: String) -> String {
    if is_plain(&text) { text } else { text.chars().map(visible).collect() }
}

/// Whether all of it is printable ASCII, as nearly every text is.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn visible(c: char) -> char {
    if is_deceptive(c) { char::REPLACEMENT_CHARACTER } else { c }
}

fn printable(text: String) -> String {
    if text.len() <= REFUSAL_PART_BYTES_MAX && is_plain(&text) {
        return text;
    }
    let mut out = String::new();
    for c in text.chars() {
        if out.len() >= REFUSAL_PART_BYTES_MAX {
            out.push('\u{2026}');
            break;
        }
        out.push(visible(c));
    }
    out
}

/// Characters that end a line, move the cursor, change the direction of text or are not seen: control characters (Cc),
/// line and paragraph separators (Zl, Zp), format characters (Cf, Unicode 16.0), and those for private use.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{e000}'..='\u{f8ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
            | '\u{f0000}'..='\u{10ffff}')
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
    fn cannot_turn_text_around_or_hide_some_of_it() {
        for c in [
            '\u{202e}',
            '\u{2066}',
            '\u{2069}',
            '\u{200b}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{feff}',
            '\u{ad}',
            '\u{61c}',
            '\u{e0041}',
            '\u{85}',
            '\u{2060}',
        ] {
            let refusal = Refusal::new("nonce", "", format_args!("a{c}b"));
            assert_eq!(refusal.found, "a\u{fffd}b", "{:x}", u32::from(c));
        }
        let words = "h\u{e9}llo \u{4e16}\u{754c} \u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{2026} \u{2713}";
        assert_eq!(Refusal::new("nonce", words, "").expected, words);
    }

    #[test]
    fn bounds_each_part() {
        let refusal = Refusal::new("nonce", "x".repeat(100_000), "");
        assert!(refusal.expected.len() < REFUSAL_PART_BYTES_MAX + 8);
    }
}
