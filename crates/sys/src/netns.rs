//! Sockets born in an agent's network namespace, made from outside.

use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

/// `count` unconnected TCP sockets in the network namespace of the process behind `pidfd`. A thread of its own enters
/// the namespace and ends, so the caller's namespace never changes.
///
/// # Errors
/// The system's error; `ESRCH` where the process is gone.
pub fn unconnected_sockets(pidfd: &OwnedFd, count: u32) -> Result<Vec<OwnedFd>, Errno> {
    let work = || {
        move_into_thread_name_spaces(pidfd.as_fd(), ThreadNameSpaceType::NETWORK)?;
        (0..count).map(|_| bounded_socket(SocketType::STREAM)).collect()
    };
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or(Err(Errno::IO))
}

/// TCP sockets bound to `addresses` in the network namespace of the process behind `pidfd`, not yet listening. As
/// [`unconnected_sockets`].
///
/// # Errors
/// The system's error; `EADDRINUSE` where something in there listens, `ESRCH` where the process is gone.
pub fn bound_sockets(pidfd: &OwnedFd, addresses: &[SocketAddrV4]) -> Result<Vec<OwnedFd>, Errno> {
    let work = || {
        move_into_thread_name_spaces(pidfd.as_fd(), ThreadNameSpaceType::NETWORK)?;
        addresses.iter().map(bound_socket).collect()
    };
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or(Err(Errno::IO))
}

/// Makes a bound socket listen.
///
/// # Errors
/// The system's error.
pub fn listen(socket: &OwnedFd) -> Result<(), Errno> {
    rustix::net::listen(socket, BACKLOG)
}

/// A listening TCP socket of the caller's own network namespace.
///
/// # Errors
/// The system's error; `EADDRINUSE` where something listens there, `EADDRNOTAVAIL` where the address is another machine's.
pub fn listening_socket(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = with_bounded_buffers(socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // 0.0.0.0 and :: are two addresses of a composition, and so of the box.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    listen(&socket)?;
    Ok(socket)
}

fn bound_socket(address: &SocketAddrV4) -> Result<OwnedFd, Errno> {
    let socket = bounded_socket(SocketType::STREAM)?;
    rustix::net::bind(&socket, address)?;
    Ok(socket)
}

/// Length of accept queues.
pub(crate) const BACKLOG: i32 = 128;
/// Bytes that one direction of a socket is asked to hold; the kernel takes twice as much (socket(7)). What waits in sockets between agents and gateway is charged to nobody; with
/// half of it the gateway carried a third less (docs/performance.md).
const BUFFER_BYTES: usize = 256 << 10;

/// A socket of the current network namespace with bounded buffers. What it accepts inherits them.
pub(crate) fn bounded_socket(kind: SocketType) -> Result<OwnedFd, Errno> {
    with_bounded_buffers(socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)?)
}

fn with_bounded_buffers(socket: OwnedFd) -> Result<OwnedFd, Errno> {
    // The machine's bound for those without privilege may be lower.
    if sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, BUFFER_BYTES)?;
    }
    if sockopt::set_socket_send_buffer_size_force(&socket, BUFFER_BYTES).is_err() {
        sockopt::set_socket_send_buffer_size(&socket, BUFFER_BYTES)?;
    }
    Ok(socket)
}
