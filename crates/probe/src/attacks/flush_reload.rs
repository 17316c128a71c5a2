//! Seeing which code and data the peer uses of a file that both map.
//!
//! Mechanism: the attacker puts a line of a page out of the caches and times its own next read of it: fast means that somebody read
//! it meanwhile. Source: Yarom and Falkner, Flush+Reload, 2014. Stopped by: `private-root` (no page in common).

use std::os::fd::AsFd as _;
use std::time::Duration;

use casemate_sys::timing::Mapped;

use crate::attack::{Args, Attack, Kind, Length, Receiver, Sender, Slot, Through, Why};
use crate::attacks::pin;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "flush-reload",
    title: "channel: Flush+Reload on a page of the root",
    stopped_by: &["private-root"],
    through: Through::Root,
    length: Length::Short,
    kind: Kind::Slots { slot: Duration::from_millis(4), bits: 300, sender, receiver },
};

/// Where in its page the line lies: away from the ends, which prefetchers reach.
const IN_PAGE: usize = 0x440;
/// The other page is the first one.
const DECOY_DISTANCE: usize = 4096;

/// The file, and a place in the middle of it.
fn mapped(args: &Args) -> Result<(Mapped, usize), Why> {
    let file = std::fs::File::open(&args.file)?;
    let bytes = usize::try_from(file.metadata()?.len())?;
    let watched = ((bytes / 2) & !0xfff).max(0x1000) + IN_PAGE;
    let mapped = Mapped::of(file.as_fd(), bytes)?;
    mapped.touch(watched).ok_or_else(|| Why::of("the file is too small"))?;
    Ok((mapped, watched))
}

fn sender(args: &Args) -> Result<Sender, Why> {
    let (mapped, watched) = mapped(args)?;
    let decoy = watched % DECOY_DISTANCE;
    pin();
    Ok(Box::new(move |bit: bool, slot: Slot| {
        // Within the slot, between the receiver's flush and its look. A bit is which of two pages is read, so that the victim
        // does as much for either: what a core tells of work is another attack.
        let place = if bit { watched } else { decoy };
        for part in 8..=23 {
            slot.until(part, 32);
            let _ = mapped.touch(place);
        }
        Ok(())
    }))
}

fn receiver(args: &Args) -> Result<Receiver, Why> {
    let (mapped, watched) = mapped(args)?;
    pin();
    Ok(Box::new(move |slot: Slot| {
        slot.until(0, 1);
        let _ = mapped.flush(watched);
        slot.until(3, 4);
        let cycles = mapped.read_cycles(watched).ok_or_else(|| Why::of("the file is too small"))?;
        Ok(f64::from(u32::try_from(cycles).unwrap_or(u32::MAX)))
    }))
}
