//! The check before every use: the bytes that will be mounted against the digest that the caller brings.
//!
//! The lock pins the EROFS file itself, so a start compares that one file and reads no layer. Layers are read, and
//! compared with their digests, where the file is missing and must be built again.

use std::fs::File;
use std::io::Seek as _;
use std::path::{Path, PathBuf};

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

    /// The very file that was verified, read-only.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its digest.
    #[must_use]
    pub fn digest(&self) -> &Sha256 {
        &self.digest
    }

    /// Compares the same open file once more, before another use.
    ///
    /// # Errors
    /// [`ImageError::Refused`] under `image.rootfs.digest`: it was changed in place.
    pub fn verify_again(&self) -> Result<(), ImageError> {
        compare(&self.file, &self.path, &self.digest, &mut |_| {})
    }
}

impl Store {
    /// The EROFS file `rootfs`, opened and then compared. A missing one is built again from the layers, each verified,
    /// and must then have the expected digest. Every mismatch is [`ImageError::Refused`] under
    /// `image.manifest.digest`, `image.config.digest`, `image.layer.digest`, `image.layer.diff-id` or
    /// `image.rootfs.digest`.
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
        let file = match blob::open(&path)? {
            Some(file) => file,
            None => {
                let layers = self.layers(&manifest, &config)?;
                let built = rootfs::build(layers, &self.layout.tmp(), &self.limits, progress)?;
                if built.digest != *rootfs {
                    return Err(Refusal::new("image.rootfs.digest", rootfs, built.digest).into());
                }
                self.keep_rootfs(&rootfs::build_key(&config.rootfs.diff_ids)?, built)?;
                blob::open(&path)?.ok_or_else(|| ImageError::NotFound { what: rootfs.to_string() })?
            }
        };
        compare(&file, &path, rootfs, progress)?;
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
}

/// Hashes the open file from its start.
fn compare(
    mut file: &File,
    path: &Path,
    digest: &Sha256,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ImageError> {
    let total_bytes = file.metadata().ok().map(|metadata| metadata.len());
    let mut meter = Meter::new(Step::Verify, total_bytes, progress);
    file.rewind().map_err(|error| ImageError::io("rewind", path, &error))?;
    let mut reader = file.try_clone().map_err(|error| ImageError::io("read", path, &error))?;
    let found = hash_file(&mut reader, path, &mut |bytes| meter.add(bytes))?;
    if found == *digest { Ok(()) } else { Err(Refusal::new("image.rootfs.digest", digest, found).into()) }
}
