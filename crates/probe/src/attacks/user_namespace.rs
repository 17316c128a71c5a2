//! Reaching `unshare(CLONE_NEWUSER)`.
//!
//! Mechanism: A process in a user namespace of its own has all capabilities there, and with them much more of the kernel. Source: user_namespaces(7). Stopped by: `seccomp`.

use casemate_sys::attack::{Surface, reach};

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "user-namespace",
    title: "kernel interface: making a user namespace",
    stopped_by: &["seccomp"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Kernel, take },
};

fn take(_: &Args) -> Result<String, Why> {
    reach(Surface::UserNamespace)?;
    Ok("unshare(CLONE_NEWUSER)".into())
}
