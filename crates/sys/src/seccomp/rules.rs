//! Rule text, one rule a line: an answer, names of calls, and conditions on their arguments.
//!
//! `allow NAME...`, `pretend NAME...` (answers 0 and does nothing), `errno CODE NAME...`; each may end in
//! `when argN == VALUE and …`. Lines that name the same call are tried in their order, the first that holds answers; a
//! line without `when` always holds and must be the last for its call.

use std::collections::{BTreeMap, BTreeSet};

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
    /// A call is named again after a line without a condition, which answers it always.
    #[error("line {line}: `{name}` is answered already by a line without a condition")]
    Contradiction {
        /// Line, from 1.
        line: usize,
        /// The name.
        name: String,
    },
}

/// How a call is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The first of which all conditions hold answers.
    pub(super) cases: Vec<(Vec<Condition>, Answer)>,
    /// The answer where none holds.
    pub(super) otherwise: Answer,
}

/// One answer to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The kernel makes the call.
    Allow,
    /// The kernel does nothing and answers with this error number; 0 is success.
    Errno(u16),
}

/// The answer to what no rule allows: that of a kernel without the call (ENOSYS).
pub(super) const DENIED: Answer = Answer::Errno(38);

/// Error numbers that rules may answer with (linux/asm-generic/errno-base.h, errno.h).
const ERRNOS: [(&str, u16); 6] = [
    ("EPERM", 1),
    ("EINVAL", 22),
    ("ENOSYS", 38),
    ("ENOPROTOOPT", 92),
    ("EOPNOTSUPP", 95),
    ("EAFNOSUPPORT", 97),
];

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
    let mut answered = BTreeSet::new();
    for (index, raw) in text.lines().enumerate() {
        let line = index.saturating_add(1);
        let content = raw.split('#').next().unwrap_or_default().trim();
        if content.is_empty() {
            continue;
        }
        let bad = || SeccompError::Rule { line, text: content.to_owned() };
        let (answer, rest) = parse_answer(content).ok_or_else(bad)?;
        let (names, conditions) = match rest.split_once(" when ") {
            Some((names, conditions)) => (names, Some(parse_conditions(conditions).ok_or_else(bad)?)),
            None => (rest, None),
        };
        for name in names.split_whitespace() {
            let number =
                syscall::number(name).ok_or_else(|| SeccompError::Name { line, name: name.to_owned() })?;
            if answered.contains(&number) {
                return Err(SeccompError::Contradiction { line, name: name.to_owned() });
            }
            let verdict = rules.entry(number).or_insert(Verdict { cases: Vec::new(), otherwise: DENIED });
            match &conditions {
                Some(all) => verdict.cases.push((all.clone(), answer)),
                None => {
                    verdict.otherwise = answer;
                    answered.insert(number);
                }
            }
        }
    }
    Ok(rules)
}

/// The answer that a line begins with, and what follows it.
fn parse_answer(line: &str) -> Option<(Answer, &str)> {
    let (verb, rest) = line.split_once(' ')?;
    match verb {
        "allow" => Some((Answer::Allow, rest)),
        "pretend" => Some((Answer::Errno(0), rest)),
        "errno" => {
            let (code, rest) = rest.split_once(' ')?;
            let (_, number) = ERRNOS.iter().find(|(known, _)| *known == code)?;
            Some((Answer::Errno(*number), rest))
        }
        _ => None,
    }
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
            "errno read",
            "errno ENOTHING read",
            "errno 38 read",
        ] {
            assert_eq!(parse(bad), Err(SeccompError::Rule { line: 1, text: bad.into() }), "{bad}");
        }
    }

    #[test]
    fn refuses_a_misspelt_name_and_a_line_that_could_never_answer() {
        assert_eq!(parse("allow raed"), Err(SeccompError::Name { line: 1, name: "raed".into() }));
        let never = Err(SeccompError::Contradiction { line: 2, name: "ioctl".into() });
        assert_eq!(parse("allow ioctl\nallow ioctl when arg1 == 1"), never);
        assert_eq!(parse("errno EPERM ioctl\nallow ioctl"), never);
    }

    #[test]
    fn lines_of_one_call_are_tried_in_order() {
        let rules =
            parse("pretend madvise when arg2 == 21\nerrno EPERM madvise when arg2 == 9\nallow madvise");
        let case = |value, answer| {
            (vec![Condition { argument: 2, mask: u32::MAX, relation: Relation::Equal, value }], answer)
        };
        let verdict = Verdict {
            cases: vec![case(21, Answer::Errno(0)), case(9, Answer::Errno(1))],
            otherwise: Answer::Allow,
        };
        assert_eq!(rules.unwrap().into_values().collect::<Vec<_>>(), [verdict]);
    }
}
