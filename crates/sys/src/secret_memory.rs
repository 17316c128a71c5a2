//! Memory for secrets while this process has them.
//!
//! What it is: pages that the kernel takes out of its own map (`memfd_secret(2)`): the kernel reads them for nobody, by
//! `/proc/PID/mem` or `process_vm_readv`, and does not stumble on them. Who may trace this process can have it read
//! them itself. They are never swapped, copied to children or in a core dump, and are overwritten before they are given
//! back. Where this process gets none, the pages are locked and overwritten likewise, but the kernel maps them; who asks
//! is told which ([`Kind`]).
//! What it is not: a keystore. What decrypts a secret lies where the cryptographic library puts it.
//! Who trusts it: the warden.

use std::ptr::NonNull;

use rustix::io::Errno;
use zeroize::Zeroize as _;

/// What the memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Out of the kernel's own map.
    Secret,
    /// Ordinary pages that are locked: this kernel has no others.
    Locked,
}

/// A piece of it. Its content is not printed, and ends with it.
pub struct SecretMemory {
    start: NonNull<u8>,
    bytes: usize,
    kind: Kind,
}

impl SecretMemory {
    /// `bytes` of it, more than none, all zero.
    ///
    /// # Errors
    /// The system's error.
    pub fn new(bytes: usize) -> Result<Self, Errno> {
        match secret_pages(bytes) {
            Ok(start) => Ok(Self { start, bytes, kind: Kind::Secret }),
            // Not built in, switched off at boot, or not for programs in this container.
            Err(Errno::NOSYS | Errno::PERM) => {
                let start = locked_pages(bytes)?;
                Ok(Self { start, bytes, kind: Kind::Locked })
            }
            Err(errno) => Err(errno),
        }
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Its content.
    #[must_use]
    pub const fn bytes(&self) -> &[u8] {
        // SAFETY: `start` is mapped for `bytes` bytes, readable and zeroed by the kernel, until this is dropped; whoever
        // writes has it borrowed mutably.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    /// Its content, to be written.
    pub const fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, writable, and borrowed mutably by who holds this slice: nothing else refers to the mapping.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }

    /// Overwrites it with zeros.
    pub fn clear(&mut self) {
        self.bytes_mut().zeroize();
    }
}

impl std::fmt::Debug for SecretMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretMemory").field("bytes", &self.bytes).field("kind", &self.kind).finish()
    }
}

impl Drop for SecretMemory {
    fn drop(&mut self) {
        self.clear();
        give_back(self.start, self.bytes);
    }
}

fn secret_pages(bytes: usize) -> Result<NonNull<u8>, Errno> {
    use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
    // SAFETY: takes a number and gives a new descriptor.
    let number = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let number = i32::try_from(number).ok().filter(|number| *number >= 0).ok_or_else(last)?;
    // SAFETY: just opened, and known to nobody else.
    let file = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::fs::ftruncate(&file, u64::try_from(bytes).map_err(|_| Errno::OVERFLOW)?)?;
    map(bytes, libc::MAP_SHARED, file.as_raw_fd())
}

fn locked_pages(bytes: usize) -> Result<NonNull<u8>, Errno> {
    let start = map(bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
    // SAFETY: the range was just mapped, and both calls leave its content as it is.
    let done = unsafe {
        libc::mlock(start.as_ptr().cast(), bytes) == 0
            && libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_DONTDUMP) == 0
    };
    if done {
        return Ok(start);
    }
    let errno = last();
    give_back(start, bytes);
    Err(errno)
}

/// Maps pages that children do not get.
fn map(bytes: usize, how: i32, file: i32) -> Result<NonNull<u8>, Errno> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh mapping at an address of the kernel's choice touches no other memory.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, how, file, 0) };
    if start == libc::MAP_FAILED {
        return Err(last());
    }
    let start = NonNull::new(start.cast::<u8>()).ok_or(Errno::FAULT)?;
    // SAFETY: the range was just mapped; its content stays as it is.
    if unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_DONTFORK) } != 0 {
        let errno = last();
        give_back(start, bytes);
        return Err(errno);
    }
    Ok(start)
}

fn give_back(start: NonNull<u8>, bytes: usize) {
    // SAFETY: mapped by `map` with this size; the caller ends all that refers to it.
    unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
}

fn last() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::FileExt as _;

    /// Whether even this process reads it by way of the kernel.
    fn is_readable_by_the_kernel(memory: &SecretMemory) -> bool {
        let file = std::fs::File::open("/proc/self/mem").unwrap();
        let place = u64::try_from(memory.bytes().as_ptr().addr()).unwrap();
        file.read_exact_at(&mut [0; 16], place).is_ok()
    }

    #[test]
    fn what_is_written_is_there_until_it_is_cleared_and_the_kernel_cannot_read_it() {
        let mut memory = SecretMemory::new(5000).unwrap();
        assert!(memory.bytes().len() == 5000 && memory.bytes().iter().all(|byte| *byte == 0));
        memory.bytes_mut().fill(7);
        match memory.kind() {
            Kind::Secret => assert!(!is_readable_by_the_kernel(&memory)),
            Kind::Locked => eprintln!("not run: secret memory: this kernel has no memfd_secret"),
        }
        memory.clear();
        assert!(memory.bytes().iter().all(|byte| *byte == 0));
        assert!(!format!("{memory:?}").contains("start"));
    }

    #[test]
    fn pages_of_a_kernel_without_it_are_locked_and_left_out_of_dumps() {
        let bytes = 8192;
        let start = locked_pages(bytes).unwrap();
        let mut memory = SecretMemory { start, bytes, kind: Kind::Locked };
        memory.bytes_mut().fill(7);
        assert!(is_readable_by_the_kernel(&memory), "the check of the other kind can fail");
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let begin = format!("{:x}-", memory.bytes().as_ptr().addr());
        let own = maps.split_once(&begin).unwrap().1;
        let flags = own.lines().find(|line| line.starts_with("VmFlags:")).unwrap();
        assert!([" lo", " dd", " dc"].iter().all(|flag| flags.contains(flag)), "{flags}");
    }
}
