//! From layers to one EROFS file.

use std::fs::{self, File};
use std::io::Seek as _;
use std::path::{Path, PathBuf};

use casemate_canon::Sha256;
use rustix::fs::FileType;
use tempfile::TempDir;

use crate::document;
use crate::error::{EntryProblem, ImageError};
use crate::hash::hash_file;
use crate::limits::Limits;
use crate::mkfs::{BUILDER, make_erofs};
use crate::progress::{Progress, Step};
use crate::tree::Metadata;
use crate::unpack::{Layer, Unpacker};

/// Directories that a compartment mounts on, with their modes. Made where missing.
const MOUNT_DIRECTORIES: [(&str, u32); 6] =
    [("proc", 0o555), ("dev", 0o755), ("sys", 0o555), ("tmp", 0o1777), ("run", 0o755), ("data", 0o755)];
/// Files that a compartment mounts on. Made where missing; a symbolic link there is replaced.
const MOUNT_FILES: [&str; 3] = ["etc/resolv.conf", "etc/hosts", "etc/hostname"];

/// A new EROFS file, still under a temporary name.
#[derive(Debug)]
pub(crate) struct BuiltRootfs {
    pub(crate) digest: Sha256,
    pub(crate) path: PathBuf,
    _dir: TempDir,
}

/// Names a build by what goes into it: the layers in order, and the way it is built.
pub(crate) fn build_key(diff_ids: &[Sha256]) -> Result<Sha256, ImageError> {
    let key = serde_json::json!({ "builder": BUILDER, "layers": diff_ids });
    Ok(Sha256::of(&document::to_bytes("build key", &key)?))
}

/// Unpacks `layers` below `tmp` and makes an EROFS file of them.
pub(crate) fn build(
    layers: Vec<Layer>,
    tmp: &Path,
    limits: &Limits,
    progress: &mut dyn FnMut(Progress),
) -> Result<BuiltRootfs, ImageError> {
    let dir = tempfile::Builder::new()
        .prefix("build-")
        .tempdir_in(tmp)
        .map_err(|error| ImageError::io("make a directory in", tmp, &error))?;
    let root = dir.path().join("root");
    fs::create_dir(&root).map_err(|error| ImageError::io("make", &root, &error))?;
    unpack_all(layers, &root, limits, progress)?;

    progress(Progress { step: Step::BuildRootfs, done_bytes: 0, total_bytes: None });
    let path = dir.path().join("rootfs.erofs");
    make_erofs(&root, &path, &dir.path().join("log"))?;
    // The files are not needed any more; what stays in the way is removed with the directory.
    let _ = fs::remove_dir_all(&root);
    let mut image = File::open(&path).map_err(|error| ImageError::io("open", &path, &error))?;
    let digest = hash_file(&mut image, &path, &mut |_| {})?;
    image.sync_all().map_err(|error| ImageError::io("sync", &path, &error))?;
    let bytes = image.stream_position().unwrap_or(0);
    progress(Progress { step: Step::BuildRootfs, done_bytes: bytes, total_bytes: Some(bytes) });
    Ok(BuiltRootfs { digest, path, _dir: dir })
}

fn unpack_all(
    layers: Vec<Layer>,
    root: &Path,
    limits: &Limits,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ImageError> {
    let total: u64 = layers.iter().filter_map(|layer| layer.file.metadata().ok()).map(|m| m.len()).sum();
    let mut done_bytes = 0_u64;
    let mut unpacker = Unpacker::new(root, limits)?;
    unpacker.start()?;
    for layer in layers {
        unpacker.apply(layer, &mut |bytes| {
            done_bytes = done_bytes.saturating_add(bytes);
            progress(Progress { step: Step::Unpack, done_bytes, total_bytes: Some(total) });
        })?;
    }
    add_mount_points(&unpacker)?;
    unpacker.finish()
}

/// Adds what the compartment mounts on. What is already there must be of the right type: a link
/// would lead a mount elsewhere.
fn add_mount_points(unpacker: &Unpacker<'_>) -> Result<(), ImageError> {
    let tree = unpacker.tree();
    for (path, mode) in MOUNT_DIRECTORIES {
        let path = Path::new(path);
        match tree.file_type(path)? {
            Some(FileType::Directory) => {}
            Some(_) => return Err(ImageError::entry(path, EntryProblem::MountPoint { needed: "directory" })),
            None => {
                tree.make_directories(path)?;
                tree.set_metadata(path, &Metadata { mode, uid: 0, gid: 0, mtime: 0 })?;
            }
        }
    }
    for path in MOUNT_FILES {
        let path = Path::new(path);
        match tree.file_type(path)? {
            Some(FileType::RegularFile) => continue,
            Some(FileType::Directory) => {
                return Err(ImageError::entry(path, EntryProblem::MountPoint { needed: "file" }));
            }
            _ => {
                tree.remove(path, &|_| false)?;
                tree.create_file(path)?;
                tree.set_metadata(path, &Metadata { mode: 0o644, uid: 0, gid: 0, mtime: 0 })?;
            }
        }
    }
    Ok(())
}
