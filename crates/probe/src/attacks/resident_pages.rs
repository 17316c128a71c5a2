//! Seeing which pages of a file the peer has read.
//!
//! Mechanism: `mincore` tells whether a page of a mapped file is in memory. Source: Gruss et al., 2019; since Linux 5.2 for the file's owner and who may write it alone. Stopped by: `seccomp`, `private-root` (no page cache in common).

use std::fs::File;
use std::os::fd::AsFd as _;

use crate::attack::{Args, Attack, Kind, Length, Through, Why};
use crate::attacks::pages;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "resident-pages",
    title: "channel: page cache: mincore",
    stopped_by: &["seccomp", "private-root"],
    through: Through::Root,
    length: Length::Full,
    kind: Kind::OneShot { bits: pages::BITS, forget: pages::forget, send: pages::send, receive },
};

fn receive(args: &Args, count: usize) -> Result<Vec<f64>, Why> {
    pages::each(args, count, look)
}

fn look(file: &File, offset: u64) -> Result<f64, Why> {
    Ok(if casemate_sys::attack::resident(file.as_fd(), offset)? { 1.0 } else { 0.0 })
}
