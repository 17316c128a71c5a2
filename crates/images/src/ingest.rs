//! An image enters the store part by part, from wherever the caller gets the parts.
//!
//! What arrives waits below `tmp/` and moves to its place only when the whole image was verified and
//! unpacked: an ingest that fails or is dropped leaves nothing. Every byte is compared with the
//! digest that the caller or a verified document names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use casemate_canon::Sha256;
use casemate_protocol::Refusal;
use tempfile::{NamedTempFile, TempDir};

use crate::blob;
use crate::document::{self, Config, Descriptor, Manifest};
use crate::error::ImageError;
use crate::hash::{Hashing, hash_file};
use crate::lockfile::Held;
use crate::progress::{Meter, Progress, Step};
use crate::reference::parse_reference;
use crate::rootfs::{self, BuiltRootfs};
use crate::store::{ImageInfo, Store};
use crate::unpack::{self, Guard, Layer};

/// Annotations of a named image: where it came from, when, and through which indexes.
pub(crate) const NOTE_ORIGIN: &str = "dev.casemate.image.origin";
pub(crate) const NOTE_TIME: &str = "dev.casemate.image.stored";
const NOTE_INDEXES: &str = "dev.casemate.image.indexes";
/// Longest description of where an image came from, in bytes.
const ORIGIN_BYTES_MAX: usize = 512;

/// An image on its way into the store. Collections wait as long as it lives.
#[derive(Debug)]
pub struct Ingest<'a> {
    store: &'a Store,
    origin: String,
    indexes: Vec<Sha256>,
    // Goes before the lock does.
    dir: TempDir,
    _use: Held,
}

/// What a document asks for next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// It is an index: this is its entry for this machine, another index or the manifest.
    Index {
        /// The document to bring next.
        chosen: Descriptor,
    },
    /// It is a manifest.
    Manifest {
        /// The configuration, then the layers from the lowest up. Those that [`Ingest::has`] need
        /// not be brought again.
        blobs: Vec<Descriptor>,
    },
}

impl Store {
    /// Begins to take an image in. `origin` says where it comes from, for people.
    pub fn ingest(&self, origin: &str) -> Result<Ingest<'_>, ImageError> {
        let held = self.start_use()?;
        let tmp = self.layout.tmp();
        let dir = tempfile::Builder::new()
            .prefix("ingest-")
            .tempdir_in(&tmp)
            .map_err(|error| ImageError::io("make a directory in", &tmp, &error))?;
        Ok(Ingest { store: self, origin: origin.to_owned(), indexes: Vec::new(), dir, _use: held })
    }
}

impl Ingest<'_> {
    /// Whether the blob is there, with this size and this digest: it is read to tell. One that was
    /// damaged on disk is not there, so that a good one replaces it.
    #[must_use]
    pub fn has(&self, digest: &Sha256, size: u64) -> bool {
        let path = self.path_of(digest);
        let Ok(Some(mut file)) = blob::open(&path) else { return false };
        file.metadata().is_ok_and(|found| found.len() == size)
            && hash_file(&mut file, &path, &mut |_| {}).is_ok_and(|found| found == *digest)
    }

    /// A writer for a blob of exactly `size` bytes. Several may be open at once, in several threads.
    /// One that is dropped before [`BlobWriter::commit`] leaves nothing.
    pub fn blob(&self, digest: &Sha256, size: u64) -> Result<BlobWriter, ImageError> {
        let limit = self.store.limits.layer_bytes_max;
        if size > limit {
            return Err(ImageError::Limit { what: "bytes of a blob", limit });
        }
        Ok(BlobWriter {
            file: Hashing::new(blob::temporary_in(self.dir.path())?),
            path: self.staged(digest),
            digest: *digest,
            size,
        })
    }

    /// Takes an index or a manifest, exactly as received. What an index chose is recorded with the
    /// image. Refuses under `image.document.digest` where the bytes are not those of the digest.
    pub fn document(&mut self, digest: &Sha256, bytes: &[u8]) -> Result<Document, ImageError> {
        let limits = &self.store.limits;
        if bytes.len() as u64 > limits.document_bytes_max {
            return Err(ImageError::Limit { what: "bytes of a document", limit: limits.document_bytes_max });
        }
        let found = Sha256::of(bytes);
        if found != *digest {
            return Err(Refusal::new("image.document.digest", digest, found).into());
        }
        let document = if document::is_index(bytes)? {
            if self.indexes.len() >= limits.indexes_max {
                let limit = limits.indexes_max as u64;
                return Err(ImageError::Limit { what: "indexes within indexes", limit });
            }
            let chosen = document::choose(bytes)?;
            self.indexes.push(*digest);
            Document::Index { chosen }
        } else {
            let manifest = document::parse_manifest(bytes, limits.layers_max)?;
            manifest.config.require_image_config()?;
            for layer in &manifest.layers {
                layer.layer_compression()?;
            }
            let blobs: Vec<_> = std::iter::once(manifest.config).chain(manifest.layers).collect();
            let stored_bytes = blobs.iter().map(|blob| blob.size).fold(0, u64::saturating_add);
            if stored_bytes > limits.layer_bytes_max {
                return Err(ImageError::Limit { what: "bytes of layers", limit: limits.layer_bytes_max });
            }
            Document::Manifest { blobs }
        };
        let mut writer = self.blob(digest, bytes.len() as u64)?;
        writer.write_all(bytes).map_err(|error| ImageError::io("write", self.dir.path(), &error))?;
        writer.commit()?;
        Ok(document)
    }

    /// Takes a blob whose digest nobody told: it becomes what it is.
    pub(crate) fn add(
        &self,
        stream: &mut dyn Read,
        media_type: &str,
        meter: &mut Meter<'_>,
    ) -> Result<Descriptor, ImageError> {
        let directory = self.dir.path();
        let limit = self.store.limits.layer_bytes_max;
        let mut file = Hashing::new(blob::temporary_in(directory)?);
        meter.copy(Guard::new(stream, limit), &mut file, directory)?;
        let (digest, size, file) = file.finish();
        blob::persist(file, &self.staged(&digest))?;
        Ok(Descriptor::new(media_type, digest, size))
    }

    /// Verifies the image whole, unpacks its layers, builds its root file system, moves everything to
    /// its place and names it. Mismatches are [`ImageError::Refused`] under `image.manifest.digest`,
    /// `image.config.digest`, `image.blob.size`, `image.layer.digest` or `image.layer.diff-id`.
    pub fn finish(
        self,
        reference: &str,
        manifest: &Sha256,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<ImageInfo, ImageError> {
        let reference = parse_reference(reference)?;
        let (document, config) = self.read_image(manifest)?;
        let key = rootfs::build_key(&config.rootfs.diff_ids)?;
        let layers = self.layers(&document, &config)?;
        let Store { layout, limits } = self.store;
        // Whatever would refuse the image later refuses it before anything is kept.
        let built = match self.store.built_whole(&key)? {
            Some(build) => {
                check_layers(layers, limits, progress)?;
                document::parse_run(config.config, &build.accounts)?;
                None
            }
            None => {
                let built = rootfs::build(layers, &layout.tmp(), limits, progress)?;
                document::parse_run(config.config, &built.accounts)?;
                Some(built)
            }
        };
        let mut placed = BTreeSet::new();
        let kept = self.keep(reference, manifest, &document, (&key, built), &mut placed);
        if kept.is_err() {
            // The disk is full, say. The lock goes first: only a store that nobody uses is cleaned.
            let Self { store, dir, _use, .. } = self;
            drop((dir, _use));
            store.take_back(&placed);
        }
        kept
    }

    /// Moves everything to its place and gives it its name; notes in `placed` what is new there.
    fn keep(
        &self,
        reference: &str,
        digest: &Sha256,
        manifest: &Manifest,
        (key, built): (&Sha256, Option<BuiltRootfs>),
        placed: &mut BTreeSet<PathBuf>,
    ) -> Result<ImageInfo, ImageError> {
        let layout = &self.store.layout;
        let mut note = |path: PathBuf| {
            if !path.exists() {
                placed.insert(path);
            }
        };
        if let Some(built) = &built {
            for path in layout.rootfs_files(&built.digest).paths() {
                note(path.to_owned());
            }
            note(layout.build(key));
        }
        let layers = manifest.layers.iter().map(|layer| &layer.digest);
        for digest in layers.chain([&manifest.config.digest, digest]).chain(&self.indexes) {
            let staged = self.staged(digest);
            if staged.exists() {
                note(layout.blob(digest));
                layout.rename(&staged, &layout.blob(digest))?;
            }
        }
        if let Some(built) = built {
            self.store.keep_rootfs(key, built)?;
        }
        let info = self.store.describe(digest, &mut |_| {})?;
        let size = fs::metadata(layout.blob(digest)).map_or(0, |metadata| metadata.len());
        self.store.name_image(reference, digest, size, notes(&self.origin, &self.indexes))?;
        Ok(info)
    }

    /// Manifest and configuration, verified.
    fn read_image(&self, digest: &Sha256) -> Result<(Manifest, Config), ImageError> {
        let limits = &self.store.limits;
        let read = |digest: &Sha256, rule| {
            blob::read_verified(&self.path_of(digest), digest, rule, limits.document_bytes_max)
        };
        let manifest = document::parse_manifest(&read(digest, "image.manifest.digest")?, limits.layers_max)?;
        self.require_size(&manifest.config)?;
        let config =
            document::parse_config(&read(&manifest.config.digest, "image.config.digest")?, &manifest)?;
        Ok((manifest, config))
    }

    fn layers(&self, manifest: &Manifest, config: &Config) -> Result<Vec<Layer>, ImageError> {
        let pairs = manifest.layers.iter().zip(&config.rootfs.diff_ids);
        pairs
            .map(|(layer, diff_id)| {
                self.require_size(layer)?;
                let file = blob::open(&self.path_of(&layer.digest))?;
                Ok(Layer {
                    file: file.ok_or_else(|| ImageError::NotFound { what: layer.digest.to_string() })?,
                    compression: layer.layer_compression()?,
                    digest: layer.digest,
                    diff_id: *diff_id,
                })
            })
            .collect()
    }

    fn require_size(&self, descriptor: &Descriptor) -> Result<(), ImageError> {
        match fs::symlink_metadata(self.path_of(&descriptor.digest)) {
            Ok(found) => descriptor.require_size(found.len()),
            Err(_) => Err(ImageError::NotFound { what: descriptor.digest.to_string() }),
        }
    }

    fn staged(&self, digest: &Sha256) -> PathBuf {
        self.dir.path().join(digest.to_hex())
    }

    /// Where the blob is, or would be.
    fn path_of(&self, digest: &Sha256) -> PathBuf {
        let staged = self.staged(digest);
        if staged.exists() { staged } else { self.store.layout.blob(digest) }
    }
}

/// Takes one blob. Ends in an error as soon as there are more bytes than announced.
pub struct BlobWriter {
    file: Hashing<NamedTempFile>,
    path: PathBuf,
    digest: Sha256,
    size: u64,
}

impl BlobWriter {
    /// Bytes written so far.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.file.hashed_bytes()
    }

    /// Keeps the blob, if it is what was announced. Refuses under `image.blob.size` and
    /// `image.blob.digest`.
    pub fn commit(self) -> Result<(), ImageError> {
        let (digest, size, file) = self.file.finish();
        if size != self.size {
            return Err(Refusal::new("image.blob.size", self.size, size).into());
        }
        if digest != self.digest {
            return Err(Refusal::new("image.blob.digest", self.digest, digest).into());
        }
        blob::persist(file, &self.path)
    }
}

/// An error that carries an [`ImageError`] where it is not the file's: [`io::Error::downcast`] gives it.
impl Write for BlobWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let bytes = self.file.hashed_bytes().saturating_add(buffer.len() as u64);
        if bytes > self.size {
            let found = format!("{bytes} bytes or more");
            let refusal = Refusal::new("image.blob.size", self.size, found);
            return Err(io::Error::other(ImageError::Refused(refusal)));
        }
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Verifies layers whose root file system is there already.
fn check_layers(
    layers: Vec<Layer>,
    limits: &crate::limits::Limits,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ImageError> {
    let total_bytes: u64 =
        layers.iter().filter_map(|layer| layer.file.metadata().ok()).map(|m| m.len()).sum();
    let mut meter = Meter::new(Step::Verify, Some(total_bytes), progress).with_layers(layers.len());
    for layer in layers {
        unpack::check_layer(layer, limits, &mut meter)?;
        meter.layer_done();
    }
    Ok(())
}

/// The annotations that say where an image came from.
pub(crate) fn notes(origin: &str, indexes: &[Sha256]) -> BTreeMap<String, String> {
    let mut notes = BTreeMap::new();
    let mut text = String::new();
    for c in origin.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }) {
        if text.len().saturating_add(c.len_utf8()) > ORIGIN_BYTES_MAX {
            break;
        }
        text.push(c);
    }
    notes.insert(NOTE_ORIGIN.to_owned(), text);
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    notes.insert(NOTE_TIME.to_owned(), seconds.to_string());
    if !indexes.is_empty() {
        let digests: Vec<String> = indexes.iter().map(Sha256::to_string).collect();
        notes.insert(NOTE_INDEXES.to_owned(), digests.join(" "));
    }
    notes
}

/// The indexes through which a named image was chosen, the outermost first.
pub(crate) fn indexes_of(entry: &Descriptor) -> impl Iterator<Item = Sha256> {
    let text = entry.annotations.get(NOTE_INDEXES).map(String::as_str).unwrap_or_default();
    text.split(' ').filter_map(|digest| digest.parse().ok())
}
