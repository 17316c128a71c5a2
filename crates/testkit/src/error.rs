//! What can go wrong while making or loading a development PKI.

use std::path::PathBuf;

use crate::Tee;

/// Why there is no development PKI, or no evidence from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A stored file is not what this crate writes.
    #[error("development PKI file {path} is not usable; remove the directory to make a new one")]
    Corrupt {
        /// The file.
        path: PathBuf,
    },
    /// The directory holds no PKI, or only part of one.
    #[error("no development PKI in {path}")]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The PKI is for the other kind of TEE.
    #[error("development PKI is for {found}, not for {expected}")]
    WrongTee {
        /// What was asked for.
        expected: Tee,
        /// What is there.
        found: Tee,
    },
    /// The certificates are not valid at the given time.
    #[error("development certificates are valid from {from} to {until}, not at {now} (unix seconds)")]
    CertificatesNotValid {
        /// First second.
        from: u64,
        /// Last second.
        until: u64,
        /// The time given.
        now: u64,
    },
    /// A time that X.509 or JSON cannot name.
    #[error("{seconds} seconds since 1970 is not a date between 1970 and 9999")]
    Time {
        /// The time given.
        seconds: u64,
    },
    /// The file system refused.
    #[error("{path}: {kind}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        kind: std::io::ErrorKind,
    },
    /// The cryptographic library refused.
    #[error("cryptographic library failed to {doing}")]
    Crypto {
        /// What it was asked to do.
        doing: &'static str,
    },
}

impl PkiError {
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, kind: error.kind() }
    }
}
