//! Listing the peer's sockets.
//!
//! Mechanism: `/proc/net/unix` has the names of all Unix sockets of a network namespace. Source: proc(5). Stopped by:
//! `namespaces`.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "list-sockets",
    title: "names of the peer's sockets in /proc",
    stopped_by: &["namespaces"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

fn name(args: &Args) -> String {
    format!("casemate-listed-{}", args.mark)
}

fn offer(args: &Args) -> Result<Offer, Why> {
    let address = SocketAddr::from_abstract_name(name(args))?;
    Ok(Offer::silent(UnixListener::bind_addr(&address)?))
}

fn take(args: &Args) -> Result<String, Why> {
    let all = std::fs::read_to_string("/proc/self/net/unix")?;
    if all.contains(&name(args)) {
        Ok("the name of a socket of the victim".into())
    } else {
        Err(Why::of("no socket of the victim in the list"))
    }
}
