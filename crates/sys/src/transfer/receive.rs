//! The receiver: from items to files and folders, below one place and nowhere else.

use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, fchmod, fstat, ftruncate, mkdirat, openat, statat};
use rustix::io::Errno;

use super::{Copied, Item, SKIPPED_MAX, TransferError};

/// How much is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Content in bytes.
    pub bytes: u64,
    /// Files and folders.
    pub entries: u64,
}

/// Makes files and folders of the items: below `target` where that is a folder, else as `target` itself.
///
/// # Errors
/// [`TransferError`]; what was made until then stays.
pub fn receive(from: &mut impl Read, target: &str, limits: Limits) -> Result<Copied, TransferError> {
    let mut place = Place::of(target)?;
    let mut copied = Copied::default();
    // The file that content goes to.
    let mut open: Option<(String, File)> = None;
    loop {
        match Item::read(from)? {
            Item::Folder { path, mode } => {
                open = None;
                count(&mut copied.folders, copied.files, limits)?;
                place.folder(&path, mode)?;
            }
            Item::File { path, mode } => {
                count(&mut copied.files, copied.folders, limits)?;
                open = Some((path.clone(), place.file(&path, mode)?));
            }
            Item::Data(bytes) => {
                let (path, file) = open.as_mut().ok_or(TransferError::OutOfTurn)?;
                copied.bytes = copied.bytes.saturating_add(bytes.len() as u64);
                if copied.bytes > limits.bytes {
                    return Err(TransferError::TooMuch { what: "bytes", limit: limits.bytes });
                }
                file.write_all(&bytes).map_err(|error| {
                    let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                    TransferError::File { path: path.clone(), errno }
                })?;
            }
            Item::Skipped { path, reason } => {
                if copied.skipped.len() < SKIPPED_MAX {
                    copied.skipped.push((path, reason));
                }
            }
            Item::Failed { reason } => return Err(TransferError::Other { reason }),
            Item::End => return Ok(copied),
        }
    }
}

fn count(these: &mut u64, others: u64, limits: Limits) -> Result<(), TransferError> {
    *these = these.saturating_add(1);
    if these.saturating_add(others) > limits.entries {
        return Err(TransferError::TooMuch { what: "files and folders", limit: limits.entries });
    }
    Ok(())
}

/// Where things are made.
struct Place {
    folder: OwnedFd,
    /// What stands for the first component; none keeps it.
    rename: Option<String>,
    /// The first component of all paths, once there was one.
    first: Option<String>,
}

impl Place {
    fn of(target: &str) -> Result<Self, TransferError> {
        let failed = |errno| TransferError::File { path: target.to_owned(), errno };
        let is_folder = statat(CWD, target, rustix::fs::AtFlags::empty())
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        let (folder, rename) = if is_folder {
            (target, None)
        } else {
            let plain = target.trim_end_matches('/');
            let (folder, name) = match plain.rsplit_once('/') {
                Some(("", name)) => ("/", name),
                Some((folder, name)) => (folder, name),
                None => (".", plain),
            };
            if matches!(name, "" | "." | "..") {
                return Err(failed(Errno::NOENT));
            }
            (folder, Some(name.to_owned()))
        };
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let folder = openat(CWD, folder, flags, Mode::empty()).map_err(failed)?;
        Ok(Self { folder, rename, first: None })
    }

    /// The path below [`Place::folder`] that an item's path stands for.
    fn path(&mut self, path: &str) -> Result<String, TransferError> {
        let elsewhere = || TransferError::Path { path: path.to_owned() };
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        if !path.split('/').all(plain) {
            return Err(elsewhere());
        }
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        match &self.first {
            None => self.first = Some(first.to_owned()),
            Some(known) if known != first => return Err(elsewhere()),
            Some(_) => {}
        }
        let first = self.rename.as_deref().unwrap_or(first);
        Ok(if rest.is_empty() { first.to_owned() } else { format!("{first}/{rest}") })
    }

    fn folder(&mut self, path: &str, mode: u32) -> Result<(), TransferError> {
        let place = self.path(path)?;
        let failed = |errno| TransferError::File { path: place.clone(), errno };
        let (above, name) = place.rsplit_once('/').unwrap_or((".", &place));
        let above = self.open(above, OFlags::DIRECTORY | OFlags::PATH, 0).map_err(failed)?;
        // Whoever sends into it must be able to: the owner may always.
        match mkdirat(&above, name, Mode::from_raw_mode(mode & 0o777 | 0o700)) {
            Ok(()) => Ok(()),
            // A folder that is there is gone on with, and nothing else.
            Err(Errno::EXIST) => {
                self.open(&place, OFlags::DIRECTORY | OFlags::PATH, 0).map(drop).map_err(failed)
            }
            Err(errno) => Err(failed(errno)),
        }
    }

    fn file(&mut self, path: &str, mode: u32) -> Result<File, TransferError> {
        let place = self.path(path)?;
        let failed = |errno| TransferError::File { path: place.clone(), errno };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = self.open(&place, flags, mode & 0o777).map_err(failed)?;
        let stat = fstat(&file).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(failed(Errno::EXIST));
        }
        // A file of somebody else may be written and keep its mode.
        let _ = fchmod(&file, Mode::from_raw_mode(mode & 0o777));
        ftruncate(file.as_fd(), 0).map_err(failed)?;
        Ok(File::from(file))
    }

    /// Opens what lies at `path`, part by part, so that no symbolic link is followed on the way: the filter of compartments
    /// leaves out `openat2`, which could be told the same at once.
    fn open(&self, path: &str, flags: OFlags, mode: u32) -> Result<OwnedFd, Errno> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder_flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut folder = openat(&self.folder, ".", folder_flags, Mode::empty())?;
        for part in above.split('/').filter(|part| !part.is_empty()) {
            folder = openat(&folder, part, folder_flags, Mode::empty())?;
        }
        openat(&folder, name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::from_raw_mode(mode))
    }
}
