//! Turns the descriptors of a message into sockets of the kind that the message promises, or refuses them.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, getpeername, ipproto, sockopt};
use tokio::net::{TcpListener, TcpSocket, UdpSocket, UnixListener, UnixStream};

use crate::error::{DescriptorFault, GatewayError};

/// An IPv4 TCP socket that listens.
pub(crate) fn listener(fd: OwnedFd) -> Result<Result<TcpListener, DescriptorFault>, GatewayError> {
    serves(fd, &[AddressFamily::INET])
}

/// A TCP socket of the box that listens, of IPv4 or IPv6.
pub(crate) fn box_listener(fd: OwnedFd) -> Result<Result<TcpListener, DescriptorFault>, GatewayError> {
    serves(fd, &[AddressFamily::INET, AddressFamily::INET6])
}

fn serves(
    fd: OwnedFd,
    families: &[AddressFamily],
) -> Result<Result<TcpListener, DescriptorFault>, GatewayError> {
    let checked = is_internet(&fd, SocketType::STREAM, families)
        .and_then(|()| if listens(&fd) { Ok(()) } else { Err(DescriptorFault::NotListening) });
    if let Err(fault) = checked {
        return Ok(Err(fault));
    }
    nonblocking(&fd)?;
    TcpListener::from_std(fd.into()).map(Ok).map_err(GatewayError::system("register a listener"))
}

/// A Unix stream socket that listens.
pub(crate) fn unix_listener(fd: OwnedFd) -> Result<Result<UnixListener, DescriptorFault>, GatewayError> {
    let checked = is_unix_stream(&fd)
        .and_then(|()| if listens(&fd) { Ok(()) } else { Err(DescriptorFault::NotListening) });
    if let Err(fault) = checked {
        return Ok(Err(fault));
    }
    nonblocking(&fd)?;
    UnixListener::from_std(fd.into()).map(Ok).map_err(GatewayError::system("register a listener"))
}

/// A Unix stream.
pub(crate) fn unix_stream(fd: OwnedFd) -> Result<Result<UnixStream, DescriptorFault>, GatewayError> {
    let checked =
        is_unix_stream(&fd).and_then(|()| if listens(&fd) { Err(DescriptorFault::InUse) } else { Ok(()) });
    if let Err(fault) = checked {
        return Ok(Err(fault));
    }
    nonblocking(&fd)?;
    UnixStream::from_std(fd.into()).map(Ok).map_err(GatewayError::system("register a connection"))
}

fn is_unix_stream(fd: &OwnedFd) -> Result<(), DescriptorFault> {
    match sockopt::socket_type(fd) {
        Err(_) => Err(DescriptorFault::NotASocket),
        Ok(SocketType::STREAM) if sockopt::socket_domain(fd) == Ok(AddressFamily::UNIX) => Ok(()),
        Ok(_) => Err(DescriptorFault::WrongKind),
    }
}

/// A bound IPv4 UDP socket.
pub(crate) fn udp(fd: OwnedFd) -> Result<Result<UdpSocket, DescriptorFault>, GatewayError> {
    if let Err(fault) = is_ipv4(&fd, SocketType::DGRAM) {
        return Ok(Err(fault));
    }
    nonblocking(&fd)?;
    UdpSocket::from_std(fd.into()).map(Ok).map_err(GatewayError::system("register a UDP socket"))
}

/// An IPv4 TCP socket that neither listens nor has a peer.
pub(crate) fn unconnected(fd: OwnedFd) -> Result<Result<TcpSocket, DescriptorFault>, GatewayError> {
    let checked = is_ipv4(&fd, SocketType::STREAM).and_then(|()| {
        let fresh = !listens(&fd) && getpeername(&fd) == Err(Errno::NOTCONN);
        if fresh { Ok(()) } else { Err(DescriptorFault::InUse) }
    });
    if let Err(fault) = checked {
        return Ok(Err(fault));
    }
    nonblocking(&fd)?;
    Ok(Ok(TcpSocket::from_std_stream(fd.into())))
}

fn is_ipv4(fd: &OwnedFd, kind: SocketType) -> Result<(), DescriptorFault> {
    is_internet(fd, kind, &[AddressFamily::INET])
}

fn is_internet(fd: &OwnedFd, kind: SocketType, families: &[AddressFamily]) -> Result<(), DescriptorFault> {
    let protocol = if kind == SocketType::DGRAM { ipproto::UDP } else { ipproto::TCP };
    match sockopt::socket_type(fd) {
        Err(_) => Err(DescriptorFault::NotASocket),
        Ok(found)
            if found == kind
                && sockopt::socket_domain(fd).is_ok_and(|family| families.contains(&family))
                && sockopt::socket_protocol(fd) == Ok(Some(protocol)) =>
        {
            Ok(())
        }
        Ok(_) => Err(DescriptorFault::WrongKind),
    }
}

fn listens(fd: &OwnedFd) -> bool {
    sockopt::socket_acceptconn(fd) == Ok(true)
}

fn nonblocking(fd: &OwnedFd) -> Result<(), GatewayError> {
    rustix::io::ioctl_fionbio(fd, true).map_err(GatewayError::kernel("make a socket non-blocking"))
}
