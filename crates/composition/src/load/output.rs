//! The loaded composition as a Compose file again: YAML or JSON, with sorted keys.
//!
//! Reading the output gives the same model. `$` is written `$$`, so that it is not replaced a second time.

use std::fmt::Write as _;

use crate::compose::{is_old_truth, other_type};
use crate::yaml::{Member, Node, Value};

use super::{Interpolation, Loaded};

/// Longest key that stands before its `:` without a `?` (YAML 1.2.2, section 7.4.2 allows 1024 characters).
const SIMPLE_KEY_CHARS_MAX: usize = 1000;

impl Loaded {
    /// As YAML.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        let writer = Writer { escape: self.interpolation == Interpolation::Done };
        writer.yaml(&self.root, 0, &mut out);
        out
    }

    /// As JSON, which is YAML as well.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        let writer = Writer { escape: self.interpolation == Interpolation::Done };
        writer.json(&self.root, 0, &mut out);
        out.push('\n');
        out
    }
}

struct Writer {
    escape: bool,
}

impl Writer {
    fn text<'t>(&self, text: &'t str) -> std::borrow::Cow<'t, str> {
        if self.escape && text.contains('$') { text.replace('$', "$$").into() } else { text.into() }
    }

    /// The lines of a mapping or a list at this indentation.
    fn yaml(&self, node: &Node, indent: usize, out: &mut String) {
        let blank = " ".repeat(indent);
        match &node.value {
            Value::Map(members) if !members.is_empty() => {
                for member in sorted(members) {
                    let key = key(&member.key);
                    if key.chars().count() > SIMPLE_KEY_CHARS_MAX {
                        let _ = write!(out, "{blank}? {key}\n{blank}:");
                    } else {
                        let _ = write!(out, "{blank}{key}:");
                    }
                    self.below(&member.node, indent.saturating_add(2), out);
                }
            }
            Value::List(items) if !items.is_empty() => {
                for item in items {
                    let _ = write!(out, "{blank}-");
                    self.below(item, indent.saturating_add(2), out);
                }
            }
            _ => {
                let _ = writeln!(out, "{blank}{}", self.flow(node));
            }
        }
    }

    /// What follows `key:` or `-`.
    fn below(&self, node: &Node, indent: usize, out: &mut String) {
        let is_block = match &node.value {
            Value::Map(members) => !members.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Scalar { .. } => false,
        };
        if is_block {
            out.push('\n');
            self.yaml(node, indent, out);
        } else {
            let _ = writeln!(out, " {}", self.flow(node));
        }
    }

    fn flow(&self, node: &Node) -> String {
        match &node.value {
            Value::Map(_) => "{}".to_owned(),
            Value::List(_) => "[]".to_owned(),
            Value::Scalar { .. } if node.is_null() => "null".to_owned(),
            Value::Scalar { text, plain: true } if other_type(text).is_some() => text.clone(),
            Value::Scalar { text, .. } => quoted_if_needed(&self.text(text)),
        }
    }

    fn json(&self, node: &Node, indent: usize, out: &mut String) {
        let (inner, blank) = (" ".repeat(indent.saturating_add(2)), " ".repeat(indent));
        match &node.value {
            Value::Map(members) if !members.is_empty() => {
                for (at, member) in sorted(members).into_iter().enumerate() {
                    let _ = write!(
                        out,
                        "{}{inner}{}: ",
                        if at == 0 { "{\n" } else { ",\n" },
                        quoted(&member.key)
                    );
                    self.json(&member.node, indent.saturating_add(2), out);
                }
                let _ = write!(out, "\n{blank}}}");
            }
            Value::List(items) if !items.is_empty() => {
                for (at, item) in items.iter().enumerate() {
                    let _ = write!(out, "{}{inner}", if at == 0 { "[\n" } else { ",\n" });
                    self.json(item, indent.saturating_add(2), out);
                }
                let _ = write!(out, "\n{blank}]");
            }
            Value::Map(_) => out.push_str("{}"),
            Value::List(_) => out.push_str("[]"),
            Value::Scalar { .. } if node.is_null() => out.push_str("null"),
            Value::Scalar { text, plain: true } if is_json(text) => out.push_str(text),
            Value::Scalar { text, .. } => out.push_str(&quoted(&self.text(text))),
        }
    }
}

fn sorted(members: &[Member]) -> Vec<&Member> {
    let mut all: Vec<&Member> = members.iter().collect();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all
}

/// Whether a YAML reader takes plain `text` for something else than text, in YAML 1.1 or 1.2.
fn is_typed(text: &str) -> bool {
    other_type(text).is_some() || is_old_truth(text)
}

/// Whether plain `text` is the same value in JSON.
fn is_json(text: &str) -> bool {
    is_typed(text)
        && serde_json::from_str(text).is_ok_and(|value: serde_json::Value| {
            let written = value.to_string();
            written == text
        })
}

fn key(text: &str) -> String {
    quoted_if_needed(text)
}

fn quoted_if_needed(text: &str) -> String {
    if is_safe(text) { text.to_owned() } else { quoted(text) }
}

/// Whether `text` means itself without quotes in every version of YAML.
fn is_safe(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b" _./@+,=-".contains(&b);
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_'));
    let number_like = text.starts_with(|c: char| c.is_ascii_digit());
    let mut bytes = text.bytes().peekable();
    let mut safe = begins && !text.ends_with(' ') && !is_typed(text) && text.len() < 4096;
    while let Some(byte) = bytes.next() {
        // A colon inside a word, but not in what YAML 1.1 takes for a number to the base of 60.
        let colon = byte == b':' && !number_like && bytes.peek().is_some_and(|next| *next != b' ');
        safe = safe && (inside(byte) || colon);
    }
    safe
}

/// In double quotes, as JSON has them.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len().saturating_add(2));
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
