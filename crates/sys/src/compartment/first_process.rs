//! The first process of a compartment: confines itself, reports, waits, starts the agent, reaps.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Resource, Rlimit, Signal};
use rustix::thread::{
    CapabilitySet, CapabilitySets, LinkNameSpaceType, clear_ambient_capability_set,
    move_into_link_name_space, remove_capability_from_bounding_set, set_capabilities,
};

use super::outside::c_string;
use super::{Failure, Handed, Named, Step, inside, report, unless_weaker};
use crate::descriptors::send_packet;
use crate::spec::{Answer, STREAMS_ALL, STREAMS_TERMINAL, Spec};
use crate::syscall::{self, Forked};
use crate::{hardening, landlock_rules, seccomp};

/// Exit status where the program could not be executed, as shells use it.
const STATUS_EXEC_FAILED: i32 = 127;

pub(super) fn live(control: &OwnedFd, spec: &Spec, handed: Handed) -> ! {
    let Handed { mut word, namespaces, root, volumes, mut not_applied } = handed;
    let built = inside::enter_network(&namespaces.network)
        .and_then(|()| inside::mounts(spec, root, volumes))
        .and_then(|()| match spec.streams {
            STREAMS_ALL | STREAMS_TERMINAL => Ok(()),
            _ => inside::own_null(&[rustix::stdio::dup2_stdin]),
        })
        .and_then(|()| inside::network(spec, control, &mut word, &mut not_applied))
        .and_then(|()| {
            hardening::own_core_cookie();
            oom_score(spec)?;
            confine(spec, &namespaces.user, &mut not_applied)
        })
        .and_then(|tried| wait_for_go(control, std::mem::take(&mut not_applied), tried));
    if let Err(failure) = built {
        // Where the launcher has failed as well, its failure is the one that is told, whichever came first.
        let _ = word.wait(&mut Vec::new());
        report(control, &failure);
        syscall::exit_now(1);
    }
    match start_agent(control, spec) {
        Ok(agent) => attend(agent),
        Err(failure) => {
            report(control, &failure);
            syscall::exit_now(1)
        }
    }
}

/// Gives up everything, in the order that each step needs what the next one takes away. Gives the controls that nothing
/// outside shows, and that were tried and held.
pub(super) fn confine(
    spec: &Spec,
    user_namespace: &OwnedFd,
    not_applied: &mut Vec<String>,
) -> Step<Vec<String>> {
    const CONTROL: &str = "no-privileges";
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    usual_limits(spec).named(CONTROL, || "set the usual process limits".into())?;
    for limit in &spec.rlimits {
        let resource = resource(limit.resource)
            .named(CONTROL, || format!("know the process limit with number {}", limit.resource))?;
        let value = |value: u64| (value != u64::MAX).then_some(value);
        let values = Rlimit { current: value(limit.soft), maximum: value(limit.hard) };
        rustix::process::setrlimit(resource, values).named(CONTROL, || format!("set {resource:?}"))?;
    }
    let limit = |value: u32| Rlimit { current: Some(value.into()), maximum: Some(value.into()) };
    rustix::process::setrlimit(Resource::Core, limit(0))
        .and_then(|()| rustix::process::setrlimit(Resource::Rtprio, limit(0)))
        .and_then(|()| rustix::process::setrlimit(Resource::Nice, limit(0)))
        .and_then(|()| rustix::process::setpriority_process(None, 0))
        .named(CONTROL, || "set limits and priority".into())?;
    move_into_link_name_space(user_namespace.as_fd(), Some(LinkNameSpaceType::User))
        .named("user-namespace", || "enter the user namespace".into())?;
    let all = CapabilitySet::all();
    for capability in all.iter() {
        match remove_capability_from_bounding_set(capability) {
            // A capability that this kernel does not have.
            Err(rustix::io::Errno::INVAL) | Ok(()) => {}
            Err(errno) => return Err(errno).named(CONTROL, || "empty the bounding set".into()),
        }
    }
    clear_ambient_capability_set().named(CONTROL, || "empty the ambient set".into())?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(spec.uid), rustix::fs::Gid::from_raw(spec.gid));
    let groups: Vec<_> = spec.groups.iter().map(|group| rustix::fs::Gid::from_raw(*group)).collect();
    rustix::thread::set_thread_groups(&groups)
        .and_then(|()| rustix::thread::set_thread_res_gid(gid, gid, gid))
        .and_then(|()| rustix::thread::set_thread_res_uid(uid, uid, uid))
        .named(CONTROL, || format!("become user {}:{}", spec.uid, spec.gid))?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .named(CONTROL, || "drop capabilities".into())?;
    // After the change of identity, which clears it: the compartment dies with the warden.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .and_then(|()| rustix::thread::set_no_new_privs(true))
        .named(CONTROL, || "set no_new_privs".into())?;
    let mut tried = Vec::new();
    harden(spec, not_applied, &mut tried)?;
    rustix::process::chdir(spec.working_dir.as_str())
        .named("", || format!("enter working directory {}", spec.working_dir))?;
    syscall::default_signal_actions();
    syscall::set_signal_mask(&FORWARDED).named("", || "block signals".into())?;
    unless_weaker(spec, not_applied, restrict_files(spec))?;
    unless_weaker(
        spec,
        not_applied,
        seccomp::load(&spec.seccomp).named("seccomp", || "load the filter".into()),
    )?;
    if writing_is_refused() {
        tried.push("landlock".to_owned());
    }
    Ok(tried)
}

/// How readily this process is ended where memory runs out. Needs a process file system in sight.
pub(super) fn oom_score(spec: &Spec) -> Step<()> {
    std::fs::write("/proc/self/oom_score_adj", spec.oom_score_adj.to_string())
        .named("no-privileges", || "set the out-of-memory score".into())
}

/// What a process does to itself and needs no privilege for.
fn harden(spec: &Spec, not_applied: &mut Vec<String>, tried: &mut Vec<String>) -> Step<()> {
    let keyring = syscall::join_session_keyring().named("keyring", || "join a session keyring".into());
    match keyring {
        Ok(serial) if serial > 0 && syscall::has_session_keyring(serial) => tried.push("keyring".to_owned()),
        other => unless_weaker(spec, not_applied, other.map(drop))?,
    }
    let speculation = hardening::force_disable_speculation()
        .named("speculation", || "switch off speculation that the kernel can switch".into());
    unless_weaker(spec, not_applied, speculation)?;
    if spec.deny_write_execute != 0 {
        let denied = hardening::deny_write_execute()
            .named("deny-write-execute", || "deny memory that is writable and executable (Linux 6.3)".into());
        match denied {
            Ok(()) => tried.push("deny-write-execute".to_owned()),
            other => unless_weaker(spec, not_applied, other)?,
        }
    }
    Ok(())
}

/// Whether a file that permissions let everybody write cannot be opened for writing: nothing but Landlock forbids it.
/// Landlock does not show in `/proc`, so this is how it is checked.
fn writing_is_refused() -> bool {
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open("/dev/random", flags, rustix::fs::Mode::empty()).err() == Some(rustix::io::Errno::ACCESS)
}

/// Process limits that a specification does not name: the kernel's usual ones, so that they are not whatever the box was
/// started with; never above what the box itself has.
fn usual_limits(spec: &Spec) -> Result<(), rustix::io::Errno> {
    const USUAL: [(u8, Option<u64>, Option<u64>); 8] = [
        (0, None, None),
        (1, None, None),
        (2, None, None),
        (3, Some(8 << 20), None),
        (6, None, None),
        (8, Some(8 << 20), Some(8 << 20)),
        (11, Some(4096), Some(4096)),
        (12, Some(819_200), Some(819_200)),
    ];
    let named = |number: u8| spec.rlimits.iter().any(|limit| limit.resource == number);
    for (number, soft, hard) in USUAL.into_iter().filter(|(number, ..)| !named(*number)) {
        let resource = resource(number)?;
        let most = rustix::process::getrlimit(resource).maximum;
        let at_most = |value: Option<u64>| match (value, most) {
            (Some(value), Some(most)) => Some(value.min(most)),
            (value, most) => value.or(most),
        };
        let values = Rlimit { current: at_most(soft), maximum: at_most(hard) };
        rustix::process::setrlimit(resource, values)?;
    }
    Ok(())
}

/// The process limits that a specification may set, by Linux's numbers. Core dumps and priorities are not among them.
const fn resource(number: u8) -> Result<Resource, rustix::io::Errno> {
    Ok(match number {
        0 => Resource::Cpu,
        1 => Resource::Fsize,
        2 => Resource::Data,
        3 => Resource::Stack,
        6 => Resource::Nproc,
        7 => Resource::Nofile,
        8 => Resource::Memlock,
        11 => Resource::Sigpending,
        12 => Resource::Msgqueue,
        _ => return Err(rustix::io::Errno::INVAL),
    })
}

fn restrict_files(spec: &Spec) -> Step<()> {
    landlock_rules::restrict(&spec.landlock).map_err(|error| Failure {
        control: "landlock",
        step: error.to_string(),
        errno: rustix::io::Errno::NOSYS,
    })
}

/// Reports, and waits for the warden's byte. Without it there is no agent.
pub(super) fn wait_for_go(control: &OwnedFd, not_applied: Vec<String>, tried: Vec<String>) -> Step<()> {
    send_packet(control, &Answer::Ready { not_applied, tried }.encode(), &[])
        .named("", || "report".into())?;
    let mut byte = [0; 1];
    match rustix::io::retry_on_intr(|| rustix::io::read(control, &mut byte)) {
        Ok(1) => Ok(()),
        _ => syscall::exit_now(1),
    }
}

/// Signals that are passed on to the agent, and the one that tells that a child ended: all but SIGKILL and SIGSTOP, which
/// nobody can take, and the two that the C library keeps for itself. An image may name any of them as the one to end by.
pub(super) const FORWARDED: [i32; 64] = forwarded();

const fn forwarded() -> [i32; 64] {
    let mut all = [libc::SIGCHLD; 64];
    let mut rest: &mut [i32] = &mut all;
    let mut signal = 0;
    while let Some((next, tail)) = rest.split_first_mut() {
        signal += 1;
        if matches!(signal, libc::SIGKILL | libc::SIGSTOP | 32 | 33) {
            rest = tail;
            continue;
        }
        *next = signal;
        rest = tail;
    }
    all
}

fn start_agent(control: &OwnedFd, spec: &Spec) -> Step<i32> {
    let (arguments, environment) = (c_strings(&spec.command)?, c_strings(&spec.environment)?);
    match syscall::fork_single_threaded().named("", || "start the agent".into())? {
        Forked::Parent(pid) => Ok(pid),
        Forked::Child => {
            let _ = rustix::process::setsid();
            if spec.streams == STREAMS_TERMINAL
                && let Err(failure) = own_terminal()
            {
                report(control, &failure);
                syscall::exit_now(STATUS_EXEC_FAILED);
            }
            execute(control, spec, &arguments, &environment)
        }
    }
}

/// Makes the terminal behind the streams that of this session: keys that signal then reach it.
pub(super) fn own_terminal() -> Step<()> {
    rustix::process::ioctl_tiocsctty(std::io::stdin())
        .named("", || "make the terminal the program's own".into())
}

/// Becomes the program, or says why not and ends.
pub(super) fn execute(control: &OwnedFd, spec: &Spec, arguments: &[CString], environment: &[CString]) -> ! {
    let _ = syscall::set_signal_mask(&[]);
    let mut errno = rustix::io::Errno::NOENT;
    for program in candidates(spec) {
        let Ok(program) = c_string(&program) else { continue };
        match syscall::execve(&program, arguments, environment) {
            rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => {}
            rustix::io::Errno::ACCESS => errno = rustix::io::Errno::ACCESS,
            other => {
                errno = other;
                break;
            }
        }
    }
    let _ = send_packet(control, &Answer::ExecFailed { errno: errno.raw_os_error() }.encode(), &[]);
    syscall::exit_now(STATUS_EXEC_FAILED)
}

/// Texts as C strings.
pub(super) fn c_strings(items: &[String]) -> Step<Vec<CString>> {
    items.iter().map(|text| c_string(text)).collect()
}

/// Where the program may be: itself when it names a path, else in each directory of the agent's own PATH.
fn candidates(spec: &Spec) -> Vec<String> {
    let Some(program) = spec.command.first() else { return Vec::new() };
    if program.contains('/') {
        return vec![program.clone()];
    }
    let path = spec
        .environment
        .iter()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    path.split(':').filter(|d| d.starts_with('/')).map(|directory| format!("{directory}/{program}")).collect()
}

/// Passes on signals, reaps orphans, and ends with the agent's status.
fn attend(agent: i32) -> ! {
    // Nothing of the warden's stays open here: not the control socket, not the agent's output.
    let _ = syscall::close_from(0);
    loop {
        match syscall::wait_signal(&FORWARDED) {
            Ok(libc::SIGCHLD) => {
                while let Some((pid, status)) = syscall::reap_any() {
                    if pid == agent {
                        syscall::exit_now(exit_status(status));
                    }
                }
            }
            Ok(signal) => syscall::kill_child(agent, signal),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => syscall::exit_now(1),
        }
    }
}

/// Exit status as shells tell it: the program's own, or 128 and the signal's number.
pub(super) fn exit_status(status: i32) -> i32 {
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        libc::WTERMSIG(status).saturating_add(128)
    }
}
