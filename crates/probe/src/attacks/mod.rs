//! The attacks, one file each, and what several of them need.

mod abstract_socket;
mod box_socket;
mod bpf;
mod cached_pages;
mod clone_mount;
mod core_dumps;
mod cpu_contention;
mod device_nodes;
mod enter_namespace;
mod eventfd_numbers;
mod exhaust_cpu;
mod exhaust_disk;
mod exhaust_inotify;
mod exhaust_keys;
mod exhaust_memory;
mod exhaust_pipes;
mod exhaust_processes;
mod exhaust_sockets;
mod fanotify;
mod file_lock;
mod first_read;
mod flush_reload;
mod foreign_tcp;
mod free_space;
mod fsync_time;
mod global_files;
mod hardware_evidence;
mod inode_numbers;
mod io_uring;
mod kernel_log;
mod key_calls;
mod keyring;
mod list_keys;
mod list_sockets;
mod loopback_tcp;
mod message_queue;
mod mincore;
mod missing_names;
mod open_by_handle;
mod open_file_count;
mod owned;
mod pages;
mod path_socket;
mod peer_evidence;
mod peer_secret;
mod perf;
mod places;
mod process_count;
mod process_numbers;
mod read_environment;
mod read_memory;
mod read_without_waiting;
mod resident_pages;
mod sealing_keys;
mod see_process;
mod shared_memory_file;
mod signal;
mod socket_cookies;
mod socket_families;
mod steal_descriptor;
mod system_v_memory;
mod temporary_file;
mod terminals;
mod trace;
mod user_namespace;
mod userfaultfd;
mod vdso_reload;
mod watch_file;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::attack::{Args, Attack, Why};

/// All attacks: access, kernel interfaces, channels, exhaustion.
pub const ALL: [&Attack; 65] = [
    &see_process::ATTACK,
    &read_environment::ATTACK,
    &read_memory::ATTACK,
    &trace::ATTACK,
    &signal::ATTACK,
    &steal_descriptor::ATTACK,
    &abstract_socket::ATTACK,
    &path_socket::ATTACK,
    &loopback_tcp::ATTACK,
    &foreign_tcp::ATTACK,
    &list_sockets::ATTACK,
    &shared_memory_file::ATTACK,
    &temporary_file::ATTACK,
    &system_v_memory::ATTACK,
    &message_queue::ATTACK,
    &keyring::ATTACK,
    &list_keys::ATTACK,
    &file_lock::ATTACK,
    &watch_file::ATTACK,
    &peer_secret::ATTACK,
    &peer_evidence::ATTACK,
    &sealing_keys::ATTACK,
    &box_socket::ATTACK,
    &hardware_evidence::ATTACK,
    &device_nodes::ATTACK,
    &terminals::ATTACK,
    &core_dumps::ATTACK,
    &global_files::ATTACK,
    &user_namespace::ATTACK,
    &io_uring::ATTACK,
    &userfaultfd::ATTACK,
    &bpf::ATTACK,
    &perf::ATTACK,
    &kernel_log::ATTACK,
    &fanotify::ATTACK,
    &clone_mount::ATTACK,
    &enter_namespace::ATTACK,
    &open_by_handle::ATTACK,
    &mincore::ATTACK,
    &key_calls::ATTACK,
    &socket_families::ATTACK,
    &process_count::ATTACK,
    &process_numbers::ATTACK,
    &open_file_count::ATTACK,
    &socket_cookies::ATTACK,
    &inode_numbers::ATTACK,
    &eventfd_numbers::ATTACK,
    &flush_reload::ATTACK,
    &vdso_reload::ATTACK,
    &first_read::ATTACK,
    &resident_pages::ATTACK,
    &cached_pages::ATTACK,
    &read_without_waiting::ATTACK,
    &missing_names::ATTACK,
    &free_space::ATTACK,
    &fsync_time::ATTACK,
    &cpu_contention::ATTACK,
    &exhaust_processes::ATTACK,
    &exhaust_inotify::ATTACK,
    &exhaust_pipes::ATTACK,
    &exhaust_keys::ATTACK,
    &exhaust_cpu::ATTACK,
    &exhaust_memory::ATTACK,
    &exhaust_disk::ATTACK,
    &exhaust_sockets::ATTACK,
];

/// An attack by its name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Attack> {
    ALL.into_iter().find(|attack| attack.name == name)
}

/// This process's number.
fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// This process, its server, the threads of both, and the first process of the namespace: nobody's victims.
fn own_family() -> Vec<i32> {
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let mut family = vec![own_pid(), parent, 1];
    for pid in [own_pid(), parent] {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        family.extend(threads.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()));
    }
    family
}

/// All other processes that `/proc` shows.
fn others() -> Result<Vec<i32>, Why> {
    let family = own_family();
    let entries = std::fs::read_dir("/proc")?.flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    Ok(numbers.filter(|pid| !family.contains(pid)).collect())
}

/// Processes that have the victim's secret in their environment.
fn victims(args: &Args) -> Result<Vec<i32>, Why> {
    let secret = args.own_secret().into_bytes();
    let has = |pid: &i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(secret.len()).any(|part| part == secret)
    };
    Ok(others()?.into_iter().filter(has).collect())
}

/// A file that is removed in the end.
struct Removed(String);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Moves to the first processor, where this process may run there: so that two that may do run on one.
fn pin() {
    let mut first = CpuSet::new();
    first.set(0);
    let _ = sched_setaffinity(None, &first);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_attack_is_found_by_its_name_and_names_controls_that_there_are() {
        let names: BTreeSet<&str> = ALL.iter().map(|attack| attack.name).collect();
        assert_eq!(names.len(), ALL.len());
        let controls = include_str!("../../../../docs/controls.md");
        for attack in ALL {
            assert_eq!(by_name(attack.name).map(|found| found.title), Some(attack.title));
            for control in attack.stopped_by {
                assert!(controls.contains(&format!("| `{control}` |")), "{}: {control}", attack.name);
            }
        }
        assert!(by_name("").is_none());
    }
}
