//! Control groups of compartments: version 2, and version 1 as separate or hybrid hierarchies.
//!
//! A compartment's group is `casemate/<box>/<agent>` below the mount of each controller, where the name of the box
//! follows from its project folder ([`box_name`]): two boxes of one project name do not meet.

mod cpuset;
pub mod disk;
pub mod freezer;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the hierarchies are mounted.
const MOUNT: &str = "/sys/fs/cgroup";
/// Controllers that limits need.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
/// Controllers that are used where there are such.
const MORE_CONTROLLERS: [&str; 3] = ["cpuset", "io", "blkio"];
/// Most processes that a kernel has; it takes no larger limit.
const PIDS_MAX: u32 = 1 << 22;
/// Largest page of the machine: version 1 rounds sizes down to whole pages.
const PAGE_BYTES_MAX: u64 = 64 << 10;
/// How long an ended group may take to become empty.
const EMPTY_WAIT_MAX: Duration = Duration::from_secs(5);

/// Why a group could not be made or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// A controller is not mounted.
    #[error("cgroup controller `{controller}` is not available under {MOUNT}")]
    Controller {
        /// Its name.
        controller: &'static str,
    },
    /// No disk whose use could be limited.
    #[error("{} is on no disk that the kernel limits (device {device})", path.display())]
    NoDisk {
        /// What lies there.
        path: PathBuf,
        /// Number of its file system.
        device: String,
    },
    /// A file of the hierarchy could not be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Limits of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupLimits {
    /// Memory without swap.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Memory that the kernel takes last from the group.
    pub memory_reserved_bytes: Option<u64>,
    /// CPU time in thousandths of a core.
    pub cpu_milli: Option<u32>,
    /// Weight where cores are short, 2 to 262144.
    pub cpu_shares: u32,
}

impl GroupLimits {
    /// [`GroupLimits::cpu_shares`] as a weight of version 2: 2 to 262144 becomes 1 to 10000.
    fn cpu_weight(self) -> u64 {
        let above = u64::from(self.cpu_shares.clamp(2, 262_144)).saturating_sub(2);
        above.saturating_mul(9999) / 262_142 + 1
    }
}

/// The group of one compartment. Dropping it leaves it: it is removed by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    directories: Vec<PathBuf>,
}

/// Which hierarchies are mounted.
enum Layout {
    /// One hierarchy with all controllers.
    Unified,
    /// One hierarchy a controller.
    Separate,
}

/// The name of a box: its project's name and a mark of its folder (FNV-1a, 64 bits; a mark, not a secret).
#[must_use]
pub fn box_name(project: &str, project_dir: &Path) -> String {
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(project_dir.as_os_str());
    let mark = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{project}-{mark:016x}")
}

impl Group {
    /// Makes the group of `agent` in the box of this name and sets its limits.
    ///
    /// # Errors
    /// [`CgroupError`].
    pub fn create(box_name: &str, agent: &str, limits: GroupLimits) -> Result<Self, CgroupError> {
        let relative = Path::new("casemate").join(box_name).join(agent);
        let root = Path::new(MOUNT);
        match layout()? {
            Layout::Unified => {
                let known = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
                let more = MORE_CONTROLLERS.into_iter().filter(|c| known.split_whitespace().any(|k| k == *c));
                let enable: Vec<String> =
                    CONTROLLERS.into_iter().chain(more).map(|c| format!("+{c}")).collect();
                let enable = enable.join(" ");
                let mut parent = root.to_path_buf();
                for part in &relative {
                    write(&parent.join("cgroup.subtree_control"), &enable)?;
                    parent.push(part);
                    make(&parent)?;
                }
                write(&parent.join("memory.max"), &limits.memory_bytes.to_string())?;
                if parent.join("memory.swap.max").exists() {
                    write(&parent.join("memory.swap.max"), "0")?;
                }
                write(&parent.join("pids.max"), &at_most_all(limits.pids))?;
                if let Some(milli) = limits.cpu_milli {
                    let quota = u64::from(milli).saturating_mul(100);
                    write(&parent.join("cpu.max"), &format!("{quota} 100000"))?;
                }
                write(&parent.join("cpu.weight"), &limits.cpu_weight().to_string())?;
                if let Some(bytes) = limits.memory_reserved_bytes {
                    write(&parent.join("memory.low"), &bytes.to_string())?;
                }
                protect_parents(&parent)?;
                Ok(Self { directories: vec![parent] })
            }
            Layout::Separate => {
                let mut directories = Vec::new();
                for controller in CONTROLLERS {
                    let directory = root.join(controller).join(&relative);
                    make_all(&directory)?;
                    directories.push(directory);
                }
                let group = Self { directories };
                for (directory, controller) in group.directories.iter().zip(CONTROLLERS) {
                    match controller {
                        "memory" => {
                            write(
                                &directory.join("memory.limit_in_bytes"),
                                &limits.memory_bytes.to_string(),
                            )?;
                            if let Some(bytes) = limits.memory_reserved_bytes {
                                write(&directory.join("memory.soft_limit_in_bytes"), &bytes.to_string())?;
                            }
                            // What waits in the agent's own sockets is memory too; version 1 counts it apart.
                            let tcp = directory.join("memory.kmem.tcp.limit_in_bytes");
                            if tcp.exists() {
                                write(&tcp, &(limits.memory_bytes / 4).to_string())?;
                            }
                            let with_swap = directory.join("memory.memsw.limit_in_bytes");
                            if with_swap.exists() {
                                write(&with_swap, &limits.memory_bytes.to_string())?;
                            }
                        }
                        "pids" => write(&directory.join("pids.max"), &at_most_all(limits.pids))?,
                        _ => {
                            if let Some(milli) = limits.cpu_milli {
                                let quota = u64::from(milli).saturating_mul(100);
                                write(&directory.join("cpu.cfs_quota_us"), &quota.to_string())?;
                            }
                            write(&directory.join("cpu.shares"), &limits.cpu_shares.to_string())?;
                        }
                    }
                }
                Ok(group)
            }
        }
    }

    /// Sets how many processes and threads the group may have from now on. Those that are there stay.
    ///
    /// # Errors
    /// [`CgroupError`].
    pub fn set_processes(&self, pids: u32) -> Result<(), CgroupError> {
        match self.directories.iter().map(|directory| directory.join("pids.max")).find(|file| file.exists()) {
            Some(file) => write(&file, &at_most_all(pids)),
            None => Err(CgroupError::Controller { controller: "pids" }),
        }
    }

    /// Confines the group to these processors: before anything joins it.
    ///
    /// # Errors
    /// [`CgroupError`].
    pub fn set_processors(&mut self, processors: &BTreeSet<u16>) -> Result<(), CgroupError> {
        cpuset::set(&mut self.directories, processors)
    }

    /// Whether the kernel shows these processors for the group, and no other.
    #[must_use]
    pub fn processors_in_force(&self, processors: &BTreeSet<u16>) -> bool {
        self.value(["cpuset.cpus.effective", "cpuset.effective_cpus"])
            .and_then(|text| crate::cores::parse_list(&text))
            .is_some_and(|found| found == *processors)
    }

    /// The files into which a process with one thread writes `0` to join. Version 1 has `tasks`, which moves one
    /// thread and so spares the kernel the wait for all others (milliseconds) that `cgroup.procs` costs.
    #[must_use]
    pub fn join_files(&self) -> Vec<String> {
        let file = |directory: &PathBuf| {
            let tasks = directory.join("tasks");
            let file = if tasks.exists() { tasks } else { directory.join("cgroup.procs") };
            file.display().to_string()
        };
        self.directories.iter().map(file).collect()
    }

    /// Whether the kernel shows memory and process limits no larger than these, and lets nothing be swapped: a kernel
    /// that does not count swapped memory (`swapaccount=0`) must have no swap.
    #[must_use]
    pub fn limits_in_force(&self, limits: GroupLimits) -> bool {
        let at_most = |files: [&str; 2], most: u64| {
            self.value(files).and_then(|text| text.parse::<u64>().ok()).is_some_and(|found| found <= most)
        };
        at_most(["memory.max", "memory.limit_in_bytes"], limits.memory_bytes)
            && at_most(["pids.max", "pids.max"], limits.pids.into())
            && (at_most(["memory.swap.max", "memory.memsw.limit_in_bytes"], self.memory_with_swap(limits))
                || !swaps())
            && limits.memory_reserved_bytes.is_none_or(|bytes| {
                self.value(["memory.low", "memory.soft_limit_in_bytes"])
                    .and_then(|text| text.parse::<u64>().ok())
                    .is_some_and(|found| found <= bytes && found.saturating_add(PAGE_BYTES_MAX) > bytes)
            })
    }

    /// Version 2 counts what is swapped by itself, version 1 together with memory.
    fn memory_with_swap(&self, limits: GroupLimits) -> u64 {
        if self.value(["memory.swap.max"; 2]).is_some() { 0 } else { limits.memory_bytes }
    }

    /// Whether the kernel shows the CPU time that was asked for: this limit, or none, and this weight.
    #[must_use]
    pub fn cpu_as_asked(&self, limits: GroupLimits) -> bool {
        let weight = match (self.value(["cpu.weight"; 2]), self.value(["cpu.shares"; 2])) {
            (Some(weight), _) => weight == limits.cpu_weight().to_string(),
            (None, shares) => shares.is_some_and(|shares| shares == limits.cpu_shares.to_string()),
        };
        if !weight {
            return false;
        }
        let quota = self.value(["cpu.max", "cpu.cfs_quota_us"]);
        let quota = quota.as_deref().and_then(|text| text.split_whitespace().next());
        match limits.cpu_milli {
            Some(milli) => quota == Some(u64::from(milli).saturating_mul(100).to_string().as_str()),
            None => matches!(quota, Some("max" | "-1")),
        }
    }

    /// Content of the first of these files that one of the directories has.
    pub(crate) fn value(&self, files: [&str; 2]) -> Option<String> {
        let paths = self.directories.iter().flat_map(|directory| files.map(|file| directory.join(file)));
        paths.into_iter().find_map(|path| fs::read_to_string(path).ok()).map(|text| text.trim().to_owned())
    }

    /// Whether process `pid` is in every directory of the group.
    #[must_use]
    pub fn contains(&self, pid: i32) -> bool {
        let wanted = pid.to_string();
        self.directories.iter().all(|directory| {
            fs::read_to_string(directory.join("cgroup.procs"))
                .is_ok_and(|text| text.lines().any(|line| line == wanted))
        })
    }

    /// The processes in the group.
    #[must_use]
    pub fn members(&self) -> BTreeSet<i32> {
        self.directories.iter().flat_map(|directory| freezer::members(directory)).collect()
    }

    /// Ends what is left in the group and removes it.
    ///
    /// # Errors
    /// [`CgroupError`] where it does not become empty in 5 seconds.
    pub fn remove(&self) -> Result<(), CgroupError> {
        self.directories.iter().try_for_each(|directory| remove_directory(directory))
    }
}

/// Ends and removes all groups of a box, by name: also those that an earlier, killed warden left.
///
/// # Errors
/// [`CgroupError`] where one does not become empty in 5 seconds.
pub fn remove_box(box_name: &str) -> Result<(), CgroupError> {
    freezer::release_box(box_name)?;
    let relative = Path::new("casemate").join(box_name);
    let tops: Vec<PathBuf> = match layout() {
        Ok(Layout::Unified) => vec![Path::new(MOUNT).to_path_buf()],
        Ok(Layout::Separate) => {
            CONTROLLERS.iter().chain(&MORE_CONTROLLERS).map(|c| Path::new(MOUNT).join(c)).collect()
        }
        // Without controllers there never was a group.
        Err(_) => return Ok(()),
    };
    for top in tops {
        let directory = top.join(&relative);
        if let Ok(entries) = fs::read_dir(&directory) {
            for entry in entries.flatten().filter(|e| e.path().is_dir()) {
                remove_directory(&entry.path())?;
            }
            remove_directory(&directory)?;
        }
        // The common parent, when this was the last box.
        let _ = fs::remove_dir(top.join("casemate"));
    }
    Ok(())
}

/// Gives the groups above `group` the sum of what is reserved in those below them: the kernel keeps a reservation only
/// as far as all groups above have one (version 2).
fn protect_parents(group: &Path) -> Result<(), CgroupError> {
    let mut parent = group.parent();
    while let Some(directory) = parent.filter(|directory| *directory != Path::new(MOUNT)) {
        let entries = fs::read_dir(directory)
            .map_err(|source| CgroupError::File { path: directory.to_owned(), source })?;
        let reserved = entries
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path().join("memory.low")).ok())
            .filter_map(|text| text.trim().parse::<u64>().ok())
            .fold(0_u64, u64::saturating_add);
        write(&directory.join("memory.low"), &reserved.to_string())?;
        parent = directory.parent();
    }
    Ok(())
}

/// A number of processes as the kernel takes it.
fn at_most_all(pids: u32) -> String {
    pids.min(PIDS_MAX).to_string()
}

/// Whether the machine swaps: `/proc/swaps` has a line below its title. Where it cannot be read, it may.
fn swaps() -> bool {
    fs::read_to_string("/proc/swaps").map_or(true, |text| text.lines().count() > 1)
}

fn layout() -> Result<Layout, CgroupError> {
    let unified = fs::read_to_string(Path::new(MOUNT).join("cgroup.controllers")).unwrap_or_default();
    if CONTROLLERS.iter().all(|c| unified.split_whitespace().any(|known| known == *c)) {
        return Ok(Layout::Unified);
    }
    for controller in CONTROLLERS {
        if !Path::new(MOUNT).join(controller).join("cgroup.procs").exists() {
            return Err(CgroupError::Controller { controller });
        }
    }
    Ok(Layout::Separate)
}

fn remove_directory(directory: &Path) -> Result<(), CgroupError> {
    let deadline = Instant::now() + EMPTY_WAIT_MAX;
    loop {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(CgroupError::File { path: directory.to_owned(), source: error });
            }
            Err(_) => {
                for pid in fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default().lines() {
                    if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
                        // The number may have passed to another process since; only members of this group are hit
                        // because the group is re-read each round and the pidfd pins the process.
                        kill_member(directory, pid);
                    }
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn kill_member(directory: &Path, pid: rustix::process::Pid) {
    use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    let wanted = pid.as_raw_nonzero().get().to_string();
    let still_member = fs::read_to_string(directory.join("cgroup.procs"))
        .is_ok_and(|text| text.lines().any(|line| line == wanted));
    if still_member {
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
}

fn make(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(CgroupError::File { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn make_all(path: &Path) -> Result<(), CgroupError> {
    fs::create_dir_all(path).map_err(|source| CgroupError::File { path: path.to_owned(), source })
}

fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    fs::write(path, value).map_err(|source| CgroupError::File { path: path.to_owned(), source })
}
