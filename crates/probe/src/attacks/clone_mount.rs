//! Reaching `open_tree`.
//!
//! Mechanism: Mounts of the attacker's own. Source: open_tree(2). Stopped by: `seccomp`.

use casemate_sys::attack::{Surface, reach};

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "clone-mount",
    title: "kernel interface: mounts",
    stopped_by: &["seccomp"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Kernel, take },
};

fn take(_: &Args) -> Result<String, Why> {
    reach(Surface::CloneMount)?;
    Ok("open_tree".into())
}
