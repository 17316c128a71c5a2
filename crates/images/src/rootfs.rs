//! From layers to the two files of a root file system.

use std::fs;
use std::path::Path;

use casemate_canon::Sha256;
use rustix::fs::FileType;
use tempfile::TempDir;

use crate::accounts::{self, Accounts};
use crate::document;
use crate::error::{EntryProblem, ImageError};
use crate::limits::Limits;
use crate::mkfs::{BUILDER, PROGRAM, make_erofs};
use crate::parts::{self, RootfsFiles};
use crate::progress::{Meter, Progress, Step};
use crate::tree::Metadata;
use crate::unpack::{Layer, Unpacker};

/// Directories that a compartment mounts on, with their modes. Made where missing.
const MOUNT_DIRECTORIES: [(&str, u32); 6] =
    [("proc", 0o555), ("dev", 0o755), ("sys", 0o555), ("tmp", 0o1777), ("run", 0o755), ("data", 0o755)];
/// Files that a compartment mounts on. Made where missing; a symbolic link there is replaced.
const MOUNT_FILES: [&str; 3] = ["etc/resolv.conf", "etc/hosts", "etc/hostname"];

/// Where the files are, in the directory of a build.
pub(crate) const ROOT: &str = "root";

/// A new root file system, its files still under temporary names.
#[derive(Debug)]
pub(crate) struct BuiltRootfs {
    pub(crate) digest: Sha256,
    pub(crate) files: RootfsFiles,
    pub(crate) accounts: Accounts,
    _dir: TempDir,
}

/// Names a build by what goes into it: the layers in order, and the way it is built.
pub(crate) fn build_key(diff_ids: &[Sha256]) -> Result<Sha256, ImageError> {
    let key = serde_json::json!({ "builder": BUILDER, "layers": diff_ids });
    Ok(Sha256::of(&document::to_bytes("build key", &key)?))
}

/// Unpacks `layers` below `tmp` and makes a root file system of them.
pub(crate) fn build(
    layers: Vec<Layer>,
    tmp: &Path,
    limits: &Limits,
    progress: &mut dyn FnMut(Progress),
) -> Result<BuiltRootfs, ImageError> {
    let (dir, accounts) = unpacked(layers, tmp, limits, progress)?;
    let root = dir.path().join(ROOT);
    let mut meter = Meter::new(Step::BuildRootfs, None, progress);
    meter.tell();
    let files = RootfsFiles::in_directory(dir.path(), "rootfs");
    make_erofs(&root, &files, &dir.path().join("log"))?;
    // The files are not needed any more; what stays in the way is removed with the directory.
    let _ = fs::remove_dir_all(&root);
    let missing = || ImageError::Tool { program: PROGRAM, problem: "made no file".to_owned() };
    let mut open = files.open()?.ok_or_else(missing)?;
    let metadata_bytes = open.metadata.metadata().map_or(u64::MAX, |metadata| metadata.len());
    parts::require_limit(metadata_bytes)?;
    let digest = open.digest(&files, &mut |bytes| meter.add(bytes))?;
    for (file, path) in [&open.metadata, &open.data].into_iter().zip(files.paths()) {
        file.sync_all().map_err(|error| ImageError::io("sync", path, &error))?;
    }
    meter.done();
    Ok(BuiltRootfs { digest, files, accounts, _dir: dir })
}

/// Unpacks `layers` to [`ROOT`] of a new directory below `tmp`, which goes with the result.
pub(crate) fn unpacked(
    layers: Vec<Layer>,
    tmp: &Path,
    limits: &Limits,
    progress: &mut dyn FnMut(Progress),
) -> Result<(TempDir, Accounts), ImageError> {
    let dir = tempfile::Builder::new()
        .prefix("build-")
        .tempdir_in(tmp)
        .map_err(|error| ImageError::io("make a directory in", tmp, &error))?;
    let root = dir.path().join(ROOT);
    fs::create_dir(&root).map_err(|error| ImageError::io("make", &root, &error))?;
    let accounts = unpack_all(layers, &root, limits, progress)?;
    Ok((dir, accounts))
}

fn unpack_all(
    layers: Vec<Layer>,
    root: &Path,
    limits: &Limits,
    progress: &mut dyn FnMut(Progress),
) -> Result<Accounts, ImageError> {
    let total: u64 = layers.iter().filter_map(|layer| layer.file.metadata().ok()).map(|m| m.len()).sum();
    let mut meter = Meter::new(Step::Unpack, Some(total), progress).with_layers(layers.len());
    let mut unpacker = Unpacker::new(root, limits)?;
    unpacker.start()?;
    for layer in layers {
        unpacker.apply(layer, &mut meter)?;
        meter.layer_done();
    }
    add_mount_points(&unpacker)?;
    let tree = unpacker.tree();
    let read = |path| tree.read_inside(Path::new(path), accounts::FILE_BYTES_MAX);
    let accounts = Accounts::parse(read("etc/passwd").as_deref(), read("etc/group").as_deref());
    unpacker.finish()?;
    Ok(accounts)
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
