//! Named files of an input: those of a directory, or those in a tar.
//!
//! A tar is indexed once and its files are then read where they are, so a layer is never held in
//! memory and the order of files does not matter. Names are looked up, never joined to a path of ours.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::ImageError;
use crate::limits::Limits;
use crate::tar_entry::{EntryKind, TarReader};

/// Links from file to file that are followed, as `docker save` makes them for repeated layers.
const LINKS_MAX: usize = 4;

/// Files by name.
#[derive(Debug)]
pub(crate) enum Files {
    Directory { root: File, path: PathBuf },
    Tar(Tar),
}

/// One open file.
pub(crate) struct OpenFile {
    pub(crate) reader: Box<dyn Read>,
    pub(crate) bytes: u64,
}

impl Files {
    pub(crate) fn directory(path: &Path) -> Result<Self, ImageError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|error| ImageError::errno("open", path, error))?;
        Ok(Self::Directory { root: root.into(), path: path.to_owned() })
    }

    /// Opens the file `name`; none if there is none.
    pub(crate) fn open(&self, name: &str) -> Result<Option<OpenFile>, ImageError> {
        match self {
            Self::Tar(tar) => tar.open(Path::new(name)),
            Self::Directory { root, path } => {
                let failed = |error: io::Error| ImageError::io("read", &path.join(name), &error);
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                let file = match rustix::fs::openat2(root, name, flags, Mode::empty(), resolve) {
                    Ok(file) => File::from(file),
                    Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                    Err(error) => return Err(failed(error.into())),
                };
                let metadata = file.metadata().map_err(failed)?;
                if !metadata.is_file() {
                    return Err(failed(io::Error::other("it is not a file")));
                }
                Ok(Some(OpenFile { reader: Box::new(file), bytes: metadata.len() }))
            }
        }
    }

    /// The content of the file `name`, of at most `bytes_max`.
    pub(crate) fn read(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, ImageError> {
        let Some(file) = self.open(name)? else { return Ok(None) };
        if file.bytes > bytes_max {
            return Err(ImageError::Limit { what: "bytes of a document", limit: bytes_max });
        }
        let mut bytes = Vec::new();
        file.reader
            .take(bytes_max)
            .read_to_end(&mut bytes)
            .map_err(|error| ImageError::io("read", Path::new(name), &error))?;
        Ok(Some(bytes))
    }

    /// Whether there is something of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        matches!(self.open(name), Ok(Some(_)))
    }
}

/// A tar whose entries are known by name.
#[derive(Debug)]
pub(crate) struct Tar {
    file: File,
    places: BTreeMap<PathBuf, Place>,
}

#[derive(Debug)]
enum Place {
    File {
        offset: u64,
        bytes: u64,
    },
    Link(PathBuf),
    /// Two entries have the name: readers would differ on which counts.
    Twice,
}

impl Tar {
    /// Reads all headers of a plain tar. Only names that layouts and archives use are kept, so a tar
    /// of anything else costs no memory.
    pub(crate) fn index(file: File, limits: &Limits) -> Result<Self, ImageError> {
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        // The owners of files in an archive mean nothing; its files may be layers.
        let limits =
            Limits { id_max: u64::from(u32::MAX), file_bytes_max: limits.layer_bytes_max, ..*limits };
        let mut reader = TarReader::new(At { file: &file, offset: 0 }, &limits, 0);
        let mut places = BTreeMap::new();
        while let Some(entry) = reader.next_entry()? {
            let offset = reader.pass_over(|at, bytes| {
                let offset = at.offset;
                at.offset = at.offset.saturating_add(bytes);
                offset
            });
            if offset.saturating_add(entry.size) > bytes {
                let problem = "it ends inside an entry".to_owned();
                return Err(ImageError::Malformed { what: "tar", problem });
            }
            if !may_be_part_of_an_image(&entry.path) {
                continue;
            }
            let place = match entry.kind {
                EntryKind::File => Place::File { offset, bytes: entry.size },
                EntryKind::Symlink { target } => match beside(&entry.path, &target) {
                    Some(target) => Place::Link(target),
                    None => continue,
                },
                EntryKind::HardLink { target } => Place::Link(target),
                EntryKind::Directory => continue,
            };
            if places.len() >= limits.archive_names_max {
                return Err(ImageError::Limit {
                    what: "files in an archive",
                    limit: limits.archive_names_max as u64,
                });
            }
            places.entry(entry.path).and_modify(|place| *place = Place::Twice).or_insert(place);
        }
        Ok(Self { file, places })
    }

    /// The tar itself, at its start.
    pub(crate) fn into_file(self) -> File {
        self.file
    }

    fn open(&self, name: &Path) -> Result<Option<OpenFile>, ImageError> {
        let mut name = name;
        for _ in 0..=LINKS_MAX {
            match self.places.get(name) {
                None => return Ok(None),
                Some(Place::Link(target)) => name = target,
                Some(Place::File { offset, bytes }) => {
                    let file = self.file.try_clone().map_err(|error| ImageError::io("open", name, &error))?;
                    let reader = Box::new(Part { file, offset: *offset, left: *bytes });
                    return Ok(Some(OpenFile { reader, bytes: *bytes }));
                }
                Some(Place::Twice) => {
                    let problem = format!("two entries are called `{}`", crate::error::printable(name));
                    return Err(ImageError::Malformed { what: "archive", problem });
                }
            }
        }
        let problem = format!("links lead in circles at `{}`", crate::error::printable(name));
        Err(ImageError::Malformed { what: "archive", problem })
    }
}

/// `oci-layout`, `index.json`, `manifest.json`, `<digest>.json`, `<digest>.tar`, `<id>/layer.tar`,
/// `blobs/sha256/<digest>`.
fn may_be_part_of_an_image(path: &Path) -> bool {
    let mut components = path.components();
    let (first, second) = (components.next(), components.next());
    match (first, second, components.next()) {
        (Some(name), None, None) => {
            let name = Path::new(&name);
            name == Path::new("oci-layout") || name.extension().is_some_and(|e| e == "json" || e == "tar")
        }
        (Some(_), Some(name), None) => name.as_os_str() == "layer.tar",
        (Some(blobs), Some(_), Some(_)) => blobs.as_os_str() == "blobs" && components.next().is_none(),
        _ => false,
    }
}

/// What a relative link beside `path` leads to, by its text alone.
fn beside(path: &Path, target: &Path) -> Option<PathBuf> {
    let mut out = path.parent()?.to_owned();
    for component in target.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => out.push(name),
            Component::ParentDir if out.pop() => {}
            _ => return None,
        }
    }
    Some(out)
}

/// Reads a file from a place, without its cursor.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.offset)?;
        self.offset = self.offset.saturating_add(n as u64);
        Ok(n)
    }
}

/// A part of a file.
struct Part {
    file: File,
    offset: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.offset)?;
        self.offset = self.offset.saturating_add(n as u64);
        self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }
}
