//! Folders that a part may write to, and what kind of file system they are on.

use std::fs::File;
use std::path::Path;

use rustix::fs::{Access, StatFs, access, statfs};

use crate::attack::{Args, Why};
use crate::attacks::Removed;

/// Folders that programs may usually write to.
const FOLDERS: [&str; 5] = ["/tmp", "/dev/shm", "/var/tmp", "/run", "/data"];
/// `TMPFS_MAGIC` (linux/magic.h).
const TMPFS: i64 = 0x0102_1994;
/// Largest file system that is called small: it is filled, and whoever else is on it feels that.
const SMALL_BYTES_MAX: u64 = 128 << 20;

/// Folders that this process may write to.
pub(super) fn writable() -> impl Iterator<Item = &'static str> {
    FOLDERS.into_iter().filter(|folder| access(Path::new(folder), Access::WRITE_OK).is_ok())
}

/// The folder that both have in common, or else the first of its own.
pub(super) fn folder(args: &Args) -> Result<String, Why> {
    if !args.folder.is_empty() {
        return Ok(args.folder.clone());
    }
    let found = writable().next().map(str::to_owned);
    found.ok_or_else(|| Why::of("no folder to write to"))
}

/// A small file system in memory that may be filled: the one that both have in common, or else the first of its own.
pub(super) fn small(args: &Args) -> Result<String, Why> {
    if !args.small.is_empty() {
        return Ok(args.small.clone());
    }
    let found = writable().find(|folder| is_small(folder)).map(str::to_owned);
    found.ok_or_else(|| match writable().next() {
        None => Why::of("no folder to write to"),
        Some(folder) => Why::of(format!("{folder} is on a disk: filling that would harm the machine")),
    })
}

fn is_small(folder: &str) -> bool {
    let bytes =
        |found: &StatFs| found.f_blocks.saturating_mul(u64::try_from(found.f_bsize).unwrap_or(u64::MAX));
    statfs(folder).is_ok_and(|found| found.f_type == TMPFS && bytes(&found) <= SMALL_BYTES_MAX)
}

/// Whether what is written there stays in memory, so that nobody waits for a disk.
pub(super) fn is_in_memory(folder: &str) -> bool {
    statfs(folder).is_ok_and(|found| found.f_type == TMPFS)
}

/// A file without a name: it ends with this process, however that ends.
pub(super) fn nameless(folder: &str, mark: &str, of: &str) -> Result<File, Why> {
    let path = format!("{folder}/{mark}-{of}");
    let file = File::create(&path)?;
    drop(Removed(path));
    Ok(file)
}
