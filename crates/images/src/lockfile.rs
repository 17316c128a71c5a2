//! Locks between processes: `flock`, so that the kernel frees them however their owner ends.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::ImageError;

/// How many users a lock admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Many at once.
    Shared,
    /// One alone.
    Exclusive,
}

/// A held lock; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Held {
    _file: File,
}

/// Takes the lock, waiting at most `wait_ms_max` milliseconds.
pub(crate) fn take(path: &Path, sharing: Sharing, wait_ms_max: u64) -> Result<Held, ImageError> {
    const POLL_MS: u64 = 5;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(|error| ImageError::io("open", path, &error))?;
    let operation = match sharing {
        Sharing::Shared => FlockOperation::NonBlockingLockShared,
        Sharing::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    let mut waited_ms = 0;
    loop {
        match flock(&file, operation) {
            Ok(()) => return Ok(Held { _file: file }),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if waited_ms < wait_ms_max => {
                thread::sleep(Duration::from_millis(POLL_MS));
                waited_ms = waited_ms.saturating_add(POLL_MS);
            }
            Err(Errno::WOULDBLOCK) => return Err(ImageError::Busy { waited_ms }),
            Err(error) => return Err(ImageError::errno("lock", path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclusive_lock_excludes_and_is_freed_on_drop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = take(&path, Sharing::Exclusive, 0).unwrap();
        assert_eq!(take(&path, Sharing::Shared, 0).unwrap_err(), ImageError::Busy { waited_ms: 0 });
        drop(held);
        let _one = take(&path, Sharing::Shared, 0).unwrap();
        let _two = take(&path, Sharing::Shared, 0).unwrap();
    }
}
