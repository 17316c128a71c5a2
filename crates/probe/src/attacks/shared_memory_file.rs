//! Reading a file of the peer's in `/dev/shm`.
//!
//! Mechanism: everybody can write there, and files get the usual permissions. Source: hier(7). Stopped by: `private-root` (no
//! folder in common), `user-namespace`.

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};
use crate::attacks::owned;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "shared-memory-file",
    title: "files of the peer in /dev/shm",
    stopped_by: &["private-root", "user-namespace"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

fn offer(args: &Args) -> Result<Offer, Why> {
    owned::offer_file("/dev/shm", args)
}

fn take(args: &Args) -> Result<String, Why> {
    owned::take_file("/dev/shm", args)
}
