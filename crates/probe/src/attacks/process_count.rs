//! Counting all processes of the box.
//!
//! Mechanism: `sysinfo` counts processes past pid namespaces. Source: sysinfo(2). Stopped by: `seccomp`.

use crate::attack::{Args, Attack, Kind, Length, Receiver, Sender, Slot, Through, Why};

use std::time::Duration;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "process-count",
    title: "channel: number of processes (sysinfo)",
    stopped_by: &["seccomp"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Slots { slot: Duration::from_millis(8), bits: 180, sender, receiver },
};

/// Threads that stand for a bit.
const THREADS: usize = 6;

fn sender(_: &Args) -> Result<Sender, Why> {
    Ok(Box::new(|bit: bool, slot: Slot| {
        slot.until(0, 1);
        let threads: Vec<_> = (0..if bit { THREADS } else { 0 })
            .filter_map(|_| std::thread::Builder::new().spawn(move || slot.until(3, 4)).ok())
            .collect();
        for thread in threads {
            let _ = thread.join();
        }
        Ok(())
    }))
}

fn receiver(_: &Args) -> Result<Receiver, Why> {
    casemate_sys::attack::processes()?;
    Ok(Box::new(|slot: Slot| {
        slot.until(1, 2);
        Ok(f64::from(casemate_sys::attack::processes()?))
    }))
}
