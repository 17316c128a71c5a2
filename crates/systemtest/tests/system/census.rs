//! What a project has on the machine: processes, mounts, cgroups, loop devices and what is in its `run` folder.
//!
//! A namespace without a process lives only by a mount or a descriptor; both would show here: a mount of `nsfs`, or the
//! process that holds the descriptor.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What there is. Two of them are equal where nothing came and nothing went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) processes: Vec<String>,
    pub(crate) mounts: Vec<String>,
    pub(crate) namespace_mounts: usize,
    pub(crate) cgroups: Vec<PathBuf>,
    pub(crate) loop_devices: Vec<String>,
    pub(crate) run: Vec<PathBuf>,
}

/// Whose things are counted.
pub(crate) struct Owner {
    pub(crate) home: PathBuf,
    pub(crate) project_dir: PathBuf,
    pub(crate) box_name: String,
    pub(crate) bin: PathBuf,
}

impl Owner {
    /// Counts. `seen` holds processes that were the project's at an earlier count: an orphan may show it no more.
    pub(crate) fn count(&self, seen: &mut BTreeSet<u32>) -> Census {
        let home = self.home.to_string_lossy().into_owned();
        let mountinfo = fs::read_to_string("/proc/1/mountinfo").unwrap();
        let own_mountinfo = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let lines: BTreeSet<&str> = mountinfo.lines().chain(own_mountinfo.lines()).collect();
        Census {
            processes: self.processes(seen).into_iter().map(describe).collect(),
            mounts: lines.iter().filter(|l| l.contains(&home)).map(|l| (*l).to_owned()).collect(),
            namespace_mounts: lines.iter().filter(|l| l.contains(" - nsfs ") && l.contains(&home)).count(),
            cgroups: self.cgroups(),
            loop_devices: loop_devices(&home),
            run: entries(&self.project_dir.join("run"))
                .into_iter()
                .filter(|p| !p.ends_with("lock"))
                .collect(),
        }
    }

    /// Ids of the project's processes: by program and folder, by cgroup, and what descends from them.
    pub(crate) fn processes(&self, seen: &mut BTreeSet<u32>) -> BTreeSet<u32> {
        let all: Vec<u32> = entries(Path::new("/proc"))
            .iter()
            .filter_map(|path| path.file_name()?.to_str()?.parse().ok())
            .filter(|pid| state(*pid).is_some_and(|state| state != 'Z'))
            .collect();
        let mut found: BTreeSet<u32> = all.iter().copied().filter(|pid| self.owns(*pid)).collect();
        loop {
            let before = found.len();
            let children = all.iter().copied().filter(|pid| parent(*pid).is_some_and(|p| found.contains(&p)));
            let children: Vec<u32> = children.collect();
            found.extend(children);
            if found.len() == before {
                break;
            }
        }
        seen.retain(|pid| all.contains(pid));
        seen.extend(&found);
        seen.clone()
    }

    fn owns(&self, pid: u32) -> bool {
        let read = |file: &str| {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        if read("cgroup").contains(&format!("casemate/{}", self.box_name)) {
            return true;
        }
        let is_ours = fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(&self.bin));
        let home = self.home.to_string_lossy().into_owned();
        let holds_file = || {
            entries(Path::new(&format!("/proc/{pid}/fd")))
                .iter()
                .any(|fd| fs::read_link(fd).is_ok_and(|to| to.starts_with(&self.home)))
        };
        is_ours && (read("cmdline").contains(&home) || read("environ").contains(&home) || holds_file())
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        let top = Path::new("/sys/fs/cgroup");
        let mut tops = entries(top);
        tops.push(top.to_owned());
        tops.iter().map(|t| t.join("casemate").join(&self.box_name)).filter(|path| path.exists()).collect()
    }
}

fn loop_devices(home: &str) -> Vec<String> {
    entries(Path::new("/sys/block"))
        .iter()
        .filter_map(|block| fs::read_to_string(block.join("loop/backing_file")).ok())
        .filter(|file| file.contains(home))
        .collect()
}

/// What is in a folder; nothing where there is none.
pub(crate) fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    found.sort();
    found
}

/// The command line with spaces.
pub(crate) fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

fn describe(pid: u32) -> String {
    format!("{pid} {:?} child of {:?}: {}", state(pid), parent(pid), command_line(pid))
}

fn stat_field(pid: u32, index: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc_pid_stat(5): the name in brackets may hold anything; state and parent follow its last bracket.
    stat.rsplit_once(") ")?.1.split(' ').nth(index).map(str::to_owned)
}

fn state(pid: u32) -> Option<char> {
    stat_field(pid, 0)?.chars().next()
}

fn parent(pid: u32) -> Option<u32> {
    stat_field(pid, 1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use crate::project::{Project, agent, casemate};

    /// The positive control of every "nothing is left": each kind of thing is seen where it is.
    #[test]
    fn the_census_sees_each_kind_of_thing_that_could_be_left() {
        let project = Project::new("census", &agent("one", &["wait"], ""), &[]);
        project.run(&["lock"]).assert_ok();
        project.assert_nothing_left();

        // A program that waits for a secret on its standard input.
        let mut put = casemate(&["secret", "put", "x"]);
        project.place(&mut put);
        let mut put = put.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        // The parent goes on when the child has left its memory, which is before /proc shows the new program.
        let deadline = Instant::now() + Duration::from_secs(10);
        while project.census().processes.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(project.census().processes.len(), 1);
        put.kill().unwrap();
        put.wait().unwrap();
        assert!(project.census().processes.is_empty());

        // An entry of the run folder.
        fs::create_dir_all(project.project_dir().join("run")).unwrap();
        let socket = project.project_dir().join("run/control.sock");
        fs::write(&socket, "").unwrap();
        assert_eq!(project.census().run, [socket.as_path()]);
        fs::remove_file(&socket).unwrap();

        // A control group, and a foreign process in it.
        let name = casemate_sys::cgroup::box_name(&project.name, &project.project_dir());
        let limits = casemate_sys::cgroup::GroupLimits {
            memory_bytes: 64 << 20,
            pids: 4,
            memory_reserved_bytes: None,
            cpu_milli: None,
            cpu_shares: 1024,
        };
        casemate_sys::cgroup::Group::create(&name, "one", limits).unwrap();
        let groups = project.census().cgroups;
        assert!(!groups.is_empty());
        let mut sleep = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        for group in groups {
            fs::write(group.join("one/cgroup.procs"), sleep.id().to_string()).unwrap();
        }
        assert_eq!(project.census().processes.len(), 1);
        sleep.kill().unwrap();
        sleep.wait().unwrap();
        casemate_sys::cgroup::remove_box(&name).unwrap();

        // A mount, in a namespace of a thread.
        let owner = project.owner();
        std::thread::scope(|scope| scope.spawn(move || sees_a_mount(&owner)).join()).unwrap();
        project.assert_nothing_left();
    }

    fn sees_a_mount(owner: &super::Owner) {
        use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
        #[expect(deprecated, reason = "the unsafe form differs only for FILES, which is not asked for")]
        rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNS).unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        mount("none", &owner.home, "tmpfs", MountFlags::empty(), None).unwrap();
        assert_eq!(owner.count(&mut std::collections::BTreeSet::new()).mounts.len(), 1);
    }
}
