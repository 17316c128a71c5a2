//! What a machine must have before a compartment can be built, tried before anything is started.
//!
//! What it is: each step that a start would fail at for the machine's sake, tried once, in a process that is used for
//! nothing else afterwards: it ends up in namespaces of its own, without privileges, and behind a filter. What it is not: a
//! check of any compartment; those are looked at from outside, each for itself.
//! Who trusts it: the user, who reads what is missing. Nothing is weaker where it sees too little.

use std::fs;

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, fsopen};
use rustix::thread::UnshareFlags;

use crate::cgroup::{Group, GroupLimits, remove_box};
use crate::{landlock_rules, seccomp, syscall};

/// Something that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The control that cannot be applied without it; empty where nothing at all can be built.
    pub control: &'static str,
    /// What was found.
    pub found: String,
    /// What to do; empty where the control's own remedy says all.
    pub todo: &'static str,
}

/// Capabilities that warden and launcher use (include/uapi/linux/capability.h): number and name.
const CAPABILITIES: [(u32, &str); 7] = [
    (0, "CAP_CHOWN"),
    (1, "CAP_DAC_OVERRIDE"),
    (5, "CAP_KILL"),
    (6, "CAP_SETGID"),
    (7, "CAP_SETUID"),
    (12, "CAP_NET_ADMIN"),
    (21, "CAP_SYS_ADMIN"),
];
/// The id map of the first user namespace (user_namespaces(7)).
const FIRST_MAP: [&str; 3] = ["0", "0", "4294967295"];
const FIRST_NAMESPACE_TODO: &str = "run casemate in the machine itself, not in a container; a container at least must be privileged, without a user \
     namespace of its own";
const USER_NAMESPACES_TODO: &str = "allow them: `sysctl -w user.max_user_namespaces=10000`, and kernel.unprivileged_userns_clone=1 or \
     kernel.apparmor_restrict_unprivileged_userns=0 where the kernel has these; a container must not filter unshare and clone";
const NAMESPACES_TODO: &str = "use a kernel that has it, with a limit above 0 in /proc/sys/user; a container must not filter unshare and clone";
const CGROUP_TODO: &str = "mount the controllers memory, pids and cpu below /sys/fs/cgroup, writable (`mount -t cgroup2 none /sys/fs/cgroup` where \
     the kernel has version 2)";
/// The outer uid that makes the user namespace of the trial: beyond those of agents.
const TRIAL_UID: u32 = 0x4f00_0000;

/// The namespaces of a compartment but the user namespace, and their names.
const NAMESPACES: [(UnshareFlags, &str); 7] = [
    (UnshareFlags::NEWNS, "mount"),
    (UnshareFlags::NEWPID, "pid"),
    (UnshareFlags::NEWNET, "network"),
    (UnshareFlags::NEWIPC, "ipc"),
    (UnshareFlags::NEWUTS, "uts"),
    (UnshareFlags::NEWCGROUP, "cgroup"),
    (UnshareFlags::NEWTIME, "time"),
];

/// Tries everything, in a process with one thread that does nothing else afterwards but tell and end. `filter` is the
/// compiled filter of compartments.
#[must_use]
pub fn try_in_a_throwaway_process(filter: &[u8]) -> Vec<Lack> {
    if let Some(lack) = privileges() {
        // Whatever else failed would fail for this.
        return vec![lack];
    }
    let mut lacks: Vec<Lack> = [cgroup(), erofs()].into_iter().flatten().collect();
    lacks.extend(namespaces());
    lacks.extend(user_namespace());
    if let Err(error) = landlock_rules::restrict(&["read-execute /".to_owned(), "scope signal".to_owned()]) {
        lacks.push(lack("landlock", error, ""));
    }
    let filtered = rustix::thread::set_no_new_privs(true).and_then(|()| seccomp::load(filter));
    if let Err(errno) = filtered {
        lacks.push(lack("seccomp", format_args!("the kernel takes no system call filter: {errno}"), ""));
    }
    lacks
}

fn lack(control: &'static str, found: impl std::fmt::Display, todo: &'static str) -> Lack {
    Lack { control, found: found.to_string(), todo }
}

/// Root, with its capabilities, in the first user namespace.
fn privileges() -> Option<Lack> {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if !map.is_empty() && map.split_whitespace().ne(FIRST_MAP) {
        return Some(lack(
            "",
            "this is a container with a user namespace of its own, in which nobody can mount an image",
            FIRST_NAMESPACE_TODO,
        ));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(mask) = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()) else {
        return Some(lack("", "/proc/self/status shows no capabilities", "mount /proc"));
    };
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(number, _)| mask & (1_u64 << number) == 0)
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        return None;
    }
    let names = missing.join(", ");
    Some(if rustix::process::geteuid().is_root() {
        let found = format!("root lacks {names}, as in a container that is not privileged");
        lack("", found, FIRST_NAMESPACE_TODO)
    } else {
        lack("", format!("this user lacks {names}"), "run it as root: `sudo casemate up`")
    })
}

fn cgroup() -> Option<Lack> {
    let name = format!("preflight-{}", std::process::id());
    let limits = GroupLimits {
        memory_bytes: 64 << 20,
        pids: 16,
        memory_reserved_bytes: None,
        cpu_milli: Some(1000),
        cpu_shares: 1024,
    };
    let made = Group::create(&name, "trial", limits);
    let removed = remove_box(&name);
    made.map(drop).and(removed).err().map(|error| lack("cgroup-limits", error, CGROUP_TODO))
}

fn erofs() -> Option<Lack> {
    let opened = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC);
    let errno = opened.err()?;
    Some(lack("private-root", format!("the kernel has no file system type erofs: {errno}"), ""))
}

fn namespaces() -> Option<Lack> {
    NAMESPACES.into_iter().find_map(|(flag, name)| {
        #[expect(deprecated, reason = "the unsafe form differs only for FILES, which is not asked for")]
        let errno = rustix::thread::unshare(flag).err()?;
        Some(lack("namespaces", format!("the kernel gives no {name} namespace: {errno}"), NAMESPACES_TODO))
    })
}

/// As the launcher makes it: by a uid that has nothing.
fn user_namespace() -> Option<Lack> {
    let (uid, gid) = (Uid::from_raw(TRIAL_UID), Gid::from_raw(TRIAL_UID));
    let made = rustix::thread::set_thread_groups(&[])
        .and_then(|()| rustix::thread::set_thread_res_gid(gid, gid, gid))
        .and_then(|()| rustix::thread::set_thread_res_uid(uid, uid, uid))
        .and_then(|()| syscall::unshare_user_namespace());
    let errno = made.err()?;
    let why = match errno {
        Errno::NOSPC => "the limit user.max_user_namespaces is reached or 0",
        Errno::INVAL | Errno::NOSYS => "the kernel is built without them",
        _ => "something forbids them",
    };
    Some(lack(
        "user-namespace",
        format!("no user namespace can be made ({errno}): {why}"),
        USER_NAMESPACES_TODO,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_capabilities_is_told_to_become_root() {
        // Only what does not change the test's own process.
        match privileges() {
            None => assert!(rustix::process::geteuid().is_root()),
            Some(lack) => assert!(lack.control.is_empty() && !lack.todo.is_empty(), "{lack:?}"),
        }
    }
}
