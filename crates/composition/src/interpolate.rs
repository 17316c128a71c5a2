//! `${VAR}` in the values of a Compose file, from variables that the caller gives.
//!
//! Strict where Compose warns: a variable without value and without default is a problem, because what is
//! measured must not depend on what somebody forgot to set.

use std::collections::BTreeMap;

use crate::problem::{Findings, Place, printable};
use crate::yaml::{Node, Value};

/// Longest value after interpolation, in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 64 << 10;
/// Most text that variables bring into one file, in bytes.
const EXPANDED_BYTES_MAX: usize = 8 << 20;
/// Deepest nesting of defaults: `${A:-${B:-${C}}}` has 3.
const NESTING_MAX: usize = 8;

/// Replaces variables in every value below `node`. Keys stay as they are.
pub(crate) fn tree(node: &mut Node, variables: &BTreeMap<String, String>, findings: &mut Findings<'_>) {
    let mut bytes_left = EXPANDED_BYTES_MAX;
    below(node, variables, &mut bytes_left, findings);
}

fn below(
    node: &mut Node,
    variables: &BTreeMap<String, String>,
    bytes_left: &mut usize,
    findings: &mut Findings<'_>,
) {
    match &mut node.value {
        Value::Scalar { text, plain } if text.contains('$') => {
            let expanded = expand(text, variables, 0).and_then(|expanded| {
                *bytes_left = bytes_left.checked_sub(expanded.len()).ok_or_else(|| Fault {
                    what: format!("variables bring more than {EXPANDED_BYTES_MAX} bytes into this file"),
                    todo: "use shorter variables".to_owned(),
                })?;
                Ok(expanded)
            });
            match expanded {
                Ok(expanded) => {
                    *text = expanded;
                    *plain = false;
                }
                Err(Fault { what, todo }) => findings.broken(node.place, what, todo),
            }
        }
        Value::Scalar { .. } => {}
        Value::List(items) => items.iter_mut().for_each(|item| below(item, variables, bytes_left, findings)),
        Value::Map(members) => {
            members.iter_mut().for_each(|member| below(&mut member.node, variables, bytes_left, findings));
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Fault {
    what: String,
    todo: String,
}

fn fault<T>(what: impl Into<String>, todo: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { what: what.into(), todo: todo.into() })
}

fn expand(text: &str, variables: &BTreeMap<String, String>, nesting: usize) -> Result<String, Fault> {
    if nesting > NESTING_MAX {
        return fault(format!("variables nested deeper than {NESTING_MAX}"), "write fewer nested defaults");
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (inside, after) = braced(after)?;
            out.push_str(&substitute(inside, variables, nesting)?);
            rest = after;
        } else {
            let (name, after) = name(after);
            if name.is_empty() {
                return fault("`$` is not followed by a variable", "write `$$` for a dollar sign");
            }
            out.push_str(&substitute(name, variables, nesting)?);
            rest = after;
        }
        if out.len() > VALUE_BYTES_MAX {
            return fault(format!("value is longer than {VALUE_BYTES_MAX} bytes"), "use shorter variables");
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// What stands in the braces, and what follows them.
fn braced(text: &str) -> Result<(&str, &str), Fault> {
    let mut depth = 1_usize;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '{' if before == '$' => depth = depth.saturating_add(1),
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            let (inside, after) = text.split_at(at);
            return Ok((inside, after.strip_prefix('}').unwrap_or(after)));
        }
        before = c;
    }
    fault("`${` has no closing `}`", "close it, or write `$$` for a dollar sign")
}

/// A variable's name at the start of `text`, and what follows it.
fn name(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.starts_with(|c: char| c.is_ascii_digit()) { ("", text) } else { (name, rest) }
}

fn substitute(inside: &str, variables: &BTreeMap<String, String>, nesting: usize) -> Result<String, Fault> {
    let (name, form) = name(inside);
    if name.is_empty() {
        return fault(
            format!("`${{{}}}` names no variable", printable(inside)),
            "write `${NAME}`, or `$$` for a dollar sign",
        );
    }
    let value = variables.get(name).map(String::as_str);
    let filled = value.filter(|value| !value.is_empty());
    let more = nesting.saturating_add(1);
    let (value, operand) = match form {
        "" => (value.map(str::to_owned), None),
        _ => match form.split_at_checked(if form.starts_with(':') { 2 } else { 1 }) {
            Some((":-", default)) => (Some(or_default(filled, default, variables, more)?), None),
            Some(("-", default)) => (Some(or_default(value, default, variables, more)?), None),
            Some((":?", reason)) => (filled.map(str::to_owned), Some(reason)),
            Some(("?", reason)) => (value.map(str::to_owned), Some(reason)),
            Some((":+", other)) => {
                (Some(filled.map_or(Ok(String::new()), |_| expand(other, variables, more))?), None)
            }
            Some(("+", other)) => {
                (Some(value.map_or(Ok(String::new()), |_| expand(other, variables, more))?), None)
            }
            _ => {
                return fault(
                    format!("`${{{}}}` is not a known form", printable(inside)),
                    "use `${NAME}`, `${NAME:-default}`, `${NAME:?reason}` or `${NAME:+other}`",
                );
            }
        },
    };
    match (value, operand) {
        (Some(value), _) => Ok(value),
        (None, Some(reason)) if !reason.is_empty() => fault(
            format!("variable `{name}` is required: {}", printable(&expand(reason, variables, more)?)),
            format!("set {name}"),
        ),
        (None, _) => fault(
            format!("variable `{name}` is not set"),
            format!("set {name}, or write `${{{name}:-default}}`"),
        ),
    }
}

fn or_default(
    value: Option<&str>,
    default: &str,
    variables: &BTreeMap<String, String>,
    nesting: usize,
) -> Result<String, Fault> {
    value.map_or_else(|| expand(default, variables, nesting), |value| Ok(value.to_owned()))
}

/// Where a variable is taken from the caller by name alone (`environment: [NAME]`).
pub(crate) fn passed_through(
    name: &str,
    place: Place,
    variables: &BTreeMap<String, String>,
    findings: &mut Findings<'_>,
) -> Option<String> {
    let value = variables.get(name).cloned();
    if value.is_none() {
        findings.problem(
            place,
            format!("variable `{}` has no value here, and none is set outside", printable(name)),
            format!("write a value, or set {}", printable(name)),
        );
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<String, String> {
        let variables =
            [("A", "a"), ("EMPTY", ""), ("N_1", "n")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        expand(text, &variables, 0).map_err(|fault| fault.what)
    }

    #[test]
    fn replaces_every_form() {
        for (text, want) in [
            ("x$A-y", "xa-y"),
            ("${A}${N_1}", "an"),
            ("$$A $${A}", "$A ${A}"),
            ("${B:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${A:-d}", "a"),
            ("${B:-${C:-${A}}}", "a"),
            ("${A:+x}", "x"),
            ("${B:+x}", ""),
            ("${EMPTY:+x}", ""),
            ("${EMPTY+x}", "x"),
            ("${A:?needed}", "a"),
            ("${B:-a:b-c?d}", "a:b-c?d"),
            ("\u{e9}$A\u{e9}", "\u{e9}a\u{e9}"),
            ("${B:-\u{e9}}", "\u{e9}"),
        ] {
            assert_eq!(run(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn refuses_what_has_no_value() {
        for (text, want) in [
            ("$B", "variable `B` is not set"),
            ("${B}", "variable `B` is not set"),
            ("${B:?}", "variable `B` is not set"),
            ("${B:?say $A}", "variable `B` is required: say a"),
            ("${EMPTY:?no}", "variable `EMPTY` is required: no"),
            ("${A", "`${` has no closing `}`"),
            ("${}", "`${}` names no variable"),
            ("${1}", "`${1}` names no variable"),
            ("a$", "`$` is not followed by a variable"),
            ("$1", "`$` is not followed by a variable"),
            ("${A!x}", "`${A!x}` is not a known form"),
            ("${A\u{e9}}", "`${A\u{e9}}` is not a known form"),
            ("${A:\u{e9}}", "`${A:\u{e9}}` is not a known form"),
        ] {
            assert_eq!(run(text), Err(want.to_owned()), "{text}");
        }
        let deep = format!("{}x{}", "${B:-".repeat(20), "}".repeat(20));
        assert_eq!(run(&deep), Err(format!("variables nested deeper than {NESTING_MAX}")));
    }

    #[test]
    fn refuses_a_value_that_grows_over_the_bound() {
        let variables = [("A".to_owned(), "x".repeat(1000))].into();
        assert!(expand(&"$A".repeat(66), &variables, 0).is_err());
    }
}
