//! Two users at once, and users that are killed: the store stays whole and keeps no leftovers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod common;

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use casemate_canon::Sha256;
use casemate_images::{ImageError, Store};
use common::{LAYER_GZIP, LAYER_TAR, Parts, append, files_below, import, ingest, small_tar};
use rustix::mount::MountFlags;

/// Tells the child below which store to import into.
const STORE: &str = "CASEMATE_TEST_STORE";
/// And under which name.
const NAME: &str = "CASEMATE_TEST_NAME";

/// A tar whose import takes some tens of milliseconds.
fn long_tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for number in 0..1500_u32 {
        append(
            &mut tar,
            tar::EntryType::Regular,
            &format!("d{}/f{number}", number % 7),
            "",
            &number.to_le_bytes(),
        );
    }
    append(&mut tar, tar::EntryType::Regular, "large", "", &vec![1; 8 << 20]);
    tar.into_inner().unwrap()
}

/// Runs the ignored test below in a process of its own.
fn start_import(store: &Path, name: &str) -> Child {
    start("child_that_imports", store, name)
}

fn start(test: &str, store: &Path, name: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", test])
        .env(STORE, store)
        .env(NAME, name)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn finish(mut child: Child) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            return;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the import did not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[ignore = "run by the other tests of this file, in a process of its own"]
fn child_that_imports() {
    let Some(store) = std::env::var_os(STORE) else { return };
    let store = Store::open(Path::new(&store)).unwrap();
    import(&store, &std::env::var(NAME).unwrap(), &long_tar()).unwrap();
}

/// An image of three layers, each of some megabytes, and two of them compressed.
fn layered() -> Parts {
    let layer = |number: u8, compress: bool| {
        let mut tar = tar::Builder::new(Vec::new());
        for file in 0..200_u32 {
            let path = format!("l{number}/f{file}");
            append(&mut tar, tar::EntryType::Regular, &path, "", &file.to_le_bytes());
        }
        append(&mut tar, tar::EntryType::Regular, &format!("l{number}/large"), "", &vec![number; 3 << 20]);
        let tar = tar.into_inner().unwrap();
        let diff_id = Sha256::of(&tar);
        if !compress {
            return (LAYER_TAR, tar, diff_id);
        }
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&tar).unwrap();
        (LAYER_GZIP, encoder.finish().unwrap(), diff_id)
    };
    Parts::new(&[layer(1, true), layer(2, false), layer(3, true)])
}

#[test]
#[ignore = "run by the other tests of this file, in a process of its own"]
fn child_that_ingests() {
    let Some(store) = std::env::var_os(STORE) else { return };
    let store = Store::open(Path::new(&store)).unwrap();
    ingest(&store, &std::env::var(NAME).unwrap(), &layered()).unwrap();
}

#[test]
fn concurrent_ingests_of_one_image_all_arrive_once() {
    let dir = tempfile::tempdir().unwrap();
    let children: Vec<Child> = (0..4).map(|_| start("child_that_ingests", dir.path(), "app:1")).collect();
    children.into_iter().for_each(finish);
    let store = Store::open(dir.path()).unwrap();
    let info = store.info("app:1").unwrap();
    store.verified_rootfs(&info.manifest, &info.config, &info.rootfs, &mut |_| {}).unwrap();
    let files = files_below(dir.path());
    // Five blobs, two files of one root file system with its record, the index, the marker: nothing twice.
    assert_eq!(files.len(), 10, "{files:?}");
    assert_eq!(store.gc().unwrap().files, 0);
}

#[test]
fn ingests_killed_at_any_moment_leave_nothing_and_the_next_one_works() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let began = Instant::now();
    finish(start("child_that_ingests", dir.path(), "app:1"));
    let whole_ms = u64::try_from(began.elapsed().as_millis()).unwrap();
    let after = files_below(dir.path());
    store.remove("app:1").unwrap();
    store.gc().unwrap();
    let before = files_below(dir.path());

    let (mut interrupted, mut finished) = (0, 0);
    // Moments spread over the whole run, in another order each time than the run's own steps.
    for round in 0..24_u64 {
        let mut child = start("child_that_ingests", dir.path(), "app:1");
        thread::sleep(Duration::from_millis(whole_ms * ((round * 7) % 24) / 22));
        child.kill().unwrap();
        child.wait().unwrap();
        // The build tool ends with its parent, but not at the same instant.
        thread::sleep(Duration::from_millis(20));
        let store = Store::open(dir.path()).unwrap();
        assert!(fs::read_dir(dir.path().join("tmp")).unwrap().next().is_none());
        // What has a name is whole.
        for image in store.list().unwrap() {
            let info = store.info(&image.reference).unwrap();
            store.verified_rootfs(&info.manifest, &info.config, &info.rootfs, &mut |_| {}).unwrap();
            store.remove(&image.reference).unwrap();
            finished += 1;
        }
        interrupted += u32::from(files_below(dir.path()).len() < after.len());
        store.gc().unwrap();
        assert_eq!(files_below(dir.path()), before);
    }
    assert!(interrupted >= 8, "{interrupted} interrupted, {finished} finished");
    finish(start("child_that_ingests", dir.path(), "app:1"));
    assert_eq!(files_below(dir.path()), after);
}

#[test]
fn concurrent_imports_all_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let mut children: Vec<Child> = (0..4).map(|n| start_import(dir.path(), &format!("image-{n}"))).collect();
    children.push(start_import(dir.path(), "image-0"));
    children.into_iter().for_each(finish);
    let store = Store::open(dir.path()).unwrap();
    let images = store.list().unwrap();
    assert_eq!(
        images.iter().map(|i| i.reference.as_str()).collect::<Vec<_>>(),
        ["image-0", "image-1", "image-2", "image-3"]
    );
    for image in images {
        let info = store.info(&image.reference).unwrap();
        store.verified_rootfs(&info.manifest, &info.config, &info.rootfs, &mut |_| {}).unwrap();
    }
    assert!(fs::read_dir(dir.path().join("tmp")).unwrap().next().is_none());
}

#[test]
fn full_disk_fails_the_import_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_with_a_full_disk"])
        .env(STORE, dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    finish(child);
}

#[test]
#[ignore = "run by the test above, in a mount namespace of its own"]
fn child_with_a_full_disk() {
    let Some(dir) = std::env::var_os(STORE) else { return };
    let dir = PathBuf::from(dir);
    rustix::mount::mount("tmpfs", &dir, "tmpfs", MountFlags::empty(), c"size=12m").unwrap();
    let store = Store::open(&dir).unwrap();
    import(&store, "kept", &small_tar()).unwrap();
    let before = files_below(&dir);
    let mut tool_failed = false;
    for large_bytes in [15 << 20, 8 << 20, 5 << 20, 4 << 20] {
        let mut tar = tar::Builder::new(Vec::new());
        // No two parts alike: the root file system has those once.
        let content: Vec<u8> =
            (0..u32::try_from(large_bytes / 4).unwrap()).flat_map(u32::to_le_bytes).collect();
        append(&mut tar, tar::EntryType::Regular, "large", "", &content);
        match import(&store, "large", &tar.into_inner().unwrap()) {
            Err(ImageError::Io { kind: ErrorKind::StorageFull, .. }) => {}
            Err(ImageError::Tool { program: "mkfs.erofs", .. }) => tool_failed = true,
            other => panic!("{large_bytes}: {other:?}"),
        }
        assert_eq!(files_below(&dir), before);
    }
    assert!(tool_failed);
    import(&store, "again", &small_tar()).unwrap();
}

#[test]
fn collection_beside_imports_removes_nothing_they_need() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let children: Vec<Child> = (0..2).map(|n| start_import(dir.path(), &format!("image-{n}"))).collect();
    for _ in 0..20 {
        store.gc().unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    children.into_iter().for_each(finish);
    for name in ["image-0", "image-1"] {
        let info = store.info(name).unwrap();
        store.verified_rootfs(&info.manifest, &info.config, &info.rootfs, &mut |_| {}).unwrap();
    }
}

#[test]
fn killed_imports_leave_nothing_and_the_next_one_works() {
    let dir = tempfile::tempdir().unwrap();
    let before = {
        let store = Store::open(dir.path()).unwrap();
        import(&store, "kept", &small_tar()).unwrap();
        files_below(dir.path())
    };
    let mut interrupted = 0;
    for delay_ms in [5, 15, 25, 40, 60, 80, 100, 130, 160, 200] {
        let mut child = start_import(dir.path(), "killed");
        thread::sleep(Duration::from_millis(delay_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        // The build tool ends with its parent, but not at the same instant.
        thread::sleep(Duration::from_millis(20));
        let store = Store::open(dir.path()).unwrap();
        assert!(fs::read_dir(dir.path().join("tmp")).unwrap().next().is_none());
        let names: Vec<String> = store.list().unwrap().into_iter().map(|i| i.reference).collect();
        let info = store.info("kept").unwrap();
        store.verified_rootfs(&info.manifest, &info.config, &info.rootfs, &mut |_| {}).unwrap();
        if names == ["kept"] {
            interrupted += 1;
            // Content that arrived whole before its name may stay until the next collection.
            store.gc().unwrap();
            assert_eq!(files_below(dir.path()), before);
        } else {
            let info = store.info("killed").unwrap();
            store.verified_rootfs(&info.manifest, &info.config, &info.rootfs, &mut |_| {}).unwrap();
            store.remove("killed").unwrap();
            store.gc().unwrap();
            assert_eq!(files_below(dir.path()), before);
        }
    }
    assert!(interrupted >= 3, "only {interrupted} imports were interrupted");
    finish(start_import(dir.path(), "killed"));
    assert_eq!(Store::open(dir.path()).unwrap().list().unwrap().len(), 2);
}
