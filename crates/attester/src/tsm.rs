//! configfs-tsm: a directory in which a fresh entry yields one report.
//!
//! Implements the guest's side of Linux Documentation/ABI/testing/configfs-tsm-report: make an entry of our own, write
//! 64 bytes to `inblob`, read `outblob`, `auxblob` and `provider`, and compare `generation` before and after, so that
//! nobody's write came between. The entry is removed whatever happens.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Longest evidence taken in bytes. The kernel's own limit was 32 KiB for long; real quotes have 5 to 8 KiB.
pub const OUTBLOB_BYTES_MAX: usize = 64 * 1024;
/// Longest auxiliary data taken in bytes: an SNP certificate table has some 5 KiB.
pub const AUXBLOB_BYTES_MAX: usize = 256 * 1024;
/// Longest text attribute in bytes.
const TEXT_BYTES_MAX: usize = 4096;
/// A TDX quote has at least header, body and length; an SNP report has 1184 bytes exactly.
const TDX_OUTBLOB_BYTES_MIN: usize = 48 + 584 + 4;
const SNP_OUTBLOB_BYTES: usize = 1184;
/// How often a report is tried again that a signal interrupted.
const INTERRUPTED_TRIES_MAX: usize = 3;

/// Who made a report, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// `tdx_guest`: `outblob` is a TDX quote.
    TdxGuest,
    /// `sev_guest`: `outblob` is an SNP report, `auxblob` the certificate table.
    SevGuest,
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TdxGuest => "tdx_guest",
            Self::SevGuest => "sev_guest",
        })
    }
}

/// One report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Who made it.
    pub provider: Provider,
    /// Quote or report.
    pub outblob: Vec<u8>,
    /// Certificate table; empty where the provider has none.
    pub auxblob: Vec<u8>,
}

/// Why there is no report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TsmError {
    /// The provider is neither TDX nor SEV-SNP.
    #[error("provider is `{found}`; this program knows tdx_guest and sev_guest")]
    UnknownProvider {
        /// What `provider` says, cut to 64 characters.
        found: String,
    },
    /// Evidence shorter than any of its kind.
    #[error(
        "outblob of {provider} has {found} bytes, expected at least {min}; the platform's quoting service may be broken"
    )]
    Short {
        /// Who made it.
        provider: Provider,
        /// Its length.
        found: usize,
        /// The shortest possible.
        min: usize,
    },
    /// An attribute longer than it can honestly be.
    #[error("{attribute} has more than {max} bytes")]
    Long {
        /// Which.
        attribute: &'static str,
        /// Its limit.
        max: usize,
    },
    /// `generation` is not a number.
    #[error("generation is `{found}`, expected a number")]
    Generation {
        /// What it says, cut to 64 characters.
        found: String,
    },
    /// Somebody else wrote to our entry.
    #[error("generation went from {before} to {after}, expected one step; another program wrote to {entry}")]
    Interference {
        /// The entry.
        entry: PathBuf,
        /// Generation before our write.
        before: u64,
        /// Generation after our reads.
        after: u64,
    },
    /// There is no configfs-tsm.
    #[error(
        "no configfs-tsm at {path}; this is not a confidential VM, or configfs is not mounted, or the guest driver is missing"
    )]
    Absent {
        /// The directory.
        path: PathBuf,
    },
    /// Only root may ask.
    #[error("permission denied for {path}; only root may ask for evidence")]
    Denied {
        /// The file or directory.
        path: PathBuf,
    },
    /// The platform is busy: it throttles reports, or another one is under way.
    #[error("{path} is busy; the host throttles reports, try again in a few seconds")]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("{path}: {errno}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
}

/// A configfs-tsm report directory, on hardware `/sys/kernel/config/tsm/report`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tsm {
    path: PathBuf,
}

impl Tsm {
    /// The directory `path`.
    ///
    /// # Errors
    /// [`TsmError::Absent`] where it is not a directory.
    pub fn at(path: &Path) -> Result<Self, TsmError> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Ok(Self { path: path.to_owned() }),
            Ok(_) => Err(TsmError::Absent { path: path.to_owned() }),
            Err(error) => Err(classify(path, &error)),
        }
    }

    /// The provider, learnt from an entry without asking for a report.
    ///
    /// # Errors
    /// [`TsmError`].
    pub fn provider(&self) -> Result<Provider, TsmError> {
        Entry::create(&self.path)?.provider()
    }

    /// A report over `report_data`.
    ///
    /// # Errors
    /// [`TsmError`]; no entry is left behind in any case in which the kernel lets it be removed.
    pub fn report(&self, report_data: &[u8; 64]) -> Result<Report, TsmError> {
        let entry = Entry::create(&self.path)?;
        let provider = entry.provider()?;
        let before = entry.generation()?;
        entry.write_inblob(report_data)?;
        let outblob = entry.read_outblob()?;
        let auxblob = entry.read_auxblob()?;
        let after = entry.generation()?;
        if before.checked_add(1) != Some(after) {
            return Err(TsmError::Interference { entry: entry.path.clone(), before, after });
        }
        let min = match provider {
            Provider::TdxGuest => TDX_OUTBLOB_BYTES_MIN,
            Provider::SevGuest => SNP_OUTBLOB_BYTES,
        };
        if outblob.len() < min {
            return Err(TsmError::Short { provider, found: outblob.len(), min });
        }
        Ok(Report { provider, outblob, auxblob })
    }
}

/// An entry of our own, removed when dropped.
struct Entry {
    path: PathBuf,
}

impl Entry {
    fn create(dir: &Path) -> Result<Self, TsmError> {
        let mut random = [0; 16];
        // Never blocks and never comes back short for 16 bytes once the kernel's generator is seeded.
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| TsmError::Io { path: dir.to_owned(), errno })?;
        let path = dir.join(format!("casemate-{}", hex::encode(random)));
        // Fails where the name exists: an entry that somebody else made is never used.
        fs::create_dir(&path).map_err(|error| match classify(&path, &error) {
            TsmError::Absent { .. } => TsmError::Absent { path: dir.to_owned() },
            other => other,
        })?;
        Ok(Self { path })
    }

    fn provider(&self) -> Result<Provider, TsmError> {
        match self.read_text("provider")?.as_str() {
            "tdx_guest" => Ok(Provider::TdxGuest),
            "sev_guest" => Ok(Provider::SevGuest),
            found => Err(TsmError::UnknownProvider { found: cut(found) }),
        }
    }

    fn generation(&self) -> Result<u64, TsmError> {
        let text = self.read_text("generation")?;
        text.parse().map_err(|_| TsmError::Generation { found: cut(&text) })
    }

    fn write_inblob(&self, report_data: &[u8; 64]) -> Result<(), TsmError> {
        let path = self.path.join("inblob");
        let mut file = OpenOptions::new().write(true).open(&path).map_err(|error| classify(&path, &error))?;
        // The kernel takes the value over when the file is closed, which is before this returns.
        match file.write(report_data).map_err(|error| classify(&path, &error))? {
            64 => Ok(()),
            _ => Err(TsmError::Io { path, errno: Errno::IO }),
        }
    }

    fn read_outblob(&self) -> Result<Vec<u8>, TsmError> {
        for _ in 1..INTERRUPTED_TRIES_MAX {
            match self.read("outblob", OUTBLOB_BYTES_MAX) {
                Err(TsmError::Io { errno: Errno::INTR, .. }) => {}
                other => return other,
            }
        }
        self.read("outblob", OUTBLOB_BYTES_MAX)
    }

    /// TDX guests have no such attribute at all; others may have an empty one.
    fn read_auxblob(&self) -> Result<Vec<u8>, TsmError> {
        match self.read("auxblob", AUXBLOB_BYTES_MAX) {
            Err(TsmError::Absent { .. }) => Ok(vec![]),
            other => other,
        }
    }

    fn read_text(&self, attribute: &'static str) -> Result<String, TsmError> {
        let bytes = self.read(attribute, TEXT_BYTES_MAX)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
    }

    fn read(&self, attribute: &'static str, max: usize) -> Result<Vec<u8>, TsmError> {
        let path = self.path.join(attribute);
        let failed = |error: io::Error| classify(&path, &error);
        let file = OpenOptions::new().read(true).open(&path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > max {
            return Err(TsmError::Long { attribute, max });
        }
        Ok(bytes)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the entry holds no secret.
        let _ = fs::remove_dir(&self.path);
    }
}

fn classify(path: &Path, error: &io::Error) -> TsmError {
    let path = path.to_owned();
    match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NXIO | Errno::NODEV | Errno::NOTDIR) => TsmError::Absent { path },
        Some(Errno::ACCESS | Errno::PERM) => TsmError::Denied { path },
        // EWOULDBLOCK is the same number.
        Some(Errno::BUSY | Errno::AGAIN) => TsmError::Busy { path },
        errno => TsmError::Io { path, errno: errno.unwrap_or(Errno::IO) },
    }
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_that_a_machine_without_configfs_tsm_is_no_confidential_vm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report");
        assert_eq!(Tsm::at(&path), Err(TsmError::Absent { path: path.clone() }));
        fs::write(&path, b"").unwrap();
        assert_eq!(Tsm::at(&path), Err(TsmError::Absent { path }));
    }

    #[test]
    fn leaves_no_entry_behind_in_a_directory_that_is_no_configfs() {
        // An ordinary directory: the entry is made, has no attribute, and is removed again.
        let dir = tempfile::tempdir().unwrap();
        let refused = Tsm::at(dir.path()).unwrap().report(&[0; 64]);
        assert!(matches!(refused, Err(TsmError::Absent { .. })), "{refused:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn tells_absent_denied_busy_and_broken_apart() {
        let path = Path::new("outblob");
        let classified = |errno: Errno| classify(path, &errno.into());
        let path = path.to_owned();
        for errno in [Errno::NOENT, Errno::NXIO, Errno::NODEV, Errno::NOTDIR] {
            assert_eq!(classified(errno), TsmError::Absent { path: path.clone() });
        }
        for errno in [Errno::ACCESS, Errno::PERM] {
            assert_eq!(classified(errno), TsmError::Denied { path: path.clone() });
        }
        for errno in [Errno::BUSY, Errno::AGAIN, Errno::WOULDBLOCK] {
            assert_eq!(classified(errno), TsmError::Busy { path: path.clone() });
        }
        for errno in [Errno::INVAL, Errno::INTR, Errno::IO] {
            assert_eq!(classified(errno), TsmError::Io { path: path.clone(), errno });
        }
    }
}
