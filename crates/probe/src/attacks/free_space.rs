//! Counting the free room of a file system that both write to.
//!
//! Mechanism: `statfs` tells everybody how many blocks are free. Source: statfs(2). Stopped by: `private-root` (each writable folder
//! of an agent is a file system of its own). Positive control: one small file system in memory for both. Negative control: the victim
//! takes no room. Volumes are not in the probe's compartments: two agents with volumes on the box's disk can count its free room
//! (docs/controls.md), and of them nothing is said.

use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate, ftruncate, statfs};

use crate::attack::{Args, Attack, Kind, Length, Receiver, Sender, Slot, Through, Why};
use crate::attacks::places;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "free-space",
    title: "channel: free room of a file system",
    stopped_by: &["private-root"],
    through: Through::Disk,
    length: Length::Short,
    kind: Kind::Slots { slot: Duration::from_millis(4), bits: 150, sender, receiver },
};

/// Room that stands for a bit.
const BYTES: u64 = 1 << 20;

fn place(args: &Args) -> Result<String, Why> {
    if args.small.is_empty() { places::folder(args) } else { Ok(args.small.clone()) }
}

fn sender(args: &Args) -> Result<Sender, Why> {
    let file = places::nameless(&place(args)?, &args.mark, "room")?;
    Ok(Box::new(move |bit: bool, slot: Slot| {
        slot.until(0, 1);
        if bit {
            fallocate(file.as_fd(), FallocateFlags::empty(), 0, BYTES)?;
        }
        slot.until(7, 8);
        Ok(ftruncate(file.as_fd(), 0)?)
    }))
}

fn receiver(args: &Args) -> Result<Receiver, Why> {
    let place = place(args)?;
    Ok(Box::new(move |slot: Slot| {
        slot.until(1, 2);
        Ok(f64::from(u32::try_from(statfs(place.as_str())?.f_bfree & 0xffff_ffff).unwrap_or(u32::MAX)))
    }))
}
