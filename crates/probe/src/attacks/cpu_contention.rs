//! Feeling what the peer does on the same core.
//!
//! Mechanism: work takes longer while another works on the core. Source: every scheduler. Stopped by: `cores` (a cpuset for each
//! trust group).

use std::time::Duration;

use crate::attack::{Args, Attack, Kind, Length, Receiver, Sender, Slot, Through, Why};
use crate::attacks::pin;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "cpu-contention",
    title: "channel: time on a common core",
    stopped_by: &["cores"],
    through: Through::Cores,
    length: Length::Full,
    kind: Kind::Slots { slot: Duration::from_millis(20), bits: 150, sender, receiver },
};

fn sender(_: &Args) -> Result<Sender, Why> {
    pin();
    Ok(Box::new(|bit: bool, slot: Slot| {
        slot.until(0, 1);
        while bit && !slot.is_past(7, 8) {
            std::hint::spin_loop();
        }
        Ok(())
    }))
}

fn receiver(_: &Args) -> Result<Receiver, Why> {
    pin();
    Ok(Box::new(|slot: Slot| {
        slot.until(1, 8);
        let mut turns = 0_u32;
        while !slot.is_past(3, 4) {
            turns = turns.saturating_add(1);
        }
        Ok(f64::from(turns))
    }))
}
