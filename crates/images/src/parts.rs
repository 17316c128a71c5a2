//! The two files of a root file system, and the one digest that pins both.
//!
//! What it is: metadata (names, inodes, and where contents lie) and data (contents), as `mkfs.erofs` makes them. Neither
//! is of use without the other. What it is not: a decision over who may use them; see `verify`.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use casemate_canon::Sha256;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde::Serialize;

use crate::blob;
use crate::document;
use crate::error::ImageError;
use crate::hash::{Hashing, hash_file};
use crate::limits::METADATA_BYTES_MAX;

/// Where the two files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RootfsFiles {
    pub(crate) metadata: PathBuf,
    pub(crate) data: PathBuf,
}

/// What the digest of a root file system is over, as RFC 8785 JSON.
#[derive(Serialize)]
struct Pinned {
    casemate: &'static str,
    data: Sha256,
    metadata: Sha256,
}

/// The digest of a root file system, from those of its two files.
pub(crate) fn rootfs_digest(metadata: Sha256, data: Sha256) -> Result<Sha256, ImageError> {
    let pinned = Pinned { casemate: "rootfs/2", data, metadata };
    Ok(Sha256::of(&document::to_bytes("root file system", &pinned)?))
}

impl RootfsFiles {
    pub(crate) fn in_directory(directory: &Path, stem: &str) -> Self {
        let file = |kind| directory.join(format!("{stem}.{kind}"));
        Self { metadata: file("metadata"), data: file("data") }
    }

    pub(crate) fn paths(&self) -> [&Path; 2] {
        [&self.metadata, &self.data]
    }

    pub(crate) fn exist(&self) -> bool {
        self.paths().into_iter().all(Path::exists)
    }

    /// Bytes of both.
    pub(crate) fn bytes(&self) -> Result<u64, ImageError> {
        self.paths().into_iter().try_fold(0_u64, |sum, path| {
            let metadata = fs::metadata(path).map_err(|error| ImageError::io("look at", path, &error))?;
            Ok(sum.saturating_add(metadata.len()))
        })
    }

    /// Both, open; none if one is not there.
    pub(crate) fn open(&self) -> Result<Option<OpenFiles>, ImageError> {
        let (metadata, data) = (blob::open(&self.metadata)?, blob::open(&self.data)?);
        Ok(metadata.zip(data).map(|(metadata, data)| OpenFiles { metadata, data }))
    }
}

/// The two files, open.
pub(crate) struct OpenFiles {
    pub(crate) metadata: File,
    pub(crate) data: File,
}

impl OpenFiles {
    /// The digest that pins what is in them now.
    pub(crate) fn digest(
        &mut self,
        paths: &RootfsFiles,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<Sha256, ImageError> {
        let metadata = hash_file(&mut self.metadata, &paths.metadata, on_bytes)?;
        rootfs_digest(metadata, hash_file(&mut self.data, &paths.data, on_bytes)?)
    }
}

/// Reads `metadata` into memory that nobody can change, and hashes exactly what is there then.
pub(crate) fn sealed(metadata: File, path: &Path) -> Result<(File, Sha256), ImageError> {
    let failed = |error: &io::Error| ImageError::io("copy", path, error);
    let memory = memfd_create("metadata", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|errno| failed(&errno.into()))?;
    let mut copy = Hashing::new(File::from(memory));
    io::copy(&mut metadata.take(METADATA_BYTES_MAX.saturating_add(1)), &mut copy)
        .map_err(|error| failed(&error))?;
    require_limit(copy.hashed_bytes())?;
    let (digest, _, memory) = copy.finish();
    fcntl_add_seals(&memory, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)
        .map_err(|errno| failed(&errno.into()))?;
    Ok((memory, digest))
}

/// Refuses more metadata than an agent can be given a copy of.
pub(crate) fn require_limit(metadata_bytes: u64) -> Result<(), ImageError> {
    if metadata_bytes > METADATA_BYTES_MAX {
        return Err(ImageError::Limit { what: "bytes of names and inodes", limit: METADATA_BYTES_MAX });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn the_digest_is_over_the_documented_text() {
        let (metadata, data) = (Sha256::of(b"m"), Sha256::of(b"d"));
        let text = format!(r#"{{"casemate":"rootfs/2","data":"{data}","metadata":"{metadata}"}}"#);
        assert_eq!(rootfs_digest(metadata, data), Ok(Sha256::of(text.as_bytes())));
        assert_ne!(rootfs_digest(data, metadata), rootfs_digest(metadata, data));
    }

    #[test]
    fn sealed_metadata_is_what_was_hashed_and_cannot_be_changed() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"names").unwrap();
        let (copy, digest) = sealed(file.reopen().unwrap(), file.path()).unwrap();
        assert_eq!(digest, Sha256::of(b"names"));
        file.as_file().write_all_at(b"other", 0).unwrap();
        let mut bytes = [0; 5];
        copy.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"names");
        assert!(copy.write_all_at(b"other", 0).is_err());
        assert!(copy.set_len(1).is_err());
    }

    #[test]
    fn refuses_more_metadata_than_can_be_copied() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(METADATA_BYTES_MAX + 1).unwrap();
        require_limit(METADATA_BYTES_MAX).unwrap();
        let limit = Err(ImageError::Limit { what: "bytes of names and inodes", limit: METADATA_BYTES_MAX });
        assert_eq!(require_limit(METADATA_BYTES_MAX + 1), limit);
        assert_eq!(sealed(file.reopen().unwrap(), file.path()).map(drop), limit);
    }
}
