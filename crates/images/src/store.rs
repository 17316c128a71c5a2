//! The store: images by name, what is in them, and what is no longer needed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use casemate_canon::Sha256;
use casemate_composition::lock::User;
use serde::{Deserialize, Serialize};

use crate::accounts::Accounts;
use crate::blob::{self, Layout};
use crate::document::{
    self, ANNOTATION_NAME, Config, Descriptor, Index, MEDIA_INDEX, MEDIA_MANIFEST, Manifest,
};
use crate::error::ImageError;
use crate::ingest;
use crate::limits::{BUILD_RECORD_BYTES_MAX, IMAGES_MAX, LOCK_WAIT_MS_MAX, Limits};
use crate::lockfile::{self, Held, Sharing};
use crate::progress::Progress;
use crate::reference::parse_reference;
use crate::rootfs::{self, BuiltRootfs};
use crate::unpack::Layer;

/// A directory of images. Any number of processes may use it at once.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) layout: Layout,
    pub(crate) limits: Limits,
}

/// What an image is: the digests that pin it and how it wants to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// Digest of the manifest.
    pub manifest: Sha256,
    /// Digest of the configuration.
    pub config: Sha256,
    /// Digest of the root file system built from the layers: it pins both of its files.
    pub rootfs: Sha256,
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program where there is no entrypoint.
    pub command: Vec<String>,
    /// Environment.
    pub environment: BTreeMap<String, String>,
    /// Working directory, absolute.
    pub working_dir: String,
    /// User and group. Names are resolved with the image's own files; further groups are not given.
    pub user: User,
    /// Bytes of all layers as stored.
    pub layers_bytes: u64,
    /// Bytes of the root file system.
    pub rootfs_bytes: u64,
}

/// What was built from a set of layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Build {
    pub(crate) rootfs: Sha256,
    pub(crate) accounts: Accounts,
}

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Files removed.
    pub files: u64,
    /// Bytes freed.
    pub bytes: u64,
}

impl Store {
    /// Opens the store in `dir`, which is made if it is missing (mode 0700). Removes what processes
    /// that were killed left unfinished, if nobody else uses the store now.
    pub fn open(dir: &Path) -> Result<Self, ImageError> {
        Self::open_with(dir, Limits::STANDARD)
    }

    /// The same with other limits.
    pub fn open_with(dir: &Path, limits: Limits) -> Result<Self, ImageError> {
        let layout = Layout::make(dir)?;
        let store = Self { layout, limits };
        {
            let _use = store.start_use()?;
            store.layout.mark()?;
        }
        if let Ok(_alone) = lockfile::take(&store.layout.use_lock(), Sharing::Exclusive, 0) {
            find_others(&store.layout.tmp(), &BTreeSet::new(), &|_| Found::Remove, &mut GcReport::default())?;
        }
        Ok(store)
    }

    /// What the image is: by its name, the digest of its manifest, or of an index it was chosen from. Builds its root file system if that is missing, verifying every layer.
    pub fn info(&self, reference_or_digest: &str) -> Result<ImageInfo, ImageError> {
        self.info_with(reference_or_digest, &mut |_| {})
    }

    /// The same, with progress.
    pub fn info_with(
        &self,
        reference_or_digest: &str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<ImageInfo, ImageError> {
        let _use = self.start_use()?;
        let digest = self.resolve(reference_or_digest)?;
        self.describe(&digest, progress)
    }

    /// The manifest that is meant.
    pub(crate) fn resolve(&self, reference_or_digest: &str) -> Result<Sha256, ImageError> {
        match reference_or_digest.parse::<Sha256>() {
            Ok(digest) => Ok(self.chosen_from(&digest)?.unwrap_or(digest)),
            Err(_) => self.find(parse_reference(reference_or_digest)?),
        }
    }

    /// Takes a name away. Its content stays until [`Store::gc`].
    pub fn remove(&self, reference: &str) -> Result<(), ImageError> {
        let reference = parse_reference(reference)?;
        let _use = self.start_use()?;
        self.change_index(|index| {
            let before = index.manifests.len();
            index.manifests.retain(|entry| !is_named(entry, reference));
            if index.manifests.len() == before {
                return Err(ImageError::NotFound { what: reference.to_owned() });
            }
            Ok(())
        })
    }

    /// Removes all content that no named image needs. Waits until nobody else uses the store.
    /// A root file system that is mounted stays readable there.
    pub fn gc(&self) -> Result<GcReport, ImageError> {
        self.collect(LOCK_WAIT_MS_MAX, &|_| Found::Remove)
    }

    /// What [`Store::gc`] would remove now.
    pub fn gc_preview(&self) -> Result<GcReport, ImageError> {
        self.collect(LOCK_WAIT_MS_MAX, &|_| Found::Count)
    }

    /// Removes those of the files that no named image needs, if nobody else uses the store now;
    /// otherwise they stay for a collection.
    pub(crate) fn take_back(&self, placed: &BTreeSet<PathBuf>) {
        let found = |path: &Path| if placed.contains(path) { Found::Remove } else { Found::Count };
        let _ = self.collect(0, &found);
    }

    fn collect(&self, wait_ms_max: u64, found: &dyn Fn(&Path) -> Found) -> Result<GcReport, ImageError> {
        let _alone = lockfile::take(&self.layout.use_lock(), Sharing::Exclusive, wait_ms_max)?;
        let mut blobs = BTreeSet::new();
        let mut builds = BTreeSet::new();
        let mut erofs = BTreeSet::from([OsString::from("builds")]);
        for entry in self.read_index()?.manifests {
            let (manifest, config) = self.read_image(&entry.digest)?;
            blobs.extend(ingest::indexes_of(&entry).map(|index| OsString::from(index.to_hex())));
            blobs.extend([entry.digest.to_hex(), manifest.config.digest.to_hex()].map(OsString::from));
            blobs.extend(manifest.layers.iter().map(|layer| OsString::from(layer.digest.to_hex())));
            let key = rootfs::build_key(&config.rootfs.diff_ids)?;
            builds.insert(OsString::from(key.to_hex()));
            if let Some(build) = self.built(&key)? {
                let files = self.layout.rootfs_files(&build.rootfs);
                erofs.extend(files.paths().into_iter().filter_map(Path::file_name).map(OsString::from));
            }
        }
        let mut report = GcReport::default();
        for (directory, keep) in [
            (self.layout.blobs(), blobs),
            (self.layout.builds(), builds),
            (self.layout.erofs(), erofs),
            (self.layout.tmp(), BTreeSet::new()),
        ] {
            find_others(&directory, &keep, found, &mut report)?;
        }
        Ok(report)
    }

    /// Keeps collections away as long as the result lives.
    pub(crate) fn start_use(&self) -> Result<Held, ImageError> {
        lockfile::take(&self.layout.use_lock(), Sharing::Shared, LOCK_WAIT_MS_MAX)
    }

    /// What the image with this manifest is.
    pub(crate) fn describe(
        &self,
        digest: &Sha256,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<ImageInfo, ImageError> {
        let (manifest, config) = self.read_image(digest)?;
        let key = rootfs::build_key(&config.rootfs.diff_ids)?;
        let build = match self.built_file(&key)? {
            Some(build) => build,
            None => {
                let built = rootfs::build(
                    self.layers(&manifest, &config)?,
                    &self.layout.tmp(),
                    &self.limits,
                    progress,
                )?;
                let build = Build { rootfs: built.digest, accounts: built.accounts.clone() };
                self.keep_rootfs(&key, built)?;
                build
            }
        };
        let rootfs_bytes = self.layout.rootfs_files(&build.rootfs).bytes()?;
        let run = document::parse_run(config.config, &build.accounts)?;
        Ok(ImageInfo {
            manifest: *digest,
            config: manifest.config.digest,
            rootfs: build.rootfs,
            entrypoint: run.entrypoint,
            command: run.command,
            environment: run.environment,
            working_dir: run.working_dir,
            user: run.user,
            layers_bytes: manifest.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add),
            rootfs_bytes,
        })
    }

    /// Manifest and configuration, verified against the digest of the manifest.
    pub(crate) fn read_image(&self, digest: &Sha256) -> Result<(Manifest, Config), ImageError> {
        let bytes_max = self.limits.document_bytes_max;
        let bytes = self.layout.read_document(digest, "image.manifest.digest", bytes_max)?;
        let manifest = document::parse_manifest(&bytes, self.limits.layers_max)?;
        let bytes = self.layout.read_document(&manifest.config.digest, "image.config.digest", bytes_max)?;
        let config = document::parse_config(&bytes, &manifest)?;
        Ok((manifest, config))
    }

    /// The layers of an image, open and with the digests that they must have.
    pub(crate) fn layers(&self, manifest: &Manifest, config: &Config) -> Result<Vec<Layer>, ImageError> {
        let pairs = manifest.layers.iter().zip(&config.rootfs.diff_ids);
        pairs
            .map(|(layer, diff_id)| {
                Ok(Layer {
                    file: self.layout.open_blob(&layer.digest)?,
                    compression: layer.layer_compression()?,
                    digest: layer.digest,
                    diff_id: *diff_id,
                })
            })
            .collect()
    }

    /// Names the files of a new root file system and notes what it was built from.
    pub(crate) fn keep_rootfs(&self, key: &Sha256, built: BuiltRootfs) -> Result<Sha256, ImageError> {
        let record = Build { rootfs: built.digest, accounts: built.accounts };
        let files = self.layout.rootfs_files(&built.digest);
        for (from, to) in built.files.paths().into_iter().zip(files.paths()) {
            self.layout.rename(from, to)?;
        }
        self.layout.write(&self.layout.build(key), &document::to_bytes("build record", &record)?)?;
        Ok(built.digest)
    }

    /// What was built under this key, if its files are there.
    pub(crate) fn built_file(&self, key: &Sha256) -> Result<Option<Build>, ImageError> {
        Ok(self.built(key)?.filter(|build| self.layout.rootfs_files(&build.rootfs).exist()))
    }

    /// The same, if the files are what they were: damaged ones are built again.
    pub(crate) fn built_whole(&self, key: &Sha256) -> Result<Option<Build>, ImageError> {
        let Some(build) = self.built(key)? else { return Ok(None) };
        let files = self.layout.rootfs_files(&build.rootfs);
        let Some(mut open) = files.open()? else { return Ok(None) };
        let whole = open.digest(&files, &mut |_| {})? == build.rootfs;
        Ok(Some(build).filter(|_| whole))
    }

    /// What was built under this key. A record that does not parse is none: it is built again.
    fn built(&self, key: &Sha256) -> Result<Option<Build>, ImageError> {
        let bytes = blob::read_bounded(&self.layout.build(key), BUILD_RECORD_BYTES_MAX)?;
        Ok(bytes.and_then(|bytes| document::parse("build record", &bytes).ok()))
    }

    /// Gives the manifest a name; who had it before loses it. `notes` say where it came from.
    pub(crate) fn name_image(
        &self,
        reference: &str,
        digest: &Sha256,
        size: u64,
        notes: BTreeMap<String, String>,
    ) -> Result<(), ImageError> {
        self.change_index(|index| {
            index.manifests.retain(|entry| !is_named(entry, reference));
            if index.manifests.len() >= IMAGES_MAX {
                return Err(ImageError::Limit { what: "names", limit: IMAGES_MAX as u64 });
            }
            let mut entry = Descriptor::new(MEDIA_MANIFEST, *digest, size);
            entry.annotations = notes;
            entry.annotations.insert(ANNOTATION_NAME.to_owned(), reference.to_owned());
            index.manifests.push(entry);
            Ok(())
        })
    }

    fn find(&self, reference: &str) -> Result<Sha256, ImageError> {
        let index = self.read_index()?;
        let entry = index.manifests.iter().find(|entry| is_named(entry, reference));
        let entry = entry.ok_or_else(|| ImageError::NotFound { what: reference.to_owned() })?;
        if entry.media_type == MEDIA_INDEX {
            return Err(document::unsupported("manifest type", &entry.media_type));
        }
        Ok(entry.digest)
    }

    /// The manifest that was chosen from the index with this digest, for an image that has a name.
    fn chosen_from(&self, digest: &Sha256) -> Result<Option<Sha256>, ImageError> {
        let index = self.read_index()?;
        let mut entries = index.manifests.iter();
        Ok(entries.find(|entry| ingest::indexes_of(entry).any(|index| index == *digest)).map(|e| e.digest))
    }

    pub(crate) fn read_index(&self) -> Result<Index, ImageError> {
        match blob::read_bounded(&self.layout.index(), self.limits.document_bytes_max)? {
            Some(bytes) => document::parse("image index", &bytes),
            None => Ok(Index::empty()),
        }
    }

    /// Changes the index as one step. Needs the use lock.
    fn change_index(
        &self,
        change: impl FnOnce(&mut Index) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let _alone = lockfile::take(&self.layout.index_lock(), Sharing::Exclusive, LOCK_WAIT_MS_MAX)?;
        let mut index = self.read_index()?;
        change(&mut index)?;
        self.layout.write(&self.layout.index(), &document::to_bytes("image index", &index)?)
    }
}

fn is_named(entry: &Descriptor, reference: &str) -> bool {
    entry.annotations.get(ANNOTATION_NAME).is_some_and(|name| name == reference)
}

/// What is done with what nobody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Remove,
    Count,
}

/// Finds everything in `directory` that is not in `keep`.
fn find_others(
    directory: &Path,
    keep: &BTreeSet<OsString>,
    found: &dyn Fn(&Path) -> Found,
    report: &mut GcReport,
) -> Result<(), ImageError> {
    let failed = |error| ImageError::io("clear", directory, &error);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if keep.contains(&entry.file_name()) {
            continue;
        }
        let metadata = entry.metadata().map_err(failed)?;
        match (found(&entry.path()), metadata.is_dir()) {
            (Found::Count, _) => {}
            (Found::Remove, true) => fs::remove_dir_all(entry.path()).map_err(failed)?,
            (Found::Remove, false) => fs::remove_file(entry.path()).map_err(failed)?,
        }
        report.files = report.files.saturating_add(1);
        report.bytes = report.bytes.saturating_add(metadata.len());
    }
    Ok(())
}
