//! Reaching `fanotify_init`.
//!
//! Mechanism: Tells of what others do with files. Source: fanotify(7). Stopped by: `seccomp`.

use casemate_sys::attack::{Surface, reach};

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "fanotify",
    title: "kernel interface: fanotify",
    stopped_by: &["seccomp"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Kernel, take },
};

fn take(_: &Args) -> Result<String, Why> {
    reach(Surface::Fanotify)?;
    Ok("fanotify_init".into())
}
