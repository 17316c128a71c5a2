//! Reading a file of the peer's in `/tmp`.
//!
//! Mechanism: everybody can write there, and files get the usual permissions. Source: hier(7). Stopped by: `private-root` (no
//! folder in common), `user-namespace`.

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};
use crate::attacks::owned;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "temporary-file",
    title: "files of the peer in /tmp",
    stopped_by: &["private-root", "user-namespace"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

fn offer(args: &Args) -> Result<Offer, Why> {
    owned::offer_file("/tmp", args)
}

fn take(args: &Args) -> Result<String, Why> {
    owned::take_file("/tmp", args)
}
