//! Named volumes: folders of the box, or file systems of a fixed size of which no agent can take more.
//!
//! A volume with a size is an ext4 file system in a file whose whole size is set aside when it is made. It is mounted
//! once, for all agents that name it, in the box's own mount namespace; the launcher gives each agent a mount of its
//! own of the folder inside, with ids mapped. A file system of its own has a further merit: what one agent makes it
//! wait for (`fsync`), the others do not wait for. Who trusts it: nobody; the disk is the host's, and nothing here is
//! encrypted.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use casemate_composition::lock::{Agent, AgentName, Lock, Mount};
use casemate_protocol::Refusal;
use casemate_sys::loop_device::{self, LoopDevice};
use rustix::fs::FallocateFlags;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tokio::sync::Mutex;

use crate::agent::blocking;
use crate::error::WardenError;

/// Where mke2fs is: the warden's own search path is its caller's.
const MAKERS: [&str; 2] = ["/usr/sbin/mke2fs", "/sbin/mke2fs"];
/// Time that making a file system may take.
const MAKE_BOUND: Duration = Duration::from_secs(120);
/// Time until the mounts of agents that ended are gone.
const IDLE_BOUND: Duration = Duration::from_secs(5);
/// Time between two looks.
const POLL: Duration = Duration::from_millis(10);

/// The volumes of a box.
pub(crate) struct Volumes {
    folder: PathBuf,
    mounted: Mutex<BTreeMap<AgentName, PathBuf>>,
}

impl Volumes {
    pub(crate) fn of(project_dir: &Path) -> Self {
        Self { folder: project_dir.join("volumes"), mounted: Mutex::default() }
    }

    /// Sees to it that all volumes of `agent` are there, each made for the first agent that mounts it. The folder of
    /// each, by its name; ids on disk are inner ids.
    pub(crate) async fn ready(
        &self,
        lock: &Lock,
        agent: &Agent,
    ) -> Result<BTreeMap<AgentName, PathBuf>, WardenError> {
        let mut folders = BTreeMap::new();
        for mount in &agent.mounts {
            let Mount::Volume { name, .. } = mount else { continue };
            let size_bytes = lock.volumes.get(name).and_then(|volume| volume.size_bytes);
            let place = VolumePlace::of(&self.folder, name);
            let owner = (agent.user.uid, agent.user.gid);
            let folder = match size_bytes {
                None => {
                    place.require_no_file(name)?;
                    blocking(move || own_folder(&place.folder, owner).map(|()| place.folder)).await??
                }
                Some(bytes) => {
                    let mut mounted = self.mounted.lock().await;
                    if !mounted.contains_key(name) {
                        let (at, named) = (place.mounted.clone(), name.clone());
                        blocking(move || place.mount(&named, bytes)).await??;
                        mounted.insert(name.clone(), at);
                    }
                    let folder = mounted.get(name).map(|at| at.join(DATA)).unwrap_or_default();
                    let made = folder.clone();
                    blocking(move || own_folder(&made, owner)).await??;
                    folder
                }
            };
            folders.insert(name.clone(), folder);
        }
        Ok(folders)
    }

    /// Unmounts all: what agents wrote is on disk when this returns.
    pub(crate) async fn close(&self) {
        let mounted = std::mem::take(&mut *self.mounted.lock().await);
        for (name, at) in mounted {
            let gone = blocking(move || {
                let end = Instant::now() + IDLE_BOUND;
                loop {
                    match unmount(&at, UnmountFlags::empty()) {
                        Err(rustix::io::Errno::BUSY) if Instant::now() < end => std::thread::sleep(POLL),
                        other => break other.and_then(|()| rustix::fs::rmdir(&at)),
                    }
                }
            });
            if let Ok(Err(errno)) = gone.await {
                tracing::error!(volume = %name, "unmount: {errno}");
            }
        }
    }
}

/// The folder inside a file system: its root has `lost+found`, which is no agent's.
const DATA: &str = "data";

/// Where one volume is. Names of volumes have no full stop, so these do not meet.
struct VolumePlace {
    folder: PathBuf,
    file: PathBuf,
    fresh: PathBuf,
    mounted: PathBuf,
}

impl VolumePlace {
    fn of(folder: &Path, name: &AgentName) -> Self {
        let named = |ending: &str| folder.join(format!("{name}{ending}"));
        Self {
            folder: named(""),
            file: named(".ext4"),
            fresh: named(".ext4.new"),
            mounted: named(".mounted"),
        }
    }

    /// A volume without a size is a folder: what was written to the file system of one that had a size is not in it.
    fn require_no_file(&self, name: &AgentName) -> Result<(), WardenError> {
        match std::fs::metadata(&self.file) {
            Ok(metadata) => Err(size_changed(name, "no size", format!("{} bytes", metadata.len()))),
            Err(_) => Ok(()),
        }
    }

    fn mount(&self, name: &AgentName, bytes: u64) -> Result<(), WardenError> {
        if self.folder.exists() {
            return Err(size_changed(name, format!("{bytes} bytes"), "a folder without size"));
        }
        if let Some(parent) = self.file.parent() {
            private_folder(parent)?;
        }
        if !self.file.exists() {
            self.make(bytes)?;
        }
        let file = OpenOptions::new().read(true).write(true).open(&self.file);
        let file = file.map_err(WardenError::file(&self.file))?;
        let found = file.metadata().map_err(WardenError::file(&self.file))?.len();
        if found != bytes {
            return Err(size_changed(name, format!("{bytes} bytes"), format!("{found} bytes")));
        }
        // What a killed warden left in this mount namespace; its agents ended with it.
        while unmount(&self.mounted, UnmountFlags::DETACH).is_ok() {}
        self.wait_until_idle(&file)?;
        let device = LoopDevice::attach(&file).map_err(|errno| WardenError::Environment {
            what: format!("attach volume {name} to a loop device: {errno}"),
            todo: "use a kernel with loop devices (modprobe loop), or volumes without `size`",
        })?;
        private_folder(&self.mounted)?;
        mount(
            device.path(),
            &self.mounted,
            "ext4",
            MountFlags::NOSUID | MountFlags::NODEV,
            c"errors=remount-ro",
        )
        .map_err(|errno| WardenError::Environment {
            what: format!("mount volume {name}: {errno}"),
            todo: "use a kernel with ext4; if the volume is damaged, run e2fsck on its file, or remove it with `casemate down --volumes`",
        })
    }

    /// Two mounted devices of one file would destroy the file system. One may be left for a moment of a warden that was
    /// killed.
    fn wait_until_idle(&self, file: &File) -> Result<(), WardenError> {
        let end = Instant::now() + IDLE_BOUND;
        while loop_device::is_attached(file).map_err(WardenError::file(&self.file))? {
            if Instant::now() > end {
                return Err(WardenError::Environment {
                    what: format!("{} is in use by another mount", self.file.display()),
                    todo: "end whatever mounts it (`losetup -l` tells), then `casemate up` again",
                });
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Makes the file system beside its place, so that only a whole one is ever found there.
    fn make(&self, bytes: u64) -> Result<(), WardenError> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.fresh);
        let file = file.map_err(WardenError::file(&self.fresh))?;
        let made = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes)
            .map_err(|errno| WardenError::Environment {
                what: format!("set aside {bytes} bytes in {}: {errno}", self.fresh.display()),
                todo: "make room on the disk, or write a smaller `size`; the file system must know fallocate(2)",
            })
            .and_then(|()| make_file_system(&self.fresh))
            .and_then(|()| std::fs::rename(&self.fresh, &self.file).map_err(WardenError::file(&self.file)));
        if made.is_err() {
            let _ = std::fs::remove_file(&self.fresh);
        }
        made
    }
}

fn size_changed(
    name: &AgentName,
    expected: impl std::fmt::Display,
    found: impl std::fmt::Display,
) -> WardenError {
    Refusal::new("volume.size", format!("volume {name} with {expected}"), found).into()
}

/// Runs mke2fs: no block is kept back for root, and nothing is left to a thread of the kernel for later.
fn make_file_system(file: &Path) -> Result<(), WardenError> {
    let environment = |what: String| WardenError::Environment {
        what,
        todo: "install e2fsprogs 1.47 or later in the box, or write volumes without `size`",
    };
    let maker = MAKERS.into_iter().find(|maker| Path::new(maker).exists());
    let maker = maker.ok_or_else(|| environment("there is no mke2fs to make a volume with".into()))?;
    let mut child = Command::new(maker)
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0"])
        .args(["-E", "nodiscard,assume_storage_prezeroed=1,lazy_itable_init=0"])
        .arg(file)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| environment(format!("{maker}: {error}")))?;
    let end = Instant::now() + MAKE_BOUND;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(environment(format!("{maker} failed: {status}"))),
            Ok(None) if Instant::now() < end => std::thread::sleep(POLL),
            other => {
                let _ = child.kill();
                let _ = child.wait();
                let why =
                    other.err().map_or_else(|| "it took too long".to_owned(), |error| error.to_string());
                return Err(environment(format!("{maker}: {why}")));
            }
        }
    }
}

fn private_folder(path: &Path) -> Result<(), WardenError> {
    DirBuilder::new().mode(0o700).recursive(true).create(path).map_err(WardenError::file(path))
}

/// The folder that agents see, made for the first one's user. One at a time: agents that start together may have one in
/// common, and neither may use it before it has its owner.
fn own_folder(folder: &Path, (uid, gid): (u32, u32)) -> Result<(), WardenError> {
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if folder.exists() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        private_folder(parent)?;
    }
    std::fs::create_dir(folder)
        .and_then(|()| std::os::unix::fs::chown(folder, Some(uid), Some(gid)))
        .map_err(WardenError::file(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_that_start_together_may_have_a_folder_in_common() {
        let owner = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        for _ in 0..200 {
            let place = tempfile::tempdir().unwrap();
            let folder = place.path().join("volumes/common");
            let start = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                let makers: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            own_folder(&folder, owner)
                        })
                    })
                    .collect();
                for maker in makers {
                    maker.join().unwrap().unwrap();
                }
            });
            assert!(folder.is_dir());
        }
    }
}
