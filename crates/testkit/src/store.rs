//! The directory a development PKI lives in: one file per key, certificate and piece of collateral, all mode 0600.
//!
//! `pki.json` is written last, by renaming: a directory without it is not a PKI. A lock file keeps two programs from
//! making one at the same time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::keys::{KeyKind, SigningKey};
use crate::{PkiError, Tee};

const MANIFEST: &str = "pki.json";

/// What `pki.json` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) tee: Tee,
    pub(crate) certificates_from: u64,
    pub(crate) certificates_until: u64,
    pub(crate) collateral_from: u64,
    pub(crate) collateral_until: u64,
}

/// A directory, locked while this lives.
pub(crate) struct Store {
    dir: PathBuf,
    _lock: File,
}

impl Store {
    /// Makes the directory where it is missing, and waits for its lock.
    pub(crate) fn open(dir: &Path) -> Result<Self, PkiError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(PkiError::io(dir))?;
        let path = dir.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(PkiError::io(&path))?;
        lock.lock().map_err(PkiError::io(&path))?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    pub(crate) fn manifest(&self) -> Result<Manifest, PkiError> {
        let path = self.dir.join(MANIFEST);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(PkiError::Missing { path: self.dir.clone() });
            }
            Err(error) => return Err(PkiError::io(&path)(error)),
        };
        serde_json::from_slice(&bytes).map_err(|_| PkiError::Corrupt { path })
    }

    pub(crate) fn write_manifest(&self, manifest: &Manifest) -> Result<(), PkiError> {
        let path = self.dir.join(MANIFEST);
        let bytes = serde_json::to_vec(manifest).map_err(|_| PkiError::Corrupt { path: path.clone() })?;
        self.write(MANIFEST, &bytes)
    }

    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>, PkiError> {
        let path = self.dir.join(name);
        match fs::read(&path) {
            Ok(bytes) if !bytes.is_empty() => Ok(bytes),
            _ => Err(PkiError::Corrupt { path }),
        }
    }

    pub(crate) fn read_key(&self, name: &str, kind: KeyKind) -> Result<SigningKey, PkiError> {
        SigningKey::from_pkcs8(kind, self.read(name)?)
            .map_err(|_| PkiError::Corrupt { path: self.dir.join(name) })
    }

    /// Writes a file beside its place and renames it there, so that no reader sees half of it.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), PkiError> {
        let path = self.dir.join(name);
        let fresh = self.dir.join(format!("{name}.new"));
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(PkiError::io(&fresh))?;
        file.write_all(bytes).map_err(PkiError::io(&fresh))?;
        fs::rename(&fresh, &path).map_err(PkiError::io(&path))
    }
}
