//! How much a group reads and writes on disks: `io.max` of version 2, `blkio.throttle` of version 1.
//!
//! What it is not: a limit of what waits in memory to be written. Under version 1 the kernel writes that out for all, so it
//! holds reads, and writes past the page cache; version 2 holds both.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{CgroupError, Group, Layout, MOUNT, layout, make_all, write};

/// Where the kernel names block devices by their numbers.
const DEVICES: &str = "/sys/dev/block";

/// Limits in one second; none for no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskLimits {
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Bytes written.
    pub write_bytes: Option<u64>,
    /// Read operations.
    pub read_operations: Option<u64>,
    /// Write operations.
    pub write_operations: Option<u64>,
}

/// A whole disk, by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Disk {
    major: u32,
    minor: u32,
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl Disk {
    /// The disk that holds `path`: of a partition, the whole one, because the kernel limits no other.
    ///
    /// # Errors
    /// [`CgroupError::NoDisk`] where its file system is on none.
    pub fn of(path: &Path) -> Result<Self, CgroupError> {
        let file = |source| CgroupError::File { path: path.to_owned(), source };
        let device = fs::metadata(path).map_err(file)?.dev();
        let found = Self { major: rustix::fs::major(device), minor: rustix::fs::minor(device) };
        let none = || CgroupError::NoDisk { path: path.to_owned(), device: found.to_string() };
        // What it links to: `…/block/DISK`, or `…/block/DISK/PARTITION`.
        let place = fs::canonicalize(Path::new(DEVICES).join(found.to_string())).map_err(|_| none())?;
        if !place.join("partition").exists() {
            return Ok(found);
        }
        let whole = place.parent().and_then(|disk| fs::read_to_string(disk.join("dev")).ok());
        whole.as_deref().and_then(Self::parse).ok_or_else(none)
    }

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl DiskLimits {
    /// By the files of version 1 that hold them.
    const fn separate(self) -> [(&'static str, Option<u64>); 4] {
        [
            ("blkio.throttle.read_bps_device", self.read_bytes),
            ("blkio.throttle.write_bps_device", self.write_bytes),
            ("blkio.throttle.read_iops_device", self.read_operations),
            ("blkio.throttle.write_iops_device", self.write_operations),
        ]
    }

    /// As a line of `io.max`, without the disk.
    fn unified(self) -> String {
        let word = |name, value: Option<u64>| match value {
            Some(value) => format!("{name}={value}"),
            None => format!("{name}=max"),
        };
        [
            word("rbps", self.read_bytes),
            word("wbps", self.write_bytes),
            word("riops", self.read_operations),
            word("wiops", self.write_operations),
        ]
        .join(" ")
    }
}

impl Group {
    /// Limits what the group reads and writes on each of these disks: before anything joins it.
    ///
    /// # Errors
    /// [`CgroupError`]; [`CgroupError::Controller`] where this kernel has no such limits.
    pub fn set_disks(&mut self, disks: &[Disk], limits: DiskLimits) -> Result<(), CgroupError> {
        match layout()? {
            Layout::Unified => {
                let missing = CgroupError::Controller { controller: "io" };
                let file = self.directories.first().map(|directory| directory.join("io.max"));
                let file = file.filter(|file| file.exists()).ok_or(missing)?;
                disks.iter().try_for_each(|disk| write(&file, &format!("{disk} {}", limits.unified())))
            }
            Layout::Separate => {
                let directory = self.beside("blkio")?;
                make_all(&directory)?;
                self.directories.push(directory.clone());
                for (name, value) in limits.separate() {
                    let Some(value) = value else { continue };
                    let file = directory.join(name);
                    if !file.exists() {
                        return Err(CgroupError::Controller { controller: "blkio" });
                    }
                    disks.iter().try_for_each(|disk| write(&file, &format!("{disk} {value}")))?;
                }
                Ok(())
            }
        }
    }

    /// Whether the kernel shows these limits for each of these disks.
    #[must_use]
    pub fn disks_in_force(&self, disks: &[Disk], limits: DiskLimits) -> bool {
        let shows = |file: &'static str, disk: &Disk, expected: &str| {
            let text = self.value([file; 2]).unwrap_or_default();
            let own = text.lines().find_map(|line| line.strip_prefix(&format!("{disk} ")));
            own.is_some_and(|found| found.trim() == expected)
        };
        !disks.is_empty()
            && disks.iter().all(|disk| match self.value(["io.max"; 2]) {
                Some(_) => shows("io.max", disk, &limits.unified()),
                None => limits
                    .separate()
                    .iter()
                    .all(|(file, value)| value.is_none_or(|value| shows(file, disk, &value.to_string()))),
            })
    }

    /// The group's place in another hierarchy of version 1.
    fn beside(&self, controller: &'static str) -> Result<PathBuf, CgroupError> {
        let hierarchy = Path::new(MOUNT).join(controller);
        let below = self.directories.first().and_then(|directory| {
            let below = directory.strip_prefix(MOUNT).ok()?;
            Some(below.iter().skip(1).collect::<PathBuf>())
        });
        below
            .filter(|_| hierarchy.join("cgroup.procs").exists())
            .map(|below| hierarchy.join(below))
            .ok_or(CgroupError::Controller { controller })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_version_2_names_each_limit() {
        let limits =
            DiskLimits { read_bytes: Some(1 << 20), write_operations: Some(7), ..DiskLimits::default() };
        assert_eq!(limits.unified(), "rbps=1048576 wbps=max riops=max wiops=7");
    }

    #[test]
    fn a_path_without_a_disk_is_refused_and_says_which() {
        let error = Disk::of(Path::new("/proc")).unwrap_err();
        assert!(matches!(&error, CgroupError::NoDisk { path, .. } if path == Path::new("/proc")), "{error}");
        assert_eq!(Disk::parse("254:0\n"), Some(Disk { major: 254, minor: 0 }));
        assert_eq!(Disk::parse("254"), None);
    }
}
