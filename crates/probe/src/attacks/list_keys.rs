//! Listing the peer's keys.
//!
//! Mechanism: `/proc/keys` has the names of keys that one may view. Source: proc_keys(5). Stopped by: `proc`,
//! `user-namespace`.

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};
use crate::attacks::owned;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "list-keys",
    title: "names of the peer's keys in /proc/keys",
    stopped_by: &["proc", "user-namespace"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

fn offer(args: &Args) -> Result<Offer, Why> {
    owned::offer_key(args, b"x")
}

fn take(args: &Args) -> Result<String, Why> {
    match std::fs::read_to_string("/proc/keys")?.contains(&args.mark) {
        true => Ok("the name of a key of the victim".into()),
        false => Err(Why::of("no key of the victim in the list")),
    }
}
