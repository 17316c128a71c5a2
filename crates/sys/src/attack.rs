//! System calls by which one process reaches another, for the peer probe: each in one function.
//!
//! What it is: calls that no library wraps safely and that no program of the box makes for its own work. What it is not:
//! dangerous to the caller's memory; each gets buffers of its own. What they do to others is what the kernel lets them, and
//! that is what is asked. Who trusts it: whoever reads the probe's verdicts.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// A kernel interface that an agent needs not reach, asked for with arguments that harm nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// A user namespace of the caller's own making.
    UserNamespace,
    /// `io_uring_setup`.
    IoUring,
    /// `userfaultfd`.
    Userfaultfd,
    /// `bpf`, making a map.
    Bpf,
    /// `perf_event_open` on any process of processor 0.
    Perf,
    /// `syslog`, reading the kernel's log.
    KernelLog,
    /// `fanotify_init`.
    Fanotify,
    /// `open_tree`, cloning the root mount.
    CloneMount,
    /// `setns` into the network namespace that it is in already.
    EnterNamespace,
    /// `open_by_handle_at` on the handle of the root folder.
    OpenByHandle,
    /// `mincore` on its own stack.
    Mincore,
    /// `keyctl`, asking for the session keyring.
    Keys,
}

fn last() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// A number as the kernel takes it: whole registers, and whole words on the stack.
fn word(number: i32) -> libc::c_long {
    libc::c_long::from(number)
}

fn checked(value: libc::c_long) -> Result<i64, Errno> {
    if value == -1 { Err(last()) } else { Ok(value) }
}

/// A descriptor that a call made.
fn owned(value: libc::c_long) -> Result<OwnedFd, Errno> {
    let number = i32::try_from(checked(value)?).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Tries `surface`. Descriptors that it gets are closed again.
///
/// # Errors
/// The system's error.
pub fn reach(surface: Surface) -> Result<(), Errno> {
    let mut buffer = [0_u64; 32];
    let memory = buffer.as_mut_ptr();
    match surface {
        Surface::UserNamespace => {
            // SAFETY: no memory; the calling process, which ends soon, is in another user namespace.
            checked(unsafe { libc::syscall(libc::SYS_unshare, word(libc::CLONE_NEWUSER)) }).map(drop)
        }
        Surface::IoUring => {
            // SAFETY: the kernel writes `struct io_uring_params`, 120 bytes, into 256 zeroed ones.
            owned(unsafe { libc::syscall(libc::SYS_io_uring_setup, word(4), memory) }).map(drop)
        }
        Surface::Userfaultfd => {
            // SAFETY: no memory. 1 is UFFD_USER_MODE_ONLY.
            owned(unsafe { libc::syscall(libc::SYS_userfaultfd, word(libc::O_CLOEXEC | 1)) }).map(drop)
        }
        Surface::Bpf => {
            // BPF_MAP_CREATE of an array: type 2, key 4, value 4, one entry.
            let attributes: [u32; 20] = std::array::from_fn(|at| match at {
                0 => 2,
                1 | 2 => 4,
                3 => 1,
                _ => 0,
            });
            // SAFETY: the kernel reads 72 of the array's 80 bytes.
            owned(unsafe { libc::syscall(libc::SYS_bpf, word(0), attributes.as_ptr(), word(72)) }).map(drop)
        }
        Surface::Perf => {
            // `struct perf_event_attr`: PERF_TYPE_SOFTWARE, 112 bytes, PERF_COUNT_SW_CONTEXT_SWITCHES.
            buffer = std::array::from_fn(|at| match at {
                0 => 112 << 32 | 1,
                1 => 3,
                _ => 0,
            });
            let attributes = buffer.as_ptr();
            let [pid, processor, group, flags] = [word(-1), word(0), word(-1), word(0)];
            // SAFETY: the kernel reads the 112 bytes that the attribute names.
            let call =
                unsafe { libc::syscall(libc::SYS_perf_event_open, attributes, pid, processor, group, flags) };
            owned(call).map(drop)
        }
        Surface::KernelLog => {
            // SAFETY: 3 is SYSLOG_ACTION_READ_ALL; the kernel writes at most 256 bytes.
            checked(unsafe { libc::syscall(libc::SYS_syslog, word(3), memory, word(256)) }).map(drop)
        }
        Surface::Fanotify => {
            // SAFETY: no memory. 0x200 is FAN_REPORT_FID, which callers without privileges may ask for.
            owned(unsafe { libc::syscall(libc::SYS_fanotify_init, word(0x200), word(libc::O_RDONLY)) })
                .map(drop)
        }
        Surface::CloneMount => {
            // SAFETY: a constant path; 1 is OPEN_TREE_CLONE.
            let call =
                unsafe { libc::syscall(libc::SYS_open_tree, word(libc::AT_FDCWD), c"/".as_ptr(), word(1)) };
            owned(call).map(drop)
        }
        Surface::EnterNamespace => {
            let own = rustix::fs::open(
                "/proc/self/ns/net",
                rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )?;
            // SAFETY: no memory; the descriptor is open.
            checked(unsafe {
                libc::syscall(libc::SYS_setns, word(own.as_raw_fd()), word(libc::CLONE_NEWNET))
            })
            .map(drop)
        }
        Surface::OpenByHandle => open_root_by_handle(),
        Surface::Mincore => {
            let page = (memory.addr() & !4095) as libc::c_long;
            let mut resident = [0_u8; 1];
            // SAFETY: the kernel writes one byte, for the one page that is asked about.
            checked(unsafe { libc::syscall(libc::SYS_mincore, page, word(1), resident.as_mut_ptr()) })
                .map(drop)
        }
        Surface::Keys => {
            // SAFETY: no memory. 0 is KEYCTL_GET_KEYRING_ID, -3 the session keyring.
            checked(unsafe { libc::syscall(libc::SYS_keyctl, word(0), word(-3), word(0)) }).map(drop)
        }
    }
}

fn open_root_by_handle() -> Result<(), Errno> {
    // `struct file_handle`: bytes, type, and up to 128 bytes.
    let mut handle = [0_u32; 34];
    if let Some(bytes) = handle.first_mut() {
        *bytes = 128;
    }
    let mut mount = 0_i32;
    let root = rustix::fs::open("/", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())?;
    // SAFETY: the kernel writes at most the 128 bytes that the handle says it has, and one integer.
    checked(unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            word(libc::AT_FDCWD),
            c"/".as_ptr(),
            handle.as_mut_ptr(),
            &raw mut mount,
            word(0),
        )
    })?;
    // SAFETY: the kernel reads the handle that it has written.
    let opened = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            word(root.as_raw_fd()),
            handle.as_mut_ptr(),
            word(libc::O_RDONLY),
        )
    };
    owned(opened).map(drop)
}

/// A socket of this family and kind.
///
/// # Errors
/// The system's error.
pub fn socket(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: no memory.
    owned(unsafe {
        libc::syscall(libc::SYS_socket, word(family), word(kind | libc::SOCK_CLOEXEC), word(protocol))
    })
}

/// Reads memory of another process.
///
/// # Errors
/// The system's error.
pub fn read_memory(pid: i32, address: u64, into: &mut [u8]) -> Result<usize, Errno> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let start = usize::try_from(address).map_err(|_| Errno::FAULT)?;
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(start), iov_len: into.len() };
    // SAFETY: the kernel writes into `into` alone; the other address is of the other process.
    let read = unsafe {
        libc::syscall(
            libc::SYS_process_vm_readv,
            word(pid),
            &raw const local,
            word(1),
            &raw const remote,
            word(1),
            word(0),
        )
    };
    usize::try_from(checked(read)?).map_err(|_| Errno::OVERFLOW)
}

/// Attaches to another process as its tracer, without stopping it, and lets it go as this process ends.
///
/// # Errors
/// The system's error.
pub fn seize(pid: i32) -> Result<(), Errno> {
    // SAFETY: no memory; 0x4206 is PTRACE_SEIZE.
    checked(unsafe { libc::syscall(libc::SYS_ptrace, word(0x4206), word(pid), word(0), word(0)) }).map(drop)
}

/// A descriptor of another process, by its number there.
///
/// # Errors
/// The system's error.
pub fn take_descriptor(pid: i32, number: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: no memory.
    let pidfd = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, word(pid), word(0)) })?;
    // SAFETY: no memory; the descriptor is open.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, word(pidfd.as_raw_fd()), word(number), word(0)) })
}

/// A segment of System V memory with this key that has `content`, open to everybody. It
/// stays until [`remove_segment`].
///
/// # Errors
/// The system's error.
pub fn offer_segment(key: i32, content: &[u8]) -> Result<(), Errno> {
    if content.len() > 4096 {
        return Err(Errno::INVAL);
    }
    // SAFETY: no memory.
    let id = checked(unsafe {
        libc::syscall(libc::SYS_shmget, word(key), word(4096), word(libc::IPC_CREAT | 0o666))
    })?;
    // SAFETY: an address of the kernel's choice.
    let start = checked(unsafe { libc::syscall(libc::SYS_shmat, id, word(0), word(0)) })?;
    let start = usize::try_from(start).map_err(|_| Errno::FAULT)?;
    // SAFETY: the segment has 4096 bytes, is mapped to write, and stays mapped: it is never detached.
    unsafe {
        std::ptr::copy_nonoverlapping(
            content.as_ptr(),
            std::ptr::with_exposed_provenance_mut::<u8>(start),
            content.len(),
        );
    }
    Ok(())
}

/// Removes the segment with this key, once nobody uses it any more.
pub fn remove_segment(key: i32) {
    // SAFETY: no memory.
    if let Ok(id) = checked(unsafe { libc::syscall(libc::SYS_shmget, word(key), word(0), word(0)) }) {
        // SAFETY: no memory; IPC_RMID reads no argument.
        let _ = checked(unsafe { libc::syscall(libc::SYS_shmctl, id, word(libc::IPC_RMID), word(0)) });
    }
}

/// The first bytes of the segment of System V memory with this key.
///
/// # Errors
/// The system's error.
pub fn read_segment(key: i32, bytes: usize) -> Result<Vec<u8>, Errno> {
    // SAFETY: no memory.
    let id = checked(unsafe { libc::syscall(libc::SYS_shmget, word(key), word(0), word(0)) })?;
    // SAFETY: an address of the kernel's choice.
    let start = checked(unsafe { libc::syscall(libc::SYS_shmat, id, word(0), word(libc::SHM_RDONLY)) })?;
    let start = usize::try_from(start).map_err(|_| Errno::FAULT)?;
    let mut content = vec![0; bytes.min(4096)];
    // SAFETY: segments are whole pages, and this one stays mapped.
    unsafe {
        std::ptr::copy_nonoverlapping(
            std::ptr::with_exposed_provenance::<u8>(start),
            content.as_mut_ptr(),
            content.len(),
        );
    }
    Ok(content)
}

/// A POSIX message queue, made where `create` says so. Names have no slash here.
///
/// # Errors
/// The system's error.
pub fn message_queue(name: &CStr, how: Queue) -> Result<OwnedFd, Errno> {
    let flags = match how {
        Queue::Create => libc::O_CREAT | libc::O_RDWR,
        Queue::Open => libc::O_RDWR,
    };
    // SAFETY: the kernel reads the name; without attributes it takes its own.
    owned(unsafe { libc::syscall(libc::SYS_mq_open, name.as_ptr(), word(flags), word(0o666), word(0)) })
}

/// How a message queue is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Made if need be.
    Create,
    /// Only if it is there.
    Open,
}

/// Removes a message queue's name.
pub fn remove_queue(name: &CStr) {
    // SAFETY: the kernel reads the name.
    let _ = unsafe { libc::syscall(libc::SYS_mq_unlink, name.as_ptr()) };
}

/// The user's keyring (`KEY_SPEC_USER_KEYRING`).
const USER_KEYRING: i32 = -4;

/// Adds a key to the user's keyring. Gives its serial number.
///
/// # Errors
/// The system's error.
pub fn add_key(name: &CStr, content: &[u8]) -> Result<i64, Errno> {
    // SAFETY: the kernel reads two names and the content with its length.
    checked(unsafe {
        libc::syscall(
            libc::SYS_add_key,
            c"user".as_ptr(),
            name.as_ptr(),
            content.as_ptr(),
            content.len(),
            word(USER_KEYRING),
        )
    })
}

/// The content of a key of the user's keyring, by its name.
///
/// # Errors
/// The system's error.
pub fn read_key(name: &CStr) -> Result<Vec<u8>, Errno> {
    // SAFETY: the kernel reads two names. 10 is KEYCTL_SEARCH.
    let serial = checked(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            word(10),
            word(USER_KEYRING),
            c"user".as_ptr(),
            name.as_ptr(),
            word(0),
        )
    })?;
    let mut content = vec![0_u8; 256];
    // SAFETY: the kernel writes at most 256 bytes. 11 is KEYCTL_READ.
    let read = checked(unsafe {
        libc::syscall(libc::SYS_keyctl, word(11), serial, content.as_mut_ptr(), content.len())
    })?;
    content.truncate(usize::try_from(read).unwrap_or(0));
    Ok(content)
}

/// Takes a key out of the user's keyring.
pub fn remove_key(serial: i64) {
    // SAFETY: no memory. 9 is KEYCTL_UNLINK.
    let _ = unsafe { libc::syscall(libc::SYS_keyctl, word(9), serial, word(USER_KEYRING)) };
}

/// Whether the page of a file at `offset`, which it maps for that, is in the page cache, as `mincore` has it.
///
/// # Errors
/// The system's error.
pub fn resident(file: BorrowedFd<'_>, offset: u64) -> Result<bool, Errno> {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    // SAFETY: a fresh mapping at an address of the kernel's choice, which is never read.
    let page = unsafe { mmap(std::ptr::null_mut(), 4096, ProtFlags::READ, MapFlags::SHARED, file, offset) }?;
    let mut answer = [0_u8; 1];
    // SAFETY: the kernel writes one byte, for one page.
    let call = unsafe { libc::syscall(libc::SYS_mincore, page, word(4096), answer.as_mut_ptr()) };
    let asked = checked(call);
    // SAFETY: the mapping is ours, and nothing refers to it.
    let _ = unsafe { munmap(page, 4096) };
    asked.map(|_| answer[0] & 1 == 1)
}

/// How many of the pages at `offset` are in the page cache, as `cachestat` has it.
///
/// # Errors
/// The system's error.
pub fn cached_pages(file: BorrowedFd<'_>, offset: u64, bytes: u64) -> Result<u64, Errno> {
    const CACHESTAT: libc::c_long = 451;
    let range = [offset, bytes];
    let mut statistics = [0_u64; 5];
    // SAFETY: the kernel reads two numbers and writes five.
    let call = unsafe {
        libc::syscall(CACHESTAT, word(file.as_raw_fd()), range.as_ptr(), statistics.as_mut_ptr(), word(0))
    };
    checked(call).map(|_| statistics[0])
}

/// Bytes of a file, unless it would have to wait for the disk.
///
/// # Errors
/// The system's error: `EAGAIN` where it would.
pub fn read_without_waiting(file: BorrowedFd<'_>, offset: u64, into: &mut [u8]) -> Result<usize, Errno> {
    const RWF_NOWAIT: i32 = 8;
    let part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: the kernel writes into `into` alone.
    let call = unsafe {
        libc::syscall(
            libc::SYS_preadv2,
            word(file.as_raw_fd()),
            &raw const part,
            word(1),
            offset.cast_signed(),
            word(0),
            word(RWF_NOWAIT),
        )
    };
    usize::try_from(checked(call)?).map_err(|_| Errno::OVERFLOW)
}

/// Number of processes that `sysinfo` tells.
///
/// # Errors
/// The system's error.
pub fn processes() -> Result<u16, Errno> {
    let mut information = std::mem::MaybeUninit::<libc::sysinfo>::zeroed();
    // SAFETY: the kernel writes one `struct sysinfo`.
    checked(unsafe { libc::syscall(libc::SYS_sysinfo, information.as_mut_ptr()) })?;
    // SAFETY: all bytes are initialised, and any are a valid `sysinfo`.
    Ok(unsafe { information.assume_init() }.procs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn pages_that_were_read_are_cached() {
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 8192], 0).unwrap();
        assert_eq!(resident(file.as_fd(), 0), Ok(true));
        let mut byte = [0; 1];
        assert_eq!(read_without_waiting(file.as_fd(), 8191, &mut byte).map(|_| byte), Ok([1]));
        // Kernels before 6.5 have no such call.
        let pages = cached_pages(file.as_fd(), 0, 8192);
        assert!(matches!(pages, Ok(2) | Err(Errno::NOSYS)), "{pages:?}");
    }

    #[test]
    fn a_process_reads_its_own_memory_as_another_would() {
        let secret = *b"a secret";
        let mut seen = [0; 8];
        let read = read_memory(std::process::id().cast_signed(), secret.as_ptr().addr() as u64, &mut seen);
        assert_eq!((read, seen), (Ok(8), secret));
        assert!(processes().unwrap() > 0);
    }

    #[test]
    fn what_is_asked_for_either_works_or_says_why_not() {
        assert_eq!(reach(Surface::Mincore), Ok(()));
        assert!(reach(Surface::IoUring).err().is_none_or(|errno| errno != Errno::FAULT));
        assert!(reach(Surface::Bpf).err().is_none_or(|errno| errno != Errno::FAULT));
        assert!(reach(Surface::Perf).err().is_none_or(|errno| errno != Errno::TOOBIG));
        assert!(socket(1, 1, 0).is_ok());
    }
}
