//! What can be seen of a compartment from outside, in `/proc`: whether controls are in force.

use std::fs;

use rustix::fs::statvfs;

use crate::spec::ID_RANGE;

/// What `/proc/PID` shows of a confined process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// `uid_map` and `gid_map` are exactly the agent's range.
    pub ids_mapped: bool,
    /// All namespaces differ from the observer's.
    pub namespaces_own: bool,
    /// The root, where it is a read-only EROFS mount without devices and set-id files.
    pub root: Option<Root>,
    /// All capability sets are empty and `NoNewPrivs` is 1.
    pub unprivileged: bool,
    /// A system call filter is on that the observer does not have itself.
    pub filtered: bool,
}

/// A root file system, as `/proc/PID/mountinfo` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Number of the file system instance, `MAJOR:MINOR`: who has the same number shares inodes and cached pages.
    pub device: String,
    /// It reads contents past the page cache of the image's data.
    pub past_the_cache: bool,
    /// Number of the copy of the metadata that the kernel mounted it from ([`crate::root::private`]).
    pub number: u64,
}

/// The namespaces that a compartment has of its own.
const NAMESPACES: [&str; 8] = ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup", "time"];

/// Looks at process `pid`, whose id range should begin at `uid_base`. What cannot be read counts as not in force.
#[must_use]
pub fn observe(pid: i32, uid_base: u32) -> Observed {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let status = read("status");
    let own_status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
            .unwrap_or_default()
    };
    let map_ok = |file: &str| {
        let words: Vec<u32> = read(file).split_whitespace().filter_map(|w| w.parse().ok()).collect();
        words == [0, uid_base, ID_RANGE]
    };
    let own = |name: &&str| {
        let theirs = fs::read_link(format!("/proc/{pid}/ns/{name}"));
        let ours = fs::read_link(format!("/proc/self/ns/{name}"));
        matches!((theirs, ours), (Ok(theirs), Ok(ours)) if theirs != ours)
    };
    let no_capability = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
        .iter()
        .all(|set| !field(set).is_empty() && field(set).bytes().all(|b| b == b'0'));
    Observed {
        ids_mapped: map_ok("uid_map") && map_ok("gid_map"),
        namespaces_own: NAMESPACES.iter().all(own),
        root: root_at(pid, "/"),
        unprivileged: no_capability && field("NoNewPrivs") == "1",
        filtered: field("Seccomp") == "2" && filters(&status) > filters(&own_status),
    }
}

/// Number of the root's file system instance of process `pid`; none where its root is not as [`Observed::root`] asks.
#[must_use]
pub fn root_device(pid: i32) -> Option<String> {
    root_at(pid, "/").map(|root| root.device)
}

/// The root file system that process `pid` has mounted at `target`; none where it is not as [`Observed::root`] asks.
#[must_use]
pub fn root_at(pid: i32, target: &str) -> Option<Root> {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
    let inside = target.trim_end_matches('/');
    let number = statvfs(format!("/proc/{pid}/root{inside}")).ok()?.f_fsid;
    mounts.lines().find_map(|line| root_in(line, target, number))
}

/// A mount of a process, and what part of which file system it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSeen {
    /// Mount point, as the process sees it.
    pub target: String,
    /// Number of the file system instance.
    device: String,
    /// The folder of that file system that is mounted.
    root: String,
}

impl MountSeen {
    /// Whether a file behind this mount is behind the other one, too.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let within = |inner: &str, outer: &str| {
            inner
                .strip_prefix(outer.trim_end_matches('/'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.device == other.device && (within(&self.root, &other.root) || within(&other.root, &self.root))
    }
}

/// All mounts of process `pid`; none where they cannot be read or understood.
#[must_use]
pub fn mounts_seen(pid: i32) -> Option<Vec<MountSeen>> {
    mounts_in(&fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?)
}

fn mounts_in(mountinfo: &str) -> Option<Vec<MountSeen>> {
    let mounts: Option<Vec<MountSeen>> = mountinfo
        .lines()
        .map(|line| {
            let mut words = line.split(' ').skip(2).map(str::to_owned);
            let (device, root, target) = (words.next()?, words.next()?, words.next()?);
            Some(MountSeen { target, device, root })
        })
        .collect();
    mounts.filter(|mounts| !mounts.is_empty())
}

/// How many system call filters a process has (`Seccomp_filters`, Linux 5.9).
fn filters(status: &str) -> u32 {
    let count = status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Whether `NoNewPrivs` of process `pid` is 1.
#[must_use]
pub fn no_new_privileges(pid: i32) -> bool {
    status_of(pid).lines().any(|line| line.strip_prefix("NoNewPrivs:").is_some_and(|v| v.trim() == "1"))
}

/// Whether process `pid` ended, taken by its parent or not.
#[must_use]
pub fn has_ended(pid: i32) -> bool {
    let status = status_of(pid);
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    state.is_none_or(|state| matches!(state.trim_start().chars().next(), None | Some('Z' | 'X')))
}

fn status_of(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

/// The root at `wanted` that a line of mountinfo shows (proc_pid_mountinfo(5)):
/// `ID PARENT DEV ROOT MOUNTPOINT OPTIONS … - TYPE SOURCE SUPER`.
fn root_in(line: &str, wanted: &str, number: u64) -> Option<Root> {
    let (mount, super_block) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(2);
    let (device, _, target, options) = (mount.next()?, mount.next()?, mount.next()?, mount.next()?);
    let mut super_block = super_block.split(' ');
    let (kind, super_options) = (super_block.next()?, super_block.nth(1).unwrap_or_default());
    let has = |options: &str, wanted: &str| options.split(',').any(|option| option == wanted);
    let good = target == wanted
        && kind == "erofs"
        && ["ro", "nosuid", "nodev"].iter().all(|wanted| has(options, wanted));
    good.then(|| Root { device: device.to_owned(), past_the_cache: has(super_options, "directio"), number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_overlap_where_they_show_the_same_part_of_one_file_system() {
        let one = |device: &str, root: &str| {
            mounts_in(&format!("9 1 {device} {root} /data rw - ext4 /dev/vda rw\n")).unwrap().remove(0)
        };
        assert!(one("8:1", "/a").overlaps(&one("8:1", "/a")));
        assert!(
            one("8:1", "/").overlaps(&one("8:1", "/a")) && one("8:1", "/a/b").overlaps(&one("8:1", "/a"))
        );
        assert!(
            !one("8:1", "/a").overlaps(&one("8:1", "/ab")) && !one("8:1", "/a").overlaps(&one("8:2", "/a"))
        );
        assert_eq!((mounts_in(""), mounts_in("9 1 8:1\n")), (None, None));
    }

    #[test]
    fn knows_a_root_and_how_it_reads() {
        let good = "99 1 0:45 / / ro,nosuid,nodev,relatime idmapped - erofs /x ro,user_xattr,acl,cache_strategy=readaround,directio";
        let root = Root { device: "0:45".into(), past_the_cache: true, number: 7 };
        let below = good.replace("/ / ro", "/ /rootfs ro");
        assert_eq!((root_in(&below, "/rootfs", 7), root_in(good, "/rootfs", 7)), (Some(root.clone()), None));
        assert_eq!(root_in(good, "/", 7), Some(root.clone()));
        let buffered = good.replace(",directio", "");
        assert_eq!(root_in(&buffered, "/", 7), Some(Root { past_the_cache: false, ..root }));
        for (from, to) in [
            ("erofs", "ext4"),
            ("/ / ro,", "/ / rw,"),
            ("/ / ro", "/ /x ro"),
            ("nosuid,", ""),
            ("nodev,", ""),
        ] {
            assert_eq!(root_in(&good.replace(from, to), "/", 7), None, "{from} -> {to}");
        }
    }

    #[test]
    fn sees_nothing_enforced_on_a_plain_process() {
        let own = observe(std::process::id().cast_signed(), 1_000_000);
        assert_eq!(
            own,
            Observed {
                ids_mapped: false,
                namespaces_own: false,
                root: None,
                unprivileged: false,
                filtered: false
            }
        );
    }
}
