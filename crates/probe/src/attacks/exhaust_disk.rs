//! Files without end, until the file system that the attacker may write to has no room.
//!
//! Mechanism: whoever writes to one file system has its room in common. Source: statfs(2), ENOSPC. Stopped by: `private-root` (each
//! writable folder of an agent is a file system in memory of its own, of a fixed size). Positive control: one small file system in
//! memory for both. Negative control: the victim writes while nobody fills. A disk is not filled: the machine has no other. Volumes
//! are not in the probe's compartments; those with a `size` are file systems of their own.

use std::io::Write as _;

use crate::attack::{Args, Attack, Kind, Length, Need, Offer, Through, Why};
use crate::attacks::places;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "exhaust-disk",
    title: "exhaustion: room for files",
    stopped_by: &["private-root"],
    through: Through::Disk,
    length: Length::Full,
    kind: Kind::Exhaust { need, take },
};

/// What the victim writes at a time, and the attacker.
static NEED: [u8; 64 << 10] = [1; 64 << 10];
static PIECE: [u8; 64 << 10] = [7; 64 << 10];
/// Most pieces.
const PIECES_MAX: usize = 4096;

fn need(args: &Args) -> Result<Need, Why> {
    let (folder, mark) = (places::small(args)?, args.mark.clone());
    Ok(Box::new(move || Ok(places::nameless(&folder, &mark, "need")?.write_all(&NEED)?)))
}

fn take(args: &Args) -> Result<Offer, Why> {
    let folder = places::small(args)?;
    let mut file = places::nameless(&folder, &args.mark, "fill")?;
    let mut pieces = 0_usize;
    let why = loop {
        match file.write_all(&PIECE) {
            Ok(()) if pieces < PIECES_MAX => pieces = pieces.saturating_add(1),
            Ok(()) => break "the probe's own end".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    Ok(Offer { told: format!("{pieces} times 64 KiB in {folder}: {why}"), kept: Box::new(file) })
}
