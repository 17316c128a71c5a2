//! The positive control: two plain processes of one user, with nothing between them.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

use casemate_sys::cgroup::{self, Group, GroupLimits};

use crate::program::PROCESSES_VARIABLE;
use crate::target::{Guard, Side, Streams, Target, TargetError};

/// A user that nobody else on a machine is.
const NOBODY_ELSE: u32 = 1_999_999_999;
/// Most processes and threads of that user, and most memory of both: for attacks that use them up, and so that they end there.
const PIDS_MAX: u32 = 200;
const MEMORY_BYTES_MAX: u64 = 96 << 20;
/// Size of the file that both have in common.
const FILE_BYTES: usize = 4 << 20;
/// Size of the small file system, and how both name it: by their standard error.
const SMALL_BYTES: u64 = 4 << 20;
const SMALL: &str = "/proc/self/fd/2";
/// The secret that one of them has.
const SECRET: &str = "secret-of-a-plain-process";
/// How the folders of its processes begin; then comes the driver's process id.
const PREFIX: &str = "casemate-probe-";
/// Folders for that file: on a disk, so that its pages can leave the page cache.
const FOLDERS: [&str; 3] = ["/var/tmp", "/var/lib", "/tmp"];

/// Whom both are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Somebody without privileges.
    Nobody,
    /// Root, for attacks that the kernel keeps from others.
    Root,
}

/// Two plain processes.
#[derive(Debug)]
pub struct Plain {
    user: User,
    folder: Folder,
    /// One control group for both, where the machine has them.
    group: Option<Common>,
    /// A small file system in memory for both, attached nowhere; it ends with who has it open.
    small: Option<OwnedFd>,
}

/// A control group for both, removed in the end.
#[derive(Debug)]
struct Common {
    name: String,
    group: Group,
}

impl Plain {
    /// Whether what both take is limited, so that they may try to take all.
    pub(crate) const fn is_bounded(&self) -> bool {
        self.group.is_some()
    }
}

impl Common {
    fn of(number: u32) -> Option<Self> {
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let limits = GroupLimits {
            memory_bytes: MEMORY_BYTES_MAX,
            pids: 2 * PIDS_MAX,
            memory_reserved_bytes: None,
            cpu_milli: None,
            cpu_shares: 1024,
        };
        match Group::create(&name, "plain", limits) {
            Ok(group) => Some(Self { name, group }),
            Err(_) => {
                let _ = cgroup::remove_box(&name);
                None
            }
        }
    }
}

impl Drop for Common {
    fn drop(&mut self) {
        let _ = self.group.remove();
        let _ = cgroup::remove_box(&self.name);
    }
}

/// A folder of its own, removed in the end.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Plain {
    /// With `program` as the probe.
    ///
    /// # Errors
    /// [`TargetError::Start`].
    pub fn of(program: &Path, user: User) -> Result<Self, TargetError> {
        let place = FOLDERS.iter().find(|folder| is_on_a_disk(folder)).copied().unwrap_or("/tmp");
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{place}/{PREFIX}{}-{number}", std::process::id());
        let failed = |error: io::Error| TargetError::Start(format!("{name}: {error}"));
        remove_left(place);
        fs::create_dir(&name).map_err(failed)?;
        let folder = Folder(PathBuf::from(&name));
        let fill = || -> io::Result<()> {
            fs::copy(program, folder.0.join("probe"))?;
            fs::set_permissions(folder.0.join("probe"), fs::Permissions::from_mode(0o755))?;
            fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755))?;
            let mut content = vec![0_u8; FILE_BYTES];
            content.iter_mut().zip((0..=u8::MAX).cycle()).for_each(|(byte, value)| *byte = value);
            fs::write(folder.0.join("file"), content)?;
            fs::File::open(folder.0.join("file"))?.sync_all()?;
            fs::write(folder.0.join("secret"), SECRET)?;
            fs::set_permissions(folder.0.join("secret"), fs::Permissions::from_mode(0o400))?;
            if user == User::Nobody {
                for file in ["file", "secret", ""] {
                    chown(folder.0.join(file), Some(NOBODY_ELSE), Some(NOBODY_ELSE))?;
                }
            }
            Ok(())
        };
        fill().map_err(failed)?;
        let group = if user == User::Nobody { Common::of(number) } else { None };
        Ok(Self { user, folder, group, small: small().ok() })
    }
}

/// A file system in memory of a fixed size, open to everybody.
fn small() -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "size", SMALL_BYTES.to_string())?;
    fsconfig_set_string(&context, "mode", "1777")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Removes what runs that were killed left there.
fn remove_left(place: &str) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path());
            let _ = cgroup::remove_box(&name.to_string_lossy());
        }
    }
}

/// Whether files there are on a disk: those in memory never leave the page cache.
fn is_on_a_disk(folder: &str) -> bool {
    /// `TMPFS_MAGIC` (linux/magic.h).
    const TMPFS: u64 = 0x0102_1994;
    rustix::fs::statfs(folder).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| kind != TMPFS))
}

/// Ends the process that it has.
struct Ending(Child);

impl Guard for Ending {}

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Target for Plain {
    fn name(&self) -> String {
        match self.user {
            User::Nobody => "plain processes of one user".into(),
            User::Root => "plain processes of root".into(),
        }
    }

    fn start(&self, _: Side) -> Result<Streams, TargetError> {
        let failed = |error: io::Error| TargetError::Start(format!("plain process: {error}"));
        let mut command = Command::new(self.folder.0.join("probe"));
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
        // Nobody writes there; it is how the small file system is handed over.
        let small = self.small.as_ref().and_then(|small| small.try_clone().ok());
        command.stderr(small.map_or_else(Stdio::null, Stdio::from));
        command.current_dir("/").process_group(0);
        if self.user == User::Nobody {
            command.uid(NOBODY_ELSE).gid(NOBODY_ELSE);
            command.env(PROCESSES_VARIABLE, PIDS_MAX.to_string());
        }
        let mut child = command.spawn().map_err(failed)?;
        for file in self.group.iter().flat_map(|common| common.group.join_files()) {
            fs::write(file, child.id().to_string()).map_err(failed)?;
        }
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) =
            pipes.ok_or_else(|| TargetError::Start("plain process: it has no pipes".into()))?;
        Ok(Streams {
            input: OwnedFd::from(input),
            output: OwnedFd::from(output),
            guard: Box::new(Ending(child)),
        })
    }

    fn file(&self) -> Option<String> {
        Some(self.folder.0.join("file").display().to_string())
    }

    fn folder(&self) -> Option<String> {
        Some(self.folder.0.display().to_string())
    }

    fn small(&self) -> Option<String> {
        self.small.as_ref().map(|_| SMALL.to_owned())
    }

    fn secret(&self) -> Option<(String, String)> {
        Some((self.folder.0.join("secret").display().to_string(), SECRET.to_owned()))
    }
}
