//! How long one read of a mapped file takes: the means to tell what another process touched.
//!
//! What it is: a file mapped read-only, one byte of it read, its line put out of the processor's caches, and the cycles
//! of one read. With these one measures whether two compartments use the same physical page (Flush+Reload). What it is
//! not: used by any program of the box. It needs no privilege: whoever is measured against has it too.
//! Who trusts it: measurements.

use std::arch::x86_64::{_mm_clflush, _mm_lfence, _mm_mfence, _rdtsc};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A file in memory, shared with whoever else maps it. A read past the end of a file that was cut meanwhile ends the
/// process with SIGBUS.
#[derive(Debug)]
pub struct Mapped {
    start: *const u8,
    bytes: usize,
    /// Whether the mapping is the kernel's, and stays.
    of_kernel: bool,
}

impl Mapped {
    /// Maps the first `bytes` of `file`, at least one.
    ///
    /// # Errors
    /// The system's error.
    pub fn of(file: BorrowedFd<'_>, bytes: usize) -> Result<Self, Errno> {
        // SAFETY: a fresh mapping at an address of the kernel's choice; no memory of ours is replaced.
        let start = unsafe { mmap(std::ptr::null_mut(), bytes, ProtFlags::READ, MapFlags::SHARED, file, 0) }?;
        Ok(Self { start: start.cast_const().cast(), bytes, of_kernel: false })
    }

    /// The first page of the code that the kernel maps into every process (vdso(7)); none where there is none.
    #[must_use]
    pub fn kernel_code() -> Option<Self> {
        // SAFETY: takes no pointer; 0 where the kernel gave no such address.
        let address = usize::try_from(unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) }).ok()?;
        (address != 0).then(|| Self {
            start: std::ptr::with_exposed_provenance(address),
            bytes: 4096,
            of_kernel: true,
        })
    }

    /// Reads the byte at `offset`; none past the end.
    #[must_use]
    pub fn touch(&self, offset: usize) -> Option<u8> {
        let address = self.address(offset)?;
        // SAFETY: within the mapping, which lives as long as `self`. Others may write the page meanwhile: volatile, and
        // any byte is a `u8`.
        Some(unsafe { address.read_volatile() })
    }

    /// Puts the line with the byte at `offset` out of all caches of the processor; none past the end.
    #[must_use]
    pub fn flush(&self, offset: usize) -> Option<()> {
        let address = self.address(offset)?;
        // SAFETY: clflush needs a readable address, which this is as above; every x86-64 processor has SSE2.
        unsafe {
            _mm_clflush(address);
            _mm_mfence();
        }
        Some(())
    }

    /// Cycles of the time stamp counter that one read of the byte at `offset` takes; none past the end.
    #[must_use]
    pub fn read_cycles(&self, offset: usize) -> Option<u64> {
        let address = self.address(offset)?;
        // SAFETY: as in `touch`. The fences keep the read between the two looks at the counter.
        unsafe {
            _mm_mfence();
            _mm_lfence();
            let before = _rdtsc();
            _mm_lfence();
            let _byte = address.read_volatile();
            _mm_lfence();
            Some(_rdtsc().wrapping_sub(before))
        }
    }

    fn address(&self, offset: usize) -> Option<*const u8> {
        (offset < self.bytes).then(|| self.start.wrapping_add(offset))
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if self.of_kernel {
            return;
        }
        // SAFETY: the mapping is ours, and no reference into it was ever given out.
        let _ = unsafe { munmap(self.start.cast_mut().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_kernels_code_is_an_elf_file() {
        assert_eq!(Mapped::kernel_code().and_then(|mapped| mapped.touch(0)), Some(0x7f));
    }

    #[test]
    fn a_line_that_was_flushed_takes_longer_to_read() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let mapped = Mapped::of(file.as_fd(), 4096).unwrap();
        assert_eq!(mapped.touch(0), Some(0x7f));
        assert_eq!((mapped.touch(4096), mapped.flush(4096), mapped.read_cycles(4096)), (None, None, None));
        let median = |read: &dyn Fn() -> u64| {
            let mut all: Vec<u64> = (0..1001).map(|_| read()).collect();
            all.sort_unstable();
            all[500]
        };
        let cached = median(&|| mapped.read_cycles(0).unwrap());
        let flushed = median(&|| {
            mapped.flush(0).unwrap();
            mapped.read_cycles(0).unwrap()
        });
        assert!(flushed > cached + 20, "{flushed} {cached}");
    }
}
