//! Reaching `userfaultfd`.
//!
//! Mechanism: Stops the kernel at a moment of the attacker's choice; most exploits of races use it. Source: userfaultfd(2). Stopped by: `seccomp`.

use casemate_sys::attack::{Surface, reach};

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "userfaultfd",
    title: "kernel interface: userfaultfd",
    stopped_by: &["seccomp"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Kernel, take },
};

fn take(_: &Args) -> Result<String, Why> {
    reach(Surface::Userfaultfd)?;
    Ok("userfaultfd".into())
}
