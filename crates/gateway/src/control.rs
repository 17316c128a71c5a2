//! Packets from and to the warden: one JSON message a packet, with the descriptors that belong to it.
//!
//! What it is: the only reader of the control socket. A packet that is too long, is no message, or comes with
//! other descriptors than its message says ends the gateway; descriptors that were received are closed.
//! What it is not: a place for decisions about agents. Implements `casemate_protocol::gateway`.

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use casemate_composition::lock::{AgentName, TrafficLimits};
use casemate_protocol::gateway::{
    DESCRIPTORS_MAX, Dialled, FromGateway, PACKET_BYTES_MAX, Target, ToGateway, Verdict,
};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg, send,
};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, UdpSocket, UnixDatagram, UnixStream};

use crate::descriptors;
use crate::egress::is_host;
use crate::error::{DescriptorFault, GatewayError};
use crate::streams::Listener;

/// A message together with the sockets that belong to it.
#[derive(Debug)]
pub(crate) enum Order {
    /// Serve `listener`, which was born with `agent`: whoever connects there wants `target`.
    Listen { agent: AgentName, target: Target, limits: Option<TrafficLimits>, listener: Listener },
    /// Serve `listener`, which is the box's: whoever connects there wants `port` of `agent`.
    Publish { agent: AgentName, port: u16, listener: TcpListener },
    /// Open or close an edge.
    Judge { agent: AgentName, target: Target, verdict: Verdict },
    /// Answer these names for `agent` from now on.
    Names { agent: AgentName, names: BTreeMap<String, Ipv4Addr> },
    /// Tell what passed.
    Report,
    /// Answer names for `agent`.
    Resolver { agent: AgentName, names: BTreeMap<String, Ipv4Addr>, udp: UdpSocket, tcp: TcpListener },
    /// Sockets to reach `agent` with.
    Pool { agent: AgentName, sockets: Vec<TcpSocket> },
    /// What became of a connection that was asked for.
    Dialled { id: u64, outcome: Dialled, stream: Option<UnixStream> },
    /// Drop what belongs to `agent`.
    Forget { agent: AgentName },
}

/// The control socket. tokio has no type for `SOCK_SEQPACKET`: the datagram type lends its readiness, and all
/// calls on the descriptor are ours.
#[derive(Debug)]
pub(crate) struct Control {
    socket: UnixDatagram,
}

impl Control {
    pub(crate) fn new(socket: OwnedFd) -> Result<Self, GatewayError> {
        rustix::io::ioctl_fionbio(&socket, true)
            .map_err(GatewayError::kernel("make the control socket non-blocking"))?;
        let socket = UnixDatagram::from_std(socket.into());
        Ok(Self { socket: socket.map_err(GatewayError::system("register the control socket"))? })
    }

    /// The next order; none when the warden closed its end.
    pub(crate) async fn receive(&self) -> Result<Option<Order>, GatewayError> {
        match self.socket.async_io(Interest::READABLE, || receive_packet(&self.socket)).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(GatewayError::system("receive from the warden")(error)),
            Ok(packet) if packet.bytes.is_empty() && packet.descriptors.is_empty() => Ok(None),
            Ok(packet) => order(packet).map(Some),
        }
    }

    /// Sends one message, waiting while the warden is behind.
    pub(crate) async fn send(&self, message: &FromGateway) -> io::Result<()> {
        let packet = serde_json::to_vec(message)?;
        let attempt = || Ok(send(&self.socket, &packet, SendFlags::NOSIGNAL)?);
        self.socket.async_io(Interest::WRITABLE, attempt).await.map(|_| ())
    }
}

struct Packet {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    truncated: bool,
}

fn receive_packet(socket: &UnixDatagram) -> io::Result<Packet> {
    let mut bytes = vec![0; PACKET_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    bytes.truncate(received.bytes);
    let truncated = received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
        || descriptors.len() > DESCRIPTORS_MAX;
    Ok(Packet { bytes, descriptors, truncated })
}

fn order(packet: Packet) -> Result<Order, GatewayError> {
    if packet.truncated {
        return Err(GatewayError::PacketTooLong {
            bytes_max: PACKET_BYTES_MAX,
            descriptors_max: DESCRIPTORS_MAX,
        });
    }
    let message = serde_json::from_slice(&packet.bytes)
        .map_err(|error| GatewayError::NotAMessage { reason: error.to_string() })?;
    let found = packet.descriptors.len();
    let mut rest = packet.descriptors.into_iter();
    let count = |message, expected| GatewayError::DescriptorCount { message, found, expected };
    match message {
        ToGateway::Listen { agent, target, limits } => {
            let (Some(fd), None) = (rest.next(), rest.next()) else { return Err(count("listen", "1")) };
            check_target(&target)?;
            let listener = match target {
                Target::Socket { .. } => descriptors::unix_listener(fd)?.map(Listener::Unix),
                _ => descriptors::listener(fd)?.map(Listener::Tcp),
            };
            let listener = at("listen", 0, listener)?;
            Ok(Order::Listen { agent, target, limits, listener })
        }
        ToGateway::Publish { agent, port } => {
            let (Some(fd), None) = (rest.next(), rest.next()) else { return Err(count("publish", "1")) };
            Ok(Order::Publish { agent, port, listener: at("publish", 0, descriptors::box_listener(fd)?)? })
        }
        ToGateway::Resolver { agent, names } => {
            let (Some(udp), Some(tcp), None) = (rest.next(), rest.next(), rest.next()) else {
                return Err(count("resolver", "2"));
            };
            names.keys().try_for_each(|name| check_name(name))?;
            let udp = at("resolver", 0, descriptors::udp(udp)?)?;
            let tcp = at("resolver", 1, descriptors::listener(tcp)?)?;
            Ok(Order::Resolver { agent, names, udp, tcp })
        }
        ToGateway::Pool { agent } => {
            if found == 0 {
                return Err(count("pool", "1 to 64"));
            }
            let sockets = rest
                .enumerate()
                .map(|(index, fd)| at("pool", index, descriptors::unconnected(fd)?))
                .collect::<Result<_, _>>()?;
            Ok(Order::Pool { agent, sockets })
        }
        ToGateway::Forget { .. } if found != 0 => Err(count("forget", "0")),
        ToGateway::Forget { agent } => Ok(Order::Forget { agent }),
        ToGateway::Judge { .. } if found != 0 => Err(count("judge", "0")),
        ToGateway::Judge { agent, target, verdict } => {
            check_target(&target)?;
            Ok(Order::Judge { agent, target, verdict })
        }
        ToGateway::Names { .. } if found != 0 => Err(count("names", "0")),
        ToGateway::Names { agent, names } => {
            names.keys().try_for_each(|name| check_name(name))?;
            Ok(Order::Names { agent, names })
        }
        ToGateway::Dialled { id, outcome } => {
            let stream = match (outcome, rest.next(), rest.next()) {
                (Dialled::Connected, Some(fd), None) => {
                    Some(at("dialled", 0, descriptors::unix_stream(fd)?)?)
                }
                (Dialled::Full | Dialled::Refused, None, None) => None,
                (Dialled::Connected, ..) => return Err(count("dialled", "1")),
                (Dialled::Full | Dialled::Refused, ..) => return Err(count("dialled", "0")),
            };
            Ok(Order::Dialled { id, outcome, stream })
        }
        ToGateway::Report if found != 0 => Err(count("report", "0")),
        ToGateway::Report => Ok(Order::Report),
    }
}

fn check_target(target: &Target) -> Result<(), GatewayError> {
    match target {
        Target::Host { host, .. } => check_name(host),
        Target::Agent { .. } | Target::Service { .. } | Target::Socket { .. } => Ok(()),
    }
}

fn check_name(name: &str) -> Result<(), GatewayError> {
    if is_host(name) {
        Ok(())
    } else {
        let found = name.chars().take(80).flat_map(char::escape_default).collect();
        Err(GatewayError::HostName { found })
    }
}

fn at<T>(
    message: &'static str,
    index: usize,
    checked: Result<T, DescriptorFault>,
) -> Result<T, GatewayError> {
    checked.map_err(|fault| GatewayError::Descriptor { message, index, fault })
}
