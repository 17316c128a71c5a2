//! Connecting to a TCP port that the peer has on loopback.
//!
//! Mechanism: loopback is one for all of a network namespace. Source: ip(7). Stopped by: `namespaces`.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "loopback-tcp",
    title: "TCP ports of the peer on loopback",
    stopped_by: &["namespaces"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

/// Time for a connection.
const BOUND: Duration = Duration::from_secs(1);

fn offer(_: &Args) -> Result<Offer, Why> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let told = listener.local_addr()?.to_string();
    Ok(Offer { told, kept: Box::new(listener) })
}

fn take(args: &Args) -> Result<String, Why> {
    let address: SocketAddr = args.told.parse().map_err(|_| Why::of("no victim told its port"))?;
    TcpStream::connect_timeout(&address, BOUND)?;
    Ok(format!("a connection to {address}"))
}
