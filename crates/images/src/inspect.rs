//! What people want to know about the images of a store.

use std::collections::BTreeMap;

use casemate_canon::Sha256;

use crate::document::{self, ANNOTATION_NAME, Descriptor, Platform};
use crate::error::ImageError;
use crate::ingest;
use crate::progress::Progress;
use crate::rootfs;
use crate::store::{ImageInfo, Store};

/// One image of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedImage {
    /// Its name.
    pub reference: String,
    /// Digest of its manifest.
    pub manifest: Sha256,
    /// Bytes of all layers as stored. None where its documents are not what their digests say.
    pub layers_bytes: Option<u64>,
    /// Bytes of its root file system. None where that is missing.
    pub rootfs_bytes: Option<u64>,
    /// Where it came from, and when.
    pub source: Source,
}

/// Where an image came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// In words; none for images that were stored before this was noted.
    pub origin: Option<String>,
    /// When it was stored, in seconds since 1970.
    pub stored_seconds: Option<u64>,
    /// The indexes it was chosen from, the outermost first.
    pub indexes: Vec<Sha256>,
}

/// One layer, the lowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// Digest of the bytes as stored.
    pub digest: Sha256,
    /// Digest of the tar in it.
    pub diff_id: Sha256,
    /// Bytes as stored.
    pub bytes: u64,
    /// Its type.
    pub media_type: String,
}

/// All about one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Its names.
    pub references: Vec<String>,
    /// What pins it, and how it runs.
    pub info: ImageInfo,
    /// Its layers.
    pub layers: Vec<LayerInfo>,
    /// What it runs on: `os/architecture[/variant]`.
    pub platform: String,
    /// When it was made, as its configuration says.
    pub created: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where it came from, by its first name.
    pub source: Source,
}

impl Store {
    /// All images with a name, in the order of names. An image that is damaged is listed too.
    pub fn list(&self) -> Result<Vec<ListedImage>, ImageError> {
        let _use = self.start_use()?;
        let index = self.read_index()?;
        let mut images: Vec<_> = index
            .manifests
            .iter()
            .filter_map(|entry| {
                let reference = entry.annotations.get(ANNOTATION_NAME)?.clone();
                let (layers_bytes, rootfs_bytes) = self.sizes(&entry.digest);
                let source = source_of(entry);
                Some(ListedImage { reference, manifest: entry.digest, layers_bytes, rootfs_bytes, source })
            })
            .collect();
        images.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(images)
    }

    /// All about one image: by its name, the digest of its manifest, or of an index it was chosen from.
    pub fn inspect(
        &self,
        reference_or_digest: &str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Inspection, ImageError> {
        let _use = self.start_use()?;
        let digest = self.resolve(reference_or_digest)?;
        let info = self.describe(&digest, progress)?;
        let (manifest, config) = self.read_image(&digest)?;
        let layers = manifest.layers.into_iter().zip(config.rootfs.diff_ids).map(|(layer, diff_id)| {
            LayerInfo { digest: layer.digest, diff_id, bytes: layer.size, media_type: layer.media_type }
        });
        let index = self.read_index()?;
        let entries: Vec<_> = index.manifests.iter().filter(|entry| entry.digest == digest).collect();
        let names = entries.iter().filter_map(|entry| entry.annotations.get(ANNOTATION_NAME).cloned());
        let asked = entries.iter().find(|entry| {
            entry.annotations.get(ANNOTATION_NAME).is_some_and(|name| name == reference_or_digest)
        });
        Ok(Inspection {
            references: names.collect(),
            info,
            layers: layers.collect(),
            platform: document::name_of(&Platform {
                architecture: config.architecture,
                os: config.os,
                variant: config.variant,
            }),
            created: config.created,
            labels: config.config.labels.unwrap_or_default(),
            source: asked.or(entries.first()).map(|entry| source_of(entry)).unwrap_or_default(),
        })
    }

    /// Bytes of the layers and of the root file system.
    fn sizes(&self, digest: &Sha256) -> (Option<u64>, Option<u64>) {
        let Ok((manifest, config)) = self.read_image(digest) else { return (None, None) };
        let layers_bytes = manifest.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
        let build = rootfs::build_key(&config.rootfs.diff_ids).and_then(|key| self.built_file(&key));
        let files = build.ok().flatten().map(|build| self.layout.rootfs_files(&build.rootfs));
        (Some(layers_bytes), files.and_then(|files| files.bytes().ok()))
    }
}

fn source_of(entry: &Descriptor) -> Source {
    let note = |key| entry.annotations.get(key).cloned();
    Source {
        origin: note(ingest::NOTE_ORIGIN),
        stored_seconds: note(ingest::NOTE_TIME).and_then(|text| text.parse().ok()),
        indexes: ingest::indexes_of(entry).collect(),
    }
}
