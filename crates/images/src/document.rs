//! The three JSON documents of an OCI image (image specification 1.1): index, manifest,
//! configuration. Read leniently, as the specification asks, but only what is understood is used;
//! written canonically, so that the same image has the same digest everywhere.

use std::collections::BTreeMap;

use casemate_canon::{Sha256, require_unique, to_canonical_json};
use casemate_composition::lock::User;
use casemate_protocol::Refusal;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};

use crate::accounts::Accounts;
use crate::compression::Compression;
use crate::error::ImageError;

pub(crate) const MEDIA_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Docker's names for the same (distribution project, image manifest version 2, schema 2).
pub(crate) const MEDIA_DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const MEDIA_DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const MEDIA_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const MEDIA_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MEDIA_LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const MEDIA_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const MEDIA_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Annotation that carries the name of an image in an index.
pub(crate) const ANNOTATION_NAME: &str = "org.opencontainers.image.ref.name";

/// Content somewhere else, by digest (image specification 1.1, "OCI Content Descriptors").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: Sha256,
    /// Its size in bytes.
    pub size: u64,
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
}

/// What an image runs on, in the words of Go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Sha256, size: u64) -> Self {
        Self { media_type: media_type.to_owned(), digest, size, annotations: BTreeMap::new(), platform: None }
    }

    /// Whether it points at an index.
    #[must_use]
    pub fn is_index(&self) -> bool {
        [MEDIA_INDEX, MEDIA_DOCKER_INDEX].contains(&self.media_type.as_str())
    }

    /// Whether it points at a manifest.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        [MEDIA_MANIFEST, MEDIA_DOCKER_MANIFEST].contains(&self.media_type.as_str())
    }

    /// Refuses a blob of another size.
    pub(crate) fn require_size(&self, found_bytes: u64) -> Result<(), ImageError> {
        if found_bytes == self.size {
            Ok(())
        } else {
            Err(Refusal::new("image.blob.size", self.size, found_bytes).into())
        }
    }

    /// How the layer it points at is stored. Layers that are to be fetched from elsewhere
    /// ("foreign", "nondistributable") are refused like unknown ones.
    pub(crate) fn layer_compression(&self) -> Result<Compression, ImageError> {
        match self.media_type.as_str() {
            MEDIA_LAYER_TAR | "application/vnd.docker.image.rootfs.diff.tar" => Ok(Compression::None),
            MEDIA_LAYER_GZIP | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Ok(Compression::Gzip),
            MEDIA_LAYER_ZSTD | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(Compression::Zstd),
            other => Err(unsupported("layer type", other)),
        }
    }

    /// Refuses a configuration that is none of an image: other artifacts have manifests too.
    pub(crate) fn require_image_config(&self) -> Result<(), ImageError> {
        match self.media_type.as_str() {
            MEDIA_CONFIG | "application/vnd.docker.container.image.v1+json" => Ok(()),
            other => Err(unsupported("configuration type", other)),
        }
    }
}

/// The type of a layer that is stored so.
pub(crate) fn layer_type(compression: Compression) -> &'static str {
    match compression {
        Compression::None => MEDIA_LAYER_TAR,
        Compression::Gzip => MEDIA_LAYER_GZIP,
        Compression::Zstd => MEDIA_LAYER_ZSTD,
    }
}

/// `index.json` of a layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) manifests: Vec<Descriptor>,
}

impl Index {
    pub(crate) fn empty() -> Self {
        Self { schema_version: 2, media_type: MEDIA_INDEX.to_owned(), manifests: Vec::new() }
    }
}

/// An image manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// An image configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) architecture: String,
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    #[serde(default)]
    pub(crate) config: Execution,
    pub(crate) rootfs: Rootfs,
}

/// How the image is run. Absent and `null` mean the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Execution {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) entrypoint: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cmd: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) env: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) working_dir: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) labels: Option<BTreeMap<String, String>>,
}

/// The layers by the digests of their unpacked bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rootfs {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) diff_ids: Vec<Sha256>,
}

/// Tools written in Go write an empty map as `null`.
fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a document of kind `what`.
pub(crate) fn parse<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, ImageError> {
    let parsed = require_unique(bytes).and_then(|()| serde_json::from_slice(bytes));
    parsed.map_err(|error| ImageError::Malformed {
        what,
        problem: error.to_string().chars().filter(|c| !c.is_control()).take(200).collect(),
    })
}

/// A document as canonical bytes.
pub(crate) fn to_bytes<T: Serialize>(what: &'static str, document: &T) -> Result<Vec<u8>, ImageError> {
    to_canonical_json(document).map_err(|error| ImageError::Malformed { what, problem: error.to_string() })
}

/// Reads an index and returns the entry for this machine: the first that matches, as the
/// specification asks; or the only one, where it names no platform.
pub(crate) fn choose(bytes: &[u8]) -> Result<Descriptor, ImageError> {
    let index: Index = parse("image index", bytes)?;
    if !["", MEDIA_INDEX, MEDIA_DOCKER_INDEX].contains(&index.media_type.as_str()) {
        return Err(unsupported("index type", &index.media_type));
    }
    if index.schema_version != 2 {
        return Err(unsupported("index schema version", &index.schema_version.to_string()));
    }
    choose_among(&index.manifests)
}

/// The same among these entries.
pub(crate) fn choose_among(entries: &[Descriptor]) -> Result<Descriptor, ImageError> {
    let known = || entries.iter().filter(|entry| entry.is_index() || entry.is_manifest());
    let alone = known().next().filter(|entry| entries.len() == 1 && entry.platform.is_none());
    known().find(|entry| entry.platform.as_ref().is_some_and(is_ours)).or(alone).cloned().ok_or_else(|| {
        let mut offered: Vec<String> =
            entries.iter().filter_map(|entry| entry.platform.as_ref()).map(name_of).collect();
        offered.dedup();
        let offered = if offered.is_empty() { "none named".to_owned() } else { offered.join(", ") };
        unsupported("choice of platforms", &offered)
    })
}

/// The first version of an architecture may be named or not; later ones need more than it.
fn is_ours(platform: &Platform) -> bool {
    let first = match architecture() {
        "amd64" => "v1",
        "arm64" => "v8",
        _ => "",
    };
    platform.os == "linux"
        && platform.architecture == architecture()
        && platform.variant.as_deref().is_none_or(|variant| variant.is_empty() || variant == first)
}

pub(crate) fn name_of(platform: &Platform) -> String {
    let variant = platform.variant.as_deref().filter(|variant| !variant.is_empty());
    let variant = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
    format!("{}/{}{variant}", platform.os, platform.architecture)
}

/// Whether a document is an index and not a manifest. One that could be read as both is refused
/// (image specification 1.1, "Image Manifest", on `manifests` and `layers` in one document).
pub(crate) fn is_index(bytes: &[u8]) -> Result<bool, ImageError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        schema_version: Option<u32>,
        manifests: Option<IgnoredAny>,
        layers: Option<IgnoredAny>,
        config: Option<IgnoredAny>,
    }
    let Members { schema_version, manifests, layers, config } = parse("image manifest", bytes)?;
    if schema_version == Some(1) {
        return Err(unsupported("manifest schema version", "1"));
    }
    match (manifests.is_some(), layers.is_some() || config.is_some()) {
        (true, false) => Ok(true),
        (false, true) => Ok(false),
        (both, _) => {
            let problem =
                if both { "it is both an index and a manifest" } else { "it is neither index nor manifest" };
            Err(ImageError::Malformed { what: "image manifest", problem: problem.to_owned() })
        }
    }
}

/// Reads a manifest and refuses what is not an image of ours.
pub(crate) fn parse_manifest(bytes: &[u8], layers_max: usize) -> Result<Manifest, ImageError> {
    let manifest: Manifest = parse("image manifest", bytes)?;
    if !["", MEDIA_MANIFEST, MEDIA_DOCKER_MANIFEST].contains(&manifest.media_type.as_str()) {
        return Err(unsupported("manifest type", &manifest.media_type));
    }
    if manifest.schema_version != 2 {
        return Err(unsupported("manifest schema version", &manifest.schema_version.to_string()));
    }
    if manifest.layers.len() > layers_max {
        return Err(ImageError::Limit { what: "layers", limit: layers_max as u64 });
    }
    if manifest.layers.is_empty() {
        return Err(ImageError::Malformed { what: "image manifest", problem: "it has no layers".to_owned() });
    }
    Ok(manifest)
}

/// A manifest of our own.
pub(crate) fn manifest_of(config: Descriptor, layers: Vec<Descriptor>) -> Manifest {
    Manifest { schema_version: 2, media_type: MEDIA_MANIFEST.to_owned(), config, layers }
}

/// Reads a configuration that must fit its manifest and this machine.
pub(crate) fn parse_config(bytes: &[u8], manifest: &Manifest) -> Result<Config, ImageError> {
    let config: Config = parse("image configuration", bytes)?;
    if config.os != "linux" {
        return Err(unsupported("operating system", &config.os));
    }
    if config.architecture != architecture() {
        return Err(unsupported("architecture", &config.architecture));
    }
    if config.rootfs.kind != "layers" {
        return Err(unsupported("rootfs type", &config.rootfs.kind));
    }
    if config.rootfs.diff_ids.len() != manifest.layers.len() {
        let problem = format!(
            "it names {} layers, its manifest {}",
            config.rootfs.diff_ids.len(),
            manifest.layers.len()
        );
        return Err(ImageError::Malformed { what: "image configuration", problem });
    }
    Ok(config)
}

/// This machine's architecture in the words of the specification (those of Go).
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Reads `NAME=value` pairs.
pub(crate) fn parse_environment(pairs: &[String]) -> Result<BTreeMap<String, String>, ImageError> {
    let mut out = BTreeMap::new();
    for pair in pairs {
        match pair.split_once('=') {
            Some((name, value)) if !name.is_empty() && !pair.contains('\0') => {
                out.insert(name.to_owned(), value.to_owned());
            }
            _ => {
                let problem = "an environment entry is not NAME=value".to_owned();
                return Err(ImageError::Malformed { what: "image configuration", problem });
            }
        }
    }
    Ok(out)
}

/// How an image is run, checked and complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) working_dir: String,
    pub(crate) user: User,
}

/// Reads how an image is run; whatever would stop its start is refused here.
pub(crate) fn parse_run(execution: Execution, accounts: &Accounts) -> Result<Run, ImageError> {
    let working_dir = execution.working_dir.filter(|dir| !dir.is_empty()).unwrap_or_else(|| "/".to_owned());
    if !working_dir.starts_with('/') || working_dir.contains('\0') {
        let problem = "its working directory is not absolute".to_owned();
        return Err(ImageError::Malformed { what: "image configuration", problem });
    }
    Ok(Run {
        entrypoint: execution.entrypoint.unwrap_or_default(),
        command: execution.cmd.unwrap_or_default(),
        environment: parse_environment(&execution.env.unwrap_or_default())?,
        working_dir,
        user: accounts.resolve(execution.user.as_deref().unwrap_or_default())?,
    })
}

pub(crate) fn unsupported(what: &'static str, found: &str) -> ImageError {
    let found = found.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(120).collect();
    ImageError::Unsupported { what, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_an_index_where_a_manifest_belongs() {
        let bytes =
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        assert!(matches!(parse_manifest(bytes, 9), Err(ImageError::Malformed { .. })));
    }
}
