//! Counting the pipes of the box.
//!
//! Mechanism: inode numbers of pipes and sockets are counted for all, in batches of 1024 for each processor; how far they went
//! while the attacker used up a batch tells how many others were used up. Source: fs/inode.c, `get_next_ino`. Stopped by: nothing;
//! the numbers are in what `fstat` answers, which no filter can change. Two that share a processor share its batch, and could
//! signal with a few pipes, much faster.

use std::os::fd::AsFd as _;
use std::time::Duration;

use crate::attack::{Args, Attack, Kind, Length, Receiver, Sender, Slot, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "inode-numbers",
    title: "channel: inode numbers of pipes",
    stopped_by: &[],
    through: Through::Kernel,
    length: Length::Full,
    kind: Kind::Slots { slot: Duration::from_millis(30), bits: 160, sender, receiver },
};

/// Pipes that use up a batch, and some: for a bit, and to look.
const PIPES: usize = 1100;

fn sender(_: &Args) -> Result<Sender, Why> {
    Ok(Box::new(|bit: bool, slot: Slot| {
        slot.until(0, 1);
        for _ in 0..if bit { PIPES } else { 0 } {
            drop(std::io::pipe()?);
        }
        slot.until(1, 1);
        Ok(())
    }))
}

fn receiver(_: &Args) -> Result<Receiver, Why> {
    let mut last = number()?;
    Ok(Box::new(move |slot: Slot| {
        slot.until(1, 2);
        for _ in 0..PIPES {
            drop(std::io::pipe()?);
        }
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
