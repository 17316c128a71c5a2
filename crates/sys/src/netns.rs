//! Sockets born in an agent's network namespace, made from outside.

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

/// Bytes that one direction of a socket may hold. What waits in sockets between agents and gateway is charged to nobody.
const BUFFER_BYTES: usize = 128 << 10;

/// A socket of the current network namespace with bounded buffers. What it accepts inherits them.
pub(crate) fn bounded_socket(kind: SocketType) -> Result<OwnedFd, Errno> {
    let socket = socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_recv_buffer_size(&socket, BUFFER_BYTES)?;
    sockopt::set_socket_send_buffer_size(&socket, BUFFER_BYTES)?;
    Ok(socket)
}
