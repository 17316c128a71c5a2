//! Reaching `perf_event_open`.
//!
//! Mechanism: Counters and samples of whatever runs on a processor. Source: perf_event_open(2). Stopped by: `seccomp`.

use casemate_sys::attack::{Surface, reach};

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "perf",
    title: "kernel interface: performance events of a whole processor",
    stopped_by: &["seccomp"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Kernel, take },
};

fn take(_: &Args) -> Result<String, Why> {
    reach(Surface::Perf)?;
    Ok("perf_event_open".into())
}
