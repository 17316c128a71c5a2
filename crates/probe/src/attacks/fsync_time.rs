//! Feeling how long the disk takes that both write to.
//!
//! Mechanism: `fsync` waits for the file system's journal and for the disk, whoever filled them. Source: fsync(2); Liu et al.,
//! Sync+Sync, 2024. Stopped by: `private-root` (the writable folders of an agent are in memory, where nobody waits). Positive control: one
//! folder on a disk for both. Negative control: the victim writes and does not sync, which it does for each bit that is 0, too.
//! Volumes are not in the probe's compartments: two agents with volumes on the box's disk can feel this (docs/controls.md), and
//! of them nothing is said.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use crate::attack::{Args, Attack, Kind, Length, Receiver, Sender, Slot, Through, Why};
use crate::attacks::places;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "fsync-time",
    title: "channel: time of fsync",
    stopped_by: &["private-root"],
    through: Through::Disk,
    length: Length::Full,
    kind: Kind::Slots { slot: Duration::from_millis(24), bits: 120, sender, receiver },
};

/// What is written each time.
static SENT: [u8; 32 << 10] = [1; 32 << 10];
const LOOK: [u8; 512] = [2; 512];
/// Time between two writes of a bit that is 0.
const PAUSE: Duration = Duration::from_millis(1);

fn sender(args: &Args) -> Result<Sender, Why> {
    let file = places::nameless(&places::folder(args)?, &args.mark, "sent")?;
    Ok(Box::new(move |bit: bool, slot: Slot| {
        slot.until(0, 1);
        while !slot.is_past(3, 4) {
            file.write_all_at(&SENT, 0)?;
            if bit {
                file.sync_data()?;
            } else {
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }))
}

fn receiver(args: &Args) -> Result<Receiver, Why> {
    let folder = places::folder(args)?;
    if places::is_in_memory(&folder) {
        return Err(Why::of(format!("{folder} is in memory, where nobody waits")));
    }
    let file: File = places::nameless(&folder, &args.mark, "look")?;
    Ok(Box::new(move |slot: Slot| {
        slot.until(1, 8);
        let mut done = 0_u32;
        while !slot.is_past(5, 8) {
            file.write_all_at(&LOOK, 0)?;
            file.sync_data()?;
            done = done.saturating_add(1);
        }
        Ok(f64::from(done))
    }))
}
