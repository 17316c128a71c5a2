//! Files of the store: where they are, and how they get there whole or not at all.
//!
//! Everything is written below `tmp/`, synced, and renamed to the name of its digest. A process that
//! ends in between leaves only files in `tmp/`, which the next user of the store removes.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use casemate_canon::Sha256;
use casemate_protocol::Refusal;
use rustix::fs::OFlags;
use tempfile::NamedTempFile;

use crate::error::ImageError;
use crate::parts::RootfsFiles;

/// Paths of one store.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes the directories that are missing, for root alone.
    pub(crate) fn make(root: &Path) -> Result<Self, ImageError> {
        let layout = Self { root: root.to_owned() };
        for directory in [root.to_owned(), layout.blobs(), layout.erofs(), layout.builds(), layout.tmp()] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)
                .map_err(|error| ImageError::io("make", &directory, &error))?;
        }
        rustix::fs::chmod(root, rustix::fs::Mode::from_raw_mode(0o700))
            .map_err(|error| ImageError::errno("make private", root, error))?;
        Ok(layout)
    }

    /// Writes the file that makes the directory an OCI image layout. Needs the use lock.
    pub(crate) fn mark(&self) -> Result<(), ImageError> {
        let marker = self.root.join("oci-layout");
        if marker.exists() { Ok(()) } else { self.write(&marker, br#"{"imageLayoutVersion":"1.0.0"}"#) }
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn blob(&self, digest: &Sha256) -> PathBuf {
        self.blobs().join(digest.to_hex())
    }

    pub(crate) fn erofs(&self) -> PathBuf {
        self.root.join("erofs")
    }

    /// The two files of a root file system.
    pub(crate) fn rootfs_files(&self, digest: &Sha256) -> RootfsFiles {
        RootfsFiles::in_directory(&self.erofs(), &digest.to_hex())
    }

    /// The one file that a root file system was before builds of form 2.
    pub(crate) fn older_rootfs(&self, digest: &Sha256) -> PathBuf {
        self.erofs().join(format!("{}.erofs", digest.to_hex()))
    }

    /// Which root file system was built from which layers.
    pub(crate) fn builds(&self) -> PathBuf {
        self.root.join("erofs/builds")
    }

    pub(crate) fn build(&self, key: &Sha256) -> PathBuf {
        self.builds().join(key.to_hex())
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index.json")
    }

    /// Held shared by whoever uses files, alone by whoever removes them.
    pub(crate) fn use_lock(&self) -> PathBuf {
        self.root.join("use.lock")
    }

    /// Held alone while the index changes.
    pub(crate) fn index_lock(&self) -> PathBuf {
        self.root.join("index.lock")
    }

    /// A new file in the store's own file system, so that it can be renamed into place.
    pub(crate) fn temporary(&self) -> Result<NamedTempFile, ImageError> {
        temporary_in(&self.tmp())
    }

    /// Gives a written file its name. What had the name before is replaced: the new one is known good.
    pub(crate) fn persist(&self, file: NamedTempFile, path: &Path) -> Result<(), ImageError> {
        persist(file, path)
    }

    /// The same for a file at `from`, already synced.
    pub(crate) fn rename(&self, from: &Path, path: &Path) -> Result<(), ImageError> {
        rustix::fs::chmod(from, rustix::fs::Mode::from_raw_mode(0o400))
            .map_err(|error| ImageError::errno("make private", from, error))?;
        fs::rename(from, path).map_err(|error| ImageError::io("name", path, &error))?;
        sync_parent(path)
    }

    /// Writes a small file at `path`.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
        let mut file = self.temporary()?;
        file.write_all(bytes).map_err(|error| ImageError::io("write", path, &error))?;
        self.persist(file, path)
    }

    /// Reads a small blob and compares its digest under `rule`.
    pub(crate) fn read_document(
        &self,
        digest: &Sha256,
        rule: &str,
        bytes_max: u64,
    ) -> Result<Vec<u8>, ImageError> {
        read_verified(&self.blob(digest), digest, rule, bytes_max)
    }

    /// Opens a blob for reading.
    pub(crate) fn open_blob(&self, digest: &Sha256) -> Result<File, ImageError> {
        open(&self.blob(digest))?.ok_or_else(|| ImageError::NotFound { what: digest.to_string() })
    }
}

/// A new file in `directory`.
pub(crate) fn temporary_in(directory: &Path) -> Result<NamedTempFile, ImageError> {
    tempfile::Builder::new()
        .prefix("file-")
        .tempfile_in(directory)
        .map_err(|error| ImageError::io("make a file in", directory, &error))
}

/// Gives a written file its name. What had the name before is replaced.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> Result<(), ImageError> {
    file.as_file().sync_all().map_err(|error| ImageError::io("sync", path, &error))?;
    let file = file.persist(path).map_err(|error| ImageError::io("name", path, &error.error))?;
    drop(file);
    sync_parent(path)
}

/// Opens a plain file, following no link; none if there is nothing.
pub(crate) fn open(path: &Path) -> Result<Option<File>, ImageError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ImageError::io("open", path, &error)),
    };
    let metadata = file.metadata().map_err(|error| ImageError::io("look at", path, &error))?;
    if metadata.is_file() {
        Ok(Some(file))
    } else {
        Err(ImageError::io("read", path, &std::io::Error::other("it is not a file")))
    }
}

/// Reads a file of at most `bytes_max`; none if there is nothing.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, ImageError> {
    let Some(file) = open(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| ImageError::io("read", path, &error))?;
    if bytes.len() as u64 > bytes_max {
        return Err(ImageError::Limit { what: "bytes of a document", limit: bytes_max });
    }
    Ok(Some(bytes))
}

/// Reads the document `digest` at `path` and compares its digest under `rule`.
pub(crate) fn read_verified(
    path: &Path,
    digest: &Sha256,
    rule: &str,
    bytes_max: u64,
) -> Result<Vec<u8>, ImageError> {
    let bytes =
        read_bounded(path, bytes_max)?.ok_or_else(|| ImageError::NotFound { what: digest.to_string() })?;
    let found = Sha256::of(&bytes);
    if found == *digest { Ok(bytes) } else { Err(Refusal::new(rule, digest, found).into()) }
}

fn sync_parent(path: &Path) -> Result<(), ImageError> {
    let parent = path.parent().unwrap_or(path);
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| ImageError::io("sync", parent, &error))
}
