//! Seeing which pages of a file the peer has read.
//!
//! Mechanism: the first read of a page takes long, unless somebody read it before. Source: Gruss et al., Page Cache Attacks, 2019. Stopped by: `private-root` (no page cache in common).

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use crate::attack::{Args, Attack, Kind, Length, Through, Why};
use crate::attacks::pages;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "first-read",
    title: "channel: page cache: time of a first read",
    stopped_by: &["private-root"],
    through: Through::Root,
    length: Length::Full,
    kind: Kind::OneShot { bits: pages::BITS, forget: pages::forget, send: pages::send, receive },
};

fn receive(args: &Args, count: usize) -> Result<Vec<f64>, Why> {
    pages::each(args, count, look)
}

fn look(file: &File, offset: u64) -> Result<f64, Why> {
    let begun = Instant::now();
    file.read_exact_at(&mut [0; 64], offset)?;
    Ok(begun.elapsed().as_secs_f64() * 1e6)
}
