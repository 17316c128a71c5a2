//! Counting the sockets of the box.
//!
//! Mechanism: SO_COOKIE gives each socket a number that is counted for all of a processor. Source:
//! net/core/sock_diag.c. Stopped by: `seccomp`, `cores`.

use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::net::sockopt::socket_cookie;

use crate::attack::{Args, Attack, Kind, Length, Receiver, Sender, Slot, Through, Why};
use crate::attacks::pin;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "socket-cookies",
    title: "channel: numbers of sockets (SO_COOKIE)",
    stopped_by: &["seccomp", "cores"],
    through: Through::Kernel,
    length: Length::Full,
    kind: Kind::Slots { slot: Duration::from_millis(4), bits: 200, sender, receiver },
};

/// Sockets that stand for a bit.
const SOCKETS: usize = 40;

fn sender(_: &Args) -> Result<Sender, Why> {
    pin();
    Ok(Box::new(|bit: bool, slot: Slot| {
        slot.until(1, 8);
        for _ in 0..if bit { SOCKETS } else { 0 } {
            // Where the victim's own filter gives no number, its sockets have none.
            let _ = socket_cookie(UdpSocket::bind("127.0.0.1:0")?.as_fd());
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
        let step = next.saturating_sub(last);
        last = next;
        Ok(f64::from(u32::try_from(step).unwrap_or(u32::MAX)))
    }))
}

fn number() -> Result<u64, Why> {
    Ok(socket_cookie(UdpSocket::bind("127.0.0.1:0")?.as_fd())?)
}
