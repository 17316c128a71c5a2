//! Controls over speculation, shared cores and executable memory: switched on inside, looked at from outside.
//!
//! What it is: the prctl calls that a confined process makes on itself, and what `/proc` and the kernel tell the box of
//! them afterwards. What it is not: policy. A machine may offer none of them; then that is what is seen.
//! Who trusts it: the launcher, and the warden for the status of three controls.

use std::fs;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::process::{Pid, SpeculationFeature, SpeculationFeatureControl, control_speculative_feature};
use rustix::thread::{
    CoreSchedulingScope, core_scheduling_cookie, create_core_scheduling_cookie, pull_core_scheduling_cookie,
};

use crate::syscall;

/// What is seen of a control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// In force.
    InForce,
    /// In force in part.
    InPart,
    /// Not in force.
    Not,
    /// The kernel does not say.
    Unknown,
}

/// Switches off, for this thread and all that it starts, what the CPU speculates on where the kernel can, so that it
/// cannot be switched on again. What the kernel cannot switch is seen afterwards ([`speculation`]).
pub(crate) fn force_disable_speculation() -> Result<(), Errno> {
    for feature in [SpeculationFeature::SpeculativeStoreBypass, SpeculationFeature::IndirectBranchSpeculation]
    {
        match control_speculative_feature(feature, SpeculationFeatureControl::FORCE_DISABLE) {
            // ENXIO, ENODEV, EINVAL: no such switch. EPERM: it is set for the whole machine.
            Ok(()) | Err(Errno::NXIO | Errno::NODEV | Errno::INVAL | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// What `/proc/PID/status` says of speculation (arch/x86/kernel/cpu/bugs.c and fs/proc/array.c): in force where neither
/// store bypass nor indirect branches are speculated on for this process, or the CPU has no such flaw.
#[must_use]
pub fn speculation(pid: i32) -> Seen {
    fs::read_to_string(format!("/proc/{pid}/status")).map_or(Seen::Unknown, |status| speculation_in(&status))
}

fn speculation_in(status: &str) -> Seen {
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let both = [
        field("Speculation_Store_Bypass")
            .map(|text| matches!(text, "not vulnerable" | "thread force mitigated" | "globally mitigated")),
        field("SpeculationIndirectBranch")
            .map(|text| matches!(text, "not affected" | "conditional force disabled" | "always disabled")),
    ];
    match both {
        [None, _] | [_, None] => Seen::Unknown,
        [Some(true), Some(true)] => Seen::InForce,
        [Some(false), Some(false)] => Seen::Not,
        _ => Seen::InPart,
    }
}

/// Gives this process, and all that it starts, a core scheduling cookie of its own: the kernel then runs nothing of
/// another cookie on the second thread of the same core. Whether it could is seen afterwards ([`core_scheduling`]).
pub(crate) fn own_core_cookie() {
    let _ = create_core_scheduling_cookie(rustix::process::getpid(), CoreSchedulingScope::ThreadGroup);
}

/// Takes the cookie of a standing compartment, so that a command that joins it may share a core with it.
pub(crate) fn core_cookie_of(pid: i32) {
    let Some(pid) = Pid::from_raw(pid) else { return };
    let _ = pull_core_scheduling_cookie(pid, CoreSchedulingScope::Thread);
}

/// Whether process `pid` has a cookie, and none that the caller has too.
#[must_use]
pub fn core_scheduling(pid: i32) -> Seen {
    let Some(pid) = Pid::from_raw(pid) else { return Seen::Unknown };
    let cookie = |pid| core_scheduling_cookie(pid, CoreSchedulingScope::Thread);
    match (cookie(pid), cookie(rustix::process::getpid())) {
        (Ok(theirs), Ok(ours)) if theirs != 0 && theirs != ours => Seen::InForce,
        // EINVAL, ENODEV: a kernel without core scheduling, or a machine without a second thread on a core.
        (Ok(_), Ok(_)) | (Err(Errno::INVAL | Errno::NODEV), _) => Seen::Not,
        _ => Seen::Unknown,
    }
}

/// Makes the kernel refuse memory that is writable and executable, and to make executable what was writable, for this
/// process and all that it starts (PR_SET_MDWE, Linux 6.3). Tries it: whether it holds.
pub(crate) fn deny_write_execute() -> Result<(), Errno> {
    syscall::refuse_executable_gain()?;
    if syscall::maps_writable_and_executable() { Err(Errno::NOTSUP) } else { Ok(()) }
}

/// Whether a listening Unix socket, and so what it accepts, refuses descriptors (SO_PASSRIGHTS, Linux 6.16).
#[must_use]
pub fn refuses_descriptors(socket: BorrowedFd<'_>) -> Seen {
    match syscall::takes_descriptors(socket) {
        Ok(false) => Seen::InForce,
        Ok(true) | Err(Errno::NOPROTOOPT) => Seen::Not,
        Err(_) => Seen::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speculation_is_told_from_both_lines() {
        let status = |bypass: &str, branch: &str| {
            speculation_in(&format!(
                "Name:\tx\nSpeculation_Store_Bypass:\t{bypass}\nSpeculationIndirectBranch:\t{branch}\n"
            ))
        };
        assert_eq!(status("thread force mitigated", "conditional force disabled"), Seen::InForce);
        assert_eq!(status("not vulnerable", "always disabled"), Seen::InForce);
        assert_eq!(status("vulnerable", "conditional force disabled"), Seen::InPart);
        assert_eq!(status("thread mitigated", "conditional enabled"), Seen::Not, "can be switched on again");
        assert_eq!(status("vulnerable", "always enabled"), Seen::Not);
        assert_eq!(speculation_in("Name:\tx\nSpeculation_Store_Bypass:\tvulnerable\n"), Seen::Unknown);
    }

    #[test]
    fn a_plain_process_has_no_cookie_of_its_own() {
        assert_eq!(core_scheduling(rustix::process::getpid().as_raw_nonzero().get()), Seen::Not);
    }
}
