//! Reaching terminals of others.
//!
//! Mechanism: who can open another's terminal reads its keys and, with TIOCSTI, types for it. Source: tty_ioctl(4),
//! CVE-2016-2568. Stopped by: `private-root` (no `/dev/pts`, no `/dev/ptmx`).

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "terminals",
    title: "terminals of others",
    stopped_by: &["private-root"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Kernel, take },
};

fn take(_: &Args) -> Result<String, Why> {
    let entries = std::fs::read_dir("/dev/pts")?;
    let names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    if names.is_empty() {
        Err(Why::of("/dev/pts is empty"))
    } else {
        Ok(format!("/dev/pts has {}", names.join(" ")))
    }
}
