//! The override file as a tree, and its text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::problem::printable;
use crate::yaml::{Node, Value};

/// Longest line of a comment, in characters.
const COMMENT_CHARS_MAX: usize = 116;

/// A mapping of the file, or the end of a path.
#[derive(Debug, Default)]
pub(super) struct Patch {
    /// Lines above.
    comments: Vec<String>,
    /// What follows the key, already YAML; none for a mapping.
    value: Option<String>,
    below: BTreeMap<String, Self>,
}

impl Patch {
    /// The mapping at `path`.
    pub(super) fn below(&mut self, path: &[&str]) -> &mut Self {
        path.iter().fold(self, |patch, key| patch.below.entry((*key).to_owned()).or_default())
    }

    /// Writes `yaml` at `path`.
    pub(super) fn put(&mut self, path: &[&str], yaml: &str, comment: Option<&str>) {
        let patch = self.below(path);
        patch.value = Some(yaml.to_owned());
        patch.comments.extend(comment.map(printable));
    }

    /// Takes out what is at `path`.
    pub(super) fn reset(&mut self, path: &[&str], why: &str) {
        self.put(path, "!reset null", Some(why));
    }

    /// Adds a line above what is at `path`.
    pub(super) fn comment(&mut self, path: &[&str], text: &str) {
        self.below(path).comments.push(printable(text));
    }

    /// Whether nothing is in it: mappings that were only looked at do not count.
    pub(super) fn is_empty(&self) -> bool {
        self.value.is_none() && self.comments.is_empty() && self.below.values().all(Self::is_empty)
    }

    /// The file.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        self.write(0, &mut out);
        out
    }

    fn write(&self, indent: usize, out: &mut String) {
        let blank = " ".repeat(indent);
        for (key, patch) in self.below.iter().filter(|(_, patch)| !patch.is_empty()) {
            for line in patch.comments.iter().flat_map(|text| wrapped(text, indent)) {
                let _ = writeln!(out, "{blank}# {line}");
            }
            match &patch.value {
                Some(value) => {
                    let _ = writeln!(out, "{blank}{}: {value}", name(key));
                }
                // A comment alone: a key without a value would mean something.
                None if patch.below.values().all(Self::is_empty) => {}
                None => {
                    let _ = writeln!(out, "{blank}{}:", name(key));
                    patch.write(indent.saturating_add(2), out);
                }
            }
        }
    }
}

/// `text` in lines that fit behind `indent` and a `# `.
fn wrapped(text: &str, indent: usize) -> Vec<String> {
    let room = COMMENT_CHARS_MAX.saturating_sub(indent);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count().saturating_add(word.chars().count()) < room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A key: plain where nothing in it could mean anything else.
fn name(key: &str) -> String {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    let old_truth = matches!(key, "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null");
    if key.bytes().all(plain) && key.starts_with(|c: char| c.is_ascii_lowercase()) && !old_truth {
        return key.to_owned();
    }
    quoted(key)
}

/// Text in double quotes, for YAML and for interpolation.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text.replace('$', "$$")).to_string()
}

/// A value on one line. Plain scalars stay plain: numbers and truth values are meant.
pub(super) fn flow(node: &Node) -> String {
    match &node.value {
        Value::Scalar { text, plain: true } if is_plain(text) => text.clone(),
        Value::Scalar { text, .. } => quoted(text),
        Value::List(items) => {
            let all: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", all.join(", "))
        }
        Value::Map(members) => {
            let all: Vec<String> = members
                .iter()
                .map(|member| format!("{}: {}", quoted(&member.key), flow(&member.node)))
                .collect();
            format!("{{{}}}", all.join(", "))
        }
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}
