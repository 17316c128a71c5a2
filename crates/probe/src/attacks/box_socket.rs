//! Giving orders to the box.
//!
//! Mechanism: the warden's control socket is open to root of the box, by its name. Source: docs/architecture.md. Stopped by:
//! `private-root` (nothing of the box is in sight), `user-namespace`, `no-privileges`.

use std::os::unix::net::UnixStream;

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "box-socket",
    title: "the box's own sockets",
    stopped_by: &["private-root", "user-namespace", "no-privileges"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Box, take },
};

fn take(args: &Args) -> Result<String, Why> {
    if args.box_socket.is_empty() {
        return Err(Why::of("no box runs"));
    }
    UnixStream::connect(&args.box_socket)?;
    Ok(format!("a connection to {}", args.box_socket))
}
