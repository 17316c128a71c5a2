//! Root file systems: an EROFS file as a mount that is attached nowhere.
//!
//! What it is: the two ways to mount one. *Private*: a file system instance for one agent, which reads past the page
//! cache of the image file, so that no page of a file's content is cached for two agents. *Shared*: one instance for
//! several, read through the cache. What it is not: a choice between them, nor a third way where one fails. No loop
//! device is ever used: two mounts of one are one file system.
//! Who trusts it: launcher, warden and the measurements.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, open, statx};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};

/// Block size of our EROFS files: reads past the cache are multiples of it.
const BLOCK_BYTES: u32 = 4096;

/// Why an image file cannot be mounted as asked; [`RootError::errno`] has what the system said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// The kernel lacks something.
    #[error("{found}")]
    Kernel {
        /// What it lacks.
        found: &'static str,
        /// What it said.
        errno: Errno,
    },
    /// The file system that the image file lies on cannot be read past its cache. The kernel would accept the option
    /// and read through the cache all the same.
    #[error("the file system of the image file has no direct reads of {BLOCK_BYTES} bytes")]
    NoDirectReads {
        /// What the file system said, where it said something.
        errno: Option<Errno>,
    },
    /// Another step failed.
    #[error("{step}")]
    Step {
        /// Which.
        step: &'static str,
        /// The system's error.
        errno: Errno,
    },
}

impl RootError {
    /// The system's error; `EOPNOTSUPP` where there was none.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Kernel { errno, .. } | Self::Step { errno, .. } => *errno,
            Self::NoDirectReads { errno } => errno.unwrap_or(Errno::OPNOTSUPP),
        }
    }
}

/// The image as a file system instance of its own, read past the cache of the image file.
///
/// # Errors
/// [`RootError`]: this machine or this file cannot do it.
pub fn private(image: BorrowedFd<'_>) -> Result<OwnedFd, RootError> {
    require_direct_reads(image)?;
    mount(image, Reads::PastTheCache)
}

/// The image as a file system instance that several may use at once ([`another`]), read through the cache.
///
/// # Errors
/// [`RootError`]: this machine or this file cannot do it.
pub fn shared(image: BorrowedFd<'_>) -> Result<OwnedFd, RootError> {
    mount(image, Reads::ThroughTheCache)
}

/// One more mount of the same file system instance. Needs Linux 6.15.
///
/// # Errors
/// [`RootError::Step`].
pub fn another(mount: BorrowedFd<'_>) -> Result<OwnedFd, RootError> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(mount, "", flags)
        .map_err(|errno| RootError::Step { step: "mount the shared root once more", errno })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    PastTheCache,
    ThroughTheCache,
}

fn mount(image: BorrowedFd<'_>, reads: Reads) -> Result<OwnedFd, RootError> {
    let kernel = |found| move |errno| RootError::Kernel { found, errno };
    let step = |step| move |errno| RootError::Step { step, errno };
    // By descriptor, so that it is the very file that was verified.
    let source = format!("/proc/self/fd/{}", image.as_raw_fd());
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(kernel("the kernel has no file system type erofs"))?;
    let context = context.as_fd();
    fsconfig_set_string(context, "source", source).map_err(step("name the image file"))?;
    if reads == Reads::PastTheCache {
        fsconfig_set_flag(context, "directio")
            .map_err(kernel("the kernel's erofs has no option directio"))?;
    }
    fsconfig_set_flag(context, "ro").map_err(step("ask for a read-only mount"))?;
    fsconfig_create(context).map_err(|errno| match errno {
        Errno::NOTBLK => RootError::Kernel { found: "the kernel's erofs mounts no files", errno },
        errno => RootError::Step { step: "mount the image file as erofs", errno },
    })?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(step("make a mount of it"))
}

/// Erofs reads past the cache only where the file can (fs/erofs/fileio.c asks for `FMODE_CAN_ODIRECT`), and through it
/// without a word where it cannot. Some file systems open for direct reads and then read through the cache; they give
/// no alignment for it (statx(2), `stx_dio_offset_align`).
fn require_direct_reads(image: BorrowedFd<'_>) -> Result<(), RootError> {
    let path = format!("/proc/self/fd/{}", image.as_raw_fd());
    open(path, OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| RootError::NoDirectReads { errno: Some(errno) })?;
    let seen = statx(image, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)
        .map_err(|errno| RootError::NoDirectReads { errno: Some(errno) })?;
    let told = seen.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    let possible = |align: u32| align != 0 && BLOCK_BYTES.is_multiple_of(align);
    if told && possible(seen.stx_dio_offset_align) && possible(seen.stx_dio_mem_align) {
        Ok(())
    } else {
        Err(RootError::NoDirectReads { errno: None })
    }
}
