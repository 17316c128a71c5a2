//! What can be seen of a compartment from outside, in `/proc`: whether controls are in force.

use std::fs;

use crate::spec::ID_RANGE;

/// What `/proc/PID` shows of a confined process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// `uid_map` and `gid_map` are exactly the agent's range.
    pub ids_mapped: bool,
    /// All namespaces differ from the observer's.
    pub namespaces_own: bool,
    /// The root is a read-only EROFS mount with `directio`.
    pub root_private: bool,
    /// All capability sets are empty and `NoNewPrivs` is 1.
    pub unprivileged: bool,
    /// A system call filter is on.
    pub filtered: bool,
}

/// The namespaces that a compartment has of its own.
const NAMESPACES: [&str; 8] = ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup", "time"];

/// Looks at process `pid`, whose id range should begin at `uid_base`. What cannot be read counts as not in force.
#[must_use]
pub fn observe(pid: i32, uid_base: u32) -> Observed {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let status = read("status");
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
        root_private: read("mountinfo").lines().any(is_private_root),
        unprivileged: no_capability && field("NoNewPrivs") == "1",
        filtered: field("Seccomp") == "2",
    }
}

/// A line of mountinfo (proc_pid_mountinfo(5)): `ID PARENT DEV ROOT MOUNTPOINT OPTIONS … - TYPE SOURCE SUPER`.
fn is_private_root(line: &str) -> bool {
    let Some((mount, super_block)) = line.split_once(" - ") else { return false };
    let mut mount = mount.split(' ').skip(4);
    let (target, options) = (mount.next(), mount.next().unwrap_or_default());
    let mut super_block = super_block.split(' ');
    let (kind, super_options) = (super_block.next(), super_block.nth(1).unwrap_or_default());
    let has = |options: &str, wanted: &str| options.split(',').any(|option| option == wanted);
    target == Some("/")
        && kind == Some("erofs")
        && ["ro", "nosuid", "nodev"].iter().all(|wanted| has(options, wanted))
        && has(super_options, "directio")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_private_root_from_others() {
        let good = "99 1 0:45 / / ro,nosuid,nodev,relatime idmapped - erofs /x ro,user_xattr,acl,cache_strategy=readaround,directio";
        assert!(is_private_root(good));
        for (from, to) in [
            ("directio", "dax"),
            ("erofs", "ext4"),
            ("/ / ro,", "/ / rw,"),
            ("/ / ro", "/ /x ro"),
            ("nosuid,", ""),
        ] {
            assert!(!is_private_root(&good.replace(from, to)), "{from} -> {to}");
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
                root_private: false,
                unprivileged: false,
                filtered: false
            }
        );
    }
}
