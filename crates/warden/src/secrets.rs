//! Secrets into the agent's own memory file system, and out again for the agent itself.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, openat};

use crate::error::WardenError;

/// Largest secret in bytes.
pub(crate) use casemate_protocol::rcar::SECRET_BYTES_MAX;

/// Refuses a folder for secrets that is not a memory file system: an image or a mount that got in its place.
pub(crate) fn require_memory(directory: &OwnedFd) -> Result<(), WardenError> {
    /// TMPFS_MAGIC (linux/magic.h).
    const TMPFS: u64 = 0x0102_1994;
    let found = rustix::fs::fstatfs(directory).map_err(WardenError::system("look at /run/secrets"))?;
    let found = u64::try_from(found.f_type).unwrap_or(0);
    if found == TMPFS {
        return Ok(());
    }
    Err(casemate_protocol::Refusal::new("secrets.memory", "tmpfs", format!("file system {found:#x}")).into())
}

/// Writes `/run/secrets/<name>`: mode 0400, owned by the agent's outer user. Nothing of it touches a disk: the folder
/// is a memory file system, without swap where the kernel can.
pub(crate) fn write(
    directory: &OwnedFd,
    name: &str,
    content: &[u8],
    uid: u32,
    gid: u32,
) -> Result<(), WardenError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let descriptor = openat(directory.as_fd(), name, flags, Mode::from_raw_mode(0o400))
        .map_err(WardenError::system("create a secret's file"))?;
    fchown(&descriptor, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .and_then(|()| fchmod(&descriptor, Mode::from_raw_mode(0o400)))
        .map_err(WardenError::system("give a secret's file to the agent"))?;
    std::fs::File::from(descriptor)
        .write_all(content)
        .map_err(WardenError::file(format!("/run/secrets/{name}")))
}

/// Reads it back.
pub(crate) fn read(directory: &OwnedFd, name: &str) -> Result<Vec<u8>, WardenError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let descriptor = openat(directory.as_fd(), name, flags, Mode::empty())
        .map_err(WardenError::system("open a secret's file"))?;
    let mut content = Vec::new();
    std::fs::File::from(descriptor)
        .take(SECRET_BYTES_MAX as u64)
        .read_to_end(&mut content)
        .map_err(WardenError::file(format!("/run/secrets/{name}")))?;
    Ok(content)
}
