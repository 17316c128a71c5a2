//! Pausing a compartment with the freezer of control groups.
//!
//! Under version 2, the compartment's own group is frozen. Beside hierarchies of version 1, a group of its own serves for
//! this alone: in the version 2 hierarchy that is mounted beside them (`unified`), whose frozen processes can be killed;
//! else in the `freezer` hierarchy, whose frozen processes end only once they are thawed. Such a group is made at the
//! first pause: a start does not pay for it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{CgroupError, Group, Layout, MOUNT, layout, make_all, remove_directory, write};

/// Where a version 2 hierarchy is mounted beside those of version 1.
const UNIFIED: &str = "unified";
/// The freezer hierarchy of version 1.
const FREEZER: &str = "freezer";
/// How long all processes of a compartment may take to stand still: one that waits for a disk stands when that answers.
const FREEZE_WAIT_MAX: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(1);

/// Why a compartment does not stand still.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FreezeError {
    /// Some process went on. Nothing is frozen then.
    #[error("not all processes stood still within {} s", FREEZE_WAIT_MAX.as_secs())]
    GoesOn,
    /// Nothing here can freeze.
    #[error(
        "no freezer: neither control groups of version 2, nor {MOUNT}/{UNIFIED}, nor {MOUNT}/{FREEZER} is mounted"
    )]
    Absent,
    /// A file of the hierarchy could not be used.
    #[error(transparent)]
    Group(#[from] CgroupError),
}

/// What pauses one compartment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freezer {
    directory: PathBuf,
    version: Version,
    /// Whether the directory is the compartment's own group, whose members and end are another's concern.
    own: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Freezer {
    /// What pauses the compartment of `agent` in the box of this name.
    ///
    /// # Errors
    /// [`FreezeError::Absent`].
    pub fn of(box_name: &str, agent: &str) -> Result<Self, FreezeError> {
        let (top, version, own) = place()?;
        let directory = top.join("casemate").join(box_name).join(agent);
        Ok(Self { directory, version, own })
    }

    /// Stops all processes of the group. Blocks until they stand still, for at most 2 seconds.
    ///
    /// # Errors
    /// [`FreezeError`]; then nothing is frozen.
    pub fn freeze(&self, group: &Group) -> Result<(), FreezeError> {
        let frozen = self.freeze_all(group);
        if frozen.is_err() {
            let _ = self.thaw();
        }
        frozen
    }

    fn freeze_all(&self, group: &Group) -> Result<(), FreezeError> {
        let deadline = Instant::now() + FREEZE_WAIT_MAX;
        if !self.own {
            make_all(&self.directory)?;
        }
        self.set(true)?;
        loop {
            // Who is moved into a frozen group stands still, and so starts nobody: the rounds come to an end.
            let all_inside = self.own || self.take_in(group)?;
            if all_inside && self.is_frozen() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(FreezeError::GoesOn);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Moves those in that are not. Whether there was none.
    fn take_in(&self, group: &Group) -> Result<bool, CgroupError> {
        let inside = members(&self.directory);
        let outside: Vec<i32> = group.members().difference(&inside).copied().collect();
        let procs = self.directory.join("cgroup.procs");
        for pid in &outside {
            match fs::write(&procs, pid.to_string()) {
                // It ended meanwhile.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
                Err(source) => return Err(CgroupError::File { path: procs, source }),
                Ok(()) => {}
            }
        }
        Ok(outside.is_empty())
    }

    /// Lets all go on.
    ///
    /// # Errors
    /// [`FreezeError::Group`].
    pub fn thaw(&self) -> Result<(), FreezeError> {
        match self.set(false) {
            Err(CgroupError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            other => Ok(other?),
        }
    }

    /// Lets all go on and removes what a pause has made. The compartment must be at its end: who is left is killed.
    ///
    /// # Errors
    /// [`FreezeError::Group`].
    pub fn release(&self) -> Result<(), FreezeError> {
        self.thaw()?;
        if !self.own {
            remove_directory(&self.directory)?;
        }
        Ok(())
    }

    fn set(&self, frozen: bool) -> Result<(), CgroupError> {
        match (self.version, frozen) {
            (Version::Two, _) => write(&self.directory.join("cgroup.freeze"), if frozen { "1" } else { "0" }),
            (Version::One, true) => write(&self.directory.join("freezer.state"), "FROZEN"),
            (Version::One, false) => write(&self.directory.join("freezer.state"), "THAWED"),
        }
    }

    fn is_frozen(&self) -> bool {
        match self.version {
            Version::Two => fs::read_to_string(self.directory.join("cgroup.events"))
                .is_ok_and(|text| text.lines().any(|line| line == "frozen 1")),
            Version::One => fs::read_to_string(self.directory.join("freezer.state"))
                .is_ok_and(|text| text.trim() == "FROZEN"),
        }
    }
}

/// Lets everything of a box go on and removes what pauses have made: before its groups are removed, because a frozen
/// process of version 1 does not end.
///
/// # Errors
/// [`CgroupError`] where a group does not become empty in 5 seconds.
pub fn release_box(box_name: &str) -> Result<(), CgroupError> {
    let Ok((top, version, own)) = place() else { return Ok(()) };
    let directory = top.join("casemate").join(box_name);
    let groups: Vec<PathBuf> = fs::read_dir(&directory)
        .map(|entries| entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
        .unwrap_or_default();
    for group in groups {
        let freezer = Freezer { directory: group, version, own };
        if let Err(FreezeError::Group(error)) = freezer.release() {
            return Err(error);
        }
    }
    if !own && directory.exists() {
        remove_directory(&directory)?;
        // The common parent, when this was the last box.
        let _ = fs::remove_dir(top.join("casemate"));
    }
    Ok(())
}

fn place() -> Result<(PathBuf, Version, bool), FreezeError> {
    let mount = Path::new(MOUNT);
    if matches!(layout(), Ok(Layout::Unified)) {
        return Ok((mount.to_owned(), Version::Two, true));
    }
    let unified = mount.join(UNIFIED);
    if unified.join("cgroup.controllers").exists() {
        return Ok((unified, Version::Two, false));
    }
    let freezer = mount.join(FREEZER);
    if freezer.join("cgroup.procs").exists() {
        return Ok((freezer, Version::One, false));
    }
    Err(FreezeError::Absent)
}

/// The processes in a group.
pub(super) fn members(directory: &Path) -> BTreeSet<i32> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::cgroup::{GroupLimits, remove_box};
    use std::process::{Child, Command, Stdio};

    const LIMITS: GroupLimits = GroupLimits {
        memory_bytes: 64 << 20,
        pids: 16,
        memory_reserved_bytes: None,
        cpu_milli: None,
        cpu_shares: 1024,
    };

    /// A shell that counts in a file, in a group of its own.
    struct Counter {
        child: Child,
        group: Group,
        file: PathBuf,
    }

    impl Counter {
        fn start(box_name: &str) -> Option<Self> {
            if !rustix::process::geteuid().is_root() {
                eprintln!("not run: freezer: needs root");
                return None;
            }
            let group = Group::create(box_name, "one", LIMITS).unwrap();
            let file = std::env::temp_dir().join(format!("{box_name}-{}", std::process::id()));
            let script = "i=0; while :; do i=$((i+1)); echo $i > \"$1\"; sleep 0.01; done";
            let child = Command::new("sh")
                .args(["-c", script, "sh"])
                .arg(&file)
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            for join in group.join_files() {
                fs::write(join, child.id().to_string()).unwrap();
            }
            Some(Self { child, group, file })
        }

        fn count(&self) -> String {
            fs::read_to_string(&self.file).unwrap_or_default()
        }

        fn goes_on(&self) -> bool {
            let before = self.count();
            let end = Instant::now() + Duration::from_secs(2);
            while Instant::now() < end {
                if self.count() != before && !self.count().is_empty() {
                    return true;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            false
        }

        fn stands_still(&self) -> bool {
            let before = self.count();
            std::thread::sleep(Duration::from_millis(200));
            self.count() == before
        }
    }

    impl Drop for Counter {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
            let _ = fs::remove_file(&self.file);
        }
    }

    fn pauses_and_goes_on(name: &str, freezer: impl Fn(&Freezer) -> Freezer) {
        let Some(mut counter) = Counter::start(name) else { return };
        let freezer = freezer(&Freezer::of(name, "one").unwrap());
        assert!(counter.goes_on());
        for _ in 0..2 {
            freezer.freeze(&counter.group).unwrap();
            assert!(counter.stands_still());
            freezer.thaw().unwrap();
            assert!(counter.goes_on());
        }
        // Killed while it stands still, it is gone once it is released.
        freezer.freeze(&counter.group).unwrap();
        counter.child.kill().unwrap();
        freezer.release().unwrap();
        counter.child.wait().unwrap();
        counter.group.remove().unwrap();
        assert!(!freezer.directory.exists());
        remove_box(name).unwrap();
    }

    #[test]
    fn a_group_stands_still_and_goes_on() {
        pauses_and_goes_on("freezer-test", Freezer::clone);
    }

    #[test]
    fn a_group_of_version_1_stands_still_and_goes_on() {
        let top = Path::new(MOUNT).join(FREEZER);
        if !top.join("cgroup.procs").exists() {
            eprintln!("not run: freezer of version 1: not mounted");
            return;
        }
        pauses_and_goes_on("freezer-test-v1", |_| Freezer {
            directory: top.join("casemate").join("freezer-test-v1").join("one"),
            version: Version::One,
            own: false,
        });
        let _ = fs::remove_dir(top.join("casemate/freezer-test-v1"));
        let _ = fs::remove_dir(top.join("casemate"));
    }

    #[test]
    fn a_compartments_own_group_of_version_2_stands_still_goes_on_and_is_ended_by_one_write() {
        let top = [MOUNT.to_owned(), format!("{MOUNT}/{UNIFIED}")]
            .map(PathBuf::from)
            .into_iter()
            .find(|top| top.join("cgroup.controllers").exists());
        let Some(top) = top else {
            eprintln!("not run: freezer of version 2: not mounted");
            return;
        };
        let Some(mut counter) = Counter::start("freezer-test-v2") else { return };
        // Frozen is the group itself, as where all controllers are of version 2, and not one that a pause makes.
        let directory = top.join("casemate-freezer-test-v2").join("one");
        make_all(&directory).unwrap();
        write(&directory.join("cgroup.procs"), &counter.child.id().to_string()).unwrap();
        let freezer = Freezer { directory: directory.clone(), version: Version::Two, own: true };
        assert!(!freezer.is_frozen() && counter.goes_on());
        for _ in 0..2 {
            freezer.freeze(&counter.group).unwrap();
            let events = fs::read_to_string(directory.join("cgroup.events")).unwrap();
            assert!(events.contains("frozen 1") && freezer.is_frozen(), "{events}");
            assert!(counter.stands_still());
            freezer.thaw().unwrap();
            assert!(counter.goes_on() && !freezer.is_frozen());
        }
        // What is frozen ends: the group is not removed while it has members, and is when they are killed.
        freezer.freeze(&counter.group).unwrap();
        freezer.release().unwrap();
        assert!(directory.exists(), "the group is another's to remove");
        freezer.freeze(&counter.group).unwrap();
        if directory.join("cgroup.kill").exists() {
            write(&directory.join("cgroup.kill"), "1").unwrap();
        } else {
            counter.child.kill().unwrap();
        }
        assert!(!counter.child.wait().unwrap().success());
        remove_directory(&directory).unwrap();
        remove_directory(&top.join("casemate-freezer-test-v2")).unwrap();
        counter.group.remove().unwrap();
        remove_box("freezer-test-v2").unwrap();
    }

    #[test]
    fn removing_a_box_ends_what_is_paused() {
        let Some(mut counter) = Counter::start("freezer-box") else { return };
        let freezer = Freezer::of("freezer-box", "one").unwrap();
        freezer.freeze(&counter.group).unwrap();
        remove_box("freezer-box").unwrap();
        counter.child.wait().unwrap();
        assert!(!freezer.directory.exists());
    }
}
