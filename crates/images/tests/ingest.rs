//! Images that enter part by part: what is kept, what is chosen, what is refused, what is left.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod common;

use std::fs;
use std::io::Write as _;

use casemate_canon::Sha256;
use casemate_images::{Document, ImageError, Ingest, Store};
use common::{LAYER_GZIP, LAYER_TAR, Parts, descriptor, files_below, import, ingest, small_tar, write_blob};
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn rule<T: std::fmt::Debug>(result: Result<T, ImageError>) -> String {
    match result {
        Err(ImageError::Refused(refusal)) => refusal.rule,
        other => panic!("not refused: {other:?}"),
    }
}

fn index_of(entries: &[Value]) -> Vec<u8> {
    serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})).unwrap()
}

fn entry(media_type: &str, bytes: &[u8], os: &str, architecture: &str, variant: Option<&str>) -> Value {
    let mut entry = descriptor(media_type, bytes);
    entry["platform"] = json!({"os": os, "architecture": architecture});
    if let Some(variant) = variant {
        entry["platform"]["variant"] = json!(variant);
    }
    entry
}

fn give(ingest: &mut Ingest<'_>, bytes: &[u8]) -> Result<Document, ImageError> {
    ingest.document(&Sha256::of(bytes), bytes)
}

fn chosen(index: &[u8]) -> Result<Sha256, ImageError> {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    match give(&mut store.ingest("a test").unwrap(), index)? {
        Document::Index { chosen } => Ok(chosen.digest),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_ingested_image_is_the_imported_one_but_for_its_documents() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let imported = import(&store, "imported", &small_tar()).unwrap();
    let parts = Parts::new(&[(LAYER_GZIP, gzip(&small_tar()), Sha256::of(&small_tar()))]);
    let info = ingest(&store, "ingested", &parts).unwrap();
    assert_eq!(info.rootfs, imported.rootfs);
    assert_eq!(info.manifest, parts.digest());
    assert_eq!(info, store.info("ingested").unwrap());
    store.verified_rootfs(&info.manifest, &info.config, &info.rootfs, &mut |_| {}).unwrap();
    assert!(fs::read_dir(dir.path().join("tmp")).unwrap().next().is_none());
}

#[test]
fn tells_which_blobs_a_manifest_needs_and_which_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    import(&store, "imported", &small_tar()).unwrap();
    let parts = Parts::plain(&small_tar());
    let mut ingest = store.ingest("a test").unwrap();
    let Document::Manifest { blobs } = give(&mut ingest, &parts.manifest).unwrap() else { panic!() };
    let digests: Vec<_> = blobs.iter().map(|blob| blob.digest).collect();
    assert_eq!(digests, [Sha256::of(&parts.config), Sha256::of(&small_tar())]);
    let there: Vec<_> = blobs.iter().map(|blob| ingest.has(&blob.digest, blob.size)).collect();
    assert_eq!(there, [false, true]);
    assert!(!ingest.has(&blobs[1].digest, blobs[1].size + 1));
    write_blob(&ingest, &parts.config).unwrap();
    assert!(ingest.has(&blobs[0].digest, blobs[0].size));
    ingest.finish("second", &parts.digest(), &mut |_| {}).unwrap();
}

#[test]
fn a_damaged_blob_is_not_there_and_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    import(&store, "imported", &small_tar()).unwrap();
    let digest = Sha256::of(&small_tar());
    let path = dir.path().join("blobs/sha256").join(digest.to_hex());
    let mut bytes = small_tar();
    bytes[1000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(!store.ingest("a test").unwrap().has(&digest, bytes.len() as u64));
    ingest(&store, "again", &Parts::plain(&small_tar())).unwrap();
    assert_eq!(fs::read(&path).unwrap(), small_tar());
}

#[test]
fn an_ingest_that_is_dropped_or_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let before = files_below(dir.path());
    let parts = Parts::plain(&small_tar());
    let mut dropped = store.ingest("a test").unwrap();
    give(&mut dropped, &parts.manifest).unwrap();
    write_blob(&dropped, &parts.config).unwrap();
    let mut half = dropped.blob(&Sha256::of(&parts.layers[0]), parts.layers[0].len() as u64).unwrap();
    half.write_all(&parts.layers[0][..1000]).unwrap();
    drop(dropped);
    drop(half);
    assert_eq!(files_below(dir.path()), before);

    let missing = Parts { layers: Vec::new(), ..parts.clone() };
    let what = Sha256::of(&parts.layers[0]).to_string();
    assert_eq!(ingest(&store, "missing", &missing), Err(ImageError::NotFound { what }));
    assert_eq!(files_below(dir.path()), before);
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn refuses_a_blob_of_another_size_or_digest() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let ingest = store.ingest("a test").unwrap();
    let digest = Sha256::of(b"four");
    let mut long = ingest.blob(&digest, 4).unwrap();
    let error = long.write_all(b"four and more").unwrap_err();
    assert_eq!(rule(Err::<(), _>(error.downcast::<ImageError>().unwrap())), "image.blob.size");
    let mut short = ingest.blob(&digest, 4).unwrap();
    short.write_all(b"fou").unwrap();
    assert_eq!(rule(short.commit()), "image.blob.size");
    let mut other = ingest.blob(&digest, 4).unwrap();
    other.write_all(b"five").unwrap();
    assert_eq!(rule(other.commit()), "image.blob.digest");
    assert!(!ingest.has(&digest, 4));
    assert!(matches!(ingest.blob(&digest, u64::MAX), Err(ImageError::Limit { .. })));
}

#[test]
fn refuses_a_document_of_another_digest() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let result = store.ingest("a test").unwrap().document(&Sha256::ZERO, b"{}");
    assert_eq!(rule(result), "image.document.digest");
}

#[test]
fn refuses_a_size_in_a_descriptor_that_is_not_the_blobs() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let before = files_below(dir.path());
    for at in ["config", "layer"] {
        let mut parts = Parts::plain(&small_tar());
        let mut manifest: Value = serde_json::from_slice(&parts.manifest).unwrap();
        let place = if at == "config" { &mut manifest["config"] } else { &mut manifest["layers"][0] };
        place["size"] = json!(place["size"].as_u64().unwrap() + 1);
        parts.manifest = serde_json::to_vec(&manifest).unwrap();
        assert_eq!(rule(ingest(&store, "wrong", &parts)), "image.blob.size", "{at}");
        assert_eq!(files_below(dir.path()), before);
    }
}

#[test]
fn refuses_a_diff_id_that_is_not_the_layers_even_where_the_root_file_system_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut other = small_tar();
    other.extend([0; 512]);
    let parts = Parts::new(&[(LAYER_GZIP, gzip(&other), Sha256::of(&small_tar()))]);
    assert_eq!(rule(ingest(&store, "wrong", &parts)), "image.layer.diff-id");
    ingest(&store, "right", &Parts::plain(&small_tar())).unwrap();
    let before = files_below(dir.path());
    assert_eq!(rule(ingest(&store, "wrong", &parts)), "image.layer.diff-id");
    assert_eq!(files_below(dir.path()), before);
}

#[test]
fn chooses_this_machines_platform_and_keeps_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let parts = Parts::plain(&small_tar());
    let index = index_of(&[
        entry(MANIFEST, b"other", "linux", "arm64", Some("v8")),
        entry(MANIFEST, b"windows", "windows", "amd64", None),
        entry(MANIFEST, b"newer", "linux", "amd64", Some("v3")),
        entry(MANIFEST, b"unknown", "unknown", "unknown", None),
        entry(MANIFEST, &parts.manifest, "linux", "amd64", None),
        entry(MANIFEST, b"second", "linux", "amd64", None),
    ]);
    let mut taken = store.ingest("a test").unwrap();
    let Document::Index { chosen } = give(&mut taken, &index).unwrap() else { panic!() };
    assert_eq!(chosen.digest, parts.digest());
    assert!(chosen.is_manifest() && !chosen.is_index());
    give(&mut taken, &parts.manifest).unwrap();
    write_blob(&taken, &parts.config).unwrap();
    write_blob(&taken, &parts.layers[0]).unwrap();
    taken.finish("multi", &parts.digest(), &mut |_| {}).unwrap();
    store.gc().unwrap();
    let kept = dir.path().join("blobs/sha256").join(Sha256::of(&index).to_hex());
    assert_eq!(fs::read(kept).unwrap(), index);
    store.remove("multi").unwrap();
    store.gc().unwrap();
    assert_eq!(files_below(dir.path()), ["index.json", "oci-layout"]);
}

#[test]
fn tells_all_about_an_image_and_finds_it_by_its_index() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut parts = Parts::new(&[
        (LAYER_TAR, small_tar(), Sha256::of(&small_tar())),
        (LAYER_GZIP, gzip(&small_tar()), Sha256::of(&small_tar())),
    ]);
    let mut config: Value = serde_json::from_slice(&parts.config).unwrap();
    config["config"]["Labels"] = json!({"one": "1"});
    config["created"] = json!("2026-01-02T03:04:05Z");
    config["variant"] = json!("v1");
    parts.config = serde_json::to_vec(&config).unwrap();
    let mut manifest: Value = serde_json::from_slice(&parts.manifest).unwrap();
    manifest["config"] = descriptor("application/vnd.oci.image.config.v1+json", &parts.config);
    parts.manifest = serde_json::to_vec(&manifest).unwrap();
    let index = index_of(&[entry(MANIFEST, &parts.manifest, "linux", "amd64", None)]);

    let mut taken = store.ingest("a registry\u{7} somewhere").unwrap();
    give(&mut taken, &index).unwrap();
    give(&mut taken, &parts.manifest).unwrap();
    for bytes in [&parts.config, &parts.layers[0], &parts.layers[1]] {
        write_blob(&taken, bytes).unwrap();
    }
    let info = taken.finish("app:1", &parts.digest(), &mut |_| {}).unwrap();

    let found = store.inspect(&Sha256::of(&index).to_string(), &mut |_| {}).unwrap();
    assert_eq!(found, store.inspect("app:1", &mut |_| {}).unwrap());
    assert_eq!(found.info, info);
    assert_eq!(store.info(&Sha256::of(&index).to_string()), Ok(info.clone()));
    assert_eq!(found.references, ["app:1"]);
    assert_eq!(found.platform, "linux/amd64/v1");
    assert_eq!(found.created.as_deref(), Some("2026-01-02T03:04:05Z"));
    assert_eq!(found.labels["one"], "1");
    assert_eq!(found.source.origin.as_deref(), Some("a registry\u{fffd} somewhere"));
    assert_eq!(found.source.indexes, [Sha256::of(&index)]);
    let layers: Vec<_> =
        found.layers.iter().map(|layer| (layer.digest, layer.diff_id, layer.bytes)).collect();
    let of = |stored: &[u8]| (Sha256::of(stored), Sha256::of(&small_tar()), stored.len() as u64);
    assert_eq!(layers, [of(&parts.layers[0]), of(&parts.layers[1])]);

    let listed = store.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].layers_bytes, Some(info.layers_bytes));
    assert_eq!(listed[0].rootfs_bytes, Some(info.rootfs_bytes));
    assert!(listed[0].source.stored_seconds.unwrap() > 1_700_000_000);
}

#[test]
fn a_preview_of_a_collection_removes_nothing_and_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    ingest(&store, "one", &Parts::plain(&small_tar())).unwrap();
    assert_eq!(store.gc_preview().unwrap().files, 0);
    store.remove("one").unwrap();
    let before = files_below(dir.path());
    let preview = store.gc_preview().unwrap();
    assert_eq!(files_below(dir.path()), before);
    assert_eq!(preview.files, 6);
    assert_eq!(store.gc().unwrap(), preview);
    assert_eq!(files_below(dir.path()), ["index.json", "oci-layout"]);
}

#[test]
fn refuses_an_index_without_this_machines_platform_and_says_what_there_is() {
    let entries = [
        entry(MANIFEST, b"one", "linux", "arm64", Some("v8")),
        entry(MANIFEST, b"two", "linux", "amd64", Some("v3")),
    ];
    let found = "linux/arm64/v8, linux/amd64/v3".to_owned();
    assert_eq!(
        chosen(&index_of(&entries)),
        Err(ImageError::Unsupported { what: "choice of platforms", found })
    );
    assert!(chosen(&index_of(&[])).is_err());
    // Two entries without a platform: nothing says which.
    let bare = [descriptor(MANIFEST, b"one"), descriptor(MANIFEST, b"two")];
    assert!(chosen(&index_of(&bare)).is_err());
    assert_eq!(chosen(&index_of(&bare[..1])), Ok(Sha256::of(b"one")));
}

#[test]
fn indexes_within_indexes_end_at_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut taken = store.ingest("a test").unwrap();
    let mut levels = vec![index_of(&[descriptor(MANIFEST, b"manifest")])];
    for _ in 0..4 {
        levels.push(index_of(&[descriptor(INDEX, levels.last().unwrap())]));
    }
    for level in levels[1..].iter().rev() {
        let Document::Index { chosen } = give(&mut taken, level).unwrap() else { panic!() };
        assert!(chosen.is_index());
    }
    let expected = ImageError::Limit { what: "indexes within indexes", limit: 4 };
    assert_eq!(give(&mut taken, &levels[0]), Err(expected));
}

#[test]
fn refuses_documents_that_are_both_or_neither() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let both: Vec<u8> = serde_json::to_vec(&json!({
        "schemaVersion": 2, "manifests": [], "layers": [], "config": descriptor("x", b"x"),
    }))
    .unwrap();
    for bytes in [&both[..], b"{}", b"[]", b"", b"{\"layers\":[]", b"\xff"] {
        let result = give(&mut store.ingest("a test").unwrap(), bytes);
        assert!(matches!(result, Err(ImageError::Malformed { .. })), "{result:?}");
    }
}

#[test]
fn refuses_layers_that_are_elsewhere_or_of_an_unknown_type() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for media_type in [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/x-unknown",
    ] {
        let parts = Parts::new(&[
            (LAYER_TAR, small_tar(), Sha256::of(&small_tar())),
            (media_type, b"x".to_vec(), Sha256::of(b"x")),
        ]);
        let result = give(&mut store.ingest("a test").unwrap(), &parts.manifest);
        assert_eq!(result, Err(ImageError::Unsupported { what: "layer type", found: media_type.to_owned() }));
    }
}
