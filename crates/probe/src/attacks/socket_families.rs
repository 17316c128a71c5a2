//! Making sockets of families that no agent needs.
//!
//! Mechanism: AF_ALG, AF_VSOCK, AF_PACKET, AF_KEY, AF_RXRPC and AF_NETLINK lead to kernel code with a long row of errors, and
//! some to the host or to counters of all. Source: address_families(7). Stopped by: `seccomp`.

use casemate_sys::attack::socket;

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "socket-families",
    title: "sockets of ALG, VSOCK, PACKET, KEY, RXRPC, NETLINK",
    stopped_by: &["seccomp"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Kernel, take },
};

/// Name, family and kind (linux/socket.h).
const FAMILIES: [(&str, i32, i32); 6] = [
    ("ALG", 38, 5),
    ("VSOCK", 40, 1),
    ("PACKET", 17, 3),
    ("KEY", 15, 3),
    ("RXRPC", 33, 2),
    ("NETLINK", 16, 3),
];

fn take(_: &Args) -> Result<String, Why> {
    let made: Vec<&str> = FAMILIES
        .into_iter()
        .filter(|(_, family, kind)| socket(*family, *kind, 0).is_ok())
        .map(|(name, ..)| name)
        .collect();
    if made.is_empty() { Err(Why::of("none of six families")) } else { Ok(made.join(" ")) }
}
