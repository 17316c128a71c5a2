//! Working without end on a core that the victim needs.
//!
//! Mechanism: without groups, each thread has a share of its own, so who has more of them has more of the core. Source:
//! sched(7). Stopped by: `cgroup-cpu` (a share for each agent, however many threads it has), `cores`. A core that two agents
//! have in common is divided between them: a victim that is half as fast is not held to be harmed.

use std::time::{Duration, Instant};

use crate::attack::{Args, Attack, Kind, Length, Need, Offer, Through, Why};
use crate::attacks::pin;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "exhaust-cpu",
    title: "exhaustion: time on a core",
    stopped_by: &["cgroup-cpu", "cores"],
    through: Through::Cores,
    length: Length::Full,
    kind: Kind::Exhaust { need, take },
};

/// Threads that work without end.
const THREADS: usize = 8;
/// Turns of the victim's work, and how long they are to take.
const TURNS: u32 = 1000;
const WORK: Duration = Duration::from_millis(5);

fn need(_: &Args) -> Result<Need, Why> {
    pin();
    // So many rounds of turns take that long here.
    let begun = Instant::now();
    let mut rounds = 0_u32;
    while begun.elapsed() < WORK {
        turns();
        rounds = rounds.saturating_add(1);
    }
    Ok(Box::new(move || {
        (0..rounds).for_each(|_| turns());
        Ok(())
    }))
}

fn turns() {
    for turn in 0..TURNS {
        std::hint::black_box(turn);
    }
}

fn take(_: &Args) -> Result<Offer, Why> {
    pin();
    for _ in 0..THREADS {
        // They end with the process.
        std::thread::Builder::new().spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        })?;
    }
    Ok(Offer { told: format!("{THREADS} threads"), kept: Box::new(()) })
}
