//! `${VAR}` in the values of a Compose file, from variables that the caller gives.
//!
//! Strict where Compose warns: a variable without value and without default is a problem, because what is
//! measured must not depend on what somebody forgot to set.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::problem::{Findings, Place, printable};
use crate::yaml::{Member, Node, Value};

/// Longest value after interpolation, in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 64 << 10;
/// Most text that variables bring into one composition, in bytes.
const EXPANDED_BYTES_MAX: usize = 8 << 20;
/// Deepest nesting of defaults: `${A:-${B:-${C}}}` has 3.
const NESTING_MAX: usize = 8;

/// Where the value of a variable comes from.
pub(crate) trait Lookup {
    /// The value of `name`, where it is set.
    fn value(&self, name: &str) -> Option<&str>;
}

impl Lookup for BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// Values whose variables could not be replaced, and why. They keep their text; a value that another file replaces
/// or removes is then no problem.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    faults: BTreeMap<Place, Fault>,
    /// Values into which a variable went whose name says that it is a secret, and that name.
    secrets: BTreeMap<Place, String>,
}

impl Faults {
    /// Whether the value at `place` is as it should be; notes the problem where not.
    pub(crate) fn is_whole(&self, place: Place, findings: &mut Findings<'_>) -> bool {
        let fault = self.faults.get(&place);
        if let Some(Fault { what, todo }) = fault {
            findings.broken(place, what, todo);
        }
        fault.is_none()
    }

    /// Notes the problems of everything below `node`, and the secrets that went into it.
    pub(crate) fn report(&self, node: &Node, findings: &mut Findings<'_>) {
        if self.faults.is_empty() && self.secrets.is_empty() {
            return;
        }
        match &node.value {
            Value::Scalar { text, .. } => {
                let whole = self.is_whole(node.place, findings);
                // A variable of an agent that is called like a secret has its warning when it is read.
                let told = text.split_once('=').is_some_and(|(name, _)| looks_secret(name));
                if let Some(name) = self.secrets.get(&node.place).filter(|_| whole && !told) {
                    warn_of_secret(name, node.place, findings);
                }
            }
            Value::List(items) => items.iter().for_each(|item| self.report(item, findings)),
            Value::Map(members) => {
                for Member { key, node, .. } in members {
                    let told = looks_secret(key) && matches!(node.value, Value::Scalar { .. });
                    if told {
                        self.is_whole(node.place, findings);
                    } else {
                        self.report(node, findings);
                    }
                }
            }
        }
    }
}

/// Text with its variables replaced.
#[derive(Debug)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// The first variable that was looked at and whose name says that its value is a secret.
    pub(crate) secret: Option<String>,
}

/// Notes which variables are looked at.
struct Noting<'v> {
    variables: &'v dyn Lookup,
    secret: RefCell<Option<String>>,
}

impl Lookup for Noting<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        let value = self.variables.value(name);
        if looks_secret(name) && value.is_some_and(|value| !value.is_empty()) {
            self.secret.borrow_mut().get_or_insert_with(|| name.to_owned());
        }
        value
    }
}

/// Whether a variable's name says that its value is a secret. `_FILE` names a file that holds it.
pub(crate) fn looks_secret(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let telling = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "API_KEY", "APIKEY", "PRIVATE_KEY", "CREDENTIAL"];
    !upper.ends_with("_FILE") && !upper.ends_with("_PATH") && telling.iter().any(|word| upper.contains(word))
}

/// Says that the value of variable `name` goes where it can be read.
pub(crate) fn warn_of_secret(name: &str, place: Place, findings: &mut Findings<'_>) {
    let what = format!(
        "value of variable `{}`, which looks like a secret, goes into this: the lock may hold it in clear",
        printable(name)
    );
    findings.warning(place, what, "use `secrets:`, or another variable");
}

/// Replaces variables in values.
pub(crate) struct Interpolator {
    bytes_left: usize,
    pub(crate) faults: Faults,
}

impl Interpolator {
    pub(crate) fn new() -> Self {
        Self { bytes_left: EXPANDED_BYTES_MAX, faults: Faults::default() }
    }

    /// Replaces variables in every value below `node`. Keys stay as they are.
    pub(crate) fn tree(&mut self, node: &mut Node, variables: &dyn Lookup) {
        match &mut node.value {
            Value::Scalar { text, plain } if text.contains('$') => match self.text(text, variables) {
                Ok(Expanded { text: expanded, secret }) => {
                    *text = expanded;
                    *plain = false;
                    self.faults.secrets.extend(secret.map(|name| (node.place, name)));
                }
                Err(fault) => drop(self.faults.faults.insert(node.place, fault)),
            },
            Value::Scalar { .. } => {}
            Value::List(items) => items.iter_mut().for_each(|item| self.tree(item, variables)),
            Value::Map(members) => {
                members.iter_mut().for_each(|member| self.tree(&mut member.node, variables))
            }
        }
    }

    /// `text` with its variables replaced.
    pub(crate) fn text(&mut self, text: &str, variables: &dyn Lookup) -> Result<Expanded, Fault> {
        let noting = Noting { variables, secret: RefCell::default() };
        let text = expand(text, &noting, 0)?;
        self.take(text.len())?;
        Ok(Expanded { text, secret: noting.secret.into_inner() })
    }

    /// Counts text that comes from outside the Compose files.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), Fault> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or_else(|| Fault {
            what: format!("variables bring more than {EXPANDED_BYTES_MAX} bytes into the composition"),
            todo: "use fewer or shorter variables".to_owned(),
        })?;
        Ok(())
    }
}

/// Why variables could not be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) what: String,
    pub(crate) todo: String,
}

fn fault<T>(what: impl Into<String>, todo: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { what: what.into(), todo: todo.into() })
}

fn expand(text: &str, variables: &dyn Lookup, nesting: usize) -> Result<String, Fault> {
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

fn substitute(inside: &str, variables: &dyn Lookup, nesting: usize) -> Result<String, Fault> {
    let (name, form) = name(inside);
    if name.is_empty() {
        return fault(
            format!("`${{{}}}` names no variable", printable(inside)),
            "write `${NAME}`, or `$$` for a dollar sign",
        );
    }
    let value = variables.value(name);
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
    variables: &dyn Lookup,
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
        let variables: BTreeMap<String, String> =
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
        let variables: BTreeMap<String, String> = [("A".to_owned(), "x".repeat(1000))].into();
        assert!(expand(&"$A".repeat(66), &variables, 0).is_err());
    }
}
