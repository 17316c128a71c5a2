//! The ways to give several agents a root of one image.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use casemate_sys::root::{self, ImageFiles};
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

use super::Outcome;

/// A way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Positive control of pages.
    SameDirectory,
    Overlay,
    OneLoopDevice,
    FileBuffered,
    /// Positive control of names: two mounts that read metadata through the cache of one file.
    OneFileDirect,
    Private,
    Copies,
    Shared,
}

pub(super) const LAYOUTS: [Layout; 8] = [
    Layout::SameDirectory,
    Layout::Overlay,
    Layout::OneLoopDevice,
    Layout::FileBuffered,
    Layout::OneFileDirect,
    Layout::Private,
    Layout::Copies,
    Layout::Shared,
];

/// One image in three forms: a directory, one EROFS file, and metadata apart from data.
pub(super) struct Image {
    pub(super) dir: PathBuf,
    pub(super) tree: PathBuf,
    pub(super) erofs: PathBuf,
    pub(super) metadata: PathBuf,
    pub(super) data: PathBuf,
}

/// Roots for agents, until dropped.
pub(super) struct Roots {
    /// Where each agent's root is.
    pub(super) paths: Vec<PathBuf>,
    /// What lies behind the roots and is cached too.
    pub(super) behind: Vec<PathBuf>,
    mounted: Vec<PathBuf>,
    dir: PathBuf,
}

/// Bytes of the file of the probe image.
pub(super) const PROBE_BYTES: usize = 16 << 20;
/// Directories of the probe image, each with a block of its own.
pub(super) const PROBE_NAMES: usize = 256;

/// An image with one file of noise, and many directories with long names.
pub(super) fn probe_image(dir: &Path) -> Outcome<Image> {
    const NAMES_OF_ONE: usize = 12;
    let tree = dir.join("tree");
    fs::create_dir_all(&tree)?;
    let mut file = std::io::BufWriter::new(File::create(tree.join("page"))?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..PROBE_BYTES / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes())?;
    }
    file.flush()?;
    for place in 0..PROBE_NAMES {
        let names = tree.join(format!("names/{place}"));
        fs::create_dir_all(&names)?;
        for number in 0..NAMES_OF_ONE {
            fs::write(names.join(format!("{number:0>240}")), "")?;
        }
    }
    image_of(dir)
}

/// The image whose files are in `dir/tree`.
pub(super) fn image_of(dir: &Path) -> Outcome<Image> {
    let file = |name| dir.join(name);
    let (tree, erofs) = (file("tree"), file("root.erofs"));
    let (metadata, data) = (file("root.metadata"), file("root.data"));
    let mkfs = || {
        let mut mkfs = Command::new("mkfs.erofs");
        mkfs.arg("-x-1").env("SOURCE_DATE_EPOCH", "4102444800");
        mkfs
    };
    quiet(mkfs().arg("-Enoinline_data").args([&erofs, &tree]))?;
    // As casemate-images builds it.
    quiet(mkfs().args(["-Enosbcrc", "--chunksize=65536", "--blobdev"]).args([&data, &metadata, &tree]))?;
    rustix::fs::sync();
    Ok(Image { dir: dir.to_owned(), tree, erofs, metadata, data })
}

impl Layout {
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::SameDirectory => "one directory for both",
            Self::Overlay => "overlayfs over one lower directory",
            Self::OneLoopDevice => "one loop device mounted for both",
            Self::FileBuffered => "a file-backed EROFS mount each, buffered",
            Self::OneFileDirect => "a file-backed EROFS mount each, directio",
            Self::Private => "the same with a copy of the metadata each (ours)",
            Self::Copies => "a copy of the directory each",
            Self::Shared => "one buffered EROFS mount for both (ours, `share`)",
        }
    }

    /// Roots for `agents` agents.
    pub(super) fn prepare(self, image: &Image, agents: usize) -> Outcome<Roots> {
        let dir = image.dir.join("roots");
        fs::create_dir_all(&dir)?;
        let mut roots = Roots { paths: Vec::new(), behind: Vec::new(), mounted: Vec::new(), dir };
        for _ in 0..agents {
            self.add(image, &mut roots)?;
        }
        Ok(roots)
    }

    /// One more root. What is mounted or copied here is what one more agent takes.
    pub(super) fn add(self, image: &Image, roots: &mut Roots) -> Outcome<()> {
        let place = roots.paths.len();
        let at = roots.dir.join(place.to_string());
        fs::create_dir_all(&at)?;
        let mut path = at.clone();
        match self {
            Self::SameDirectory => path.clone_from(&image.tree),
            Self::Copies => {
                quiet(Command::new("cp").arg("-a").arg(image.tree.join(".")).arg(&at))?;
                // Pages that are not on disk yet could not be put out of the cache.
                rustix::fs::sync();
            }
            Self::Overlay => {
                let scratch = roots.dir.join(format!("scratch{place}"));
                fs::create_dir_all(scratch.join("upper"))?;
                fs::create_dir_all(scratch.join("work"))?;
                let options = format!(
                    "lowerdir={},upperdir={},workdir={}",
                    image.tree.display(),
                    scratch.join("upper").display(),
                    scratch.join("work").display()
                );
                quiet(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&at))?;
                roots.mounted.push(at);
                roots.behind = vec![image.tree.clone()];
            }
            Self::OneLoopDevice => {
                let device = roots.behind.first().filter(|device| device.starts_with("/dev")).cloned();
                match device {
                    Some(device) => {
                        quiet(Command::new("mount").args(["-t", "erofs", "-o", "ro"]).args([&device, &at]))?;
                    }
                    None => {
                        quiet(
                            Command::new("mount")
                                .args(["-t", "erofs", "-o", "ro,loop"])
                                .args([&image.erofs, &at]),
                        )?;
                        roots.behind = vec![device_of(&at)?, image.erofs.clone()];
                    }
                }
                roots.mounted.push(at);
            }
            Self::FileBuffered | Self::OneFileDirect => {
                attach(&mount_file(&image.erofs, self)?, &at)?;
                roots.mounted.push(at);
                roots.behind = vec![image.erofs.clone()];
            }
            Self::Private | Self::Shared => {
                let (metadata, data) = (File::open(&image.metadata)?, File::open(&image.data)?);
                let files = ImageFiles { metadata: metadata.as_fd(), data: data.as_fd() };
                let mount = match (self, roots.paths.first()) {
                    (Self::Shared, Some(first)) => root::another(File::open(first)?.as_fd())?,
                    (Self::Shared, None) => root::shared(files, root::fresh_number()?)?,
                    _ => root::private(files, root::fresh_number()?)?,
                };
                attach(&mount, &at)?;
                roots.mounted.push(at);
                roots.behind = vec![image.metadata.clone(), image.data.clone()];
            }
        }
        roots.paths.push(path);
        Ok(())
    }
}

/// The block device that is mounted at `at`.
fn device_of(at: &Path) -> Outcome<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let at = at.display().to_string();
    let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(&at)).ok_or("mount not found")?;
    Ok(PathBuf::from(line.split(' ').next().unwrap_or_default()))
}

/// A mount of an image of one file, attached nowhere: what `casemate_sys::root` does not do any more.
fn mount_file(image: &Path, layout: Layout) -> Outcome<OwnedFd> {
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", image)?;
    fsconfig_set_flag(context.as_fd(), "ro")?;
    if layout == Layout::OneFileDirect {
        fsconfig_set_flag(context.as_fd(), "directio")?;
    }
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?)
}

fn attach(mount: &OwnedFd, at: &Path) -> Outcome<()> {
    Ok(move_mount(mount.as_fd(), "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

impl Drop for Roots {
    fn drop(&mut self) {
        // Another mount of one instance stands on the first: the last goes first.
        for at in self.mounted.iter().rev() {
            let _ = unmount(at, UnmountFlags::DETACH);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Runs a program without its output.
pub(super) fn quiet(command: &mut Command) -> Outcome<()> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}
