//! A directory tree that is filled from untrusted names: every step stays beneath its root.
//!
//! Each path is resolved by `openat2` with `RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS` and
//! `RESOLVE_NO_XDEV`; the last component is then used without following it. So no name and no link
//! in an image reaches a file outside, whatever the order of entries.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::error::{EntryProblem, ImageError};

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Owner, mode and time of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: i64,
}

/// The tree.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    directories_made: Cell<u64>,
}

impl Tree {
    pub(crate) fn open(path: &Path) -> Result<Self, ImageError> {
        let root = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())
            .map_err(|error| ImageError::errno("open", path, error))?;
        Ok(Self { root, directories_made: Cell::new(0) })
    }

    /// Opens the directory at `path`; empty is the root.
    pub(crate) fn directory(&self, path: &Path) -> Result<OwnedFd, ImageError> {
        let at = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        rustix::fs::openat2(&self.root, at, DIRECTORY, Mode::empty(), RESOLVE)
            .map_err(|error| refused_or_io(path, "open", error))
    }

    /// Opens the directory at `path`, making what is missing (0755, root's, time 0).
    pub(crate) fn make_directories(&self, path: &Path) -> Result<OwnedFd, ImageError> {
        match self.directory(path) {
            Err(ImageError::Io { kind: std::io::ErrorKind::NotFound, .. }) => {}
            other => return other,
        }
        let mut so_far = PathBuf::new();
        let mut at = self.directory(&so_far)?;
        for component in path.components() {
            so_far.push(component);
            match rustix::fs::mkdirat(&at, component.as_os_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) => self.directories_made.set(self.directories_made.get().saturating_add(1)),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(refused_or_io(&so_far, "make", error)),
            }
            at = self.directory(&so_far)?;
        }
        Ok(at)
    }

    /// How many directories were made.
    pub(crate) fn directories_made(&self) -> u64 {
        self.directories_made.get()
    }

    /// What is at `path`, without following it.
    pub(crate) fn file_type(&self, path: &Path) -> Result<Option<FileType>, ImageError> {
        let (parent, name) = split(path);
        if name.is_empty() {
            return Ok(Some(FileType::Directory));
        }
        match self.directory(parent) {
            Ok(parent) => type_at(&parent, name, path),
            Err(ImageError::Io { kind: std::io::ErrorKind::NotFound, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The content of a file of at most `bytes_max`, as a process with this root would find it; none
    /// if there is no such file.
    pub(crate) fn read_inside(&self, path: &Path, bytes_max: u64) -> Option<Vec<u8>> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve).map(File::from).ok()?;
        let metadata = file.metadata().ok().filter(|found| found.is_file() && found.len() <= bytes_max)?;
        let mut bytes = Vec::new();
        file.take(metadata.len()).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Makes a new empty file, its parents too, and returns it open for writing.
    pub(crate) fn create_file(&self, path: &Path) -> Result<File, ImageError> {
        let (parent, name) = split(path);
        let parent = self.make_directories(parent)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600))
            .map(File::from)
            .map_err(|error| refused_or_io(path, "make", error))
    }

    pub(crate) fn create_symlink(&self, path: &Path, target: &Path) -> Result<(), ImageError> {
        let (parent, name) = split(path);
        let parent = self.make_directories(parent)?;
        rustix::fs::symlinkat(target, &parent, name).map_err(|error| refused_or_io(path, "make", error))
    }

    /// Makes `path` a second name of the file at `target`.
    pub(crate) fn create_hard_link(&self, path: &Path, target: &Path) -> Result<(), ImageError> {
        let refuse = || {
            let target = crate::error::printable(target);
            ImageError::entry(path, EntryProblem::HardLinkTarget { target })
        };
        let found = self.file_type(target).map_err(|error| match error {
            ImageError::Entry { .. } => refuse(),
            other => other,
        })?;
        if !matches!(found, Some(FileType::RegularFile | FileType::Symlink)) {
            return Err(refuse());
        }
        let (target_parent, target_name) = split(target);
        let target_parent = self.directory(target_parent)?;
        let (parent, name) = split(path);
        let parent = self.make_directories(parent)?;
        rustix::fs::linkat(&target_parent, target_name, &parent, name, AtFlags::empty())
            .map_err(|error| refused_or_io(path, "link", error))
    }

    /// Sets owner, then mode (a change of owner clears set-id bits), then time.
    pub(crate) fn set_metadata(&self, path: &Path, metadata: &Metadata) -> Result<(), ImageError> {
        let (parent, name) = split(path);
        let (parent, name) = if name.is_empty() {
            (self.directory(parent)?, OsStr::new("."))
        } else {
            (self.directory(parent)?, name)
        };
        let failed = |error| refused_or_io(path, "set the metadata of", error);
        let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
        rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed)?;
        if type_at(&parent, name, path)? != Some(FileType::Symlink) {
            let mode = Mode::from_raw_mode(metadata.mode);
            rustix::fs::chmodat(&parent, name, mode, AtFlags::empty()).map_err(failed)?;
        }
        set_time(&parent, name, metadata.mtime).map_err(failed)
    }

    /// Sets the time of the directory at `path`, if it is still one.
    pub(crate) fn set_directory_time(&self, path: &Path, mtime: i64) -> Result<(), ImageError> {
        let Ok(directory) = self.directory(path) else { return Ok(()) };
        set_time(&directory, OsStr::new("."), mtime)
            .map_err(|error| refused_or_io(path, "set the time of", error))
    }

    /// Removes what is at `path`, with all below it, except paths for which `keep` says so and the
    /// directories that lead to them. Returns whether it is gone.
    pub(crate) fn remove(&self, path: &Path, keep: &dyn Fn(&Path) -> bool) -> Result<bool, ImageError> {
        let (parent, name) = split(path);
        let failed = |error| refused_or_io(path, "remove", error);
        let gone = match self.file_type(path)? {
            None => return Ok(true),
            Some(FileType::Directory) => {
                let empty = self.remove_children(path, keep)?;
                if !empty || keep(path) {
                    return Ok(false);
                }
                rustix::fs::unlinkat(self.directory(parent)?, name, AtFlags::REMOVEDIR)
            }
            Some(_) if keep(path) => return Ok(false),
            Some(_) => rustix::fs::unlinkat(self.directory(parent)?, name, AtFlags::empty()),
        };
        gone.map(|()| true).map_err(failed)
    }

    /// The same for all that is in the directory at `path`. Returns whether it is empty.
    pub(crate) fn remove_children(
        &self,
        path: &Path,
        keep: &dyn Fn(&Path) -> bool,
    ) -> Result<bool, ImageError> {
        let mut empty = true;
        for name in self.children(path)? {
            empty &= self.remove(&path.join(name), keep)?;
        }
        Ok(empty)
    }

    /// Names in the directory at `path`, in the order of their bytes.
    pub(crate) fn children(&self, path: &Path) -> Result<Vec<std::ffi::OsString>, ImageError> {
        use std::os::unix::ffi::OsStrExt as _;
        let failed = |error| refused_or_io(path, "list", error);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(self.directory(path)?).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }
}

/// Parent and last component; the root has an empty last component.
pub(crate) fn split(path: &Path) -> (&Path, &OsStr) {
    (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default())
}

fn type_at(parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<Option<FileType>, ImageError> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(refused_or_io(path, "look at", error)),
    }
}

fn set_time(parent: &OwnedFd, name: &OsStr, mtime: i64) -> rustix::io::Result<()> {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

/// A path that leads where it must not is the entry's fault, anything else the system's.
fn refused_or_io(path: &Path, what: &'static str, error: Errno) -> ImageError {
    match error {
        Errno::LOOP | Errno::XDEV => ImageError::entry(path, EntryProblem::ThroughSymlink),
        Errno::NOTDIR => ImageError::entry(path, EntryProblem::ThroughFile),
        Errno::NAMETOOLONG => ImageError::entry(path, EntryProblem::PathLength),
        other => ImageError::errno(what, path, other),
    }
}
