//! The lock as a file: beside the Compose file, read, compared and written.

use std::path::{Path, PathBuf};

use casemate_canon::{CanonicalError, Sha384};
use casemate_composition::Lock;
use casemate_composition::lock::LOCK_BYTES_MAX;

use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::lines;
use crate::project::ComposeFile;

/// Name of the lock beside the Compose file.
pub(crate) const LOCK_NAME: &str = "compose.lock";

/// What to do where the lock differs from the file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockChange {
    /// Write it, and say so.
    Write,
    /// Refuse.
    Refuse,
}

/// What is where a lock should be, beside what the files give now.
pub(crate) enum LockFound {
    /// The same, byte by byte.
    Same,
    /// No file.
    Absent,
    /// Another lock.
    Other(Box<Lock>),
    /// A file that is no lock, and why.
    Unreadable(String),
}

impl LockFound {
    /// Compares the file at `path` with the file form of a lock.
    pub(crate) fn at(path: &Path, bytes: &[u8]) -> Outcome<Self> {
        if !path.exists() {
            return Ok(Self::Absent);
        }
        let old = inputs::read_bytes(path, LOCK_BYTES_MAX, "remove the file; it is made anew")?;
        if old == bytes {
            return Ok(Self::Same);
        }
        Ok(match Lock::from_json(&old) {
            Ok(lock) => Self::Other(Box::new(lock)),
            Err(error) => Self::Unreadable(error.to_string()),
        })
    }

    /// What to say of the file where it must be the same.
    pub(crate) fn difference(&self) -> String {
        match self {
            Self::Same => "the lock is what the files give".to_owned(),
            Self::Absent => "there is no lock".to_owned(),
            Self::Other(_) => "the lock is not what the files give now".to_owned(),
            Self::Unreadable(why) => format!("the lock cannot be read: {why}"),
        }
    }
}

/// Writes `compose.lock` beside the Compose file where it differs.
pub(crate) fn write_lock(file: &ComposeFile, lock: &Lock, change: LockChange) -> Outcome<()> {
    let (path, bytes) = (lock_beside(file)?, lock_bytes(lock)?);
    let found = LockFound::at(&path, &bytes)?;
    match (&found, change) {
        (LockFound::Same, _) => Ok(()),
        (_, LockChange::Write) => write_lock_to(&path, lock, &bytes, &found),
        (_, LockChange::Refuse) => Err(Failure::input(
            format!("{}: {}, and must not change", path.display(), found.difference()),
            look_and_lock(file),
        )),
    }
}

/// Writes a lock in place of what was found, and says so.
pub(crate) fn write_lock_to(path: &Path, lock: &Lock, bytes: &[u8], found: &LockFound) -> Outcome<()> {
    inputs::write_file(path, bytes)?;
    let what = if matches!(found, LockFound::Absent) { "made" } else { "changed" };
    lines::note(format!("{} {what}: composition {}", path.display(), digest(lock)?));
    Ok(())
}

/// What to do where the lock is not what the files give.
pub(crate) fn look_and_lock(file: &ComposeFile) -> String {
    let (flags, scale) = (file.flags(), file.scale_flags());
    format!(
        "look at the change with `casemate {flags} lock --check{scale}`, then run `casemate {flags} lock{scale}`"
    )
}

/// The file form of a lock.
pub(crate) fn lock_bytes(lock: &Lock) -> Outcome<Vec<u8>> {
    lock.to_json().map_err(|error| too_large(&error))
}

/// The composition digest.
pub(crate) fn digest(lock: &Lock) -> Outcome<Sha384> {
    lock.digest().map_err(|error| too_large(&error))
}

/// A number of a lock is not one that RFC 8785 has.
pub(crate) fn too_large(error: &CanonicalError) -> Failure {
    Failure::input(format!("lock: {error}"), "use smaller numbers in the Compose file")
}

/// Reads a lock.
pub(crate) fn read_lock(path: &Path) -> Outcome<Lock> {
    let todo = "make it anew with `casemate up`";
    let bytes = inputs::read_bytes(path, LOCK_BYTES_MAX, todo)?;
    Lock::from_json(&bytes).map_err(|error| Failure::input(format!("{}: {error}", path.display()), todo))
}

/// The lock beside the Compose file, where there is one that can be read.
pub(crate) fn read_lock_beside(file: &ComposeFile) -> Option<Lock> {
    read_lock(&lock_beside(file).ok()?).ok()
}

/// Where the lock of a Compose file is.
pub(crate) fn lock_beside(file: &ComposeFile) -> Outcome<PathBuf> {
    Ok(file.folder()?.join(LOCK_NAME))
}
