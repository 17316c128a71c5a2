//! The three JSON documents of an OCI image (image specification 1.1): index, manifest,
//! configuration. Read leniently, as the specification asks, but only what is understood is used;
//! written canonically, so that the same image has the same digest everywhere.

use std::collections::BTreeMap;

use casemate_canon::{Sha256, to_canonical_json};
use casemate_composition::lock::User;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::ImageError;

pub(crate) const MEDIA_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const MEDIA_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const MEDIA_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MEDIA_LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const MEDIA_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Annotation that carries the name of an image in an index.
pub(crate) const ANNOTATION_NAME: &str = "org.opencontainers.image.ref.name";

/// How a layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
}

/// Content somewhere else, by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Sha256,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// How the layer it points at is stored.
    pub(crate) fn layer_compression(&self) -> Result<Compression, ImageError> {
        match self.media_type.as_str() {
            MEDIA_LAYER_TAR => Ok(Compression::None),
            MEDIA_LAYER_GZIP | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Ok(Compression::Gzip),
            other => Err(unsupported("layer type", other)),
        }
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
}

/// The layers by the digests of their unpacked bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rootfs {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) diff_ids: Vec<Sha256>,
}

/// Reads a document of kind `what`.
pub(crate) fn parse<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|error| ImageError::Malformed {
        what,
        problem: error.to_string().chars().take(200).collect(),
    })
}

/// A document as canonical bytes.
pub(crate) fn to_bytes<T: Serialize>(what: &'static str, document: &T) -> Result<Vec<u8>, ImageError> {
    to_canonical_json(document).map_err(|error| ImageError::Malformed { what, problem: error.to_string() })
}

/// Reads a manifest and refuses what is not an image of ours.
pub(crate) fn parse_manifest(bytes: &[u8], layers_max: usize) -> Result<Manifest, ImageError> {
    let manifest: Manifest = parse("image manifest", bytes)?;
    if !["", MEDIA_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"]
        .contains(&manifest.media_type.as_str())
    {
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

/// Reads `UID:GID`; nothing at all is root, as in the specification. Names are refused, and so is a
/// number alone: its group would come from a file inside the image.
pub(crate) fn parse_user(text: &str) -> Result<User, ImageError> {
    if text.is_empty() {
        return Ok(User { uid: 0, gid: 0 });
    }
    let number = |part: &str| -> Option<u32> {
        let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        part.parse().ok().filter(|id| plain && *id < 65_536)
    };
    text.split_once(':')
        .and_then(|(uid, gid)| Some(User { uid: number(uid)?, gid: number(gid)? }))
        .ok_or_else(|| ImageError::User {
            found: text.chars().filter(|c| !c.is_control()).take(80).collect(),
        })
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

pub(crate) fn unsupported(what: &'static str, found: &str) -> ImageError {
    let found = found.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(120).collect();
    ImageError::Unsupported { what, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_users_in_numbers_and_refuses_names() {
        assert_eq!(parse_user("1000:100"), Ok(User { uid: 1000, gid: 100 }));
        assert_eq!(parse_user(""), Ok(User { uid: 0, gid: 0 }));
        for bad in ["nobody", "1000", "1000:", ":5", "+1:1", "65536:0", "0:65536", "1:2:3", "a:1"] {
            assert_eq!(parse_user(bad), Err(ImageError::User { found: bad.to_owned() }));
        }
    }

    #[test]
    fn refuses_an_index_where_a_manifest_belongs() {
        let bytes =
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        assert!(matches!(parse_manifest(bytes, 9), Err(ImageError::Malformed { .. })));
    }
}
