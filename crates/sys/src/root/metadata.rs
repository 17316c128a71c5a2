//! A copy of an image's metadata that one file system instance reads, and nobody else.
//!
//! What it is: a file in a memory file system that is mounted nowhere and ends with the root that reads it. Its kind is
//! ramfs: Linux mounts no EROFS from a tmpfs file, and a page of a ramfs file is never taken out of memory. So nobody can
//! tell by time who needed which name first, not even under memory pressure. The copy is charged to who makes it.
//! What it is not: verification. Whoever brings the metadata has verified it, and brings bytes that cannot change.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::RootError;

/// Most bytes of metadata: an image of 500,000 files has some 70 MB.
pub const METADATA_BYTES_MAX: u64 = 256 << 20;
/// Bytes copied at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Name of the copy, for a moment.
const NAME: &str = "metadata";
/// Where the superblock has its UUID, 16 bytes (Linux, fs/erofs/erofs_fs.h: the superblock begins at byte 1024, its
/// `uuid` at 48). Our images have no checksum of the superblock, which the number would make wrong.
const UUID_OFFSET: u64 = 1024 + 48;
/// Bytes of the superblock and what is before it.
const HEAD_BYTES: u64 = 1024 + 128;

/// Copies `metadata` and marks the copy with `number`, in place of the image's UUID. The kernel gives the number back as
/// the file system id of what it mounts (statfs(2), `f_fsid`: both halves of the UUID, folded by exclusive or).
pub(super) fn private_copy(
    memory: &OwnedFd,
    metadata: BorrowedFd<'_>,
    number: u64,
) -> Result<OwnedFd, RootError> {
    let step = |step| move |errno| RootError::Step { step, errno };
    let io = |step| {
        move |error: std::io::Error| RootError::Step {
            step,
            errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        }
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let copy = openat(memory, NAME, flags, Mode::RUSR).map_err(step("make a copy of the metadata"))?;
    let copy = File::from(copy);
    let source = File::from(metadata.try_clone_to_owned().map_err(io("read the metadata"))?);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut done: u64 = 0;
    loop {
        // By offset: others may read the same open file at the same time.
        let read = match source.read_at(&mut chunk, done) {
            Ok(0) => break,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read.map_err(io("read the metadata"))?,
        };
        copy.write_all_at(chunk.get(..read).unwrap_or_default(), done).map_err(io("copy the metadata"))?;
        done = done.saturating_add(read as u64);
        if done > METADATA_BYTES_MAX {
            return Err(RootError::Metadata { found: "has more than 256 MiB" });
        }
    }
    if done < HEAD_BYTES {
        return Err(RootError::Metadata { found: "ends within its superblock" });
    }
    let mut uuid = [0; 16];
    let (mark, _) = uuid.split_at_mut(8);
    mark.copy_from_slice(&number.to_le_bytes());
    copy.write_all_at(&uuid, UUID_OFFSET).map_err(io("mark the copy of the metadata"))?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let readable =
        openat(memory, NAME, flags, Mode::empty()).map_err(step("open the copy of the metadata"))?;
    unlinkat(memory, NAME, AtFlags::empty()).map_err(step("take the name of the copy away"))?;
    Ok(readable)
}

/// Memory for one copy: a ramfs, mounted nowhere.
pub(crate) fn memory() -> Result<OwnedFd, RootError> {
    memory_mount().map_err(|errno| RootError::Step { step: "make memory for the metadata", errno })
}

fn memory_mount() -> Result<OwnedFd, Errno> {
    let context = fsopen("ramfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
