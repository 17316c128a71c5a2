//! Connecting to a TCP port that the peer has on an address of its network.
//!
//! Mechanism: containers on one bridge reach each other by address. Source: bridge networks of container engines. Stopped by:
//! `namespaces` (the network of an agent is loopback, and edges that the gateway serves).

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "foreign-tcp",
    title: "TCP ports of the peer on its own address",
    stopped_by: &["namespaces"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

/// Time for a connection.
const BOUND: Duration = Duration::from_secs(1);
/// An address of documentation (RFC 5737): nothing is sent there, the kernel only picks an address of its own.
const NOWHERE: &str = "192.0.2.1:9";

fn offer(_: &Args) -> Result<Offer, Why> {
    let listener = TcpListener::bind("0.0.0.0:0")?;
    let port = listener.local_addr()?.port();
    // Without a route there is no address but loopback: what is there is told, and tried.
    let own = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect(NOWHERE)?;
        socket.local_addr()
    });
    let address = own.map_or_else(|_| std::net::Ipv4Addr::LOCALHOST.into(), |own| own.ip());
    Ok(Offer { told: SocketAddr::new(address, port).to_string(), kept: Box::new(listener) })
}

fn take(args: &Args) -> Result<String, Why> {
    let address: SocketAddr = args.told.parse().map_err(|_| Why::of("no victim told its address"))?;
    TcpStream::connect_timeout(&address, BOUND)?;
    Ok(format!("a connection to {address}"))
}
