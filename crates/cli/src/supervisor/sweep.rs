//! Leaves nothing behind: descendants that lost their parent, cgroups, and what exists only while the box runs.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};

use crate::failure::{Failure, Outcome};
use crate::project::Project;

/// Time for all descendants to be gone.
const SWEEP_BOUND: Duration = Duration::from_secs(10);

/// Lets paused agents go on, to their end: where the kernel has only the freezer of version 1, they could not end.
pub(super) fn thaw(project: &Project) {
    let box_name = casemate_sys::cgroup::box_name(project.name.as_str(), &project.dir);
    // What stays is told when the groups are removed.
    let _ = casemate_sys::cgroup::freezer::release_box(&box_name);
}

/// Kills every child of this process until there is none. As this process reaps all its descendants, a grandchild
/// whose parent died is a child; and a child that is not reaped keeps its number, so no other process is hit.
pub(super) fn kill_descendants() {
    let end = Instant::now() + SWEEP_BOUND;
    loop {
        let children = children();
        if children.is_empty() || Instant::now() >= end {
            return;
        }
        for pid in children {
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn children() -> Vec<Pid> {
    let own = getpid();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw))
        .filter(|pid| parent_of(*pid) == Some(own))
        .collect()
}

fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // proc_pid_stat(5): the name in brackets may hold anything; state and parent follow its last bracket.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok().and_then(Pid::from_raw)
}

/// Removes the project's cgroups and the content of its run folder, all but the lease. Call it with the lease held.
pub(crate) fn clean(project: &Project) -> Outcome<()> {
    remove_cgroups(project)?;
    let run = project.run();
    // In the supervisor's own mount namespace, a killed emulator leaves its mount; elsewhere there is none.
    let _ = rustix::mount::unmount(project.tsm(), rustix::mount::UnmountFlags::DETACH);
    let entries = match std::fs::read_dir(&run) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(Failure::environment(
                format!("{}: {error}", run.display()),
                "make the folder readable",
            ));
        }
    };
    for entry in entries.flatten() {
        if entry.path() != project.run_lock() {
            Project::remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_cgroups(project: &Project) -> Outcome<()> {
    let box_name = casemate_sys::cgroup::box_name(project.name.as_str(), &project.dir);
    casemate_sys::cgroup::remove_box(&box_name).map_err(|error| {
        Failure::environment(
            format!("cgroups of project {}: {error}", project.name),
            "stop what runs in them, then run `casemate down` again",
        )
    })
}
