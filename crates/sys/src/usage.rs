//! What a compartment uses, as its control group and `/proc` tell: for `stats` and `top`.
//!
//! What it is: numbers for people. What it is not: a control; nothing is decided by them. Names and command lines are the
//! agent's own words.

use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

use crate::cgroup::Group;

/// Most processes that are looked at.
pub const PROCESSES_MAX: usize = 1000;
/// Most bytes of a command line. It is the agent's own memory, and may be as large as that.
const COMMAND_BYTES_MAX: u64 = 4096;
/// Most bytes of what the kernel says of a process; a process in many groups has a long list of them.
const STATUS_BYTES_MAX: u64 = 256 << 10;

/// What a group uses now. What the kernel does not tell is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// CPU time since the group was made.
    pub cpu: Option<Duration>,
    /// Memory, with the page cache that is charged to it.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Read from block devices.
    pub read_bytes: Option<u64>,
    /// Written to block devices.
    pub written_bytes: Option<u64>,
}

/// One process of a compartment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id in the box.
    pub pid: i32,
    /// Its id inside.
    pub pid_inside: i32,
    /// Its parent's id in the box.
    pub parent: i32,
    /// Its user in the box.
    pub uid: u32,
    /// Threads.
    pub threads: u32,
    /// CPU time.
    pub cpu: Duration,
    /// Memory in use.
    pub memory_bytes: u64,
    /// State, as a letter (proc_pid_stat(5)).
    pub state: char,
    /// Command line.
    pub command: String,
}

/// What `group` uses.
#[must_use]
pub fn usage(group: &Group) -> Usage {
    let number = |files: [&str; 2]| group.value(files)?.parse::<u64>().ok();
    let io = group.value(["io.stat"; 2]);
    let sum = |key: &str| io.as_deref().map(|text| io_sum(text, key));
    Usage {
        cpu: cpu(group),
        memory_bytes: number(["memory.current", "memory.usage_in_bytes"]),
        pids: number(["pids.current"; 2]),
        read_bytes: sum("rbytes"),
        written_bytes: sum("wbytes"),
    }
}

/// Version 2 tells it in microseconds. Version 1 tells it only where `cpuacct` has the same groups as `cpu`; elsewhere it
/// is the sum over the processes that run, and what ended since is not in it.
fn cpu(group: &Group) -> Option<Duration> {
    let text = group.value(["cpu.stat"; 2]).unwrap_or_default();
    if let Some(micros) = text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok()) {
        return Some(Duration::from_micros(micros));
    }
    if let Some(nanos) = group.value(["cpuacct.usage"; 2]).and_then(|text| text.parse().ok()) {
        return Some(Duration::from_nanos(nanos));
    }
    let all = processes(group);
    (!all.is_empty()).then(|| all.iter().fold(Duration::ZERO, |sum, process| sum.saturating_add(process.cpu)))
}

/// Sum of `key` over all devices of `io.stat`: `MAJ:MIN rbytes=N wbytes=N …`.
fn io_sum(text: &str, key: &str) -> u64 {
    let values = text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    values.filter_map(|value| value.parse::<u64>().ok()).fold(0, u64::saturating_add)
}

/// The processes of `group`, at most [`PROCESSES_MAX`], by their ids. Blocks where a process's own memory is slow to read.
#[must_use]
pub fn processes(group: &Group) -> Vec<Process> {
    let text = group.value(["cgroup.procs"; 2]).unwrap_or_default();
    let mut all: Vec<Process> =
        text.lines().filter_map(|line| process(line.parse().ok()?)).take(PROCESSES_MAX).collect();
    all.sort_by_key(|process| process.pid);
    all
}

fn process(pid: i32) -> Option<Process> {
    let read = |file: &str, bytes_max| head(&format!("/proc/{pid}/{file}"), bytes_max);
    let status = String::from_utf8_lossy(&read("status", STATUS_BYTES_MAX)?).into_owned();
    let field = |name: &str| {
        let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.map(str::trim).unwrap_or_default()
    };
    let first = |name: &str| field(name).split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
    let line = read("cmdline", COMMAND_BYTES_MAX).unwrap_or_default();
    let mut command: String = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
    if command.is_empty() {
        command = format!("[{}]", field("Name"));
    }
    Some(Process {
        pid,
        pid_inside: field("NSpid").split_whitespace().last().and_then(|word| word.parse().ok()).unwrap_or(0),
        parent: first("PPid").and_then(|value| value.try_into().ok()).unwrap_or(0),
        uid: first("Uid").and_then(|value| value.try_into().ok()).unwrap_or(u32::MAX),
        threads: first("Threads").and_then(|value| value.try_into().ok()).unwrap_or(0),
        cpu: cpu_time(&String::from_utf8_lossy(&read("stat", STATUS_BYTES_MAX)?)).unwrap_or_default(),
        memory_bytes: first("VmRSS").unwrap_or(0).saturating_mul(1024),
        state: field("State").chars().next().unwrap_or('?'),
        command,
    })
}

/// The first bytes of a file, at most so many.
fn head(path: &str, bytes_max: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(bytes_max).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// `utime` and `stime`, the 14th and 15th field: the name before them may hold anything but ends at the last `)`.
fn cpu_time(stat: &str) -> Option<Duration> {
    let mut after = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = after.next()?.parse::<u64>().ok()?.saturating_add(after.next()?.parse().ok()?);
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_millis(ticks.saturating_mul(1000) / per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_behind_any_name_and_sums_over_devices() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 100 1 1";
        assert_eq!(cpu_time(stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu_time("7 (x"), None);
        let io = "8:0 rbytes=1 wbytes=2 rios=9 wios=9\n8:16 rbytes=10 wbytes=20 rios=9 wios=9";
        assert_eq!((io_sum(io, "rbytes"), io_sum(io, "wbytes")), (11, 22));
    }

    #[test]
    fn a_file_without_end_is_read_no_further_than_its_bound() {
        assert_eq!(head("/dev/zero", 5000).map(|bytes| bytes.len()), Some(5000));
        assert_eq!(head("/proc/none", 5000), None);
    }

    #[test]
    fn tells_of_this_process() {
        let own = process(std::process::id().cast_signed()).unwrap();
        assert!(own.memory_bytes > 0 && own.threads >= 1 && own.pid_inside > 0, "{own:?}");
        assert_eq!(own.uid, rustix::process::getuid().as_raw());
    }
}
