//! The root file system of an image, mounted as the launcher mounts it, and what is in a tree.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use casemate_images::{ImageInfo, Store};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

/// Mounts the verified file and returns the root of the mount.
pub(crate) fn mount(store: &Store, info: &ImageInfo) -> OwnedFd {
    let verified = store.verified_rootfs(&info.manifest, &info.config, &info.rootfs, &mut |_| {}).unwrap();
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    let path = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd());
    // EROFS is not mounted from a memory file; the copy has no name any more when it is.
    let mut copy = tempfile::tempfile().unwrap();
    let mut metadata = verified.metadata().try_clone().unwrap();
    metadata.rewind().unwrap();
    std::io::copy(&mut metadata, &mut copy).unwrap();
    fsconfig_set_string(context.as_fd(), "source", path(&copy)).unwrap();
    fsconfig_set_string(context.as_fd(), "device", path(verified.data())).unwrap();
    fsconfig_set_flag(context.as_fd(), "directio").unwrap();
    fsconfig_set_flag(context.as_fd(), "ro").unwrap();
    fsconfig_create(context.as_fd()).unwrap();
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).unwrap()
}

pub(crate) fn path_in(root: &OwnedFd, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{path}", root.as_raw_fd()))
}

/// What is known of one file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: i64,
    pub(crate) links: u64,
    pub(crate) content: Vec<u8>,
}

impl Seen {
    /// All but the content, for messages.
    pub(crate) fn metadata(&self) -> String {
        let Self { mode, uid, gid, mtime, links, content } = self;
        format!("mode {mode:o}, owner {uid}:{gid}, time {mtime}, {links} links, {} bytes", content.len())
    }
}

/// Everything below `root`, by path.
pub(crate) fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut out = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let full = root.join(&path);
        let metadata = fs::symlink_metadata(&full).unwrap();
        let kind = metadata.file_type();
        let mut content = Vec::new();
        if kind.is_dir() {
            todo.extend(fs::read_dir(&full).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        } else if kind.is_symlink() {
            content = fs::read_link(&full).unwrap().into_os_string().into_encoded_bytes();
        } else {
            assert!(!kind.is_char_device() && !kind.is_block_device() && !kind.is_fifo());
            File::open(&full).unwrap().read_to_end(&mut content).unwrap();
        }
        let (mode, uid, gid, mtime) = (metadata.mode(), metadata.uid(), metadata.gid(), metadata.mtime());
        let links = if kind.is_file() { metadata.nlink() } else { 0 };
        out.insert(path, Seen { mode, uid, gid, mtime, links, content });
    }
    out
}

pub(crate) fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}");
}
