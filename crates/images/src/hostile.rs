//! Narrow entries to what reads hostile bytes, for the fuzz targets: no store, no `mkfs.erofs`.
//!
//! What it is not: a part of the interface of this crate. Nobody but `crates/fuzz` uses it.

use std::fs::{self, File};
use std::path::Path;

use casemate_canon::Sha256;
use casemate_composition::lock::User;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::accounts::Accounts;
use crate::docker_archive;
use crate::document::{self, Config, Descriptor, Index, Manifest};
use crate::error::ImageError;
use crate::formats::ImportRequest;
use crate::limits::Limits;
use crate::rootfs;
use crate::unpack::Layer;

/// A document by what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A manifest of the image specification.
    Manifest,
    /// An index.
    Index,
    /// A configuration of an image with one layer.
    Config,
    /// `manifest.json` of a `docker save` archive.
    Archive,
}

/// What came of a document that parses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Again {
    /// It was written and read again: whether that gave the same value and the same bytes.
    Same(bool),
    /// It is never written, or cannot be: a number is too large for canonical JSON.
    NotWritten,
}

/// Reads a document as the store does, writes it and reads it again.
///
/// # Errors
/// What the store says of it.
pub fn read_document(kind: Kind, bytes: &[u8], limits: &Limits) -> Result<Again, ImageError> {
    match kind {
        Kind::Manifest => {
            if document::is_index(bytes)? {
                return Err(document::unsupported("document", "index"));
            }
            let manifest = document::parse_manifest(bytes, limits.layers_max)?;
            manifest.config.require_image_config()?;
            for layer in &manifest.layers {
                layer.layer_compression()?;
            }
            again::<Manifest>(&manifest)
        }
        Kind::Index => {
            document::choose(bytes)?;
            again::<Index>(&document::parse("image index", bytes)?)
        }
        Kind::Config => {
            let blob = Descriptor::new("", Sha256::of(b""), 0);
            let manifest = document::manifest_of(blob.clone(), vec![blob]);
            let config = document::parse_config(bytes, &manifest)?;
            document::parse_run(config.config.clone(), &Accounts::default())?;
            again::<Config>(&config)
        }
        Kind::Archive => {
            docker_archive::layers_of(bytes, &ImportRequest::default())?;
            Ok(Again::NotWritten)
        }
    }
}

fn again<T: DeserializeOwned + Serialize + PartialEq>(value: &T) -> Result<Again, ImageError> {
    let Ok(written) = document::to_bytes("document", value) else { return Ok(Again::NotWritten) };
    let read: T = document::parse("document", &written)?;
    let rewritten = document::to_bytes("document", &read)?;
    Ok(Again::Same(read == *value && rewritten == written))
}

/// A layer as it is stored.
#[derive(Debug, Clone)]
pub struct StoredLayer {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How its descriptor says that it is stored.
    pub media_type: &'static str,
    /// Digest of what is in it.
    pub diff_id: Sha256,
}

/// Unpacks layers below `tmp`, as a build does before `mkfs.erofs`, shows the tree and a function that looks up users
/// to `look`, and removes everything.
///
/// # Errors
/// What the store says of the layers.
pub fn unpack<T>(
    layers: &[StoredLayer],
    tmp: &Path,
    limits: &Limits,
    look: impl FnOnce(&Path, &dyn Fn(&str) -> Result<User, ImageError>) -> T,
) -> Result<T, ImageError> {
    let stored = tempfile::tempdir_in(tmp).map_err(|error| ImageError::io("make", tmp, &error))?;
    let mut opened = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let path = stored.path().join(number.to_string());
        fs::write(&path, &layer.bytes).map_err(|error| ImageError::io("write", &path, &error))?;
        let digest = Sha256::of(&layer.bytes);
        opened.push(Layer {
            file: File::open(&path).map_err(|error| ImageError::io("open", &path, &error))?,
            compression: Descriptor::new(layer.media_type, digest, 0).layer_compression()?,
            digest,
            diff_id: layer.diff_id,
        });
    }
    let (dir, accounts) = rootfs::unpacked(opened, tmp, limits, &mut |_| {})?;
    Ok(look(&dir.path().join(rootfs::ROOT), &|user| accounts.resolve(user)))
}
