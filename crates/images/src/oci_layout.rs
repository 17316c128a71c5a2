//! An OCI image layout (image specification 1.1, "OCI Image Layout") enters the store.

use std::path::Path;

use casemate_canon::Sha256;
use serde::Deserialize;

use crate::document::{self, ANNOTATION_NAME, Descriptor, Index};
use crate::error::ImageError;
use crate::files::Files;
use crate::formats::ImportRequest;
use crate::ingest::{Document, Ingest};
use crate::progress::{Meter, Progress, Step};
use crate::store::{ImageInfo, Store};

/// Full name of an image, as containerd and newer `docker save` note it.
const ANNOTATION_FULL_NAME: &str = "io.containerd.image.name";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

/// Imports one image of a layout and returns the name it got.
pub(crate) fn import(
    store: &Store,
    files: &Files,
    origin: &str,
    request: &ImportRequest,
    progress: &mut dyn FnMut(Progress),
) -> Result<(String, ImageInfo), ImageError> {
    let bytes_max = store.limits.document_bytes_max;
    let read = |name: &str| {
        files.read(name, bytes_max)?.ok_or_else(|| ImageError::Malformed {
            what: "OCI image layout",
            problem: format!("it has no `{name}`"),
        })
    };
    let marker: Marker = document::parse("OCI image layout", &read("oci-layout")?)?;
    if marker.image_layout_version != "1.0.0" {
        return Err(document::unsupported("layout version", &marker.image_layout_version));
    }
    let bytes = read("index.json")?;
    let index: Index = document::parse("image index", &bytes)?;
    let entry = select(&index.manifests, request)?;
    let reference = match &request.name {
        Some(name) => name.clone(),
        None => own_name(&entry)?,
    };

    let mut ingest = store.ingest(origin)?;
    let mut document = entry;
    let (manifest, blobs) = loop {
        let bytes = read(&path_of(&document.digest))?;
        document.require_size(bytes.len() as u64)?;
        match ingest.document(&document.digest, &bytes)? {
            Document::Index { chosen } => document = chosen,
            Document::Manifest { blobs } => break (document.digest, blobs),
        }
    };
    copy_blobs(&ingest, files, &blobs, progress)?;
    let info = ingest.finish(&reference, &manifest, progress)?;
    Ok((reference, info))
}

/// The entry that is meant. Among several of one name the platform decides, as in any index.
fn select(entries: &[Descriptor], request: &ImportRequest) -> Result<Descriptor, ImageError> {
    let names = || {
        let mut names: Vec<&str> = entries.iter().flat_map(names_of).collect();
        names.dedup();
        list(&names)
    };
    let called = |wanted: &str| -> Vec<Descriptor> {
        let full = full_name(wanted);
        let is = |entry: &&Descriptor| names_of(entry).any(|name| name == wanted || full_name(name) == full);
        entries.iter().filter(is).cloned().collect()
    };
    let candidates = match (&request.select, &request.name) {
        (Some(wanted), _) => called(wanted),
        (None, Some(name)) if !called(name).is_empty() => called(name),
        _ => entries.to_vec(),
    };
    match candidates.as_slice() {
        [] if entries.is_empty() => {
            Err(ImageError::Choice { problem: "the layout is empty", found: "no images".to_owned() })
        }
        [] => Err(ImageError::Choice { problem: "no image in the layout has this name", found: names() }),
        [one] => Ok(one.clone()),
        [first, rest @ ..] if rest.iter().all(|entry| names_of(entry).eq(names_of(first))) => {
            document::choose_among(&candidates)
        }
        _ => Err(ImageError::Choice { problem: "the layout has several images", found: names() }),
    }
}

fn names_of(entry: &Descriptor) -> impl Iterator<Item = &str> {
    let name = |key| entry.annotations.get(key).map(String::as_str);
    [name(ANNOTATION_FULL_NAME), name(ANNOTATION_NAME)].into_iter().flatten()
}

/// The name an entry gives itself. A tag alone is none: the layout's directory was the rest of it.
fn own_name(entry: &Descriptor) -> Result<String, ImageError> {
    let whole = |name: &&str| name.contains([':', '/']);
    match names_of(entry).find(whole) {
        Some(name) => Ok(familiar_name(name).to_owned()),
        None => {
            let tags: Vec<&str> = names_of(entry).collect();
            let found = match tags.first() {
                Some(tag) => {
                    format!("the layout gives only the tag `{}`", crate::error::printable(Path::new(tag)))
                }
                None => "the layout gives it no name".to_owned(),
            };
            Err(ImageError::NoName { found })
        }
    }
}

/// A name with the registry and folder that stand for themselves on Docker Hub.
fn full_name(name: &str) -> String {
    let familiar = familiar_name(name);
    if familiar.contains(':') { familiar.to_owned() } else { format!("{familiar}:latest") }
}

/// A name of Docker Hub as people write it; others as they are.
pub(crate) fn familiar_name(name: &str) -> &str {
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    short.strip_prefix("library/").filter(|_| short.len() != name.len()).unwrap_or(short)
}

/// Names for an error: at most a few, printable.
pub(crate) fn list(names: &[&str]) -> String {
    const NAMES_MAX: usize = 10;
    let mut shown: Vec<String> = names
        .iter()
        .take(NAMES_MAX)
        .map(|name| format!("`{}`", crate::error::printable(Path::new(name))))
        .collect();
    if names.len() > NAMES_MAX {
        shown.push(format!("{} more", names.len().saturating_sub(NAMES_MAX)));
    }
    if shown.is_empty() { "no names".to_owned() } else { shown.join(", ") }
}

fn path_of(digest: &Sha256) -> String {
    format!("blobs/sha256/{}", digest.to_hex())
}

/// Copies the blobs that the store does not have.
fn copy_blobs(
    ingest: &Ingest<'_>,
    files: &Files,
    blobs: &[Descriptor],
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ImageError> {
    let missing: Vec<_> = blobs.iter().filter(|blob| !ingest.has(&blob.digest, blob.size)).collect();
    let total_bytes = missing.iter().map(|blob| blob.size).fold(0, u64::saturating_add);
    let mut meter = Meter::new(Step::Import, Some(total_bytes), progress).with_layers(missing.len());
    for blob in missing {
        let Some(file) = files.open(&path_of(&blob.digest))? else {
            let problem = format!("it has no blob {}", blob.digest);
            return Err(ImageError::Malformed { what: "OCI image layout", problem });
        };
        blob.require_size(file.bytes)?;
        let mut writer = ingest.blob(&blob.digest, blob.size)?;
        meter.copy(file.reader, &mut writer, Path::new(&path_of(&blob.digest)))?;
        writer.commit()?;
        meter.layer_done();
    }
    Ok(())
}
