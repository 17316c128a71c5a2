//! Seeing which pages of a file the peer has read.
//!
//! Mechanism: `cachestat` counts the pages of a file that are in memory, for who may write it. Source: cachestat(2), Linux 6.5. Stopped by: `seccomp`, `private-root` (no page cache in common).

use std::fs::File;
use std::os::fd::AsFd as _;

use crate::attack::{Args, Attack, Kind, Length, Through, Why};
use crate::attacks::pages;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "cached-pages",
    title: "channel: page cache: cachestat",
    stopped_by: &["seccomp", "private-root"],
    through: Through::Root,
    length: Length::Full,
    kind: Kind::OneShot { bits: pages::BITS, forget: pages::forget, send: pages::send, receive },
};

fn receive(args: &Args, count: usize) -> Result<Vec<f64>, Why> {
    pages::each(args, count, look)
}

fn look(file: &File, offset: u64) -> Result<f64, Why> {
    let pages = casemate_sys::attack::cached_pages(file.as_fd(), offset, 4096)?;
    Ok(f64::from(u32::try_from(pages).unwrap_or(u32::MAX)))
}
