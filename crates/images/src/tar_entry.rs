//! Tar entries as views over untrusted bytes (POSIX.1-2017 pax interchange format, ustar, and the
//! GNU long name entries). Refuses what two readers could understand differently.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use tar::{EntryType, Header};

use crate::error::{EntryProblem, ImageError};
use crate::limits::Limits;

const BLOCK_BYTES: usize = 512;
/// Longest component of a path on Linux (NAME_MAX).
const COMPONENT_BYTES_MAX: usize = 255;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Directory,
    File,
    Symlink { target: PathBuf },
    HardLink { target: PathBuf },
}

/// One entry. Its path is relative, without `.` and `..`; empty for the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TarEntry {
    pub(crate) path: PathBuf,
    pub(crate) kind: EntryKind,
    /// Permission bits, with set-id and sticky bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
    pub(crate) size: u64,
}

/// Reads entries one after the other.
pub(crate) struct TarReader<'a, R> {
    reader: R,
    limits: &'a Limits,
    /// Content of the current entry not yet read, and its padding.
    content_left: u64,
    padding: u64,
    entries: u64,
}

#[derive(Default, PartialEq, Eq)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<i64>,
}

impl<'a, R: Read> TarReader<'a, R> {
    pub(crate) fn new(reader: R, limits: &'a Limits, entries_before: u64) -> Self {
        Self { reader, limits, content_left: 0, padding: 0, entries: entries_before }
    }

    /// Entries read so far, with those of the layers before.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// The next entry, or none at the end marker.
    pub(crate) fn next_entry(&mut self) -> Result<Option<TarEntry>, ImageError> {
        let mut extensions = Extensions::default();
        let mut extended = false;
        loop {
            self.skip_content()?;
            let Some(header) = self.next_header()? else {
                return if extended { Err(malformed("it ends after an extended header")) } else { Ok(None) };
            };
            self.entries = self.entries.saturating_add(1);
            if self.entries > self.limits.entries_max {
                return Err(ImageError::Limit { what: "entries", limit: self.limits.entries_max });
            }
            let name = path_of(&header.path_bytes());
            let size = header.entry_size().map_err(|_| ImageError::entry(&name, EntryProblem::Header))?;
            self.content_left = size;
            self.padding = size.wrapping_neg() % BLOCK_BYTES as u64;
            match header.entry_type() {
                EntryType::GNULongName => extensions.path = Some(self.read_long(&name)?),
                EntryType::GNULongLink => extensions.link = Some(self.read_long(&name)?),
                EntryType::XHeader => {
                    let records = self.read_extension(&name)?;
                    read_pax(&records, &mut extensions)
                        .ok_or_else(|| ImageError::entry(&name, EntryProblem::Header))?;
                }
                EntryType::XGlobalHeader => {
                    // It may carry a comment; readers differ on what else in it means.
                    let mut global = Extensions::default();
                    let records = self.read_extension(&name)?;
                    read_pax(&records, &mut global)
                        .filter(|()| global == Extensions::default())
                        .ok_or_else(|| ImageError::entry(&name, EntryProblem::Header))?;
                    continue;
                }
                kind => return self.entry(&header, kind, size, extensions).map(Some),
            }
            extended = true;
        }
    }

    /// The content of the current entry.
    pub(crate) fn content(&mut self) -> Content<'_, R> {
        Content { reader: &mut self.reader, left: &mut self.content_left }
    }

    /// Has `pass` go to the end of the current entry, over so many bytes of the reader.
    pub(crate) fn pass_over<T>(&mut self, pass: impl FnOnce(&mut R, u64) -> T) -> T {
        let bytes = self.content_left.saturating_add(self.padding);
        (self.content_left, self.padding) = (0, 0);
        pass(&mut self.reader, bytes)
    }

    /// Reads to the end of the stream, so that whoever hashes it has seen all of it.
    pub(crate) fn finish(mut self) -> Result<R, ImageError> {
        io::copy(&mut self.reader, &mut io::sink()).map_err(from_read)?;
        Ok(self.reader)
    }

    fn skip_content(&mut self) -> Result<(), ImageError> {
        let bytes = self.content_left.saturating_add(self.padding);
        let skipped = io::copy(&mut self.reader.by_ref().take(bytes), &mut io::sink()).map_err(from_read)?;
        if skipped != bytes {
            return Err(malformed("it ends inside an entry"));
        }
        (self.content_left, self.padding) = (0, 0);
        Ok(())
    }

    fn next_header(&mut self) -> Result<Option<Header>, ImageError> {
        let mut header = Header::new_old();
        self.reader.read_exact(header.as_mut_bytes()).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => malformed("it ends without an end marker"),
            _ => from_read(error),
        })?;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum = header.as_bytes().iter().enumerate().fold(0_u32, |sum, (at, byte)| {
            sum.saturating_add(if (148..156).contains(&at) { u32::from(b' ') } else { u32::from(*byte) })
        });
        match header.cksum() {
            Ok(found) if found == sum => Ok(Some(header)),
            _ => Err(malformed("a header's checksum does not match")),
        }
    }

    fn read_extension(&mut self, name: &Path) -> Result<Vec<u8>, ImageError> {
        let limit_bytes = self.limits.extension_bytes_max;
        if self.content_left > limit_bytes {
            let found_bytes = self.content_left;
            return Err(ImageError::entry(name, EntryProblem::TooLarge { found_bytes, limit_bytes }));
        }
        let expected = self.content_left;
        let mut bytes = Vec::new();
        self.content().read_to_end(&mut bytes).map_err(from_read)?;
        if bytes.len() as u64 == expected { Ok(bytes) } else { Err(malformed("it ends inside an entry")) }
    }

    fn read_long(&mut self, name: &Path) -> Result<Vec<u8>, ImageError> {
        let mut bytes = self.read_extension(name)?;
        if bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(bytes)
    }

    fn entry(
        &self,
        header: &Header,
        kind: EntryType,
        size: u64,
        extensions: Extensions,
    ) -> Result<TarEntry, ImageError> {
        let raw_path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let shown = path_of(&raw_path);
        let refuse = |problem| ImageError::entry(&shown, problem);
        if extensions.size.is_some_and(|found| found != size) {
            return Err(refuse(EntryProblem::AmbiguousSize));
        }
        let link = extensions
            .link
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
            .unwrap_or_default();
        let kind = kind_of(kind, &raw_path, &link, self.limits).map_err(refuse)?;
        if kind != EntryKind::File && size != 0 {
            return Err(refuse(EntryProblem::Header));
        }
        if size > self.limits.file_bytes_max {
            let limit_bytes = self.limits.file_bytes_max;
            return Err(refuse(EntryProblem::TooLarge { found_bytes: size, limit_bytes }));
        }
        let id = |extended: Option<u64>, found: io::Result<u64>| {
            let found = extended.map_or(found, Ok).map_err(|_| refuse(EntryProblem::Header))?;
            let limit = self.limits.id_max;
            u32::try_from(found)
                .ok()
                .filter(|id| u64::from(*id) <= limit)
                .ok_or_else(|| refuse(EntryProblem::Id { found, limit }))
        };
        let mtime = match extensions.mtime {
            Some(mtime) => mtime,
            None => header
                .mtime()
                .ok()
                .and_then(|seconds| i64::try_from(seconds).ok())
                .ok_or_else(|| refuse(EntryProblem::Header))?,
        };
        Ok(TarEntry {
            path: clean_path(&raw_path, self.limits).map_err(refuse)?,
            kind,
            mode: header.mode().map_err(|_| refuse(EntryProblem::Header))? & 0o7777,
            uid: id(extensions.uid, header.uid())?,
            gid: id(extensions.gid, header.gid())?,
            mtime,
            size,
        })
    }
}

/// What an entry is, if it is something that an image may hold.
fn kind_of(kind: EntryType, path: &[u8], link: &[u8], limits: &Limits) -> Result<EntryKind, EntryProblem> {
    match kind {
        EntryType::Directory => Ok(EntryKind::Directory),
        EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Ok(EntryKind::Directory),
        EntryType::Regular | EntryType::Continuous => Ok(EntryKind::File),
        EntryType::Symlink => {
            if link.is_empty() || link.len() > limits.path_bytes_max || link.contains(&0) {
                return Err(EntryProblem::LinkTarget);
            }
            Ok(EntryKind::Symlink { target: path_of(link) })
        }
        EntryType::Link => match clean_path(link, limits) {
            Ok(target) => Ok(EntryKind::HardLink { target }),
            Err(_) => Err(EntryProblem::HardLinkTarget { target: crate::error::printable(&path_of(link)) }),
        },
        EntryType::Char => Err(EntryProblem::SpecialFile { kind: "character device" }),
        EntryType::Block => Err(EntryProblem::SpecialFile { kind: "block device" }),
        EntryType::Fifo => Err(EntryProblem::SpecialFile { kind: "fifo" }),
        other => Err(EntryProblem::UnknownType { found: other.as_byte() }),
    }
}

/// The content of one entry; ends where the entry ends.
pub(crate) struct Content<'a, R> {
    reader: &'a mut R,
    left: &'a mut u64,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(*self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = match buffer.get_mut(..wanted) {
            Some(part) if wanted > 0 => self.reader.read(part)?,
            _ => 0,
        };
        *self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }
}

/// What a failed read means: a limit that a reader below found, or a malformed stream.
pub(crate) fn from_read(error: io::Error) -> ImageError {
    let problem = error.to_string();
    match error.downcast::<ImageError>() {
        Ok(image_error) => image_error,
        Err(_) => ImageError::Malformed { what: "layer", problem },
    }
}

fn malformed(problem: &str) -> ImageError {
    ImageError::Malformed { what: "tar", problem: problem.to_owned() }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// A relative path without `.` and `..`, within the limits.
fn clean_path(raw: &[u8], limits: &Limits) -> Result<PathBuf, EntryProblem> {
    if raw.len() > limits.path_bytes_max || raw.contains(&0) {
        return Err(EntryProblem::PathLength);
    }
    let mut out = PathBuf::new();
    let mut components = 0_usize;
    for component in Path::new(OsStr::from_bytes(raw)).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => {
                components = components.saturating_add(1);
                if name.len() > COMPONENT_BYTES_MAX || components > limits.path_components_max {
                    return Err(EntryProblem::PathLength);
                }
                out.push(name);
            }
            Component::ParentDir => return Err(EntryProblem::ClimbingPath),
            Component::RootDir | Component::Prefix(_) => return Err(EntryProblem::AbsolutePath),
        }
    }
    Ok(out)
}

/// Reads pax records, each `<length> <key>=<value>\n`. Unknown keys are passed over.
fn read_pax(mut bytes: &[u8], extensions: &mut Extensions) -> Option<()> {
    while !bytes.is_empty() {
        let space = bytes.iter().take(12).position(|b| *b == b' ')?;
        let length: usize = std::str::from_utf8(bytes.get(..space)?).ok()?.parse().ok()?;
        let record = bytes.get(space.checked_add(1)?..length)?;
        bytes = bytes.get(length..)?;
        let record = record.strip_suffix(b"\n")?;
        let equals = record.iter().position(|b| *b == b'=')?;
        let (key, value) = (record.get(..equals)?, record.get(equals.checked_add(1)?..)?);
        let number = || std::str::from_utf8(value).ok()?.parse::<u64>().ok();
        match key {
            b"path" => extensions.path = Some(value.to_vec()),
            b"linkpath" => extensions.link = Some(value.to_vec()),
            b"size" => extensions.size = Some(number()?),
            b"uid" => extensions.uid = Some(number()?),
            b"gid" => extensions.gid = Some(number()?),
            b"mtime" => {
                let text = std::str::from_utf8(value).ok()?;
                let seconds = text.split('.').next()?;
                extensions.mtime = Some(seconds.parse::<i64>().ok()?.max(0));
            }
            _ if key.starts_with(b"GNU.sparse.") => return None,
            _ => {}
        }
    }
    Some(())
}
