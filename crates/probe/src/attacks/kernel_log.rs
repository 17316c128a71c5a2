//! Reaching `syslog`.
//!
//! Mechanism: Addresses and names of others. Source: syslog(2). Stopped by: `seccomp`.

use casemate_sys::attack::{Surface, reach};

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "kernel-log",
    title: "kernel interface: the kernel's log",
    stopped_by: &["seccomp"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Kernel, take },
};

fn take(_: &Args) -> Result<String, Why> {
    reach(Surface::KernelLog)?;
    Ok("syslog".into())
}
