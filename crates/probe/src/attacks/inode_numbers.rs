//! Counting the pipes of the box.
//!
//! Mechanism: inode numbers of pipes and sockets are counted for all, in batches for each processor; how far they went since
//! the last look tells how many others were made. Source: fs/inode.c, `get_next_ino`. Stopped by: nothing; the numbers are in
//! what `fstat` answers, which no filter can change.

use std::os::fd::AsFd as _;
use std::time::Duration;

use crate::attack::{Args, Attack, Kind, Length, Receiver, Sender, Slot, Through, Why};
use crate::attacks::pin;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "inode-numbers",
    title: "channel: inode numbers of pipes",
    stopped_by: &[],
    through: Through::Kernel,
    length: Length::Full,
    kind: Kind::Slots { slot: Duration::from_millis(4), bits: 200, sender, receiver },
};

/// Pipes that stand for a bit.
const PIPES: usize = 60;

fn sender(_: &Args) -> Result<Sender, Why> {
    pin();
    Ok(Box::new(|bit: bool, slot: Slot| {
        slot.until(1, 8);
        for _ in 0..if bit { PIPES } else { 0 } {
            drop(std::io::pipe()?);
        }
        slot.until(1, 1);
        Ok(())
    }))
}

fn receiver(_: &Args) -> Result<Receiver, Why> {
    pin();
    let mut last = number()?;
    Ok(Box::new(move |slot: Slot| {
        slot.until(3, 4);
        let next = number()?;
        let step = next.wrapping_sub(last);
        last = next;
        Ok(f64::from(u32::try_from(step & 0xffff_ffff).unwrap_or(u32::MAX)))
    }))
}

fn number() -> Result<u64, Why> {
    let (read, _write) = std::io::pipe()?;
    Ok(rustix::fs::fstat(read.as_fd())?.st_ino)
}
