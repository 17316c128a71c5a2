//! Tries control groups on whatever version this machine has. As the first process of a virtual machine it mounts what
//! it needs, so that version 2 can be tried where the machine itself has version 1 (docs/decisions/0007).
#![allow(clippy::unwrap_used, reason = "a check that fails by panicking")]

use std::fs;
use std::path::Path;

use casemate_sys::cgroup::{Group, GroupLimits, box_name, remove_box};
use rustix::mount::{MountFlags, mount};

fn main() {
    let first = std::process::id() == 1;
    if first {
        for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("cgroup2", "/sys/fs/cgroup")] {
            let _ = fs::create_dir_all(target);
            mount(kind, target, kind, MountFlags::empty(), None).unwrap();
        }
    }
    check();
    println!("cgroup_check: all held");
    if first {
        rustix::system::reboot(rustix::system::RebootCommand::PowerOff).unwrap();
    }
}

fn check() {
    let name = box_name("cgroup-check", Path::new("/x"));
    let limits = GroupLimits {
        memory_bytes: 64 << 20,
        pids: 7,
        memory_reserved_bytes: Some(16 << 20),
        cpu_milli: Some(250),
        cpu_shares: 512,
    };
    let group = Group::create(&name, "a", limits).unwrap();
    println!("join files: {:?}", group.join_files());
    assert!(group.limits_in_force(limits) && group.cpu_as_asked(limits));
    assert!(!group.limits_in_force(GroupLimits { memory_bytes: 1 << 20, ..limits }));
    assert!(!group.limits_in_force(GroupLimits { pids: 6, ..limits }));
    assert!(!group.cpu_as_asked(GroupLimits { cpu_milli: None, ..limits }));
    let mut placed = Group::create(&name, "c", limits).unwrap();
    let processors = [0].into();
    placed.set_processors(&processors).unwrap();
    assert!(placed.processors_in_force(&processors) && !placed.processors_in_force(&[0, 1].into()));
    for file in placed.join_files() {
        fs::write(file, "0").unwrap();
    }
    assert_eq!(casemate_sys::cores::allowed("self"), Some(processors));
    leave();
    placed.remove().unwrap();
    println!("processors: held");
    let free = Group::create(&name, "b", GroupLimits { cpu_milli: None, ..limits }).unwrap();
    assert!(free.cpu_as_asked(GroupLimits { cpu_milli: None, ..limits }));
    let own = std::process::id().cast_signed();
    assert!(!group.contains(own));
    for file in group.join_files() {
        fs::write(file, "0").unwrap();
    }
    assert!(group.contains(own));
    // 7 processes and threads, this one among them.
    let mut threads = Vec::new();
    let (hold, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
    loop {
        let wait = std::sync::Arc::clone(&wait);
        match std::thread::Builder::new().spawn(move || {
            let _ = wait.lock().unwrap().recv();
        }) {
            Ok(thread) => threads.push(thread),
            Err(error) => break println!("thread {} refused: {error}", threads.len() + 2),
        }
    }
    assert_eq!(threads.len(), 6);
    drop(hold);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    leave();
    assert!(!group.contains(own));
    group.remove().unwrap();
    remove_box(&name).unwrap();
    assert!(!Path::new("/sys/fs/cgroup/casemate").join(&name).exists());
}

/// Back to the root groups.
fn leave() {
    // Version 2 first; of version 1 each hierarchy.
    for root in [
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/memory",
        "/sys/fs/cgroup/pids",
        "/sys/fs/cgroup/cpu",
        "/sys/fs/cgroup/cpuset",
    ] {
        let file = Path::new(root).join("cgroup.procs");
        if file.exists() {
            fs::write(file, "0").unwrap();
        }
    }
}
