//! Seeing which pages of a file the peer has read.
//!
//! Mechanism: `preadv2` with RWF_NOWAIT fails where the page is not in memory. Source: readv(2). Stopped by: `seccomp`, `private-root` (no page cache in common).

use std::fs::File;
use std::os::fd::AsFd as _;

use crate::attack::{Args, Attack, Kind, Length, Through, Why};
use crate::attacks::pages;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "read-without-waiting",
    title: "channel: page cache: reads that do not wait",
    stopped_by: &["seccomp", "private-root"],
    through: Through::Root,
    length: Length::Full,
    kind: Kind::OneShot { bits: pages::BITS, forget: pages::forget, send: pages::send, receive },
};

fn receive(args: &Args, count: usize) -> Result<Vec<f64>, Why> {
    pages::each(args, count, look)
}

fn look(file: &File, offset: u64) -> Result<f64, Why> {
    match casemate_sys::attack::read_without_waiting(file.as_fd(), offset, &mut [0; 64]) {
        Ok(_) => Ok(1.0),
        Err(rustix::io::Errno::AGAIN) => Ok(0.0),
        Err(errno) => Err(errno.into()),
    }
}
