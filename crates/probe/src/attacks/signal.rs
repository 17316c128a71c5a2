//! Ending the peer's processes, or finding them, by signals to every number that a process may have.
//!
//! Mechanism: `kill` reaches processes of the same user; signal 0 does nothing but tell. Source: kill(2). Stopped by:
//! `namespaces`, `user-namespace`, `landlock` (scope of signals).

use rustix::process::{Pid, test_kill_process};

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};
use crate::attacks::{own_family, own_pid};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "signal",
    title: "signals to the peer's processes (kill sweep)",
    stopped_by: &["namespaces", "user-namespace", "landlock"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

/// Numbers that are tried.
const NUMBERS: std::ops::Range<i32> = 2..70_000;

fn offer(_: &Args) -> Result<Offer, Why> {
    Ok(Offer { told: own_pid().to_string(), kept: Box::new(()) })
}

fn take(args: &Args) -> Result<String, Why> {
    let family = own_family();
    let told: Option<i32> = args.told.parse().ok();
    let reached = |pid: i32| Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok());
    // By the victim's own number first: where processes have the same numbers, that is it.
    let all = told.into_iter().chain(NUMBERS).filter(|pid| !family.contains(pid));
    let found: Vec<i32> = all.filter(|pid| reached(*pid)).take(3).collect();
    // A thread of its own server may have come meanwhile.
    let family = own_family();
    let found: Vec<i32> = found.into_iter().filter(|pid| !family.contains(pid)).collect();
    match (found.as_slice(), told) {
        ([], _) => Err(Why::of("no process but its own takes a signal")),
        // Without a victim, others of its user are not its victims.
        (_, None) => Err(Why::of("processes that are not the victim's")),
        _ => Ok(format!("a way to end processes {found:?}")),
    }
}
