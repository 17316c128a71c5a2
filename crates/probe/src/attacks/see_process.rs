//! Seeing that a process of the peer runs, and with which words.
//!
//! Mechanism: `/proc/PID/cmdline` of all processes is readable by everybody. Source: proc(5). Stopped by: `namespaces` (a pid
//! namespace each), and `proc`.

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};
use crate::attacks::{others, own_pid};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "see-process",
    title: "command lines of the peer's processes",
    stopped_by: &["namespaces", "proc"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

fn offer(_: &Args) -> Result<Offer, Why> {
    Ok(Offer { told: own_pid().to_string(), kept: Box::new(()) })
}

fn take(args: &Args) -> Result<String, Why> {
    let mark = format!("mark={}", args.mark);
    for pid in others()? {
        let Ok(words) = std::fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        let words = String::from_utf8_lossy(&words).into_owned();
        if words.contains(&mark) && words.contains("victim") {
            return Ok(format!("the command line of process {pid}"));
        }
    }
    Err(Why::of("no process of the victim in /proc"))
}
