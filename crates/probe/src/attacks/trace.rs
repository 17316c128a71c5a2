//! Attaching to the peer's processes as a tracer, which then may read and write all of them.
//!
//! Mechanism: `ptrace(PTRACE_SEIZE)`. Source: ptrace(2). Stopped by: `seccomp`, `namespaces`, `user-namespace`.

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};
use crate::attacks::{own_pid, victims};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "trace",
    title: "tracing the peer's processes (ptrace)",
    stopped_by: &["seccomp", "namespaces", "user-namespace"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

fn offer(_: &Args) -> Result<Offer, Why> {
    Ok(Offer { told: own_pid().to_string(), kept: Box::new(()) })
}

fn take(args: &Args) -> Result<String, Why> {
    let pid = match victims(args).ok().and_then(|pids| pids.first().copied()) {
        Some(pid) => pid,
        None if args.told.is_empty() => return Err(Why::of("no process of the victim")),
        None => {
            // Where none shows, the call itself is what is tried; a hold on its own first process is no harm to a peer.
            casemate_sys::attack::seize(1)?;
            return Err(Why::of("the call works, and no process of the victim shows"));
        }
    };
    casemate_sys::attack::seize(pid)?;
    Ok(format!("a hold on process {pid}"))
}
