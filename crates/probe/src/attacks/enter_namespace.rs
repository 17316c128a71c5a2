//! Reaching `setns`.
//!
//! Mechanism: Entering the namespaces of another. Source: setns(2). Stopped by: `seccomp`.

use casemate_sys::attack::{Surface, reach};

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "enter-namespace",
    title: "kernel interface: entering namespaces",
    stopped_by: &["seccomp"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Kernel, take },
};

fn take(_: &Args) -> Result<String, Why> {
    reach(Surface::EnterNamespace)?;
    Ok("setns".into())
}
