//! The check before every use: each stored byte against the digests that the caller brings.

use std::fs::File;
use std::io::Seek as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use casemate_canon::Sha256;
use casemate_protocol::Refusal;

use crate::blob;
use crate::compression::Compression;
use crate::document::{self, Config, Manifest};
use crate::error::ImageError;
use crate::hash::hash_file;
use crate::progress::{Meter, Progress, Step};
use crate::rootfs;
use crate::store::Store;

/// An EROFS file whose content was compared with the expected digest, still open. Mount it by
/// [`VerifiedRootfs::file`] (`/proc/self/fd/N`), not by its path: the path may be renamed over.
#[derive(Debug)]
pub struct VerifiedRootfs {
    path: PathBuf,
    file: File,
    digest: Sha256,
}

impl VerifiedRootfs {
    /// Where the file was found.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The very file that was verified, at its start, read-only.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its digest.
    #[must_use]
    pub fn digest(&self) -> &Sha256 {
        &self.digest
    }

    /// The file alone.
    #[must_use]
    pub fn into_file(self) -> File {
        self.file
    }
}

impl Store {
    /// Verifies the whole image: manifest, configuration, every layer as stored, and the EROFS file.
    /// A missing EROFS file is built again and must then have the expected digest. Every mismatch is
    /// [`ImageError::Refused`] under `image.manifest.digest`, `image.config.digest`,
    /// `image.layer.digest`, `image.layer.diff-id` or `image.rootfs.digest`.
    pub fn verified_rootfs(
        &self,
        manifest: &Sha256,
        config: &Sha256,
        rootfs: &Sha256,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<VerifiedRootfs, ImageError> {
        let _use = self.start_use()?;
        let (manifest, config) = self.read_pinned(manifest, config)?;
        let path = self.layout.erofs_file(rootfs);
        if let Some(file) = blob::open(&path)? {
            self.verify_files(&manifest, Some((&file, &path, rootfs)), progress)?;
            return Ok(VerifiedRootfs { path, file, digest: *rootfs });
        }
        self.verify_files(&manifest, None, progress)?;
        let layers = self.layers(&manifest, &config)?;
        let built = rootfs::build(layers, &self.layout.tmp(), &self.limits, progress)?;
        if built.digest != *rootfs {
            return Err(Refusal::new("image.rootfs.digest", rootfs, built.digest).into());
        }
        let file =
            blob::open(&built.path)?.ok_or_else(|| ImageError::NotFound { what: rootfs.to_string() })?;
        self.keep_rootfs(&rootfs::build_key(&config.rootfs.diff_ids)?, built)?;
        Ok(VerifiedRootfs { path, file, digest: *rootfs })
    }

    /// Manifest and configuration as pinned.
    fn read_pinned(&self, manifest: &Sha256, config: &Sha256) -> Result<(Manifest, Config), ImageError> {
        let bytes_max = self.limits.document_bytes_max;
        let bytes = self.layout.read_document(manifest, "image.manifest.digest", bytes_max)?;
        let manifest = document::parse_manifest(&bytes, self.limits.layers_max)?;
        if manifest.config.digest != *config {
            return Err(Refusal::new("image.config.digest", config, manifest.config.digest).into());
        }
        let bytes = self.layout.read_document(config, "image.config.digest", bytes_max)?;
        let config = document::parse_config(&bytes, &manifest)?;
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            if layer.layer_compression()? == Compression::None && layer.digest != *diff_id {
                return Err(Refusal::new("image.layer.diff-id", diff_id, layer.digest).into());
            }
        }
        Ok((manifest, config))
    }

    /// Hashes the layers in one thread and the EROFS file in another.
    fn verify_files(
        &self,
        manifest: &Manifest,
        rootfs: Option<(&File, &Path, &Sha256)>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), ImageError> {
        let layers_bytes = manifest.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
        let rootfs_bytes = rootfs.and_then(|(file, ..)| file.metadata().ok()).map_or(0, |m| m.len());
        let total_bytes = Some(layers_bytes.saturating_add(rootfs_bytes));
        let (sender, receiver) = mpsc::sync_channel::<u64>(64);
        thread::scope(|scope| {
            let of_rootfs = sender.clone();
            let layers = scope.spawn(move || self.verify_layers(manifest, &sender));
            let rootfs = scope.spawn(move || match rootfs {
                Some((file, path, digest)) => verify_rootfs(file, path, digest, &of_rootfs),
                None => Ok(()),
            });
            let mut meter = Meter::new(Step::Verify, total_bytes, progress);
            for bytes in receiver {
                meter.add(bytes);
            }
            joined(layers.join())?;
            joined(rootfs.join())
        })
    }

    fn verify_layers(&self, manifest: &Manifest, done: &mpsc::SyncSender<u64>) -> Result<(), ImageError> {
        for layer in &manifest.layers {
            let mut file = self.layout.open_blob(&layer.digest)?;
            let path = self.layout.blob(&layer.digest);
            let found = hash_file(&mut file, &path, &mut |bytes| report(done, bytes))?;
            if found != layer.digest {
                return Err(Refusal::new("image.layer.digest", layer.digest, found).into());
            }
        }
        Ok(())
    }
}

fn verify_rootfs(
    mut file: &File,
    path: &Path,
    digest: &Sha256,
    done: &mpsc::SyncSender<u64>,
) -> Result<(), ImageError> {
    let mut reader = file.try_clone().map_err(|error| ImageError::io("read", path, &error))?;
    let found = hash_file(&mut reader, path, &mut |bytes| report(done, bytes))?;
    if found != *digest {
        return Err(Refusal::new("image.rootfs.digest", digest, found).into());
    }
    file.rewind().map_err(|error| ImageError::io("rewind", path, &error))
}

/// Whoever listened may be gone; the verdict does not depend on it.
fn report(done: &mpsc::SyncSender<u64>, bytes: u64) {
    let _ = done.send(bytes);
}

fn joined(result: thread::Result<Result<(), ImageError>>) -> Result<(), ImageError> {
    result.unwrap_or_else(|_| {
        Err(ImageError::Tool { program: "verification", problem: "ended without a result".to_owned() })
    })
}
