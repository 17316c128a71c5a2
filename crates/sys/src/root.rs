//! Root file systems: an image of two files as an EROFS mount that is attached nowhere.
//!
//! What it is: the two ways to mount one. *Private*: a file system instance for one agent, with a copy of the image's
//! metadata of its own, which reads contents past the page cache of the image's data: so no page of a name, an inode
//! or a content is cached for two agents. *Shared*: one instance for several, read through the cache. What it is not: a
//! choice between them, nor a third way where one fails. No loop device is ever used: two mounts of one are one file
//! system.
//! Who trusts it: launcher, warden and the measurements.

mod metadata;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

pub use metadata::METADATA_BYTES_MAX;
pub(crate) use metadata::memory;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, open, statx};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};

/// Block size of our EROFS files: reads past the cache are multiples of it.
const BLOCK_BYTES: u32 = 4096;

/// The two files of an image, open: names, inodes and where contents lie in the one, contents in the other.
#[derive(Debug, Clone, Copy)]
pub struct ImageFiles<'a> {
    /// EROFS without contents, at most [`METADATA_BYTES_MAX`]. Read once, to be copied.
    pub metadata: BorrowedFd<'a>,
    /// The device that holds the contents.
    pub data: BorrowedFd<'a>,
}

/// What a launcher makes a root of.
#[derive(Debug, Clone, Copy)]
pub enum RootObject<'a> {
    /// The image, for a file system instance of its own.
    Image(ImageFiles<'a>),
    /// A mount that is shared ([`shared`]).
    Shared(BorrowedFd<'a>),
}

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
    /// The file system that the image's data lies on cannot be read past its cache. The kernel would accept the option
    /// and read through the cache all the same.
    #[error("the file system of the image's data has no direct reads of {BLOCK_BYTES} bytes")]
    NoDirectReads {
        /// What the file system said, where it said something.
        errno: Option<Errno>,
    },
    /// The metadata is not what an image's metadata can be.
    #[error("the metadata of the image {found}")]
    Metadata {
        /// How.
        found: &'static str,
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
            Self::Metadata { .. } => Errno::INVAL,
        }
    }
}

/// A number for a copy of an image's metadata: random, not 0.
///
/// # Errors
/// [`RootError::Step`].
pub fn fresh_number() -> Result<u64, RootError> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| RootError::Step { step: "choose a number", errno })?;
    // So few bytes come all at once (getrandom(2)).
    Ok(u64::from_le_bytes(bytes) | 1)
}

/// The image as a file system instance of its own: metadata from a copy with this `number`, contents read past the
/// cache of the data file. [`crate::observe`] shows the number.
///
/// # Errors
/// [`RootError`]: this machine or this image cannot do it.
pub fn private(image: ImageFiles<'_>, number: u64) -> Result<OwnedFd, RootError> {
    private_in(&metadata::memory()?, image, number)
}

/// Likewise, with the copy in this memory. The mount outlives it; to give the memory back takes the kernel longer than
/// to copy a small image, so the launcher does it when nobody waits for it.
pub(crate) fn private_in(memory: &OwnedFd, image: ImageFiles<'_>, number: u64) -> Result<OwnedFd, RootError> {
    require_direct_reads(image.data)?;
    mount(memory, image, number, Reads::PastTheCache)
}

/// The image as a file system instance that several may use at once ([`another`]): metadata from one copy for all,
/// contents read through the cache.
///
/// # Errors
/// [`RootError`]: this machine or this image cannot do it.
pub fn shared(image: ImageFiles<'_>, number: u64) -> Result<OwnedFd, RootError> {
    mount(&metadata::memory()?, image, number, Reads::ThroughTheCache)
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

fn mount(memory: &OwnedFd, image: ImageFiles<'_>, number: u64, reads: Reads) -> Result<OwnedFd, RootError> {
    let metadata = metadata::private_copy(memory, image.metadata, number)?;
    let kernel = |found| move |errno| RootError::Kernel { found, errno };
    let step = |step| move |errno| RootError::Step { step, errno };
    // By descriptor, so that they are the very files.
    let path = |file: BorrowedFd<'_>| format!("/proc/self/fd/{}", file.as_raw_fd());
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(kernel("the kernel has no file system type erofs"))?;
    let context = context.as_fd();
    fsconfig_set_string(context, "source", path(metadata.as_fd())).map_err(step("name the metadata"))?;
    fsconfig_set_string(context, "device", path(image.data)).map_err(step("name the data file"))?;
    if reads == Reads::PastTheCache {
        fsconfig_set_flag(context, "directio")
            .map_err(kernel("the kernel's erofs has no option directio"))?;
    }
    fsconfig_set_flag(context, "ro").map_err(step("ask for a read-only mount"))?;
    fsconfig_create(context).map_err(|errno| match errno {
        Errno::NOTBLK => RootError::Kernel { found: "the kernel's erofs mounts no files", errno },
        errno => RootError::Step { step: "mount the image as erofs", errno },
    })?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(step("make a mount of it"))
}

/// Erofs reads past the cache only where the file can (fs/erofs/fileio.c asks for `FMODE_CAN_ODIRECT`), and through it
/// without a word where it cannot. Some file systems open for direct reads and then read through the cache; they give
/// no alignment for it (statx(2), `stx_dio_offset_align`).
fn require_direct_reads(data: BorrowedFd<'_>) -> Result<(), RootError> {
    let path = format!("/proc/self/fd/{}", data.as_raw_fd());
    open(path, OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| RootError::NoDirectReads { errno: Some(errno) })?;
    let seen = statx(data, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)
        .map_err(|errno| RootError::NoDirectReads { errno: Some(errno) })?;
    let told = seen.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    let possible = |align: u32| align != 0 && BLOCK_BYTES.is_multiple_of(align);
    if told && possible(seen.stx_dio_offset_align) && possible(seen.stx_dio_mem_align) {
        Ok(())
    } else {
        Err(RootError::NoDirectReads { errno: None })
    }
}
