//! Rule text: `allow NAME...` and `allow NAME... when argN == VALUE and …`, one rule a line.

use std::collections::BTreeMap;

use crate::syscall;

/// What is wrong with rule text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SeccompError {
    /// A line is not a rule.
    #[error("line {line}: `{text}` is not a rule")]
    Rule {
        /// Line, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// A name is not an x86-64 Linux system call.
    #[error("line {line}: `{name}` is not a system call")]
    Name {
        /// Line, from 1.
        line: usize,
        /// The name.
        name: String,
    },
    /// A call is allowed without a condition in one line, and again in another.
    #[error("line {line}: `{name}` is allowed twice, once without a condition")]
    Contradiction {
        /// Line, from 1.
        line: usize,
        /// The name.
        name: String,
    },
}

/// When a call is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Always,
    /// Where all conditions of one alternative hold.
    When(Vec<Vec<Condition>>),
}

/// A comparison of the low 32 bits of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) mask: u32,
    pub(super) relation: Relation,
    pub(super) value: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    NotEqual,
}

pub(super) fn parse(text: &str) -> Result<BTreeMap<u32, Verdict>, SeccompError> {
    let mut rules: BTreeMap<u32, Verdict> = BTreeMap::new();
    for (index, raw) in text.lines().enumerate() {
        let line = index.saturating_add(1);
        let content = raw.split('#').next().unwrap_or_default().trim();
        if content.is_empty() {
            continue;
        }
        let bad = || SeccompError::Rule { line, text: content.to_owned() };
        let rest = content.strip_prefix("allow ").ok_or_else(bad)?;
        let (names, conditions) = match rest.split_once(" when ") {
            Some((names, conditions)) => (names, Some(parse_conditions(conditions).ok_or_else(bad)?)),
            None => (rest, None),
        };
        for name in names.split_whitespace() {
            let number =
                syscall::number(name).ok_or_else(|| SeccompError::Name { line, name: name.to_owned() })?;
            match (rules.get_mut(&number), &conditions) {
                (None, None) => drop(rules.insert(number, Verdict::Always)),
                (None, Some(all)) => drop(rules.insert(number, Verdict::When(vec![all.clone()]))),
                (Some(Verdict::When(alternatives)), Some(all)) => alternatives.push(all.clone()),
                _ => return Err(SeccompError::Contradiction { line, name: name.to_owned() }),
            }
        }
    }
    Ok(rules)
}

fn parse_conditions(text: &str) -> Option<Vec<Condition>> {
    text.split(" and ").map(parse_condition).collect()
}

fn parse_condition(text: &str) -> Option<Condition> {
    let mut words = text.split_whitespace();
    let argument = words.next()?.strip_prefix("arg")?.parse().ok().filter(|argument| *argument < 6)?;
    let mut relation = words.next()?;
    let mut mask = u32::MAX;
    if relation == "&" {
        mask = number(words.next()?)?;
        relation = words.next()?;
    }
    let relation = match relation {
        "==" => Relation::Equal,
        "!=" => Relation::NotEqual,
        _ => return None,
    };
    let value = number(words.next()?)?;
    words.next().is_none().then_some(Condition { argument, mask, relation, value })
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_a_rule() {
        for bad in [
            "permit read",
            "allow read when arg6 == 1",
            "allow read when arg0 = 1",
            "allow read when arg0 & 1",
            "allow read when arg0 == 1 or arg1 == 2",
            "allow read when arg0 == 0x100000000",
            "allow read when arg0 == 1 2",
        ] {
            assert_eq!(parse(bad), Err(SeccompError::Rule { line: 1, text: bad.into() }), "{bad}");
        }
    }

    #[test]
    fn refuses_a_misspelt_name_and_a_contradiction() {
        assert_eq!(parse("allow raed"), Err(SeccompError::Name { line: 1, name: "raed".into() }));
        let twice = Err(SeccompError::Contradiction { line: 2, name: "ioctl".into() });
        assert_eq!(parse("allow ioctl when arg1 == 1\nallow ioctl"), twice);
        assert_eq!(parse("allow ioctl\nallow ioctl when arg1 == 1"), twice);
    }
}
