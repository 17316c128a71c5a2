//! The store as its users see it: import, describe, verify, name, collect.

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

fn erofs(dir: &Path, digest: &Sha256) -> std::path::PathBuf {
    dir.join(format!("erofs/{}.erofs", digest.to_hex()))
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
    // Without the EROFS file the layer would be unpacked: refused under the same rule.
    fs::remove_file(erofs(dir.path(), &info.rootfs)).unwrap();
    assert_eq!(rule(verify(&store, &info)), "image.layer.digest");
    assert_eq!(rule(store.info("demo").map(drop)), "image.layer.digest");
}
