//! Runs a program, and all that it starts, so that the kernel kills it where it makes or connects a socket.
//!
//! What it is: a system call filter that kills the process at `socket` and at `connect`, and then the program. What it
//! is not: shipped. Who trusts it: the system tests.

use std::collections::BTreeMap;
use std::error::Error;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

/// Numbers of `socket` and `connect` (Linux, arch/x86/entry/syscalls/syscall_64.tbl).
const SOCKET: i64 = 41;
const CONNECT: i64 = 42;

fn main() -> ExitCode {
    // Nothing is returned where the program was started.
    let Err(error) = run();
    eprintln!("without-sockets: {error}");
    ExitCode::from(99)
}

fn run() -> Result<std::convert::Infallible, Box<dyn Error>> {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().ok_or("no program named")?;
    let filter = SeccompFilter::new(
        BTreeMap::from([(SOCKET, Vec::new()), (CONNECT, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::KillProcess,
        TargetArch::x86_64,
    )?;
    let filter: BpfProgram = filter.try_into()?;
    apply_filter(&filter)?;
    Err(std::process::Command::new(program).args(words).exec().into())
}
