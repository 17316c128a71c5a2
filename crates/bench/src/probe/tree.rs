//! The one root file system of all targets: the probe, and a file that is worth watching.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::compartments::Outcome;
use crate::compartments::project::small_image;

/// The probe in the image.
pub(super) const PROGRAM: &str = "/bin/casemate-probe";
/// Where containers find the victim's secret.
pub(super) const SECRET_PATH: &str = "/run/secrets/peer";
/// What it is.
pub(super) const SECRET: &str = "secret-of-a-container";
/// The largest file of the image, which victims look for: as large as a usual C library.
const FILE: &str = "data/library";
const FILE_BYTES: usize = 4 << 20;

/// A folder and an archive of it.
pub(super) struct Tree {
    pub(super) dir: PathBuf,
    pub(super) root: PathBuf,
    pub(super) tar: PathBuf,
}

impl Tree {
    pub(super) fn new(dir: &Path, program: &Path) -> Outcome<Self> {
        let root = dir.join("tree");
        std::fs::create_dir_all(root.join("data"))?;
        std::fs::create_dir_all(root.join("run/secrets"))?;
        let mut content = vec![0_u8; FILE_BYTES];
        content.iter_mut().zip((0..=u8::MAX).cycle()).for_each(|(byte, value)| *byte = value);
        std::fs::write(root.join(FILE), content)?;
        // runc mounts on a file that is there.
        std::fs::write(root.join(SECRET_PATH.trim_start_matches('/')), "")?;
        let tar = small_image(&root, &[program, Path::new("/bin/busybox")])?;
        std::fs::set_permissions(root.join("tmp"), std::fs::Permissions::from_mode(0o1777))?;
        Ok(Self { dir: dir.to_owned(), root, tar })
    }
}
