//! Reaching `keyctl`.
//!
//! Mechanism: Keys have quotas and names in common. Source: keyrings(7). Stopped by: `seccomp`.

use casemate_sys::attack::{Surface, reach};

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "key-calls",
    title: "kernel interface: key calls",
    stopped_by: &["seccomp"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Kernel, take },
};

fn take(_: &Args) -> Result<String, Why> {
    reach(Surface::Keys)?;
    Ok("keyctl".into())
}
