//! Reaching `io_uring_setup`.
//!
//! Mechanism: A second way to make system calls, past filters, with a long row of errors. Source: io_uring_setup(2). Stopped by: `seccomp`.

use casemate_sys::attack::{Surface, reach};

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "io-uring",
    title: "kernel interface: io_uring",
    stopped_by: &["seccomp"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Kernel, take },
};

fn take(_: &Args) -> Result<String, Why> {
    reach(Surface::IoUring)?;
    Ok("io_uring_setup".into())
}
