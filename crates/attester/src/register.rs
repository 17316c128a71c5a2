//! RTMR3 as the kernel shows it: `rtmr3:sha384` under `/sys/devices/virtual/misc/tdx_guest/measurements`.
//!
//! A write of 48 bytes extends the register, a read returns its value (Linux, Documentation/ABI/testing/
//! sysfs-devices-virtual-misc-tdx_guest). SEV-SNP has no such register.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use casemate_canon::Sha384;

const FILE: &str = "rtmr3:sha384";

/// Why a register could not be extended or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// There is no such register: not a TDX guest, or a kernel older than 6.16.
    #[error("no runtime register {path}; a TDX guest with Linux 6.16 or later has one")]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// Only root may extend.
    #[error("permission denied for {path}; only root may use it")]
    Denied {
        /// The file.
        path: PathBuf,
    },
    /// The register is not 48 bytes long.
    #[error("{path} holds {found} bytes, expected 48")]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes read or taken.
        found: usize,
    },
    /// The kernel refused.
    #[error("{path}: {kind}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        kind: io::ErrorKind,
    },
}

/// The runtime measurement register that belongs to the box's software.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeRegister {
    path: PathBuf,
}

impl RuntimeRegister {
    /// The register in the directory `dir`.
    ///
    /// # Errors
    /// [`RegisterError::Absent`].
    pub fn at(dir: &Path) -> Result<Self, RegisterError> {
        let path = dir.join(FILE);
        match std::fs::metadata(&path) {
            Ok(found) if found.is_file() => Ok(Self { path }),
            Ok(_) => Err(RegisterError::Absent { path }),
            Err(error) => Err(Self { path }.error(&error)),
        }
    }

    /// Extends the register: it then holds SHA-384 of its old value and `digest`.
    ///
    /// # Errors
    /// [`RegisterError`]; the register may or may not have been extended only where the kernel itself failed.
    pub fn extend(&self, digest: &Sha384) -> Result<(), RegisterError> {
        let mut file = OpenOptions::new().write(true).open(&self.path).map_err(|error| self.error(&error))?;
        // One write: the kernel takes a digest whole or not at all.
        match file.write(&digest.0).map_err(|error| self.error(&error))? {
            Sha384::LEN => Ok(()),
            found => Err(RegisterError::Length { path: self.path.clone(), found }),
        }
    }

    /// The register's value.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub fn read(&self) -> Result<Sha384, RegisterError> {
        let file = OpenOptions::new().read(true).open(&self.path).map_err(|error| self.error(&error))?;
        let mut bytes = Vec::with_capacity(Sha384::LEN + 1);
        file.take(Sha384::LEN as u64 + 1).read_to_end(&mut bytes).map_err(|error| self.error(&error))?;
        let found = bytes.len();
        let value = bytes.try_into().map_err(|_| RegisterError::Length { path: self.path.clone(), found })?;
        Ok(Sha384(value))
    }

    fn error(&self, error: &io::Error) -> RegisterError {
        let path = self.path.clone();
        match error.kind() {
            io::ErrorKind::NotFound => RegisterError::Absent { path },
            io::ErrorKind::PermissionDenied => RegisterError::Denied { path },
            kind => RegisterError::Io { path, kind },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_that_a_directory_without_register_is_no_tdx_guest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(RuntimeRegister::at(dir.path()), Err(RegisterError::Absent { path }));
    }

    #[test]
    fn refuses_a_register_of_another_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        for length in [0, 47, 49] {
            std::fs::write(&path, vec![7; length]).unwrap();
            let register = RuntimeRegister::at(dir.path()).unwrap();
            assert_eq!(
                register.read(),
                Err(RegisterError::Length { path: path.clone(), found: length }),
                "{length}"
            );
        }
    }
}
