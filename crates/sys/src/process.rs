//! Starting programs of the box: inherited descriptors, identity, and dying with the parent.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;

use crate::syscall;

/// Numeric identity of a program without privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Takes ownership of a descriptor that this program was started with. Call it once for each number.
///
/// # Errors
/// `EBADF` where nothing is open under this number.
pub fn inherited_descriptor(number: i32) -> Result<OwnedFd, Errno> {
    syscall::inherited(number)
}

/// Sees to it that programs started from here on inherit nothing but their first three descriptors and what they are
/// given on purpose: marks all that this process was started with as closed on exec.
///
/// # Errors
/// The system's error.
pub fn keep_descriptors_from_children() -> Result<(), Errno> {
    syscall::close_on_exec_from(3)
}

/// Refuses descriptors that a peer would send over this Unix socket. Closing a received descriptor can take as long as
/// its sender likes (a socket that lingers).
///
/// # Errors
/// The system's error; `ENOPROTOOPT` before Linux 6.16.
pub fn refuse_descriptors(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    syscall::refuse_descriptors(socket)
}

/// Becomes `identity` for good: no supplementary group, no capability, no new privileges, and killed with the parent
/// (the change of identity clears that). For programs that start with root because they may lie where only root can
/// reach; they call it before they touch any input. Single-threaded programs only: it changes the calling thread.
///
/// # Errors
/// The system's error; then the program must end.
pub fn become_identity(identity: Identity) -> Result<(), Errno> {
    use rustix::thread::{CapabilitySet, CapabilitySets};
    let parent = rustix::process::getppid();
    let (uid, gid) = (rustix::fs::Uid::from_raw(identity.uid), rustix::fs::Gid::from_raw(identity.gid));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: none, permitted: none, inheritable: none },
    )?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    if rustix::process::getppid() == parent { Ok(()) } else { Err(Errno::SRCH) }
}

/// Arranges that `command` finds these descriptors under these numbers and is killed when its parent thread ends. The
/// descriptors must stay open until it is spawned.
pub fn prepare(command: &mut Command, inherit: &[(BorrowedFd<'_>, RawFd)]) {
    // Sources are moved above every target first, so that no target overwrites a source that is still needed.
    let plan: Vec<(RawFd, RawFd)> =
        inherit.iter().map(|(descriptor, number)| (descriptor.as_raw_fd(), *number)).collect();
    let parent = rustix::process::getpid().as_raw_nonzero().get();
    let place = move || -> std::io::Result<()> {
        let floor = plan.iter().map(|(_, number)| *number).max().unwrap_or(2).saturating_add(1);
        let mut moved = [(-1, -1); 8];
        for (slot, (source, number)) in moved.iter_mut().zip(&plan) {
            // SAFETY: takes no pointer; the parent keeps the source open.
            let high = unsafe { libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, floor) };
            if high < 0 {
                return Err(std::io::Error::last_os_error());
            }
            *slot = (high, *number);
        }
        // Whatever else this process has open or was itself started with is not for that program.
        syscall::close_on_exec_from(floor)?;
        for (high, number) in moved.iter().filter(|(high, _)| *high >= 0) {
            // SAFETY: takes no pointer; `high` was just opened.
            if unsafe { libc::dup2(*high, *number) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        match rustix::process::getppid() {
            Some(pid) if pid.as_raw_nonzero().get() == parent => Ok(()),
            _ => Err(std::io::Error::from(Errno::SRCH)),
        }
    };
    if inherit.len() > 8 {
        // A programming error that shows at the first start: the program finds no descriptor.
        return;
    }
    // SAFETY: between fork and exec `place` only makes system calls on values it owns; it does not allocate
    // (the errors it returns are numbers) and takes no lock.
    unsafe { command.pre_exec(place) };
}

/// The environment for programs of the box: nothing from the caller but what they need.
pub fn clean_environment(command: &mut Command) {
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
    if let Some(filter) = std::env::var_os("RUST_LOG") {
        command.env("RUST_LOG", filter);
    }
}
