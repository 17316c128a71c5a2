//! Counting the eventfds of the box.
//!
//! Mechanism: each eventfd gets a number that is counted for all, and `/proc/self/fdinfo` tells it. Source: fs/eventfd.c. Stopped
//! by: nothing; a process may read what its own descriptors are.

use std::os::fd::AsRawFd as _;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use crate::attack::{Args, Attack, Kind, Length, Receiver, Sender, Slot, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "eventfd-numbers",
    title: "channel: numbers of eventfds",
    stopped_by: &[],
    through: Through::Kernel,
    length: Length::Full,
    kind: Kind::Slots { slot: Duration::from_millis(4), bits: 200, sender, receiver },
};

/// Eventfds that stay open stand for a bit: a number that is free again goes to the next one.
const OPEN: usize = 40;

fn sender(_: &Args) -> Result<Sender, Why> {
    eventfd(0, EventfdFlags::CLOEXEC)?;
    Ok(Box::new(|bit: bool, slot: Slot| {
        slot.until(1, 8);
        let open: Result<Vec<_>, _> =
            (0..if bit { OPEN } else { 0 }).map(|_| eventfd(0, EventfdFlags::CLOEXEC)).collect();
        let open = open?;
        slot.until(7, 8);
        drop(open);
        Ok(())
    }))
}

fn receiver(_: &Args) -> Result<Receiver, Why> {
    number()?;
    Ok(Box::new(|slot: Slot| {
        slot.until(5, 8);
        number()
    }))
}

fn number() -> Result<f64, Why> {
    let own = eventfd(0, EventfdFlags::CLOEXEC)?;
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", own.as_raw_fd()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("eventfd-id:"));
    Ok(line.ok_or_else(|| Why::of("the kernel tells no number"))?.trim().parse()?)
}
