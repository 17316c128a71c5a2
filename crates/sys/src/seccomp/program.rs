//! Rules to classic BPF (Linux Documentation/networking/filter.rst; `struct seccomp_data` in linux/seccomp.h).

use std::collections::BTreeMap;

use super::rules::{Answer, Condition, DENIED, Relation, Verdict};

/// One instruction: `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) jt: u8,
    pub(super) jf: u8,
    pub(super) k: u32,
}

// Codes of linux/bpf_common.h.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

// Offsets in `struct seccomp_data`; arguments are 64 bits, low half first.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// AUDIT_ARCH_X86_64 (linux/audit.h).
const X86_64: u32 = 0xc000_003e;
/// Numbers of the x32 interface begin here (__X32_SYSCALL_BIT).
const X32: u32 = 0x4000_0000;

const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
/// SECCOMP_RET_ERRNO; the error number is in the low half.
const ERRNO: u32 = 0x0005_0000;

/// Numbers from one on, up to the next run, with one verdict.
struct Run<'a> {
    first: u32,
    cases: &'a [(Vec<Condition>, Answer)],
    otherwise: Answer,
}

/// The program: the architecture, then the number by halving, then the arguments.
pub(super) fn emit(rules: &BTreeMap<u32, Verdict>) -> Vec<Instruction> {
    let mut program = vec![
        plain(LOAD, ARCHITECTURE),
        branch(JUMP_EQUAL, X86_64, 1, 0),
        plain(RETURN, KILL_PROCESS),
        plain(LOAD, NUMBER),
        branch(JUMP_GREATER_OR_EQUAL, X32, 0, 1),
        answer(DENIED),
    ];
    program.extend(search(&runs(rules)));
    program
}

/// All numbers, those without a rule among them: so a number that was found needs no further look.
fn runs(rules: &BTreeMap<u32, Verdict>) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = vec![Run { first: 0, cases: &[], otherwise: DENIED }];
    let mut next = 0;
    for (number, verdict) in rules {
        if *number != next {
            append(&mut runs, Run { first: next, cases: &[], otherwise: DENIED });
        }
        append(&mut runs, Run { first: *number, cases: &verdict.cases, otherwise: verdict.otherwise });
        next = number.saturating_add(1);
    }
    append(&mut runs, Run { first: next, cases: &[], otherwise: DENIED });
    runs
}

/// Takes the place of a run that begins at the same number, and is one with a run before it of the same plain verdict.
fn append<'a>(runs: &mut Vec<Run<'a>>, run: Run<'a>) {
    runs.pop_if(|last| last.first == run.first);
    let same =
        |last: &Run<'_>| last.cases.is_empty() && run.cases.is_empty() && last.otherwise == run.otherwise;
    if !runs.last().is_some_and(same) {
        runs.push(run);
    }
}

/// The accumulator holds the number.
fn search(runs: &[Run<'_>]) -> Vec<Instruction> {
    match runs {
        [] => vec![answer(DENIED)],
        [run] => cases(run),
        _ => {
            let (left, right) = runs.split_at(runs.len() / 2);
            let middle = right.first().map_or(0, |run| run.first);
            let left = search(left);
            let mut program = over_if(JUMP_GREATER_OR_EQUAL, middle, true, left.len());
            program.extend(left);
            program.extend(search(right));
            program
        }
    }
}

/// Answers as the first case that holds. The accumulator is free.
fn cases(run: &Run<'_>) -> Vec<Instruction> {
    let mut program = Vec::new();
    for (all, case) in run.cases {
        // From the end, because a condition that does not hold skips what follows it in its case.
        let mut rest = vec![answer(*case)];
        for condition in all.iter().rev() {
            let mut look = vec![plain(LOAD, ARGUMENTS + 8 * u32::from(condition.argument))];
            if condition.mask != u32::MAX {
                look.push(plain(AND, condition.mask));
            }
            let missed_if = condition.relation == Relation::NotEqual;
            look.extend(over_if(JUMP_EQUAL, condition.value, missed_if, rest.len()));
            look.append(&mut rest);
            rest = look;
        }
        program.append(&mut rest);
    }
    program.push(answer(run.otherwise));
    program
}

/// Skips the next `length` instructions if the comparison gives `wanted`.
fn over_if(code: u16, value: u32, wanted: bool, length: usize) -> Vec<Instruction> {
    let either = |taken: u8, other: u8| if wanted { (taken, other) } else { (other, taken) };
    if let Ok(length) = u8::try_from(length) {
        let (jt, jf) = either(length, 0);
        return vec![branch(code, value, jt, jf)];
    }
    // Conditional jumps have 8 bits: onto a jump that has 32, or over it.
    let (jt, jf) = either(0, 1);
    vec![branch(code, value, jt, jf), plain(JUMP, u32::try_from(length).unwrap_or(u32::MAX))]
}

const fn answer(answer: Answer) -> Instruction {
    match answer {
        Answer::Allow => plain(RETURN, ALLOW),
        Answer::Errno(number) => plain(RETURN, ERRNO | number as u32),
    }
}

const fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

const fn branch(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::rules::parse;

    /// Runs a program as the kernel does: what it returns, and in how many steps.
    fn interpret(
        program: &[Instruction],
        architecture: u32,
        number: u32,
        arguments: [u64; 6],
    ) -> (u32, usize) {
        let (mut at, mut accumulator) = (0, 0_u32);
        for step in 1.. {
            let instruction = program[at];
            at += 1;
            let jump = |taken: bool| usize::from(if taken { instruction.jt } else { instruction.jf });
            match instruction.code {
                LOAD => {
                    accumulator = match instruction.k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        offset => arguments[usize::try_from((offset - ARGUMENTS) / 8).unwrap()] as u32,
                    }
                }
                AND => accumulator &= instruction.k,
                JUMP => at += usize::try_from(instruction.k).unwrap(),
                JUMP_EQUAL => at += jump(accumulator == instruction.k),
                JUMP_GREATER_OR_EQUAL => at += jump(accumulator >= instruction.k),
                RETURN => return (instruction.k, step),
                code => panic!("unknown code {code:#x}"),
            }
        }
        unreachable!()
    }

    fn expected(rules: &BTreeMap<u32, Verdict>, number: u32, arguments: [u64; 6]) -> u32 {
        let holds = |c: &Condition| {
            let found = arguments[usize::from(c.argument)] as u32 & c.mask;
            (found == c.value) == (c.relation == Relation::Equal)
        };
        let verdict = rules.get(&number);
        let case = verdict.and_then(|v| v.cases.iter().find(|(all, _)| all.iter().all(holds)));
        answer(case.map_or_else(|| verdict.map_or(DENIED, |v| v.otherwise), |(_, case)| *case)).k
    }

    const NATIVE: &str = include_str!("../../../composition/rules/native.seccomp");

    #[test]
    fn gives_the_verdict_of_the_rules_for_every_number_and_telling_arguments() {
        let rules = parse(NATIVE).unwrap();
        let program = emit(&rules);
        let values =
            [0, 1, 2, 5, 10, 16, 0x11, 0x1000, 0x5412, 0x541c, 0xc000, 0x1_0000, 0x1000_0000, 0x80, u64::MAX];
        for number in 0..700 {
            for first in values {
                for second in values {
                    let arguments = [first, second, second, 0, 0, 0];
                    assert_eq!(
                        interpret(&program, X86_64, number, arguments).0,
                        expected(&rules, number, arguments),
                        "call {number} with {arguments:x?}"
                    );
                }
            }
        }
    }

    /// The answer to what no rule allows.
    const DENY: u32 = answer(DENIED).k;

    #[test]
    fn denies_x32_and_ends_a_process_of_another_architecture() {
        let program = emit(&parse(NATIVE).unwrap());
        for number in [0, 1, 512, 547] {
            assert_eq!(interpret(&program, X86_64, X32 | number, [0; 6]).0, DENY);
        }
        assert_eq!(interpret(&program, X86_64, u32::MAX, [0; 6]).0, DENY);
        assert_eq!(interpret(&program, 0x4000_0003, 1, [0; 6]).0, KILL_PROCESS);
    }

    #[test]
    fn upper_halves_of_arguments_change_nothing() {
        // The kernel takes 32 bits of these arguments too, so junk above them must neither help nor harm.
        let rules = parse(NATIVE).unwrap();
        let program = emit(&rules);
        let socket = 41;
        for (family, kind) in [(1, 1), (2, 2), (16, 3), (38, 5), (40, 1)] {
            let plain = interpret(&program, X86_64, socket, [family, kind, 0, 0, 0, 0]).0;
            let junk = 0xdead_beef_0000_0000;
            let with_junk = interpret(&program, X86_64, socket, [family | junk, kind | junk, 0, 0, 0, 0]).0;
            assert_eq!(plain, with_junk);
            assert_eq!(plain == ALLOW, family <= 2, "family {family}");
        }
    }

    #[test]
    fn finds_every_number_in_few_steps() {
        let program = emit(&parse(NATIVE).unwrap());
        let most = (0..700).map(|number| interpret(&program, X86_64, number, [0; 6]).1).max();
        assert!(most < Some(60), "{most:?} steps in a program of {}", program.len());
    }

    #[test]
    fn an_empty_rule_set_denies_all() {
        let program = emit(&BTreeMap::new());
        assert_eq!(interpret(&program, X86_64, 0, [0; 6]).0, DENY);
    }
}
