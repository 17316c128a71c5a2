//! What was imported is what an agent sees: the EROFS file mounted as the launcher mounts it
//! (file-backed, `directio`, by descriptor). The mounts are detached, so no mount point and no
//! namespace is touched, and they end with their descriptors.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use casemate_images::Store;
use common::mounted::{look, mount, path_in, run};
use common::{append, import, small_tar};

#[test]
fn mounted_image_equals_what_another_tool_unpacks() {
    let dir = tempfile::tempdir().unwrap();
    let tar_path = dir.path().join("in.tar");
    // Real files with long names, links and many sizes; the mount points must not be among them.
    run(Command::new("timeout").args(["60", "tar", "--format=gnu", "-cf"]).arg(&tar_path).args([
        "-C",
        "/usr/share",
        "dpkg",
        "keyrings",
        "perl5",
    ]));
    let store = Store::open(&dir.path().join("store")).unwrap();
    let info = import(&store, "demo", &fs::read(&tar_path).unwrap()).unwrap();

    let reference = dir.path().join("reference");
    fs::create_dir(&reference).unwrap();
    run(Command::new("timeout")
        .args(["60", "tar", "--numeric-owner", "-xpf"])
        .arg(&tar_path)
        .arg("-C")
        .arg(&reference));
    let root = mount(&store, &info);
    let mut found = look(&path_in(&root, ""));
    for added in [
        "",
        "proc",
        "dev",
        "sys",
        "tmp",
        "run",
        "data",
        "etc",
        "etc/hosts",
        "etc/hostname",
        "etc/resolv.conf",
    ] {
        assert!(found.remove(Path::new(added)).is_some(), "{added} is missing");
    }
    let mut expected = look(&reference);
    expected.remove(Path::new(""));
    assert!(expected.len() > 50);
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
    for (path, seen) in &expected {
        assert!(found[path] == *seen, "{} differs", path.display());
    }
}

#[test]
fn mount_points_are_added_with_fixed_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let info = import(&store, "demo", &small_tar()).unwrap();
    let root = mount(&store, &info);
    for (path, mode) in [("proc", 0o40555), ("dev", 0o40755), ("tmp", 0o41777), ("etc/hosts", 0o100_644)] {
        let metadata = fs::symlink_metadata(path_in(&root, path)).unwrap();
        assert_eq!(
            (metadata.mode(), metadata.uid(), metadata.mtime(), metadata.mtime_nsec()),
            (mode, 0, 0, 0)
        );
    }
    // A directory that no entry names has a fixed time too.
    assert_eq!(fs::symlink_metadata(path_in(&root, "deep/er")).unwrap().mtime(), 0);
    assert_eq!(fs::symlink_metadata(path_in(&root, "bin")).unwrap().mtime(), 1_700_000_000);
}

#[test]
fn two_mounts_of_one_file_share_no_inode() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let info = import(&store, "demo", &small_tar()).unwrap();
    let (one, two) = (mount(&store, &info), mount(&store, &info));
    let device = |root| fs::metadata(path_in(root, "large")).unwrap().dev();
    assert_ne!(device(&one), device(&two));
}

#[test]
fn a_mount_outlives_the_collection_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let info = import(&store, "demo", &small_tar()).unwrap();
    let root = mount(&store, &info);
    store.remove("demo").unwrap();
    assert!(store.gc().unwrap().files >= 4);
    assert_eq!(fs::read(path_in(&root, "large")).unwrap(), vec![0xa5; 300_001]);
}

#[test]
fn set_id_bits_are_content_but_the_mount_denies_them() {
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, tar::EntryType::Regular, "./plain", "", b"x");
    let mut header = tar::Header::new_gnu();
    header.set_path("./suid").unwrap();
    header.set_mode(0o4755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(1);
    header.set_cksum();
    tar.append(&header, &b"x"[..]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let info = import(&store, "demo", &tar.into_inner().unwrap()).unwrap();
    let root = mount(&store, &info);
    assert_eq!(fs::metadata(path_in(&root, "suid")).unwrap().mode() & 0o7777, 0o4755);
    let flags = rustix::fs::fstatvfs(&root).unwrap().f_flag;
    assert!(flags.contains(rustix::fs::StatVfsMountFlags::NOSUID | rustix::fs::StatVfsMountFlags::RDONLY));
}
