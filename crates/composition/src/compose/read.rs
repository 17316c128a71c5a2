//! Reads nodes as what a key wants: text, a number, a truth value, a list, a mapping. Each notes its own problem.

use std::collections::BTreeMap;

use crate::interpolate;
use crate::keys::{Disposition, Extensions, NOT_YET, Table};
use crate::problem::{At, Findings, Place, did_you_mean, printable};
use crate::yaml::{Member, Node, Value, is_null_text};

/// Longest text of one value in bytes.
const TEXT_BYTES_MAX: usize = interpolate::VALUE_BYTES_MAX;

/// Calls `honoured` for each member that has an effect, and notes all others as the table says.
pub(crate) fn walk(
    table: &Table,
    node: &Node,
    f: &mut Findings<'_>,
    mut honoured: impl FnMut(&mut Findings<'_>, &'static str, &Member),
) {
    for member in mapping(node, table.of, f) {
        let Some(key) = table.find(&member.key) else {
            unknown(table, member, f);
            continue;
        };
        match key.disposition {
            Disposition::Honoured | Disposition::Limited(_) => honoured(f, key.name, member),
            Disposition::NoEffect(_) => {}
            Disposition::Refused { .. } if is_harmless(key.harmless, &member.node) => {}
            Disposition::Refused { reason, instead } => {
                f.problem(member.key_place, refusal(key.name, reason), instead);
            }
            Disposition::Ignored(reason) => {
                f.warning(member.key_place, format!("`{}` has no effect: {reason}", key.name), "remove it");
            }
        }
    }
}

/// How a refused key is told.
pub(crate) fn refusal(name: &str, reason: &str) -> String {
    if reason == NOT_YET {
        format!("`{name}` is {NOT_YET}")
    } else {
        format!("`{name}` is refused: {reason}")
    }
}

fn unknown(table: &Table, member: &Member, f: &mut Findings<'_>) {
    let known = table.keys.iter().map(|key| key.name);
    if member.key.starts_with("x-") && table.extensions == Extensions::Allowed {
        // A misspelt `x-casemate` would silently lose its egress and edges.
        if did_you_mean(&member.key, ["x-casemate"]).is_empty() {
            return;
        }
    }
    let guess = f.guess(&member.key, known);
    let what = format!("unknown key `{}` in {}{guess}", printable(&member.key), table.of);
    f.problem(member.key_place, what, "correct or remove it");
}

fn is_harmless(harmless: &[&str], node: &Node) -> bool {
    matches!(&node.value, Value::Scalar { text, .. } if harmless.contains(&text.as_str()))
}

/// The members of a mapping; none, with a problem, where `node` is something else.
pub(crate) fn mapping<'n>(node: &'n Node, of: &str, f: &mut Findings<'_>) -> &'n [Member] {
    match &node.value {
        Value::Map(members) => members,
        _ => {
            f.problem(
                node.place,
                format!("{of} is {}, not a mapping", node.kind()),
                "write `key: value` lines",
            );
            &[]
        }
    }
}

/// The items of a list; none, with a problem, where `node` is something else.
pub(crate) fn list<'n>(node: &'n Node, key: &str, f: &mut Findings<'_>) -> &'n [Node] {
    match &node.value {
        Value::List(items) => items,
        _ => {
            f.problem(node.place, format!("`{key}` is {}, not a list", node.kind()), "write `- value` lines");
            &[]
        }
    }
}

/// Text. Plain numbers, truth values and nulls are problems: Docker refuses them as well, and the quoted form is
/// the only one that reads the same everywhere.
pub(crate) fn text(node: &Node, key: &str, f: &mut Findings<'_>) -> Option<String> {
    let (text, plain) = scalar(node, key, f)?;
    if plain && let Some(other) = other_type(text) {
        let shown = printable(text);
        f.problem(
            node.place,
            format!("`{key}` wants text, plain `{shown}` is {other}"),
            format!("write \"{shown}\""),
        );
        return None;
    }
    Some(text.to_owned())
}

/// Text or a number, as written, and whether it was plain.
pub(crate) fn scalar<'n>(node: &'n Node, key: &str, f: &mut Findings<'_>) -> Option<(&'n str, bool)> {
    match &node.value {
        Value::Scalar { text, .. } if text.len() > TEXT_BYTES_MAX => {
            f.problem(node.place, format!("`{key}` is longer than {TEXT_BYTES_MAX} bytes"), "shorten it");
            None
        }
        Value::Scalar { text, plain } if !node.is_null() => Some((text, *plain)),
        _ => {
            f.problem(
                node.place,
                format!("`{key}` is {}, not a single value", node.kind()),
                "write one value",
            );
            None
        }
    }
}

/// `true` or `false`.
pub(crate) fn truth(node: &Node, key: &str, f: &mut Findings<'_>) -> Option<bool> {
    match scalar(node, key, f)?.0 {
        "true" => Some(true),
        "false" => Some(false),
        other => {
            let what = format!("`{key}` wants true or false, found `{}`", printable(other));
            f.problem(node.place, what, "write true or false: other spellings differ between YAML versions");
            None
        }
    }
}

/// What `read` makes of a single value, or a problem that says what is wanted.
pub(crate) fn parsed<T>(
    node: &Node,
    key: &str,
    wanted: &str,
    f: &mut Findings<'_>,
    read: impl FnOnce(&str) -> Option<T>,
) -> Option<At<T>> {
    let (text, _) = scalar(node, key, f)?;
    let value = read(text);
    if value.is_none() {
        f.problem(node.place, format!("`{key}` is `{}`", printable(text)), format!("write {wanted}"));
    }
    value.map(|value| At { place: node.place, value })
}

/// A list of texts.
pub(crate) fn texts(node: &Node, key: &str, f: &mut Findings<'_>) -> Vec<At<String>> {
    list(node, key, f)
        .iter()
        .filter_map(|item| text(item, key, f).map(|value| At { place: item.place, value }))
        .collect()
}

/// One text or a list of texts.
pub(crate) fn text_or_texts(node: &Node, key: &str, f: &mut Findings<'_>) -> Vec<At<String>> {
    match &node.value {
        Value::Scalar { .. } => {
            text(node, key, f).map(|value| At { place: node.place, value }).into_iter().collect()
        }
        _ => texts(node, key, f),
    }
}

/// `KEY: value` members or `KEY=value` items; a key without value is taken from `variables`.
pub(crate) fn pairs(
    node: &Node,
    key: &str,
    variables: &BTreeMap<String, String>,
    f: &mut Findings<'_>,
) -> BTreeMap<String, At<String>> {
    let mut pairs = BTreeMap::new();
    let mut put = |name: &str, place: Place, value: Option<String>, f: &mut Findings<'_>| {
        let Some(value) = value else { return };
        if name.is_empty() || name.chars().any(char::is_control) {
            f.problem(
                place,
                format!("`{key}` has a name that is empty or not printable"),
                "write NAME=value",
            );
        } else if pairs.insert(name.to_owned(), At { place, value }).is_some() {
            f.problem(
                place,
                format!("`{}` is written twice in `{key}`", printable(name)),
                "keep one of the two",
            );
        }
    };
    match &node.value {
        Value::Map(members) => {
            for member in members {
                let value = if member.node.is_null() {
                    interpolate::passed_through(&member.key, member.key_place, variables, f)
                } else {
                    pair_value(&member.node, &member.key, f)
                };
                if member.key.contains('=') {
                    f.problem(member.key_place, format!("`{key}` has a name with `=`"), "write NAME: value");
                } else {
                    put(&member.key, member.key_place, value, f);
                }
            }
        }
        Value::List(items) => {
            for item in items {
                let Some(text) = text(item, key, f) else { continue };
                match text.split_once('=') {
                    Some((name, value)) => put(name, item.place, Some(value.to_owned()), f),
                    None => {
                        let value = interpolate::passed_through(&text, item.place, variables, f);
                        put(&text, item.place, value, f);
                    }
                }
            }
        }
        Value::Scalar { .. } => {
            let what = format!("`{key}` is {}, not a mapping or a list", node.kind());
            f.problem(node.place, what, "write `NAME: value` lines");
        }
    }
    pairs
}

/// A value that Compose turns into text. Spellings that do not survive that are refused.
fn pair_value(node: &Node, name: &str, f: &mut Findings<'_>) -> Option<String> {
    let (text, plain) = scalar(node, name, f)?;
    let name = printable(name);
    if plain && !survives(text) {
        let shown = printable(text);
        let what = format!("`{name}` is plain `{shown}`, which YAML readers turn into different values");
        f.problem(node.place, what, format!("write \"{shown}\""));
        return None;
    }
    Some(text.to_owned())
}

/// Whether plain `text` is spelt the same after a YAML reader took it for its type and wrote it again.
fn survives(text: &str) -> bool {
    match other_type(text) {
        None => !is_old_truth(text) && !is_base_60(text),
        Some("a truth value") => matches!(text, "true" | "false"),
        Some(_) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let (integer, fraction) = digits.split_once('.').map_or((digits, None), |(i, r)| (i, Some(r)));
            let whole = crate::units::natural(integer).is_some() && digits != "0" || text == "0";
            whole && fraction.is_none_or(|rest| is_digits(rest) && !rest.ends_with('0') && rest.len() <= 5)
        }
    }
}

/// Whether YAML 1.1 takes plain `text` for a number to the base of 60: `1:30` is 90.
fn is_base_60(text: &str) -> bool {
    let Some((first, rest)) = text.strip_prefix(['-', '+']).unwrap_or(text).split_once(':') else {
        return false;
    };
    let is_digit = |part: &str| is_digits(part) && part.len() <= 2 && part.parse().is_ok_and(|n: u8| n < 60);
    is_digits(first) && rest.split(':').all(is_digit)
}

/// Truth values of YAML 1.1 that are text in YAML 1.2.
pub(crate) fn is_old_truth(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "yes" | "no" | "on" | "off" | "y" | "n")
}

/// What YAML readers may take plain `text` for, if not for text.
pub(crate) fn other_type(text: &str) -> Option<&'static str> {
    if is_null_text(text) {
        return Some("a null");
    }
    if matches!(text.to_ascii_lowercase().as_str(), "true" | "false") {
        return Some("a truth value");
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let special = matches!(unsigned.to_ascii_lowercase().as_str(), ".inf" | ".nan");
    let number_like = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.contains(|c: char| c.is_ascii_digit())
        && (is_decimal(unsigned) || is_based(unsigned));
    (special || number_like).then_some("a number")
}

/// Digits with `_`, at most one point, and an exponent.
fn is_decimal(text: &str) -> bool {
    let lower = text.to_ascii_lowercase().replace('_', "");
    let (mantissa, exponent) = lower.split_once('e').map_or((lower.as_str(), None), |(m, e)| (m, Some(e)));
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let exponent_ok = exponent.is_none_or(|e| is_digits(e.strip_prefix(['-', '+']).unwrap_or(e)));
    all_digits(integer) && all_digits(fraction) && exponent_ok
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `0x1f`, `0o17`, `0b1`.
fn is_based(text: &str) -> bool {
    let with = |prefix: &str, radix: u32| {
        text.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(radix) || c == '_'))
    };
    with("0x", 16) || with("0o", 8) || with("0b", 2)
}

/// An absolute path without `.`, `..`, empty parts or control characters.
pub(crate) fn absolute_path(text: &str) -> Option<String> {
    const PATH_BYTES_MAX: usize = 1024;
    let inner = text.strip_prefix('/')?;
    if inner.is_empty() {
        return Some("/".to_owned());
    }
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    let parts_ok = inner.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let ok = parts_ok && inner.len() < PATH_BYTES_MAX && !inner.chars().any(char::is_control);
    ok.then(|| format!("/{inner}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_text_from_what_yaml_takes_for_something_else() {
        for text in
            ["1", "-1", "1.5", "1e3", "0x1f", "0o17", "1_000", ".5", "+1", "true", "False", "~", "", ".inf"]
        {
            assert!(other_type(text).is_some(), "{text}");
        }
        for text in ["a", "1.2.3", "1m", "yes", "127.0.0.1", "0x", "-", ".", "1000:1000", "e3", "x1"] {
            assert_eq!(other_type(text), None, "{text}");
        }
    }

    #[test]
    fn knows_which_plain_values_are_spelt_one_way_only() {
        for text in [
            "1", "-1", "0", "8080", "0.5", "1.25", "true", "false", "text", "1.2.3", "1:60", "a:1",
            "8080:80", "1:234", "1:",
        ] {
            assert!(survives(text), "{text}");
        }
        for text in [
            "1:30",
            "12:30:45",
            "-1:0",
            "1.0",
            "010",
            "1e3",
            "yes",
            "Off",
            "True",
            "1_000",
            "0x10",
            "+1",
            ".5",
            "-0",
            "12345678901",
            "~",
        ] {
            assert!(!survives(text), "{text}");
        }
    }

    #[test]
    fn takes_plain_absolute_paths_only() {
        assert_eq!(absolute_path("/data/").as_deref(), Some("/data"));
        assert_eq!(absolute_path("/").as_deref(), Some("/"));
        for bad in ["", "data", "/a/../b", "/a//b", "/./a", "//", "/a\nb", "/a/.."] {
            assert_eq!(absolute_path(bad), None, "{bad}");
        }
    }
}
