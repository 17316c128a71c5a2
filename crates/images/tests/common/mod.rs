//! Small tars and stores for the tests of this crate.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::path::Path;

use casemate_composition::lock::User;
use casemate_images::{ImageError, ImageInfo, ImportOptions, Store};

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
