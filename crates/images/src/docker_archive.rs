//! The archive of `docker save` (Docker image specification 1.2, "Combined Image JSON + Filesystem
//! Changeset Format") enters the store.
//!
//! It has a `manifest.json` that names a configuration and layers, without digests for the layers:
//! the configuration's diff-ids are what they are verified against. The manifest that the image gets
//! here is made of what the archive holds, the same one each time.

use casemate_canon::Sha256;
use casemate_protocol::Refusal;
use serde::Deserialize;

use crate::compression::Compression;
use crate::document::{self, Descriptor, MEDIA_CONFIG};
use crate::error::ImageError;
use crate::files::Files;
use crate::formats::ImportRequest;
use crate::ingest::Ingest;
use crate::oci_layout::{familiar_name, list};
use crate::progress::{Meter, Progress, Step};
use crate::store::{ImageInfo, Store};

/// One image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Entry {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.repo_tags.iter().flatten().map(String::as_str)
    }
}

/// Imports one image of an archive and returns the name it got.
pub(crate) fn import(
    store: &Store,
    files: &Files,
    origin: &str,
    request: &ImportRequest,
    progress: &mut dyn FnMut(Progress),
) -> Result<(String, ImageInfo), ImageError> {
    let bytes_max = store.limits.document_bytes_max;
    let read = |name: &str| files.read(name, bytes_max)?.ok_or_else(|| missing(name));
    let entries: Vec<Entry> = document::parse("manifest.json", &read("manifest.json")?)?;
    let entry = select(&entries, request)?;
    let reference = match (&request.name, &request.select) {
        (Some(name), _) | (None, Some(name)) => name.clone(),
        (None, None) => {
            let found = || "the archive gives it no name".to_owned();
            entry
                .names()
                .next()
                .map(familiar_name)
                .ok_or_else(|| ImageError::NoName { found: found() })?
                .to_owned()
        }
    };
    if entry.layers.len() > store.limits.layers_max {
        return Err(ImageError::Limit { what: "layers", limit: store.limits.layers_max as u64 });
    }

    let config = read(&entry.config)?;
    require_name(&entry.config, &config)?;
    let mut ingest = store.ingest(origin)?;
    let config = ingest.add(&mut &config[..], MEDIA_CONFIG, &mut Meter::silent())?;
    let layers = copy_layers(&ingest, files, &entry.layers, progress)?;
    let bytes = document::to_bytes("image manifest", &document::manifest_of(config, layers))?;
    let manifest = Sha256::of(&bytes);
    ingest.document(&manifest, &bytes)?;
    let info = ingest.finish(&reference, &manifest, progress)?;
    Ok((reference, info))
}

/// Reads a `manifest.json` and says how many layers the image has that is meant.
pub(crate) fn layers_of(bytes: &[u8], request: &ImportRequest) -> Result<usize, ImageError> {
    let entries: Vec<Entry> = document::parse("manifest.json", bytes)?;
    select(&entries, request).map(|entry| entry.layers.len())
}

fn select<'a>(entries: &'a [Entry], request: &ImportRequest) -> Result<&'a Entry, ImageError> {
    let names = || list(&entries.iter().flat_map(Entry::names).collect::<Vec<_>>());
    let called = |wanted: &str| {
        entries.iter().find(|entry| entry.names().any(|name| familiar_name(name) == familiar_name(wanted)))
    };
    match (&request.select, entries) {
        (_, []) => Err(ImageError::Choice { problem: "the archive is empty", found: "no images".to_owned() }),
        (Some(wanted), _) => called(wanted).ok_or_else(|| ImageError::Choice {
            problem: "no image in the archive has this name",
            found: names(),
        }),
        (None, [one]) => Ok(one),
        (None, _) => request
            .name
            .as_deref()
            .and_then(called)
            .ok_or_else(|| ImageError::Choice { problem: "the archive has several images", found: names() }),
    }
}

/// Where the name of the configuration holds its digest, it must be its digest.
fn require_name(name: &str, config: &[u8]) -> Result<(), ImageError> {
    let hex = name.rsplit('/').next().unwrap_or(name);
    let hex = hex.strip_suffix(".json").unwrap_or(hex);
    let found = Sha256::of(config);
    match format!("sha256:{hex}").parse::<Sha256>() {
        Ok(named) if named != found => Err(Refusal::new("image.config.digest", named, found).into()),
        _ => Ok(()),
    }
}

fn copy_layers(
    ingest: &Ingest<'_>,
    files: &Files,
    names: &[String],
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Descriptor>, ImageError> {
    let mut total_bytes = 0_u64;
    for name in names {
        let file = files.open(name)?.ok_or_else(|| missing(name))?;
        total_bytes = total_bytes.saturating_add(file.bytes);
    }
    let mut meter = Meter::new(Step::Import, Some(total_bytes), progress).with_layers(names.len());
    let mut layers = Vec::new();
    for name in names {
        let mut file = files.open(name)?.ok_or_else(|| missing(name))?;
        let mut start = [0; 4];
        let start = read_start(&mut file.reader, &mut start)
            .map_err(|error| ImageError::io("read", std::path::Path::new(name), &error))?;
        let media_type = document::layer_type(Compression::of_start(start));
        layers.push(ingest.add(&mut std::io::Read::chain(start, file.reader), media_type, &mut meter)?);
        meter.layer_done();
    }
    Ok(layers)
}

/// The first bytes of a stream, fewer only at its end.
fn read_start<'b>(reader: &mut dyn std::io::Read, buffer: &'b mut [u8; 4]) -> std::io::Result<&'b [u8]> {
    let mut have = 0;
    while let Some(rest) = buffer.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest)? {
            0 => break,
            n => have = have.saturating_add(n),
        }
    }
    Ok(buffer.get(..have).unwrap_or_default())
}

fn missing(name: &str) -> ImageError {
    let problem = format!("it has no `{}`", crate::error::printable(std::path::Path::new(name)));
    ImageError::Malformed { what: "docker save archive", problem }
}
