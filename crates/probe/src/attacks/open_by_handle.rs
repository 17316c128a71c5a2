//! Reaching `open_by_handle_at`.
//!
//! Mechanism: Opens any file of a file system past all folders: the way out of early containers. Source: open_by_handle_at(2). Stopped by: `seccomp`.

use casemate_sys::attack::{Surface, reach};

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "open-by-handle",
    title: "kernel interface: files by their handles",
    stopped_by: &["seccomp"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Kernel, take },
};

fn take(_: &Args) -> Result<String, Why> {
    reach(Surface::OpenByHandle)?;
    Ok("open_by_handle_at".into())
}
