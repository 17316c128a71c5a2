//! Connecting to a Unix socket of the peer that lies in a folder.
//!
//! Mechanism: who can reach the name and write to the file may connect. Source: unix(7). Stopped by: `private-root` (no folder
//! in common), `user-namespace`.

use std::os::unix::net::{UnixListener, UnixStream};

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};
use crate::attacks::{Removed, places};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "path-socket",
    title: "Unix sockets of the peer in folders",
    stopped_by: &["private-root", "user-namespace"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

fn offer(args: &Args) -> Result<Offer, Why> {
    let folder = places::writable().next().ok_or_else(|| Why::of("no folder to write to"))?;
    let path = format!("{folder}/{}.sock", args.mark);
    let listener = UnixListener::bind(&path)?;
    Ok(Offer { told: path.clone(), kept: Box::new((listener, Removed(path))) })
}

fn take(args: &Args) -> Result<String, Why> {
    UnixStream::connect(&args.told)?;
    Ok(format!("a connection to {}", args.told))
}
