//! Two users at once, and users that are killed: the store stays whole and keeps no leftovers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod common;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use casemate_images::{ImageError, Store};
use common::{append, files_below, import, small_tar};
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
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_that_imports"])
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
        append(&mut tar, tar::EntryType::Regular, "large", "", &vec![1; large_bytes]);
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
