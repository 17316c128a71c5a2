//! Reaching `bpf`.
//!
//! Mechanism: Programs of the attacker in the kernel. Source: bpf(2). Stopped by: `seccomp`.

use casemate_sys::attack::{Surface, reach};

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "bpf",
    title: "kernel interface: bpf",
    stopped_by: &["seccomp"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Kernel, take },
};

fn take(_: &Args) -> Result<String, Why> {
    reach(Surface::Bpf)?;
    Ok("bpf".into())
}
