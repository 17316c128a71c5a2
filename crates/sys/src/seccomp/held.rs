//! A program one of whose system calls waits until it may go on.
//!
//! What it is: a filter that hands a call to its listener (seccomp_unotify(2), Linux 5.5), for a program that shall get ready
//! and then wait. The kernel holds it at the call; where the listener is gone, the call fails.
//! What it is not: a judge of calls. The listener looks at no argument; the filters below this one have decided.
//! Who trusts it: the first process of a sandbox, for the program that lets the agent begin.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Offsets of `struct seccomp_data` (include/uapi/linux/seccomp.h).
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
/// `AUDIT_ARCH_X86_64` (include/uapi/linux/audit.h).
const X86_64: u32 = 0xc000_003e;
/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_RET | BPF_K` (include/uapi/linux/bpf_common.h).
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Holds each call `number` that this thread, and all that it starts, makes from here on. Gives the listener.
pub(crate) fn hold(number: u32) -> Result<OwnedFd, Errno> {
    let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let denied = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    let mut program = [
        instruction(LOAD, 0, 0, ARCHITECTURE_AT),
        instruction(JUMP_IF_EQUAL, 1, 0, X86_64),
        instruction(RETURN, 0, 0, denied),
        instruction(LOAD, 0, 0, NUMBER_AT),
        instruction(JUMP_IF_EQUAL, 0, 1, number),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let filter = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies `filter` and the instructions it points to, both of which outlive the call.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            std::ptr::from_ref(&filter),
        )
    };
    let listener = i32::try_from(result(listener)?).map_err(|_| Errno::RANGE)?;
    // SAFETY: the kernel made this descriptor just now, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

/// Lets held calls go on, until the process of `pidfd` has ended.
pub(crate) fn let_go(listener: &OwnedFd, pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    loop {
        let mut ready = [
            PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
        ];
        rustix::io::retry_on_intr(|| poll(&mut ready, None))?;
        let [calls, end] = ready.map(|descriptor| descriptor.revents());
        if end.contains(PollFlags::IN) {
            return Ok(());
        }
        if calls.contains(PollFlags::IN) {
            match let_one_go(listener) {
                // ENOENT: a signal took it back, and it comes again.
                Ok(()) | Err(Errno::NOENT | Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        } else if !calls.is_empty() {
            // Nobody is behind the filter any more: its end follows.
            poll(&mut [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)], None)?;
        }
    }
}

fn let_one_go(listener: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: all-zero is valid for this structure of numbers, and what the kernel asks for.
    let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `seccomp_notif` to `call`, which outlives the call.
    result(i64::from(unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, std::ptr::from_mut(&mut call))
    }))?;
    let flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).map_err(|_| Errno::RANGE)?;
    let mut answer = libc::seccomp_notif_resp { id: call.id, val: 0, error: 0, flags };
    // SAFETY: the kernel reads one `seccomp_notif_resp` from `answer`, which outlives the call.
    result(i64::from(unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, std::ptr::from_mut(&mut answer))
    }))
    .map(drop)
}

fn result(value: i64) -> Result<i64, Errno> {
    let last = || std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    if value < 0 { Err(Errno::from_raw_os_error(last())) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::mpsc;
    use std::time::Duration;

    /// A thread whose `connect` is held, its listener, and where it would arrive.
    fn held()
    -> (std::thread::JoinHandle<std::io::Result<UnixStream>>, OwnedFd, UnixListener, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let arrives = UnixListener::bind(&path).unwrap();
        arrives.set_nonblocking(true).unwrap();
        let (send, receive) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            send.send(hold(u32::try_from(libc::SYS_connect).unwrap()).unwrap()).unwrap();
            UnixStream::connect(path)
        });
        (thread, receive.recv().unwrap(), arrives, dir)
    }

    #[test]
    fn a_held_call_goes_on_when_it_is_let_go_and_not_before() {
        let (thread, listener, arrives, _dir) = held();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(arrives.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        assert!(!thread.is_finished());
        let_one_go(&listener).unwrap();
        thread.join().unwrap().unwrap();
        assert!(arrives.accept().is_ok());
    }

    #[test]
    fn a_held_call_fails_when_nobody_can_let_it_go_any_more() {
        let (thread, listener, arrives, _dir) = held();
        drop(listener);
        assert_eq!(thread.join().unwrap().unwrap_err().raw_os_error(), Some(libc::ENOSYS));
        assert_eq!(arrives.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}
