//! Seeing a lock that the peer has on a file that both can open.
//!
//! Mechanism: `flock` locks belong to the inode, and need no right to write. Source: flock(2); a lock carries some hundred
//! bit/s. Stopped by: `private-root` (no inode in common).

use rustix::fs::{FlockOperation, flock};

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "file-lock",
    title: "locks of the peer on a file of the root",
    stopped_by: &["private-root"],
    through: Through::Root,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

fn offer(args: &Args) -> Result<Offer, Why> {
    let file = std::fs::File::open(&args.file)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(Offer::silent(file))
}

fn take(args: &Args) -> Result<String, Why> {
    let file = std::fs::File::open(&args.file)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(format!("a lock of the victim on {}", args.file)),
        Err(errno) => Err(errno.into()),
        Ok(()) => Err(Why::of("no lock of the victim shows")),
    }
}
