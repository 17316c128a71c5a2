//! Connecting to an abstract Unix socket of the peer.
//!
//! Mechanism: abstract names belong to the network namespace and have no permissions. Source: unix(7). Stopped by:
//! `namespaces`, `landlock` (scope of abstract sockets).

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "abstract-socket",
    title: "abstract Unix sockets of the peer",
    stopped_by: &["namespaces", "landlock"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

fn address(args: &Args) -> Result<SocketAddr, Why> {
    Ok(SocketAddr::from_abstract_name(format!("casemate-{}", args.mark))?)
}

fn offer(args: &Args) -> Result<Offer, Why> {
    Ok(Offer::silent(UnixListener::bind_addr(&address(args)?)?))
}

fn take(args: &Args) -> Result<String, Why> {
    UnixStream::connect_addr(&address(args)?)?;
    Ok("a connection".into())
}
