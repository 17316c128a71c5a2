//! The processors of a group: the `cpuset` controller of either version.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{CgroupError, Layout, MOUNT, layout, make, write};
use crate::cores::list;

/// Version 1 has a hierarchy of its own for it, in which each group must be given processors and memory nodes before
/// anything can join; version 2 inherits what is not set.
pub(super) fn set(directories: &mut Vec<PathBuf>, processors: &BTreeSet<u16>) -> Result<(), CgroupError> {
    let root = Path::new(MOUNT);
    let missing = CgroupError::Controller { controller: "cpuset" };
    match layout()? {
        Layout::Unified => {
            let file = directories.first().map(|directory| directory.join("cpuset.cpus"));
            match file.filter(|file| file.exists()) {
                Some(file) => write(&file, &list(processors)),
                None => Err(missing),
            }
        }
        Layout::Separate => {
            let hierarchy = root.join("cpuset");
            // The group's place below each mount is one and the same.
            let place = directories.first().and_then(|directory| {
                let below = directory.strip_prefix(root).ok()?;
                Some(below.iter().skip(1).collect::<PathBuf>())
            });
            let Some(place) = place.filter(|_| hierarchy.join("cpuset.cpus").exists()) else {
                return Err(missing);
            };
            let mut directory = hierarchy;
            for part in &place {
                let above = directory.clone();
                directory.push(part);
                make(&directory)?;
                for (file, effective) in
                    [("cpuset.mems", "cpuset.effective_mems"), ("cpuset.cpus", "cpuset.effective_cpus")]
                {
                    let file = directory.join(file);
                    if read(&file)?.trim().is_empty() {
                        write(&file, read(&above.join(effective))?.trim())?;
                    }
                }
            }
            write(&directory.join("cpuset.cpus"), &list(processors))?;
            directories.push(directory);
            Ok(())
        }
    }
}

fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(|source| CgroupError::File { path: path.to_owned(), source })
}
