//! The store as its users see it: import, describe, verify, name, collect.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod common;

use std::fs;
use std::path::Path;

use casemate_canon::Sha256;
use casemate_images::{ImageError, ImageInfo, Store};
use common::{files_below, import, options, small_tar};

fn verify(store: &Store, info: &ImageInfo) -> Result<(), ImageError> {
    store.verified_rootfs(&info.manifest, &info.config, &info.rootfs, &mut |_| {}).map(drop)
}

fn rule(result: Result<(), ImageError>) -> String {
    match result {
        Err(ImageError::Refused(refusal)) => refusal.rule,
        other => panic!("not refused: {other:?}"),
    }
}

fn flip_byte(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn blob(dir: &Path, digest: &Sha256) -> std::path::PathBuf {
    dir.join("blobs/sha256").join(digest.to_hex())
}

fn metadata(dir: &Path, digest: &Sha256) -> std::path::PathBuf {
    dir.join(format!("erofs/{}.metadata", digest.to_hex()))
}

fn data(dir: &Path, digest: &Sha256) -> std::path::PathBuf {
    dir.join(format!("erofs/{}.data", digest.to_hex()))
}

#[test]
fn imports_describes_and_verifies_an_image() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let info = import(&store, "demo:1", &small_tar()).unwrap();
    assert_eq!(store.info("demo:1"), Ok(info.clone()));
    assert_eq!(store.info(&info.manifest.to_string()), Ok(info.clone()));
    assert_eq!(info.entrypoint, options().entrypoint);
    assert_eq!(info.command, options().command);
    assert_eq!(info.environment, options().environment);
    assert_eq!(info.working_dir, "/data");
    assert_eq!(info.user, options().user);
    assert_eq!(info.layers_bytes, small_tar().len() as u64);
    verify(&store, &info).unwrap();
}

#[test]
fn refuses_a_changed_byte_in_a_layer_under_its_rule() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let info = import(&store, "demo", &small_tar()).unwrap();
    let layer = blob(dir.path(), &Sha256::of(&small_tar()));
    flip_byte(&layer, 3000);
    // What runs is the root file system, which the lock pins: a start reads no layer.
    verify(&store, &info).unwrap();
    fs::remove_file(data(dir.path(), &info.rootfs)).unwrap();
    let expected = Sha256::of(&small_tar()).to_string();
    let found = Sha256::of(&fs::read(&layer).unwrap()).to_string();
    match verify(&store, &info) {
        Err(ImageError::Refused(refusal)) => {
            assert_eq!(refusal.rule, "image.layer.digest");
            assert_eq!(refusal.expected, expected);
            assert_eq!(refusal.found, found);
        }
        other => panic!("not refused: {other:?}"),
    }
    assert_eq!(rule(store.info("demo").map(drop)), "image.layer.digest");
}

#[test]
fn refuses_a_changed_byte_in_every_other_part_under_its_rule() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let info = import(&store, "demo", &small_tar()).unwrap();
    for (path, expected) in [
        (blob(dir.path(), &info.manifest), "image.manifest.digest"),
        (blob(dir.path(), &info.config), "image.config.digest"),
        (metadata(dir.path(), &info.rootfs), "image.rootfs.digest"),
        (data(dir.path(), &info.rootfs), "image.rootfs.digest"),
    ] {
        flip_byte(&path, 100);
        assert_eq!(rule(verify(&store, &info)), expected);
        flip_byte(&path, 100);
        verify(&store, &info).unwrap();
    }
}

#[test]
fn a_change_in_place_is_seen_at_the_next_use_of_the_same_file() {
    use std::os::unix::fs::FileExt as _;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let info = import(&store, "demo", &small_tar()).unwrap();
    let verified = store.verified_rootfs(&info.manifest, &info.config, &info.rootfs, &mut |_| {}).unwrap();
    // The path is renamed over: what is open stays what was verified.
    let path = data(dir.path(), &info.rootfs);
    fs::copy(&path, dir.path().join("other")).unwrap();
    let other = fs::OpenOptions::new().write(true).open(dir.path().join("other")).unwrap();
    other.write_all_at(b"other", 5000).unwrap();
    let before = fs::OpenOptions::new().write(true).open(&path).unwrap();
    fs::rename(dir.path().join("other"), &path).unwrap();
    verified.verify_again().unwrap();
    assert_eq!(rule(verify(&store, &info)), "image.rootfs.digest");
    // The file itself is written to.
    before.write_all_at(b"other", 5000).unwrap();
    assert_eq!(rule(verified.verify_again()), "image.rootfs.digest");
}

#[test]
fn a_second_resolution_and_a_second_start_open_no_layer() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let info = import(&store, "demo", &small_tar()).unwrap();
    // What is not there cannot be read.
    let layer = blob(dir.path(), &Sha256::of(&small_tar()));
    fs::rename(&layer, dir.path().join("tmp/away")).unwrap();
    assert_eq!(store.info("demo"), Ok(info.clone()));
    verify(&store, &info).unwrap();
    fs::remove_file(data(dir.path(), &info.rootfs)).unwrap();
    assert!(matches!(verify(&store, &info), Err(ImageError::NotFound { .. })));
}

#[test]
fn refuses_digests_of_another_image() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let one = import(&store, "one", &small_tar()).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    common::append(&mut tar, tar::EntryType::Regular, "./other", "", b"other");
    let two = import(&store, "two", &tar.into_inner().unwrap()).unwrap();
    let mixed = ImageInfo { config: two.config, ..one.clone() };
    assert_eq!(rule(verify(&store, &mixed)), "image.config.digest");
    let absent = ImageInfo { rootfs: Sha256::ZERO, ..one.clone() };
    assert_eq!(rule(verify(&store, &absent)), "image.rootfs.digest");
    let absent = ImageInfo { manifest: Sha256::ZERO, ..one };
    assert_eq!(verify(&store, &absent), Err(ImageError::NotFound { what: Sha256::ZERO.to_string() }));
}

#[test]
fn builds_a_missing_rootfs_again_with_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let info = import(&store, "demo", &small_tar()).unwrap();
    for missing in [metadata, data] {
        fs::remove_file(missing(dir.path(), &info.rootfs)).unwrap();
        verify(&store, &info).unwrap();
        fs::remove_file(missing(dir.path(), &info.rootfs)).unwrap();
        assert_eq!(store.info("demo"), Ok(info.clone()));
    }
}

#[test]
fn a_root_file_system_of_the_older_form_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let info = import(&store, "demo", &small_tar()).unwrap();
    let older = Sha256::of(b"one file");
    fs::write(dir.path().join(format!("erofs/{}.erofs", older.to_hex())), "one file").unwrap();
    let locked = ImageInfo { rootfs: older, ..info.clone() };
    let error = verify(&store, &locked).unwrap_err();
    assert_eq!(error, ImageError::OlderForm { digest: older.to_string() });
    assert!(error.todo().contains("casemate lock"), "{}", error.todo());
    // A lock of now has the digest of the new form, and what nobody needs is collected.
    assert_eq!(store.info("demo"), Ok(info));
    assert_eq!(store.gc().unwrap().files, 1);
}

#[test]
fn contents_are_not_in_the_metadata_and_names_are_not_in_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    common::append(&mut tar, tar::EntryType::Regular, "./name-of-a-file", "", b"content-of-a-file");
    let info = import(&store, "demo", &tar.into_inner().unwrap()).unwrap();
    let has = |path: std::path::PathBuf, text: &[u8]| {
        fs::read(path).unwrap().windows(text.len()).any(|window| window == text)
    };
    assert!(has(metadata(dir.path(), &info.rootfs), b"name-of-a-file"));
    assert!(has(data(dir.path(), &info.rootfs), b"content-of-a-file"));
    assert!(!has(metadata(dir.path(), &info.rootfs), b"content-of-a-file"));
    assert!(!has(data(dir.path(), &info.rootfs), b"name-of-a-file"));
}

#[test]
fn same_layers_give_the_same_bytes_on_another_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let one = import(&Store::open(dir.path()).unwrap(), "demo", &small_tar()).unwrap();
    let two = import(&Store::open(memory.path()).unwrap(), "other-name", &small_tar()).unwrap();
    assert_eq!(one, two);
}

#[test]
fn imports_again_over_a_damaged_image() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let info = import(&store, "demo", &small_tar()).unwrap();
    flip_byte(&metadata(dir.path(), &info.rootfs), 100);
    flip_byte(&data(dir.path(), &info.rootfs), 5000);
    flip_byte(&blob(dir.path(), &info.manifest), 5);
    assert_eq!(import(&store, "demo", &small_tar()).unwrap(), info);
    verify(&store, &info).unwrap();
}

#[test]
fn gzip_and_plain_tar_import_as_the_same_image() {
    use std::io::Write as _;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let plain = import(&store, "plain", &small_tar()).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&small_tar()).unwrap();
    assert_eq!(import(&store, "gzip", &encoder.finish().unwrap()).unwrap(), plain);
}

#[test]
fn lists_names_removes_them_and_collects_what_none_needs() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let one = import(&store, "b", &small_tar()).unwrap();
    import(&store, "a", &small_tar()).unwrap();
    let names = |store: &Store| store.list().unwrap().into_iter().map(|i| i.reference).collect::<Vec<_>>();
    assert_eq!(names(&store), ["a", "b"]);
    assert_eq!(store.gc().unwrap(), casemate_images::GcReport::default());
    store.remove("a").unwrap();
    assert_eq!(store.remove("a"), Err(ImageError::NotFound { what: "a".to_owned() }));
    store.gc().unwrap();
    verify(&store, &one).unwrap();
    store.remove("b").unwrap();
    store.gc().unwrap();
    assert_eq!(files_below(dir.path()), ["index.json", "oci-layout"]);
    assert_eq!(store.info("b"), Err(ImageError::NotFound { what: "b".to_owned() }));
}

#[test]
fn store_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let store = Store::open(&path).unwrap();
    import(&store, "demo", &small_tar()).unwrap();
    let mut todo = vec![path];
    while let Some(path) = todo.pop() {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
        if path.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

#[test]
fn layout_is_readable_by_another_oci_tool() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let info = import(&store, "demo", &small_tar()).unwrap();
    let output = std::process::Command::new("timeout")
        .args(["30", "skopeo", "inspect", "--format", "{{.Digest}}"])
        .arg(format!("oci:{}:demo", dir.path().join("store").display()))
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    if output.status.code() == Some(127) {
        // Past the capture of the test runner: this must be seen.
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            b"not run: layout_is_readable_by_another_oci_tool: skopeo is not installed\n",
        );
        return;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), info.manifest.to_string());
}
