//! Sockets born in an agent's network namespace, made from outside.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

/// `count` unconnected TCP sockets in the network namespace of the process behind `pidfd`. A thread of its own enters
/// the namespace and ends, so the caller's namespace never changes.
///
/// # Errors
/// The system's error; `ESRCH` where the process is gone.
pub fn unconnected_sockets(pidfd: &OwnedFd, count: u32) -> Result<Vec<OwnedFd>, Errno> {
    let work = || {
        move_into_thread_name_spaces(pidfd.as_fd(), ThreadNameSpaceType::NETWORK)?;
        (0..count)
            .map(|_| socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None))
            .collect()
    };
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or(Err(Errno::IO))
}
