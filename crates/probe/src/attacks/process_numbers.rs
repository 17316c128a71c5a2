//! Counting the processes and threads that the box starts.
//!
//! Mechanism: each process and thread gets an inode number that is counted for all, past pid namespaces, and `fstat` of a pidfd
//! tells it (pidfs, Linux 6.9). Source: fs/pidfs.c. Stopped by: `seccomp`, which gives no pidfd of what the peer did not start, nor of
//! what it did.

use std::time::Duration;

use rustix::process::{PidfdFlags, pidfd_open};

use crate::attack::{Args, Attack, Kind, Length, Receiver, Sender, Slot, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "process-numbers",
    title: "channel: numbers of processes (pidfd)",
    stopped_by: &["seccomp"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Slots { slot: Duration::from_millis(8), bits: 180, sender, receiver },
};

/// Threads that stand for a bit.
const THREADS: usize = 12;
/// `PIDFD_THREAD` (include/uapi/linux/pidfd.h): a descriptor of a thread.
const OF_A_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(0o200);

fn sender(_: &Args) -> Result<Sender, Why> {
    Ok(Box::new(|bit: bool, slot: Slot| {
        slot.until(1, 8);
        for _ in 0..if bit { THREADS } else { 0 } {
            let thread = std::thread::Builder::new().spawn(|| ())?;
            let _ = thread.join();
        }
        Ok(())
    }))
}

fn receiver(_: &Args) -> Result<Receiver, Why> {
    number()?;
    Ok(Box::new(|slot: Slot| {
        slot.until(0, 1);
        let before = number()?;
        slot.until(7, 8);
        let step = number()?.wrapping_sub(before);
        Ok(f64::from(u32::try_from(step & 0xffff_ffff).unwrap_or(u32::MAX)))
    }))
}

/// The number of a thread that begins now.
fn number() -> Result<u64, Why> {
    let look = || {
        let own = pidfd_open(rustix::thread::gettid(), OF_A_THREAD)?;
        rustix::fs::fstat(own).map(|found| found.st_ino)
    };
    let thread = std::thread::Builder::new().spawn(look)?;
    Ok(thread.join().map_err(|_| Why::of("the thread that looks ended"))??)
}
