//! Reading a file of the peer's in `/dev/shm`.
//!
//! Mechanism: everybody can write there, and files get the usual permissions. Source: hier(7). Stopped by: `private-root` (no
//! folder in common), `user-namespace`.

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};
use crate::attacks::Removed;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "shared-memory-file",
    title: "files of the peer in /dev/shm",
    stopped_by: &["private-root", "user-namespace"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

fn path(args: &Args) -> String {
    format!("/dev/shm/{}", args.mark)
}

fn offer(args: &Args) -> Result<Offer, Why> {
    std::fs::write(path(args), args.own_secret())?;
    Ok(Offer::silent(Removed(path(args))))
}

fn take(args: &Args) -> Result<String, Why> {
    match std::fs::read_to_string(path(args))? {
        content if content == args.own_secret() => Ok(path(args)),
        _ => Err(Why::of("a file of another")),
    }
}
