//! Runs a program, and all that it starts, on a kernel that answers one system call itself.
//!
//! `systemtest-answering ERRNO NUMBER[:ARGUMENT:VALUE] PROGRAM...`: calls of that number, where the argument has that value in its low
//! 32 bits, answer the error. Error 0 is a kernel that says it did something and did nothing: what a check must find out.
//! What it is not: shipped. Who trusts it: the system tests.

use std::collections::BTreeMap;
use std::error::Error;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

fn main() -> ExitCode {
    // Nothing is returned where the program was started.
    let Err(error) = run();
    eprintln!("answering: {error}");
    ExitCode::from(99)
}

fn run() -> Result<std::convert::Infallible, Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let mut word = || words.next().ok_or("words are missing");
    let (errno, call, program) = (word()?, word()?, word()?);
    let mut parts = call.split(':');
    let number: i64 = parts.next().ok_or("no number")?.parse()?;
    let rules = match (parts.next(), parts.next()) {
        (Some(argument), Some(value)) => {
            let condition = SeccompCondition::new(
                argument.parse()?,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::Eq,
                value.parse()?,
            )?;
            vec![SeccompRule::new(vec![condition])?]
        }
        _ => Vec::new(),
    };
    let filter = SeccompFilter::new(
        BTreeMap::from([(number, rules)]),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.parse()?),
        TargetArch::x86_64,
    )?;
    let filter: BpfProgram = filter.try_into()?;
    apply_filter(&filter)?;
    Err(std::process::Command::new(program).args(words).exec().into())
}
