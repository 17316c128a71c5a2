//! A file as a block device, for a file system that needs one (loop(4)).
//!
//! What it is: attaching, and finding out whether a file is attached already: two devices of one file, each with a mounted
//! file system, destroy it. A device frees itself when nothing uses it any more. What it is not: used for roots, which
//! agents would share through it (`root`).

use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::syscall::{self, LoopConfig};

/// Where the kernel hands out free devices.
const CONTROL: &str = "/dev/loop-control";
/// Where it shows the devices.
const BLOCK: &str = "/sys/block";
/// Another process may take a free device first.
const ATTEMPTS_MAX: usize = 64;
/// Size of a block: reads and writes past the cache of the file are multiples of it.
const BLOCK_BYTES: u32 = 4096;

/// An attached device. It lives as long as this or a mount of it.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _device: OwnedFd,
}

impl LoopDevice {
    /// Attaches `file`, which must be open for reading and writing. Where the file system below can, it is read and
    /// written past its cache.
    ///
    /// # Errors
    /// The system's error: `ENOENT` where there are no such devices.
    pub fn attach(file: &File) -> Result<Self, Errno> {
        let control = open(CONTROL, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let config = LoopConfig::new(file.as_raw_fd(), BLOCK_BYTES);
        for _ in 0..ATTEMPTS_MAX {
            let path = PathBuf::from(format!("/dev/loop{}", syscall::loop_free(&control)?));
            let device = open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            match syscall::loop_configure(&device, &config) {
                Ok(()) => return Ok(Self { path, _device: device }),
                Err(Errno::BUSY) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::BUSY)
    }

    /// The device to mount.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether some device has `file` attached.
///
/// # Errors
/// The system's error.
pub fn is_attached(file: &File) -> std::io::Result<bool> {
    let metadata = file.metadata()?;
    let wanted = (encode_device(metadata.dev()), metadata.ino());
    for block in fs::read_dir(BLOCK)?.flatten() {
        if !block.path().join("loop").exists() {
            continue;
        }
        let device = Path::new("/dev").join(block.file_name());
        let device = match open(&device, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(device) => device,
            // It went since the look.
            Err(Errno::NXIO | Errno::NOENT | Errno::NODEV) => continue,
            Err(errno) => return Err(errno.into()),
        };
        match syscall::loop_status(&device) {
            Ok(found) if found == wanted => return Ok(true),
            Ok(_) | Err(Errno::NXIO) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

/// A device number as the driver tells it (`new_encode_dev` of include/linux/kdev_t.h).
fn encode_device(device: u64) -> u64 {
    let (major, minor) = (u64::from(rustix::fs::major(device)), u64::from(rustix::fs::minor(device)));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_attached_until_the_device_is_dropped() {
        if !rustix::process::geteuid().is_root() || !Path::new(CONTROL).exists() {
            println!("not run: a_file_is_attached_until_the_device_is_dropped: needs root and loop devices");
            return;
        }
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        assert!(!is_attached(&file).unwrap());
        let device = LoopDevice::attach(&file).unwrap();
        assert!(device.path().exists());
        assert!(is_attached(&file).unwrap());
        let other = tempfile::tempfile().unwrap();
        assert!(!is_attached(&other).unwrap());
        drop(device);
        assert!(!is_attached(&file).unwrap());
    }
}
