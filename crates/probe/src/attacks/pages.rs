//! Pages of a file that stand for bits: what the attacks on the page cache have in common.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{Advice, fadvise};

use crate::attack::{Args, Why};

/// Bits of one run.
pub(super) const BITS: usize = 192;
/// Bytes of a page.
const PAGE: u64 = 4096;

/// As if nobody had read anything: the file leaves the page cache.
pub(super) fn forget(args: &Args) -> Result<(), Why> {
    let file = File::open(&args.file)?;
    Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
}

/// Reads the pages that stand for bits that are 1.
pub(super) fn send(args: &Args, bits: &[bool]) -> Result<(), Why> {
    let (file, distance) = open(args)?;
    for (place, _) in (0_u64..).zip(bits).filter(|(_, bit)| **bit) {
        file.read_exact_at(&mut [0; 64], place.saturating_mul(distance))?;
    }
    Ok(())
}

/// One look at each page.
pub(super) fn each(
    args: &Args,
    count: usize,
    look: fn(&File, u64) -> Result<f64, Why>,
) -> Result<Vec<f64>, Why> {
    let (file, distance) = open(args)?;
    (0_u64..).take(count).map(|place| look(&file, place.saturating_mul(distance))).collect()
}

/// The file, read without reading ahead, and the distance of pages that stand for bits.
fn open(args: &Args) -> Result<(File, u64), Why> {
    let file = File::open(&args.file)?;
    fadvise(&file, 0, None, Advice::Random)?;
    let pages = file.metadata()?.len() / PAGE;
    let step = pages / u64::try_from(BITS)?;
    if step == 0 {
        return Err(Why::of(format!("{} has less than {BITS} pages", args.file)));
    }
    Ok((file, step.saturating_mul(PAGE)))
}
