//! Seeing what the peer reads of the kernel's own page of code, which every process has.
//!
//! Mechanism: Flush+Reload on the `[vdso]`, whose page frames are the same in all processes of the machine, whatever their root.
//! Programs ask it for the time. Source: Yarom and Falkner, Flush+Reload, 2014. Stopped by:
//! nothing of ours. Where the two run on cores that have no cache in common, it is not heard; processors of one socket
//! often have one.

use std::time::Duration;

use casemate_sys::timing::Mapped;

use crate::attack::{Args, Attack, Kind, Length, Receiver, Sender, Slot, Through, Why};
use crate::attacks::pin;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "vdso-reload",
    title: "channel: Flush+Reload on the kernel's page of code",
    stopped_by: &[],
    through: Through::Cores,
    length: Length::Full,
    kind: Kind::Slots { slot: Duration::from_millis(4), bits: 300, sender, receiver },
};

/// Two lines of the page, away from each other and from its ends.
const WATCHED: usize = 0x440;
const DECOY: usize = 0xc40;

fn mapped() -> Result<Mapped, Why> {
    Mapped::kernel_code().ok_or_else(|| Why::of("there is no vdso"))
}

fn sender(_: &Args) -> Result<Sender, Why> {
    let mapped = mapped()?;
    pin();
    Ok(Box::new(move |bit: bool, slot: Slot| {
        let place = if bit { WATCHED } else { DECOY };
        for part in 8..=23 {
            slot.until(part, 32);
            let _ = mapped.touch(place);
        }
        Ok(())
    }))
}

fn receiver(_: &Args) -> Result<Receiver, Why> {
    let mapped = mapped()?;
    pin();
    Ok(Box::new(move |slot: Slot| {
        slot.until(0, 1);
        let _ = mapped.flush(WATCHED);
        slot.until(3, 4);
        let cycles = mapped.read_cycles(WATCHED).ok_or_else(|| Why::of("the page is too small"))?;
        Ok(f64::from(u32::try_from(cycles).unwrap_or(u32::MAX)))
    }))
}
