//! Images with one defect each, in every form: refused for the right reason, and nothing stays.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod common;

use std::fs;
use std::io::Write as _;
use std::path::Path;

use casemate_canon::Sha256;
use casemate_images::{EntryProblem, ImageError, ImportRequest, Limits, Store};
use common::{LAYER_GZIP, LAYER_TAR, Parts, append, descriptor, files_below, ingest, small_tar};
use serde_json::{Value, json};
use tar::EntryType;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Runs `attempt` on a store that holds an image, and checks that it fails and changes nothing.
fn refusal_with(limits: Limits, attempt: impl Fn(&Store) -> Result<(), ImageError>) -> ImageError {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_with(&dir.path().join("store"), limits).unwrap();
    common::import(&store, "kept", &small_tar()).unwrap();
    let (files, index) = (files_below(dir.path()), fs::read(dir.path().join("store/index.json")).unwrap());
    let error = attempt(&store).unwrap_err();
    assert_eq!(files_below(dir.path()), files);
    assert_eq!(fs::read(dir.path().join("store/index.json")).unwrap(), index);
    assert!(!Path::new("/casemate-escaped").exists());
    assert!(!error.todo().is_empty());
    error
}

fn refusal(attempt: impl Fn(&Store) -> Result<(), ImageError>) -> ImageError {
    refusal_with(Limits::STANDARD, attempt)
}

fn import(store: &Store, source: &Path) -> Result<(), ImageError> {
    let request = ImportRequest { name: Some("hostile".to_owned()), ..ImportRequest::default() };
    store.import(source, &request, &mut |_| {}).map(drop)
}

fn rule(error: &ImageError) -> &str {
    match error {
        ImageError::Refused(refusal) => &refusal.rule,
        other => panic!("{other:?}"),
    }
}

fn is_malformed(error: &ImageError) -> bool {
    matches!(error, ImageError::Malformed { .. })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A zstd frame of `blocks` blocks of 128 KiB zeros, 4 bytes each (RFC 8878, section 3.1.1.2).
fn zstd_zeros(blocks: usize) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3];
    for block in 1..=blocks {
        let header = u32::from(block == blocks) | 1 << 1 | (128 << 10) << 3;
        out.extend(&header.to_le_bytes()[..3]);
        out.push(0);
    }
    out
}

/// A zstd frame of raw blocks.
fn zstd_raw(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3];
    let chunks: Vec<_> = bytes.chunks(64 << 10).collect();
    for (at, chunk) in chunks.iter().enumerate() {
        let header = u32::from(at + 1 == chunks.len()) | u32::try_from(chunk.len()).unwrap() << 3;
        out.extend(&header.to_le_bytes()[..3]);
        out.extend(*chunk);
    }
    out
}

/// Writes an OCI layout of these parts.
fn write_layout(dir: &Path, parts: &Parts, manifests: &Value) {
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    fs::write(dir.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = json!({"schemaVersion": 2, "manifests": manifests});
    fs::write(dir.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    for bytes in parts.layers.iter().chain([&parts.manifest, &parts.config]) {
        fs::write(dir.join("blobs/sha256").join(Sha256::of(bytes).to_hex()), bytes).unwrap();
    }
}

fn layout_of(parts: &Parts) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_layout(dir.path(), parts, &json!([descriptor(MANIFEST, &parts.manifest)]));
    dir
}

/// A `docker save` archive of these files.
fn archive(files: &[(&str, EntryType, &[u8])]) -> tempfile::NamedTempFile {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, content) in files {
        let link = if *kind == EntryType::Regular { "" } else { std::str::from_utf8(content).unwrap() };
        append(&mut tar, *kind, name, link, if link.is_empty() { content } else { b"" });
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&tar.into_inner().unwrap()).unwrap();
    file
}

fn docker_config(diff_id: Sha256) -> Vec<u8> {
    serde_json::to_vec(&json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }))
    .unwrap()
}

#[test]
fn the_helpers_make_images_that_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let digest = Sha256::of(&small_tar());
    import(&store, layout_of(&Parts::plain(&small_tar())).path()).unwrap();
    ingest(&store, "zstd", &Parts::new(&[(LAYER_ZSTD, zstd_raw(&small_tar()), digest)])).unwrap();
    let config = docker_config(digest);
    let manifest = br#"[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar"]}]"#;
    let regular = EntryType::Regular;
    let file = archive(&[
        ("a/layer.tar", EntryType::Symlink, b"../b/layer.tar"),
        ("b/layer.tar", regular, &small_tar()),
        ("c.json", regular, &config),
        ("manifest.json", regular, manifest),
    ]);
    import(&store, file.path()).unwrap();
}

#[test]
fn refuses_repeated_members_and_deep_nesting_in_every_document() {
    let good = Parts::plain(&small_tar());
    let twice = |bytes: &[u8]| {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        format!("{{\"x\":1,\"x\":2,{}", &text[1..]).into_bytes()
    };
    let deep = |bytes: &[u8]| {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        format!("{{\"x\":{}{},{}", "[".repeat(100_000), "]".repeat(100_000), &text[1..]).into_bytes()
    };
    for change in [&twice as &dyn Fn(&[u8]) -> Vec<u8>, &deep] {
        let parts = Parts { manifest: change(&good.manifest), ..good.clone() };
        assert!(is_malformed(&refusal(|store| import(store, layout_of(&parts).path()))));

        let mut parts = Parts { config: change(&good.config), ..good.clone() };
        let mut manifest: Value = serde_json::from_slice(&good.manifest).unwrap();
        manifest["config"] = descriptor("application/vnd.oci.image.config.v1+json", &parts.config);
        parts.manifest = serde_json::to_vec(&manifest).unwrap();
        assert!(is_malformed(&refusal(|store| ingest(store, "hostile", &parts).map(drop))));

        for file in ["index.json", "oci-layout"] {
            let dir = layout_of(&good);
            let changed = change(&fs::read(dir.path().join(file)).unwrap());
            fs::write(dir.path().join(file), changed).unwrap();
            assert!(is_malformed(&refusal(|store| import(store, dir.path()))), "{file}");
        }
        let manifest = change(br#"{"Config":"c.json","Layers":["a.tar"]}"#);
        let file = archive(&[("manifest.json", EntryType::Regular, &[b"[", &manifest[..], b"]"].concat())]);
        assert!(is_malformed(&refusal(|store| import(store, file.path()))));
    }
}

#[test]
fn refuses_ten_thousand_layers_and_documents_without_end() {
    let layer = (LAYER_TAR, b"x".to_vec(), Sha256::of(b"x"));
    let many = Parts::new(&vec![layer.clone(); 10_000]);
    let expected = ImageError::Limit { what: "layers", limit: 128 };
    assert_eq!(refusal(|store| import(store, layout_of(&many).path())), expected);
    let names = vec!["a/layer.tar"; 10_000];
    let manifest = serde_json::to_vec(&json!([{"Config": "c.json", "Layers": names}])).unwrap();
    let file = archive(&[("manifest.json", EntryType::Regular, &manifest)]);
    assert_eq!(refusal(|store| import(store, file.path())), expected);

    let mut long = Parts::new(&[layer]);
    long.manifest.extend(vec![b' '; 5 << 20]);
    let limit = Limits::STANDARD.document_bytes_max;
    let expected = ImageError::Limit { what: "bytes of a document", limit };
    assert_eq!(refusal(|store| import(store, layout_of(&long).path())), expected);
}

#[test]
fn refuses_an_index_that_contains_itself_and_indexes_without_end() {
    let good = Parts::plain(&small_tar());
    let dir = layout_of(&good);
    let index = |entry: Value| {
        serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})).unwrap()
    };
    // No bytes hold their own digest: an index under its own name is not what its name says.
    let name = Sha256::of(b"any");
    let itself = index(json!({"mediaType": INDEX, "digest": name, "size": 230}));
    fs::write(dir.path().join("blobs/sha256").join(name.to_hex()), &itself).unwrap();
    let entry = json!([{"mediaType": INDEX, "digest": name, "size": itself.len()}]);
    write_layout(dir.path(), &good, &entry);
    assert_eq!(rule(&refusal(|store| import(store, dir.path()))), "image.document.digest");

    let mut entry = descriptor(MANIFEST, &good.manifest);
    for _ in 0..5 {
        let bytes = index(entry);
        fs::write(dir.path().join("blobs/sha256").join(Sha256::of(&bytes).to_hex()), &bytes).unwrap();
        entry = descriptor(INDEX, &bytes);
    }
    write_layout(dir.path(), &good, &json!([entry]));
    let expected = ImageError::Limit { what: "indexes within indexes", limit: 4 };
    assert_eq!(refusal(|store| import(store, dir.path())), expected);
}

#[test]
fn refuses_layers_that_expand_too_far() {
    let limits = Limits { expansion_free_bytes: 1 << 20, ..Limits::STANDARD };
    let bomb = zstd_zeros(8192);
    for (media_type, stored) in [(LAYER_ZSTD, bomb.clone()), (LAYER_GZIP, gzip(&vec![0; 64 << 20]))] {
        let limit = (1 << 20) + 200 * stored.len() as u64;
        let parts = Parts::new(&[(media_type, stored.clone(), Sha256::ZERO)]);
        let expected = ImageError::Limit { what: "unpacked bytes of a layer", limit };
        assert_eq!(refusal_with(limits, |store| ingest(store, "hostile", &parts).map(drop)), expected);
        // The same as a whole file.
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&stored).unwrap();
        assert_eq!(refusal_with(limits, |store| import(store, file.path())), expected);
    }
}

#[test]
fn refuses_layers_that_are_cut_short_or_of_another_type() {
    let tar = small_tar();
    for (media_type, stored) in [
        (LAYER_GZIP, gzip(&tar)[..1000].to_vec()),
        (LAYER_ZSTD, zstd_raw(&tar)[..1000].to_vec()),
        (LAYER_TAR, tar[..1000].to_vec()),
        (LAYER_GZIP, tar.clone()),
        (LAYER_ZSTD, gzip(&tar)),
        (LAYER_TAR, zstd_raw(&tar)),
    ] {
        let diff_id = if media_type == LAYER_TAR { Sha256::of(&stored) } else { Sha256::of(&tar) };
        let parts = Parts::new(&[(media_type, stored, diff_id)]);
        let error = refusal(|store| ingest(store, "hostile", &parts).map(drop));
        assert!(is_malformed(&error), "{media_type}: {error:?}");
    }
}

#[test]
fn refuses_digests_and_sizes_in_a_layout_that_are_not_the_files() {
    let good = Parts::plain(&small_tar());
    let blob = |dir: &Path, bytes: &[u8]| dir.join("blobs/sha256").join(Sha256::of(bytes).to_hex());
    for (part, expected) in [
        (&good.manifest, "image.document.digest"),
        (&good.config, "image.blob.digest"),
        (&good.layers[0], "image.blob.digest"),
    ] {
        let dir = layout_of(&good);
        let mut changed = part.clone();
        let at = changed.len() / 2;
        changed[at] ^= 1;
        fs::write(blob(dir.path(), part), &changed).unwrap();
        // An empty store: a layer that the store has is not read from the layout.
        let fresh = tempfile::tempdir().unwrap();
        let store = Store::open(&fresh.path().join("store")).unwrap();
        let error = import(&store, dir.path()).unwrap_err();
        assert_eq!(rule(&error), expected);
        assert_eq!(files_below(fresh.path()), ["store/oci-layout"]);

        changed = [part, &b" "[..]].concat();
        fs::write(blob(dir.path(), part), &changed).unwrap();
        assert_eq!(rule(&import(&store, dir.path()).unwrap_err()), "image.blob.size");
        fs::remove_file(blob(dir.path(), part)).unwrap();
        assert!(is_malformed(&import(&store, dir.path()).unwrap_err()));
        assert_eq!(files_below(fresh.path()), ["store/oci-layout"]);
    }
}

#[test]
fn a_layout_does_not_lead_outside_its_directory() {
    let good = Parts::plain(&small_tar());
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), &good.manifest).unwrap();
    let dir = layout_of(&good);
    let blob = dir.path().join("blobs/sha256").join(good.digest().to_hex());
    fs::remove_file(&blob).unwrap();
    std::os::unix::fs::symlink(outside.path(), &blob).unwrap();
    let error = refusal(|store| import(store, dir.path()));
    assert!(matches!(error, ImageError::Io { .. }), "{error:?}");
}

#[test]
fn refuses_archives_with_one_defect_each() {
    let tar = small_tar();
    let digest = Sha256::of(&tar);
    let (config, other) = (docker_config(digest), docker_config(Sha256::ZERO));
    let manifest = |config: &str, layer: &str| {
        serde_json::to_vec(&json!([{"Config": config, "Layers": [layer]}])).unwrap()
    };
    let regular = EntryType::Regular;
    let good = manifest("c.json", "a.tar");
    let named = format!("{}.json", digest.to_hex());
    let wrong_name = manifest(&named, "a.tar");
    let climbs = manifest("c.json", "../../../../etc/passwd");
    let absolute = manifest("/etc/passwd", "a.tar");
    let circle = manifest("c.json", "x/layer.tar");

    for files in [
        vec![("manifest.json", regular, &b"[]"[..])],
        vec![("manifest.json", regular, &good[..]), ("a.tar", regular, &tar)],
        vec![("manifest.json", regular, &good), ("c.json", regular, &config)],
        vec![("manifest.json", regular, &climbs), ("c.json", regular, &config)],
        vec![("manifest.json", regular, &absolute), ("a.tar", regular, &tar)],
        vec![
            ("manifest.json", regular, &good),
            ("c.json", regular, &config),
            ("a.tar", regular, &tar),
            ("a.tar", regular, b"another"),
        ],
        vec![
            ("manifest.json", regular, &circle),
            ("c.json", regular, &config),
            ("x/layer.tar", EntryType::Symlink, b"../y/layer.tar"),
            ("y/layer.tar", EntryType::Symlink, b"../x/layer.tar"),
        ],
    ] {
        let file = archive(&files);
        let error = refusal(|store| import(store, file.path()));
        assert!(matches!(error, ImageError::Malformed { .. } | ImageError::Choice { .. }), "{error:?}");
    }
    let file = archive(&[
        ("manifest.json", regular, &wrong_name),
        (&named, regular, &config),
        ("a.tar", regular, &tar),
    ]);
    assert_eq!(rule(&refusal(|store| import(store, file.path()))), "image.config.digest");
    let file =
        archive(&[("manifest.json", regular, &good), ("c.json", regular, &other), ("a.tar", regular, &tar)]);
    assert_eq!(rule(&refusal(|store| import(store, file.path()))), "image.layer.diff-id");
    let whole =
        archive(&[("manifest.json", regular, &good), ("c.json", regular, &config), ("a.tar", regular, &tar)]);
    let cut = fs::read(whole.path()).unwrap();
    fs::write(whole.path(), &cut[..cut.len() - 100_000]).unwrap();
    assert!(is_malformed(&refusal(|store| import(store, whole.path()))));
}

#[test]
fn a_layer_cannot_reach_through_a_link_of_another_layer() {
    let one = |kind, path: &str, link: &str| {
        let mut tar = tar::Builder::new(Vec::new());
        append(&mut tar, kind, path, link, b"");
        tar.into_inner().unwrap()
    };
    for (upper, entry, problem) in [
        (
            one(EntryType::Regular, "out/casemate-escaped", ""),
            "out/casemate-escaped",
            EntryProblem::ThroughSymlink,
        ),
        (
            one(EntryType::Directory, "out/casemate-escaped", ""),
            "out/casemate-escaped",
            EntryProblem::ThroughSymlink,
        ),
        (one(EntryType::Regular, "out/.wh.etc", ""), "out/.wh.etc", EntryProblem::ThroughSymlink),
        (
            one(EntryType::Link, "passwd", "out/etc/passwd"),
            "passwd",
            EntryProblem::HardLinkTarget { target: "out/etc/passwd".to_owned() },
        ),
        (one(EntryType::Regular, ".wh..wh.x", ""), ".wh..wh.x", EntryProblem::ReservedName),
        (one(EntryType::Regular, ".wh.", ""), ".wh.", EntryProblem::ReservedName),
        (one(EntryType::Regular, ".wh...", ""), ".wh...", EntryProblem::ReservedName),
    ] {
        let lower = one(EntryType::Symlink, "out", "/");
        let layer = |tar: Vec<u8>| (LAYER_TAR, tar.clone(), Sha256::of(&tar));
        let parts = Parts::new(&[layer(lower), layer(upper)]);
        let expected = ImageError::Entry { entry: entry.to_owned(), problem };
        assert_eq!(refusal(|store| ingest(store, "hostile", &parts).map(drop)), expected);
    }
}
