//! Running one more command in a standing compartment, confined as its agent is.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::first_process::{c_strings, confine, execute, exit_status, oom_score, own_terminal};
use super::sandbox::{self, Runtime};
use super::{Named, Step, copy};
use crate::handover::FIRST_DESCRIPTOR;
use crate::spec::{
    JOIN_COPY_IN, JOIN_COPY_OUT, JOIN_SANDBOX_COPY_IN, JOIN_SANDBOX_COPY_OUT, STREAMS_ALL, STREAMS_NONE,
    STREAMS_OUTPUT, STREAMS_TERMINAL, Spec,
};
use crate::syscall::{self, Forked};

/// Signals that are passed on to the command's processes.
const FORWARDED: [i32; 6] =
    [libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGCONT];
/// Signals that the launcher waits for: those, the one that ends the command, and the one that tells of its end.
const WAITED: [i32; 8] = [
    libc::SIGTERM,
    libc::SIGCHLD,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCONT,
];

/// Enters the namespaces of `first` (the pidfd of the compartment's first process), runs the command, and ends the
/// launcher with its status.
pub(super) fn run(
    control: &OwnedFd,
    spec: &Spec,
    first: &OwnedFd,
    runtime: Option<&Runtime<'_>>,
    mut not_applied: Vec<String>,
) -> Step<()> {
    const CONTROL: &str = "namespaces";
    // By the number that the pidfd itself tells, while it still shows in this process namespace.
    let information = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", first.as_raw_fd()))
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
    // Where a sandbox's program tells under which number the command runs in the sandbox.
    let pid_file = format!("/log/command-{}", rustix::process::getpid().as_raw_nonzero());
    let (arguments, environment) = (c_strings(&spec.command)?, c_strings(&spec.environment)?);
    syscall::set_signal_mask(&WAITED).named("", || "block signals".into())?;
    match syscall::fork_single_threaded().named("", || "start the command".into())? {
        Forked::Child => {
            let confined = streams(spec).and_then(|()| match runtime {
                None => oom_score(spec)
                    .and_then(|()| match spec.join {
                        JOIN_SANDBOX_COPY_OUT | JOIN_SANDBOX_COPY_IN => sandbox::see_tree(),
                        _ => Ok(()),
                    })
                    .and_then(|()| confine(spec, &user_namespace, &mut not_applied).map(drop)),
                Some(runtime) => {
                    sandbox::execute(spec, runtime, &user_namespace, &pid_file, &mut not_applied)
                }
            });
            match (confined, spec.join) {
                (Err(failure), _) => {
                    super::report(control, &failure);
                    syscall::exit_now(126)
                }
                // Closing the control socket says that the work begins, as executing a program does.
                (Ok(_), JOIN_COPY_OUT | JOIN_SANDBOX_COPY_OUT) => {
                    let _ = syscall::close_from(FIRST_DESCRIPTOR.cast_unsigned());
                    syscall::exit_now(copy::out(spec))
                }
                (Ok(_), JOIN_COPY_IN | JOIN_SANDBOX_COPY_IN) => {
                    let _ = syscall::close_from(FIRST_DESCRIPTOR.cast_unsigned());
                    syscall::exit_now(copy::into(spec))
                }
                (Ok(_), _) => execute(control, spec, &arguments, &environment),
            }
        }
        Forked::Parent(pid) => {
            let status = attend(pid, || {
                if let Some(runtime) = runtime {
                    sandbox::end_command(runtime, &user_namespace, &pid_file);
                }
            });
            let _ = std::fs::remove_file(&pid_file);
            syscall::exit_now(status)
        }
    }
}

/// A session of its own, and the streams that the specification asks for.
fn streams(spec: &Spec) -> Step<()> {
    let _ = rustix::process::setsid();
    let all = [rustix::stdio::dup2_stdin, rustix::stdio::dup2_stdout, rustix::stdio::dup2_stderr];
    match spec.streams {
        STREAMS_NONE => super::inside::own_null(&all),
        STREAMS_OUTPUT => super::inside::own_null(&[rustix::stdio::dup2_stdin]),
        STREAMS_ALL => Ok(()),
        STREAMS_TERMINAL => own_terminal(),
        _ => Err(rustix::io::Errno::INVAL).named("", || "know the streams of the command".into()),
    }
}

/// Waits for the command and ends with its status. Told to end, it ends the command first and takes its status: a
/// command that nobody takes would keep the compartment's process namespace from ending.
fn attend(command: i32, before_the_end: impl Fn()) -> i32 {
    // The command's streams and the control socket end with the command, not with who waits for it.
    let _ = syscall::close_from(0);
    loop {
        match syscall::wait_signal(&WAITED) {
            Ok(libc::SIGTERM) => {
                before_the_end();
                syscall::kill_group(command, libc::SIGKILL);
            }
            Ok(signal) if FORWARDED.contains(&signal) => syscall::kill_group(command, signal),
            Ok(_) => {
                while let Some((pid, status)) = syscall::reap_any() {
                    if pid == command {
                        return exit_status(status);
                    }
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return 126,
        }
    }
}
