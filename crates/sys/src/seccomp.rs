//! System call filters: from commented rule text to a BPF program, and onto the calling thread.
//!
//! The program searches the call's number by halving. The kernel runs a filter once for each number when it is loaded
//! (to learn which calls need no filter at all), so a filter that walks through all rules makes every start slow.

pub(crate) mod held;
mod program;
mod reach;
mod rules;

pub use reach::{Reach, reach};
pub use rules::SeccompError;

use crate::syscall::{self, Threads};

/// Compiles rule text (see `rules/native.seccomp`) to `struct sock_filter` records in machine byte order.
///
/// # Errors
/// [`SeccompError`].
pub fn compile(text: &str) -> Result<Vec<u8>, SeccompError> {
    let program = program::emit(&rules::parse(text)?);
    let mut bytes = Vec::with_capacity(program.len().saturating_mul(RECORD_BYTES));
    for instruction in &program {
        bytes.extend_from_slice(&instruction.code.to_ne_bytes());
        bytes.push(instruction.jt);
        bytes.push(instruction.jf);
        bytes.extend_from_slice(&instruction.k.to_ne_bytes());
    }
    Ok(bytes)
}

/// The number of a system call, by its name in the rules.
#[must_use]
pub fn call_number(name: &str) -> Option<u32> {
    syscall::number(name)
}

/// Size of a `struct sock_filter`.
const RECORD_BYTES: usize = 8;

/// Puts a compiled filter on the calling thread. `no_new_privs` must be set.
///
/// # Errors
/// The system's error; `EINVAL` for bytes that are no program.
pub fn load(program: &[u8]) -> Result<(), rustix::io::Errno> {
    load_on(program, Threads::This)
}

/// Likewise, on all threads of the process.
///
/// # Errors
/// As [`load`]; `ESRCH` where a thread has a filter of its own.
pub fn load_for_process(program: &[u8]) -> Result<(), rustix::io::Errno> {
    load_on(program, Threads::All)
}

fn load_on(program: &[u8], threads: Threads) -> Result<(), rustix::io::Errno> {
    let mut instructions = Vec::with_capacity(program.len() / RECORD_BYTES);
    for record in program.chunks(RECORD_BYTES) {
        let [c0, c1, jt, jf, k0, k1, k2, k3] = *record else { return Err(rustix::io::Errno::INVAL) };
        instructions.push(libc::sock_filter {
            code: u16::from_ne_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        });
    }
    syscall::seccomp_set_filter(&instructions, threads)
}
