//! Small tars and stores for the tests of this crate.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod mounted;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use casemate_canon::Sha256;
use casemate_composition::lock::User;
use casemate_images::{ImageError, ImageInfo, ImportOptions, Ingest, Store};
use serde_json::{Value, json};

pub(crate) fn options() -> ImportOptions {
    ImportOptions {
        entrypoint: vec!["/bin/agent".to_owned()],
        command: vec!["--serve".to_owned()],
        environment: BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]),
        working_dir: "/data".to_owned(),
        user: User { uid: 1000, gid: 1000 },
    }
}

pub(crate) fn import(store: &Store, reference: &str, tar: &[u8]) -> Result<ImageInfo, ImageError> {
    let mut reader = tar;
    store.import_rootfs(reference, &mut reader, &options(), &mut |_| {})
}

/// One entry; `link` is the target of links.
pub(crate) fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    kind: tar::EntryType,
    path: &str,
    link: &str,
    content: &[u8],
) {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(content.len() as u64);
    if !link.is_empty() {
        header.set_link_name_literal(link).unwrap();
    }
    if matches!(kind, tar::EntryType::Char | tar::EntryType::Block) {
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
    }
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

/// A small root file system.
pub(crate) fn small_tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, tar::EntryType::Directory, "./", "", b"");
    append(&mut tar, tar::EntryType::Directory, "./bin/", "", b"");
    append(&mut tar, tar::EntryType::Regular, "./bin/agent", "", b"#!/bin/true\n");
    append(&mut tar, tar::EntryType::Link, "./bin/other", "./bin/agent", b"");
    append(&mut tar, tar::EntryType::Symlink, "./agent", "bin/agent", b"");
    append(&mut tar, tar::EntryType::Regular, "./large", "", &vec![0xa5; 300_001]);
    append(&mut tar, tar::EntryType::Regular, "./deep/er/file", "", b"content");
    tar.into_inner().unwrap()
}

/// Names of all files below `dir`, sorted, without the locks.
pub(crate) fn files_below(dir: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_none_or(|e| e != "lock") {
                out.push(path.strip_prefix(dir).unwrap().display().to_string());
            }
        }
    }
    out.sort();
    out
}

/// An image in parts: documents and layers by digest.
#[derive(Clone, Default)]
pub(crate) struct Parts {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Vec<u8>>,
}

pub(crate) const LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

impl Parts {
    /// An image of these layers, each as stored, with its type and the digest of what is in it.
    pub(crate) fn new(layers: &[(&str, Vec<u8>, Sha256)]) -> Self {
        let diff_ids: Vec<_> = layers.iter().map(|(.., diff_id)| diff_id).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "config": {"Entrypoint": ["/bin/agent"], "Env": ["PATH=/bin"], "User": "1000:1000"},
        });
        let config = serde_json::to_vec(&config).unwrap();
        let descriptors: Vec<_> =
            layers.iter().map(|(media_type, stored, _)| descriptor(media_type, stored)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": descriptors,
        });
        let manifest = serde_json::to_vec(&manifest).unwrap();
        Self { manifest, config, layers: layers.iter().map(|(_, stored, _)| stored.clone()).collect() }
    }

    /// One plain layer.
    pub(crate) fn plain(tar: &[u8]) -> Self {
        Self::new(&[(LAYER_TAR, tar.to_vec(), Sha256::of(tar))])
    }

    pub(crate) fn digest(&self) -> Sha256 {
        Sha256::of(&self.manifest)
    }
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Sha256::of(bytes), "size": bytes.len()})
}

pub(crate) fn write_blob(ingest: &Ingest<'_>, bytes: &[u8]) -> Result<(), ImageError> {
    let mut writer = ingest.blob(&Sha256::of(bytes), bytes.len() as u64)?;
    writer.write_all(bytes).unwrap();
    writer.commit()
}

/// Brings all parts and finishes.
pub(crate) fn ingest(store: &Store, reference: &str, parts: &Parts) -> Result<ImageInfo, ImageError> {
    let mut ingest = store.ingest("a test")?;
    ingest.document(&parts.digest(), &parts.manifest)?;
    write_blob(&ingest, &parts.config)?;
    for layer in &parts.layers {
        write_blob(&ingest, layer)?;
    }
    ingest.finish(reference, &parts.digest(), &mut |_| {})
}
