//! System call filters: from commented rule text to a BPF program, and onto the calling thread.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

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
    /// The compiler refused the rules.
    #[error("rules do not compile: {reason}")]
    Compile {
        /// What it said.
        reason: String,
    },
}

/// Compiles rule text (see `rules/native.seccomp`) to `struct sock_filter` records in machine byte order.
///
/// # Errors
/// [`SeccompError`].
pub fn compile(rules: &str) -> Result<Vec<u8>, SeccompError> {
    let filter = SeccompFilter::new(
        parse(rules)?,
        SeccompAction::Errno(libc::ENOSYS.cast_unsigned()),
        SeccompAction::Allow,
        TargetArch::x86_64,
    )
    .map_err(|e| SeccompError::Compile { reason: e.to_string() })?;
    let program: BpfProgram = filter
        .try_into()
        .map_err(|e: seccompiler::BackendError| SeccompError::Compile { reason: e.to_string() })?;
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in &program {
        bytes.extend_from_slice(&instruction.code.to_ne_bytes());
        bytes.push(instruction.jt);
        bytes.push(instruction.jf);
        bytes.extend_from_slice(&instruction.k.to_ne_bytes());
    }
    Ok(bytes)
}

/// Puts a compiled filter on the calling thread. `no_new_privs` must be set.
///
/// # Errors
/// The system's error; `EINVAL` for bytes that are no program.
pub fn load(program: &[u8]) -> Result<(), rustix::io::Errno> {
    let mut instructions = Vec::with_capacity(program.len() / 8);
    for record in program.chunks(8) {
        let [c0, c1, jt, jf, k0, k1, k2, k3] = *record else { return Err(rustix::io::Errno::INVAL) };
        instructions.push(libc::sock_filter {
            code: u16::from_ne_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        });
    }
    syscall::seccomp_set_filter(&instructions)
}

fn parse(text: &str) -> Result<BTreeMap<i64, Vec<SeccompRule>>, SeccompError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (index, raw) in text.lines().enumerate() {
        let line = index.saturating_add(1);
        let content = raw.split('#').next().unwrap_or_default().trim();
        if content.is_empty() {
            continue;
        }
        let bad = || SeccompError::Rule { line, text: content.to_owned() };
        let rest = content.strip_prefix("allow ").ok_or_else(bad)?;
        let (names, condition) = match rest.split_once(" when ") {
            Some((names, condition)) => (names, Some(parse_conditions(condition).ok_or_else(bad)?)),
            None => (rest, None),
        };
        for name in names.split_whitespace() {
            let number =
                syscall::number(name).ok_or_else(|| SeccompError::Name { line, name: name.to_owned() })?;
            let entry = rules.entry(number).or_default();
            if let Some(conditions) = &condition {
                let rule = SeccompRule::new(conditions.clone())
                    .map_err(|e| SeccompError::Compile { reason: e.to_string() })?;
                entry.push(rule);
            } else if !entry.is_empty() {
                // Without a condition and with one: the two lines contradict each other.
                return Err(bad());
            }
        }
    }
    Ok(rules)
}

fn parse_conditions(text: &str) -> Option<Vec<SeccompCondition>> {
    text.split(" and ").map(parse_condition).collect()
}

fn parse_condition(text: &str) -> Option<SeccompCondition> {
    let mut words = text.split_whitespace();
    let argument: u8 = words.next()?.strip_prefix("arg")?.parse().ok()?;
    let (operator, value) = match words.next()? {
        "==" => (SeccompCmpOp::Eq, words.next()?),
        "!=" => (SeccompCmpOp::Ne, words.next()?),
        "&" => {
            let mask = number(words.next()?)?;
            if words.next()? != "==" {
                return None;
            }
            (SeccompCmpOp::MaskedEq(mask), words.next()?)
        }
        _ => return None,
    };
    if words.next().is_some() {
        return None;
    }
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, number(value)?).ok()
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiles_rules_with_and_without_conditions() {
        let program = compile("# why\nallow read write\nallow socket when arg0 == 1\nallow socket when arg0 == 2 and arg1 & 0xf == 1\n").unwrap();
        assert_eq!(program.len() % 8, 0);
        assert!(program.len() > 8 * 10);
    }

    #[test]
    fn refuses_what_is_not_a_rule() {
        for bad in [
            "permit read",
            "allow read when arg9 == 1",
            "allow read when arg0 = 1",
            "allow read when arg0 & 1",
            "allow read when arg0 == 1 or arg1 == 2",
            "allow read when",
        ] {
            assert!(
                matches!(compile(bad), Err(SeccompError::Rule { line: 1, .. } | SeccompError::Name { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn refuses_a_misspelt_name_and_a_contradiction() {
        assert_eq!(compile("allow raed"), Err(SeccompError::Name { line: 1, name: "raed".into() }));
        assert!(matches!(
            compile("allow ioctl when arg1 == 1\nallow ioctl"),
            Err(SeccompError::Rule { line: 2, .. })
        ));
    }
}
