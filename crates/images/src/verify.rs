//! The check before every use: the bytes that will be mounted against the digest that the caller brings.
//!
//! The lock pins the two files themselves, so a start compares those and reads no layer. Layers are read, and
//! compared with their digests, where a file is missing and both must be built again.

use std::fs::File;
use std::io::Seek as _;
use std::path::PathBuf;

use casemate_canon::Sha256;
use casemate_protocol::Refusal;

use crate::compression::Compression;
use crate::document::{self, Config, Manifest};
use crate::error::ImageError;
use crate::hash::hash_file;
use crate::parts::{self, rootfs_digest};
use crate::progress::{Meter, Progress, Step};
use crate::rootfs;
use crate::store::Store;

/// A root file system whose two files were compared with the expected digest: the metadata as a copy in memory that
/// nobody can change, the data still open. Mount it by [`VerifiedRootfs::metadata`] and [`VerifiedRootfs::data`], not by
/// its paths: those may be renamed over.
#[derive(Debug)]
pub struct VerifiedRootfs {
    metadata: File,
    metadata_digest: Sha256,
    data: File,
    data_path: PathBuf,
    digest: Sha256,
}

impl VerifiedRootfs {
    /// The very bytes of the metadata that were verified, sealed.
    #[must_use]
    pub fn metadata(&self) -> &File {
        &self.metadata
    }

    /// The very file of the contents that was verified, read-only.
    #[must_use]
    pub fn data(&self) -> &File {
        &self.data
    }

    /// The digest of both.
    #[must_use]
    pub fn digest(&self) -> &Sha256 {
        &self.digest
    }

    /// Compares the same open data once more, before another use. The metadata cannot have changed.
    ///
    /// # Errors
    /// [`ImageError::Refused`] under `image.rootfs.digest`: it was changed in place.
    pub fn verify_again(&self) -> Result<(), ImageError> {
        self.compare(&mut |_| {})
    }

    /// Hashes the data from its start.
    fn compare(&self, progress: &mut dyn FnMut(Progress)) -> Result<(), ImageError> {
        let total_bytes = self.data.metadata().ok().map(|metadata| metadata.len());
        let mut meter = Meter::new(Step::Verify, total_bytes, progress);
        let failed = |what, error: &std::io::Error| ImageError::io(what, &self.data_path, error);
        let mut data = self.data.try_clone().map_err(|error| failed("read", &error))?;
        data.rewind().map_err(|error| failed("rewind", &error))?;
        let found = hash_file(&mut data, &self.data_path, &mut |bytes| meter.add(bytes))?;
        let found = rootfs_digest(self.metadata_digest, found)?;
        if found == self.digest {
            Ok(())
        } else {
            Err(Refusal::new("image.rootfs.digest", self.digest, found).into())
        }
    }
}

impl Store {
    /// The root file system `rootfs`, opened and then compared. A missing one is built again from the layers, each
    /// verified, and must then have the expected digest. Every mismatch is [`ImageError::Refused`] under
    /// `image.manifest.digest`, `image.config.digest`, `image.layer.digest`, `image.layer.diff-id` or
    /// `image.rootfs.digest`; one of an older form is [`ImageError::OlderForm`].
    pub fn verified_rootfs(
        &self,
        manifest: &Sha256,
        config: &Sha256,
        rootfs: &Sha256,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<VerifiedRootfs, ImageError> {
        let _use = self.start_use()?;
        let (manifest, config) = self.read_pinned(manifest, config)?;
        let files = self.layout.rootfs_files(rootfs);
        let open = match files.open()? {
            Some(open) => open,
            None if self.layout.older_rootfs(rootfs).exists() => {
                return Err(ImageError::OlderForm { digest: rootfs.to_string() });
            }
            None => {
                let layers = self.layers(&manifest, &config)?;
                let built = rootfs::build(layers, &self.layout.tmp(), &self.limits, progress)?;
                if built.digest != *rootfs {
                    return Err(Refusal::new("image.rootfs.digest", rootfs, built.digest).into());
                }
                self.keep_rootfs(&rootfs::build_key(&config.rootfs.diff_ids)?, built)?;
                files.open()?.ok_or_else(|| ImageError::NotFound { what: rootfs.to_string() })?
            }
        };
        let (metadata, metadata_digest) = parts::sealed(open.metadata, &files.metadata)?;
        let (data, data_path) = (open.data, files.data);
        let verified = VerifiedRootfs { metadata, metadata_digest, data, data_path, digest: *rootfs };
        verified.compare(progress)?;
        Ok(verified)
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
