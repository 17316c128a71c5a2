//! Layers become files (OCI image specification 1.1, "Image Layer Filesystem Changeset").
//!
//! Set-id bits are kept, because they are content; the compartment mounts with `nosuid` and runs
//! with `no_new_privs`, so they have no effect. Extended attributes are dropped. Devices and fifos
//! are refused. What an earlier layer put is replaced, never written through.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use casemate_canon::Sha256;
use casemate_protocol::Refusal;
use rustix::fs::FileType;

use crate::compression::Compression;
use crate::error::{EntryProblem, ImageError};
use crate::hash::{CHUNK_BYTES, Hashing};
use crate::limits::Limits;
use crate::progress::Meter;
use crate::tar_entry::{EntryKind, TarEntry, TarReader, from_read};
use crate::tree::{Metadata, Tree, split};

/// What follows `.wh.` in the name that hides all else in its directory.
const OPAQUE: &str = ".wh..opq";

/// One layer, as it should be.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) file: File,
    pub(crate) compression: Compression,
    /// Digest of the bytes as stored.
    pub(crate) digest: Sha256,
    /// Digest of the bytes after decompression.
    pub(crate) diff_id: Sha256,
}

/// Unpacks layers one above the other.
pub(crate) struct Unpacker<'a> {
    tree: Tree,
    limits: &'a Limits,
    entries: u64,
    /// Directories made for an entry of their own.
    directories_named: u64,
    names_bytes: u64,
    unpacked_bytes: u64,
    directory_times: BTreeMap<PathBuf, i64>,
    /// What the current layer put, so that its own whiteouts do not remove it.
    of_this_layer: HashSet<PathBuf>,
    /// What its whiteouts removed: a path with all below it, or, ending in [`OPAQUE`], all in a directory. Only what the
    /// layer put can be there since, so that a second time costs nothing.
    hidden: HashSet<PathBuf>,
}

impl<'a> Unpacker<'a> {
    pub(crate) fn new(root: &Path, limits: &'a Limits) -> Result<Self, ImageError> {
        Ok(Self {
            tree: Tree::open(root)?,
            limits,
            entries: 0,
            directories_named: 0,
            names_bytes: 0,
            unpacked_bytes: 0,
            directory_times: BTreeMap::new(),
            of_this_layer: HashSet::new(),
            hidden: HashSet::new(),
        })
    }

    /// Unpacks one layer and compares both its digests. What it made is worth nothing on an error.
    pub(crate) fn apply(&mut self, layer: Layer, meter: &mut Meter<'_>) -> Result<(), ImageError> {
        self.of_this_layer.clear();
        self.hidden.clear();
        let limits = self.limits;
        read_layer(layer, limits, meter, |plain| self.apply_tar(plain))
    }

    /// Gives the root directory its metadata, should no layer name it.
    pub(crate) fn start(&self) -> Result<(), ImageError> {
        self.tree.set_metadata(Path::new(""), &Metadata { mode: 0o755, uid: 0, gid: 0, mtime: 0 })
    }

    /// Sets the times of all directories, when no more is put into them.
    pub(crate) fn finish(self) -> Result<(), ImageError> {
        set_directory_times(&self.tree, Path::new(""), &self.directory_times)
    }

    /// The tree as it is now.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    fn apply_tar(&mut self, stream: impl Read) -> Result<(), ImageError> {
        let mut reader = TarReader::new(stream, self.limits, self.entries);
        while let Some(entry) = reader.next_entry()? {
            self.put(&entry, &mut reader).map_err(|error| blame(&entry, error))?;
            self.charge(&entry, reader.entries())?;
        }
        self.entries = reader.entries();
        reader.finish()?;
        Ok(())
    }

    fn put<R: Read>(&mut self, entry: &TarEntry, reader: &mut TarReader<'_, R>) -> Result<(), ImageError> {
        let (parent, name) = split(&entry.path);
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return self.white_out(entry, parent, OsStr::from_bytes(hidden));
        }
        if entry.path.as_os_str().is_empty() && entry.kind != EntryKind::Directory {
            return Err(ImageError::entry(&entry.path, EntryProblem::ReplacesRoot));
        }
        let metadata = Metadata { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime };
        match &entry.kind {
            EntryKind::Directory => self.put_directory(entry)?,
            EntryKind::File => {
                self.replace(&entry.path)?;
                let mut file = self.tree.create_file(&entry.path)?;
                self.fill(&mut file, entry, reader)?;
            }
            EntryKind::Symlink { target } => {
                self.replace(&entry.path)?;
                self.tree.create_symlink(&entry.path, target)?;
            }
            EntryKind::HardLink { target } => {
                if *target != entry.path {
                    self.link(entry, target)?;
                }
                self.remember(&entry.path);
                return Ok(());
            }
        }
        self.remember(&entry.path);
        self.tree.set_metadata(&entry.path, &metadata)
    }

    fn put_directory(&mut self, entry: &TarEntry) -> Result<(), ImageError> {
        if self.tree.file_type(&entry.path)? != Some(FileType::Directory) {
            self.replace(&entry.path)?;
            self.directories_named = self.directories_named.saturating_add(1);
        }
        self.tree.make_directories(&entry.path)?;
        self.directory_times.insert(entry.path.clone(), entry.mtime);
        Ok(())
    }

    /// Counts what an entry costs besides its content.
    fn charge(&mut self, entry: &TarEntry, entries: u64) -> Result<(), ImageError> {
        let Limits { entries_max, names_bytes_max, .. } = *self.limits;
        let unnamed = self.tree.directories_made().saturating_sub(self.directories_named);
        if entries.saturating_add(unnamed) > entries_max {
            return Err(ImageError::Limit { what: "entries", limit: entries_max });
        }
        self.names_bytes = self.names_bytes.saturating_add(entry.path.as_os_str().len() as u64);
        if self.names_bytes > names_bytes_max {
            return Err(ImageError::Limit { what: "bytes of names", limit: names_bytes_max });
        }
        Ok(())
    }

    fn fill<R: Read>(
        &mut self,
        file: &mut File,
        entry: &TarEntry,
        reader: &mut TarReader<'_, R>,
    ) -> Result<(), ImageError> {
        self.unpacked_bytes = self.unpacked_bytes.saturating_add(entry.size);
        if self.unpacked_bytes > self.limits.unpacked_bytes_max {
            return Err(ImageError::Limit { what: "bytes of files", limit: self.limits.unpacked_bytes_max });
        }
        let mut content = reader.content();
        let mut buffer = vec![0; CHUNK_BYTES.min(usize::try_from(entry.size).unwrap_or(CHUNK_BYTES))];
        let mut written = 0_u64;
        while written < entry.size {
            let n = match content.read(&mut buffer) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(from_read(error)),
            };
            if n == 0 {
                let problem = "it ends inside an entry".to_owned();
                return Err(ImageError::Malformed { what: "tar", problem });
            }
            io::Write::write_all(file, buffer.get(..n).unwrap_or_default())
                .map_err(|error| ImageError::io("write", &entry.path, &error))?;
            written = written.saturating_add(n as u64);
        }
        Ok(())
    }

    fn link(&self, entry: &TarEntry, target: &Path) -> Result<(), ImageError> {
        // The target is checked before anything at the path is removed: they may be the same tree.
        if target.starts_with(&entry.path) {
            let target = crate::error::printable(target);
            return Err(ImageError::entry(&entry.path, EntryProblem::HardLinkTarget { target }));
        }
        self.replace(&entry.path)?;
        self.tree.create_hard_link(&entry.path, target)
    }

    /// Makes room at `path`: removes what is there, whole directories included.
    fn replace(&self, path: &Path) -> Result<(), ImageError> {
        self.tree.remove(path, &|_| false).map(drop)
    }

    fn white_out(&mut self, entry: &TarEntry, parent: &Path, hidden: &OsStr) -> Result<(), ImageError> {
        let is_reserved = hidden.is_empty()
            || hidden == "."
            || hidden == ".."
            || (hidden != OPAQUE && hidden.as_bytes().starts_with(b".wh."));
        if is_reserved {
            return Err(ImageError::entry(&entry.path, EntryProblem::ReservedName));
        }
        if self.is_hidden(parent, hidden) {
            return Ok(());
        }
        let keep = |path: &Path| self.of_this_layer.contains(path);
        let removed = if hidden == OPAQUE {
            match self.tree.file_type(parent) {
                Ok(Some(FileType::Directory)) => self.tree.remove_children(parent, &keep).map(drop),
                other => other.map(drop),
            }
        } else {
            self.tree.remove(&parent.join(hidden), &keep).map(drop)
        };
        match removed {
            Err(error) if self.hides_nothing(parent, &error) => {}
            other => other?,
        }
        self.hidden.insert(parent.join(hidden));
        Ok(())
    }

    /// Whether whiteouts of this layer removed that already, alone or with a directory that it was in.
    fn is_hidden(&self, parent: &Path, hidden: &OsStr) -> bool {
        let is_opaque = |directory: &Path| self.hidden.contains(&directory.join(OPAQUE));
        self.hidden.contains(&parent.join(hidden))
            || parent.ancestors().any(|above| self.hidden.contains(above) || is_opaque(above))
    }

    /// Whether a whiteout in `parent` failed because a directory of lower layers is now a file, or a
    /// link of this layer: some tools still hide each name that was in it, and there is none.
    /// Through a link of a lower layer a whiteout would hide something else, so that is refused.
    fn hides_nothing(&self, parent: &Path, error: &ImageError) -> bool {
        let is_link_of_this_layer = |path: &Path| {
            self.of_this_layer.contains(path)
                && matches!(self.tree.file_type(path), Ok(Some(FileType::Symlink)))
        };
        match error {
            ImageError::Entry { problem: EntryProblem::ThroughFile, .. } => true,
            ImageError::Entry { problem: EntryProblem::ThroughSymlink, .. } => {
                parent.ancestors().any(is_link_of_this_layer)
            }
            _ => false,
        }
    }

    /// Notes a path of this layer.
    fn remember(&mut self, path: &Path) {
        self.of_this_layer.insert(path.to_owned());
    }
}

/// A path that leads astray is told with the name of the entry, not of the part where it happened.
fn blame(entry: &TarEntry, error: ImageError) -> ImageError {
    match error {
        ImageError::Entry { problem, .. } => ImageError::entry(&entry.path, problem),
        other => other,
    }
}

/// Directories not named by any entry get time 0: the order of unpacking must not show.
fn set_directory_times(tree: &Tree, path: &Path, times: &BTreeMap<PathBuf, i64>) -> Result<(), ImageError> {
    for name in tree.children(path)? {
        let child = path.join(name);
        if tree.file_type(&child)? == Some(FileType::Directory) {
            set_directory_times(tree, &child, times)?;
        }
    }
    tree.set_directory_time(path, times.get(path).copied().unwrap_or(0))
}

/// Compares both digests of a layer without unpacking it.
pub(crate) fn check_layer(layer: Layer, limits: &Limits, meter: &mut Meter<'_>) -> Result<(), ImageError> {
    read_layer(layer, limits, meter, |plain| io::copy(plain, &mut io::sink()).map(drop).map_err(from_read))
}

/// Hands the tar of a layer to `consume`, which must read it to its end, and compares both digests.
fn read_layer(
    layer: Layer,
    limits: &Limits,
    meter: &mut Meter<'_>,
    consume: impl FnOnce(&mut dyn Read) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let stored_bytes = layer.file.metadata().map_or(0, |metadata| metadata.len());
    let bytes_max = limits.expanded_bytes_max(stored_bytes);
    let file = BufReader::with_capacity(CHUNK_BYTES, layer.file);
    let mut stored = Hashing::new(meter.reader(file));
    let (consumed, diff_id) = match layer.compression {
        Compression::None => (consume(&mut Guard::new(&mut stored, bytes_max)), None),
        compressed => {
            let stream = BufReader::with_capacity(CHUNK_BYTES, &mut stored);
            let decoder = compressed.reader(stream, limits.window_bytes_max);
            let mut plain = Hashing::new(Guard::new(decoder, bytes_max));
            (consume(&mut plain), Some(plain.finish().0))
        }
    };
    // A changed byte shows first as a malformed tar: the digest is the better answer.
    io::copy(&mut stored, &mut io::sink()).map_err(from_read)?;
    let (digest, ..) = stored.finish();
    if digest != layer.digest {
        return Err(Refusal::new("image.layer.digest", layer.digest, digest).into());
    }
    consumed?;
    let diff_id = diff_id.unwrap_or(digest);
    if diff_id != layer.diff_id {
        return Err(Refusal::new("image.layer.diff-id", layer.diff_id, diff_id).into());
    }
    Ok(())
}

/// Ends in an error where a stream is longer than allowed.
pub(crate) struct Guard<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R> Guard<R> {
    pub(crate) fn new(inner: R, limit: u64) -> Self {
        Self { inner, left: limit, limit }
    }
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => {
                self.left = left;
                Ok(n)
            }
            None => Err(io::Error::other(ImageError::Limit {
                what: "unpacked bytes of a layer",
                limit: self.limit,
            })),
        }
    }
}

#[cfg(test)]
mod tests;
