//! The state directory: private files, made at first run.
//!
//! What it is: a directory of mode 0700 with the broker's keys (0600), made once under a lock, so that `serve` and
//! `secret put` may both be first. What it is not: the database (`store`) or the meaning of a key.
//! Who trusts it: every subcommand. A key file that others may read is refused, not repaired: it may have been read.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use zeroize::Zeroizing;

/// Largest private file in bytes.
const PRIVATE_FILE_BYTES_MAX: u64 = 64 << 10;
/// How long to wait for another process that makes its files.
const LOCK_WAIT_MS_MAX: u64 = 5_000;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// Others may read or change a file.
    #[error("{} may be read or changed by others (mode {mode:04o})", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file is not the broker's own.
    #[error("{} belongs to user {owner}, not to user {user}", path.display())]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who the broker is.
        user: u32,
    },
    /// A file is larger than any that the broker makes.
    #[error("{} is larger than {PRIVATE_FILE_BYTES_MAX} bytes", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
    },
    /// Another process holds the lock.
    #[error("{} is locked by another broker", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

/// An open state directory.
pub(crate) struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Opens the directory, making it where it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |error| StateError::Io { path: path.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        require_private(path, &std::fs::metadata(path).map_err(failed)?)?;
        Ok(Self { path: path.to_owned() })
    }

    /// The path of a file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Takes the lock `name` for as long as the result lives, waiting a bounded time.
    pub(crate) fn lock(&self, name: &str, wait: Duration) -> Result<File, StateError> {
        let path = self.file(name);
        let failed = |error| StateError::Io { path: path.clone(), error };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if start.elapsed() < wait => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => return Err(StateError::Locked { path }),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }

    /// Takes the lock under which private files are made.
    pub(crate) fn lock_for_making(&self) -> Result<File, StateError> {
        self.lock("make.lock", Duration::from_millis(LOCK_WAIT_MS_MAX))
    }

    /// The content of a private file; `None` where there is none.
    pub(crate) fn read_private(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
        let path = self.file(name);
        let failed = |error| StateError::Io { path: path.clone(), error };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let metadata = file.metadata().map_err(failed)?;
        require_private(&path, &metadata)?;
        if metadata.len() > PRIVATE_FILE_BYTES_MAX {
            return Err(StateError::TooLong { path });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0)));
        file.take(PRIVATE_FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }

    /// Writes a private file whole or not at all. Call it with the lock held.
    pub(crate) fn write_private(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        self.write(name, bytes, 0o600)
    }

    /// Writes a file that everyone may know, whole or not at all. Call it with the lock held.
    pub(crate) fn write_public(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        self.write(name, bytes, 0o644)
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), StateError> {
        let (path, temporary) = (self.file(name), self.file(&format!("{name}.new")));
        let failed = |error| StateError::Io { path: path.clone(), error };
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).map_err(failed)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&temporary, &path).map_err(failed)?;
        File::open(&self.path).and_then(|directory| directory.sync_all()).map_err(failed)
    }
}

fn require_private(path: &Path, metadata: &Metadata) -> Result<(), StateError> {
    let (mode, owner, user) = (metadata.mode() & 0o7777, metadata.uid(), geteuid().as_raw());
    if owner != user {
        return Err(StateError::Owner { path: path.to_owned(), owner, user });
    }
    if mode & 0o077 != 0 {
        return Err(StateError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn refuses_a_key_that_others_may_read() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::open(&root.path().join("state")).unwrap();
        assert!(state.read_private("k").unwrap().is_none());
        state.write_private("k", b"key").unwrap();
        assert_eq!(state.read_private("k").unwrap().unwrap().as_slice(), b"key");
        std::fs::set_permissions(state.file("k"), std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(state.read_private("k"), Err(StateError::Exposed { mode: 0o640, .. })));
    }

    #[test]
    fn refuses_a_key_and_a_directory_of_another_user() {
        if !geteuid().is_root() {
            return eprintln!("skipped: only root can give a file away");
        }
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        let state = StateDir::open(&path).unwrap();
        state.write_private("k", b"key").unwrap();
        std::os::unix::fs::chown(state.file("k"), Some(65_534), None).unwrap();
        assert!(matches!(state.read_private("k"), Err(StateError::Owner { owner: 65_534, user: 0, .. })));
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        assert!(matches!(StateDir::open(&path), Err(StateError::Owner { owner: 65_534, user: 0, .. })));
    }

    #[test]
    fn refuses_a_directory_that_others_may_enter() {
        let root = tempfile::tempdir().unwrap();
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(StateDir::open(root.path()), Err(StateError::Exposed { mode: 0o755, .. })));
    }

    #[test]
    fn gives_a_lock_to_one_holder_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::open(&root.path().join("state")).unwrap();
        let held = state.lock("l", Duration::ZERO).unwrap();
        assert!(matches!(state.lock("l", Duration::ZERO), Err(StateError::Locked { .. })));
        drop(held);
        state.lock("l", Duration::ZERO).unwrap();
    }
}
