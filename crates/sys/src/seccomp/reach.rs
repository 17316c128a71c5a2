//! Which system calls a filter lets through, read from the same rules that [`super::compile`] turns into it.

use std::collections::BTreeSet;

use super::rules::{self, Answer, SeccompError};
use crate::syscall;

/// What a filter does with each system call that has a name here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Made by the kernel, whatever the arguments.
    pub allowed: BTreeSet<&'static str>,
    /// Made by the kernel with some arguments.
    pub conditional: BTreeSet<&'static str>,
    /// Answered with success and never made.
    pub pretended: BTreeSet<&'static str>,
    /// Named by a rule, answered with an error and never made.
    pub refused: BTreeSet<&'static str>,
    /// How many others there are: no rule names them, and they answer ENOSYS.
    pub unnamed: usize,
}

/// Reads it from rule text.
///
/// # Errors
/// [`SeccompError`].
pub fn reach(text: &str) -> Result<Reach, SeccompError> {
    let rules = rules::parse(text)?;
    let mut reach = Reach::default();
    for name in syscall::names() {
        let Some(verdict) = syscall::number(name).and_then(|number| rules.get(&number)) else {
            reach.unnamed = reach.unnamed.saturating_add(1);
            continue;
        };
        let mut answers = verdict.cases.iter().map(|(_, answer)| *answer).chain([verdict.otherwise]);
        let set = match (
            answers.clone().all(|one| one == Answer::Allow),
            answers.any(|one| one == Answer::Allow),
        ) {
            (true, _) => &mut reach.allowed,
            (false, true) => &mut reach.conditional,
            (false, false) if verdict.otherwise == Answer::Errno(0) => &mut reach.pretended,
            (false, false) => &mut reach.refused,
        };
        set.insert(name);
    }
    Ok(reach)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_in_one_set_by_what_its_rules_answer() {
        let text = "allow read\npretend fadvise64\nerrno EPERM ptrace\nerrno EPERM prctl when arg0 == 1\nallow prctl\n\
            allow clone when arg0 == 0\nerrno EPERM clone\npretend madvise when arg2 == 1\nerrno ENOSYS madvise";
        let found = reach(text).unwrap();
        assert_eq!(found.allowed, ["read"].into());
        assert_eq!(found.conditional, ["clone", "prctl"].into());
        assert_eq!(found.pretended, ["fadvise64"].into());
        assert_eq!(found.refused, ["madvise", "ptrace"].into());
        let named =
            found.allowed.len() + found.conditional.len() + found.pretended.len() + found.refused.len();
        assert_eq!(named + found.unnamed, syscall::names().count());
    }

    #[test]
    fn rules_that_are_none_are_refused() {
        assert!(matches!(reach("allow raed"), Err(SeccompError::Name { .. })));
    }
}
