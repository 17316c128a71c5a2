//! Running one more command in a standing compartment, confined as its agent is.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::first_process::{c_strings, confine, execute, exit_status};
use super::{Named, Step};
use crate::spec::Spec;
use crate::syscall::{self, Forked};

/// Enters the namespaces of `first` (the pidfd of the compartment's first process), runs the command, and ends the
/// launcher with its status.
pub(super) fn run(control: &OwnedFd, spec: &Spec, first: &OwnedFd, mut not_applied: Vec<String>) -> Step<()> {
    const CONTROL: &str = "namespaces";
    // By the number that the pidfd itself tells, while it still shows in this process namespace.
    let information = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", crate::spec::OBJECT_FD))
        .named(CONTROL, || "read the compartment's pidfd".into())?;
    let pid = information
        .lines()
        .find_map(|line| line.strip_prefix("Pid:")?.trim().parse::<i32>().ok())
        .filter(|pid| *pid > 0)
        .ok_or(rustix::io::Errno::SRCH)
        .named(CONTROL, || "find the compartment's first process".into())?;
    let user_namespace =
        open(format!("/proc/{pid}/ns/user"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .named("user-namespace", || "open the user namespace".into())?;
    let all = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::TIME;
    crate::hardening::core_cookie_of(pid);
    // The pidfd pins the process: had it ended and its number passed on, this fails, and the namespace opened above
    // is not used.
    move_into_thread_name_spaces(first.as_fd(), all).named(CONTROL, || "enter the namespaces".into())?;
    let (arguments, environment) = (c_strings(&spec.command)?, c_strings(&spec.environment)?);
    syscall::set_signal_mask(&[libc::SIGTERM, libc::SIGCHLD]).named("", || "block signals".into())?;
    match syscall::fork_single_threaded().named("", || "start the command".into())? {
        Forked::Child => {
            let _ = rustix::process::setsid();
            let streams = [rustix::stdio::dup2_stdin, rustix::stdio::dup2_stdout, rustix::stdio::dup2_stderr];
            let confined = super::inside::own_null(&streams)
                .and_then(|()| confine(spec, &user_namespace, &mut not_applied));
            match confined {
                Ok(_) => execute(control, spec, &arguments, &environment),
                Err(failure) => {
                    super::report(control, &failure);
                    syscall::exit_now(126)
                }
            }
        }
        Forked::Parent(pid) => attend(pid),
    }
}

/// Waits for the command and ends with its status. Told to end, it ends the command first and takes its status: a
/// command that nobody takes would keep the compartment's process namespace from ending.
fn attend(command: i32) -> ! {
    loop {
        match syscall::wait_signal(&[libc::SIGTERM, libc::SIGCHLD]) {
            Ok(libc::SIGTERM) => syscall::kill_child(command, libc::SIGKILL),
            Ok(_) => {
                while let Some((pid, status)) = syscall::reap_any() {
                    if pid == command {
                        syscall::exit_now(exit_status(status));
                    }
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => syscall::exit_now(126),
        }
    }
}
