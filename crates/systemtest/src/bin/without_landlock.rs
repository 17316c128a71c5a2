//! Runs a program, and all that it starts, on a kernel that seems to have no Landlock.
//!
//! What it is: a system call filter that answers `landlock_create_ruleset` with ENOSYS, as a kernel without Landlock
//! does, and then the program. What it is not: shipped. Who trusts it: the system tests.

use std::collections::BTreeMap;
use std::error::Error;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

/// Number of `landlock_create_ruleset` (Linux, arch/x86/entry/syscalls/syscall_64.tbl).
const LANDLOCK_CREATE_RULESET: i64 = 444;
/// "Function not implemented" (Linux, include/uapi/asm-generic/errno.h).
const ENOSYS: u32 = 38;

fn main() -> ExitCode {
    // Nothing is returned where the program was started.
    let Err(error) = run();
    eprintln!("without-landlock: {error}");
    ExitCode::from(99)
}

fn run() -> Result<std::convert::Infallible, Box<dyn Error>> {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().ok_or("no program named")?;
    let filter = SeccompFilter::new(
        BTreeMap::from([(LANDLOCK_CREATE_RULESET, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(ENOSYS),
        TargetArch::x86_64,
    )?;
    let filter: BpfProgram = filter.try_into()?;
    apply_filter(&filter)?;
    Err(std::process::Command::new(program).args(words).exec().into())
}
