//! Processes and threads without end.
//!
//! Mechanism: `fork` until the kernel refuses. Source: every fork bomb. Stopped by: `cgroup-limits`, `user-namespace`.

/// Most threads that are made.
const MOST: u32 = 4000;

use crate::attack::{Args, Attack, Kind, Length, Need, Offer, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "exhaust-processes",
    title: "exhaustion: processes",
    stopped_by: &["cgroup-limits", "user-namespace"],
    through: Through::Kernel,
    length: Length::Full,
    kind: Kind::Exhaust { need, take },
};

fn need(_: &Args) -> Result<Need, Why> {
    Ok(Box::new(|| {
        let _ = std::thread::Builder::new().spawn(|| ())?.join();
        Ok(())
    }))
}

fn take(_: &Args) -> Result<Offer, Why> {
    // Between plain processes it is the user's limit that both have in common; in a compartment the group's is lower.
    let mut count = 0_u32;
    let why = loop {
        let waits = || loop {
            std::thread::park();
        };
        match std::thread::Builder::new().stack_size(16 << 10).spawn(waits) {
            Ok(_) => count = count.saturating_add(1),
            Err(error) => break error,
        }
        if count >= MOST {
            break std::io::Error::other("the probe's own end");
        }
    };
    Ok(Offer { told: format!("{count} threads: {why}"), kept: Box::new(()) })
}
