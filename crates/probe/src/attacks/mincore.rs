//! Reaching `mincore`.
//!
//! Mechanism: Tells which pages of a file others have read. Source: Gruss et al., Page Cache Attacks, 2019. Stopped by: `seccomp`.

use casemate_sys::attack::{Surface, reach};

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "mincore",
    title: "kernel interface: page residency of mappings",
    stopped_by: &["seccomp"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Kernel, take },
};

fn take(_: &Args) -> Result<String, Why> {
    reach(Surface::Mincore)?;
    Ok("mincore".into())
}
