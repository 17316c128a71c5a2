//! Reading files of `/proc` and `/sys` that count for all, or tell of the machine.
//!
//! Mechanism: each is a channel, or an address, or a name. Source: Gao et al., ContainerLeaks, 2017. Stopped by: `proc`
//! (`subset=pid`), `private-root` (no `/sys`).

use std::io::Read as _;

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "global-files",
    title: "files of /proc and /sys that count for all",
    stopped_by: &["proc", "private-root"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Kernel, take },
};

/// What is tried.
const FILES: [&str; 40] = [
    "/proc/stat",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/uptime",
    "/proc/vmstat",
    "/proc/diskstats",
    "/proc/interrupts",
    "/proc/softirqs",
    "/proc/buddyinfo",
    "/proc/zoneinfo",
    "/proc/slabinfo",
    "/proc/locks",
    "/proc/keys",
    "/proc/key-users",
    "/proc/swaps",
    "/proc/pressure/cpu",
    "/proc/pressure/memory",
    "/proc/pressure/io",
    "/proc/timer_list",
    "/proc/schedstat",
    "/proc/version",
    "/proc/cmdline",
    "/proc/kallsyms",
    "/proc/modules",
    "/proc/kcore",
    "/proc/sys/fs/file-nr",
    "/proc/sys/fs/inode-nr",
    "/proc/sys/fs/dentry-state",
    "/proc/sys/fs/aio-nr",
    "/proc/sys/kernel/pty/nr",
    "/proc/sys/kernel/random/boot_id",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/self/net/sockstat",
    "/proc/self/net/protocols",
    "/proc/self/net/softnet_stat",
    "/proc/self/net/ptype",
    "/sys/kernel/mm/ksm/run",
    "/sys/devices/system/cpu/online",
    "/sys/kernel/config",
];

fn take(_: &Args) -> Result<String, Why> {
    let readable = |path: &&str| {
        let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut [0; 64]));
        read.is_ok_and(|bytes| bytes > 0)
    };
    let found: Vec<&str> = FILES.into_iter().filter(readable).collect();
    match found.as_slice() {
        [] => Err(Why::of(format!("none of {}", FILES.len()))),
        found => Ok(format!("{} of {}: {}", found.len(), FILES.len(), found.join(" "))),
    }
}
