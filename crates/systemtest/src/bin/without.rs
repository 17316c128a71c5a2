//! Runs a program, and all that it starts, on a kernel that seems to lack something: `systemtest-without THING PROGRAM...`.
//!
//! What it is: a system call filter that gives the answer of a kernel without it, and then the program. What it is not:
//! shipped. Who trusts it: the system tests.

use std::collections::BTreeMap;
use std::error::Error;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// Numbers of calls (Linux, arch/x86/entry/syscalls/syscall_64.tbl).
const UNSHARE: i64 = 272;
const FSOPEN: i64 = 430;
/// Flags of `unshare` (Linux, include/uapi/linux/sched.h).
const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_NEWTIME: u64 = 0x80;
/// Errors (Linux, include/uapi/asm-generic/errno-base.h).
const ENODEV: u32 = 19;
const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;

fn main() -> ExitCode {
    // Nothing is returned where the program was started.
    let Err(error) = run();
    eprintln!("without: {error}");
    ExitCode::from(99)
}

fn run() -> Result<std::convert::Infallible, Box<dyn Error>> {
    let mut words = std::env::args_os().skip(1);
    let thing = words.next().ok_or("no thing named")?;
    let program = words.next().ok_or("no program named")?;
    let flag = |flag: u64| -> Result<Vec<SeccompRule>, Box<dyn Error>> {
        let has = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(flag), flag)?;
        Ok(vec![SeccompRule::new(vec![has])?])
    };
    let (call, rules, errno) = match thing.to_str() {
        // What the kernel says where user.max_user_namespaces is 0.
        Some("user-namespaces") => (UNSHARE, flag(CLONE_NEWUSER)?, ENOSPC),
        Some("time-namespaces") => (UNSHARE, flag(CLONE_NEWTIME)?, EINVAL),
        Some("erofs") => (FSOPEN, Vec::new(), ENODEV),
        _ => return Err("it knows user-namespaces, time-namespaces and erofs".into()),
    };
    let filter = SeccompFilter::new(
        BTreeMap::from([(call, rules)]),
        SeccompAction::Allow,
        SeccompAction::Errno(errno),
        TargetArch::x86_64,
    )?;
    let filter: BpfProgram = filter.try_into()?;
    apply_filter(&filter)?;
    Err(std::process::Command::new(program).args(words).exec().into())
}
