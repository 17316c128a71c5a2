//! An agent in a sandbox: a program that serves the agent's system calls, so that the box's kernel does not.
//!
//! What it is: the life of a first process whose agent runs in such a sandbox. It builds the tree, the network and the
//! sockets of a native agent, with the same code; puts the tree below a root of its own that has nothing of the box;
//! enters the agent's user namespace; and there has the sandbox's program `create`, and after the warden's byte `start`,
//! one container (OCI runtime specification). `start` gets ready before the byte, and the kernel holds it where it would
//! connect to the sandbox. The program runs from the memory file that the warden measured.
//! What it is not: a judge of the configuration. The warden wrote it.
//! Who trusts it: the warden, which looks at all of it from outside.

use std::ffi::CString;
use std::fs;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, pidfd_open};
use rustix::thread::{
    CapabilitySet, CapabilitySets, LinkNameSpaceType, clear_ambient_capability_set,
    move_into_link_name_space, remove_capability_from_bounding_set, set_capabilities,
};

use super::first_process::{FORWARDED, c_strings, exit_status, own_terminal, wait_for_go};
use super::{Failure, Handed, Named, Step, inside, report, unless_weaker};
use crate::descriptors::{packet_pair, receive_packet, send_packet};
use crate::seccomp::held;
use crate::spec::{STREAMS_ALL, STREAMS_TERMINAL, Sandbox, Spec};
use crate::syscall::{self, Forked, Sender};
use crate::{hardening, seccomp};

/// Where the agent's tree is below the root that the sandbox's program sees.
pub const ROOT: &str = "/rootfs";
/// The container's name in its sandbox. There is one in each.
const NAME: &str = "agent";
/// What lets the agent begin.
const START: [&str; 2] = ["start", NAME];
/// Where the sandbox's program writes, and may fill what is there without harm.
const LOG: &str = "/log/runtime";
/// Longest part of that log that is told.
const LOG_CHARACTERS_MAX: usize = 400;
/// Most open files of one of the sandbox's own processes; the agent's limits are in the configuration.
const OPEN_FILES_MAX: u64 = 65_536;
/// Exit status of a command that could not be run, where the program did not say so itself.
const STATUS_NOT_RUN: i32 = 126;

/// The sandbox's program, and what it is told.
pub(super) struct Runtime<'a> {
    pub(super) sandbox: &'a Sandbox,
    pub(super) program: OwnedFd,
}

pub(super) fn live(control: &OwnedFd, spec: &Spec, runtime: &Runtime<'_>, handed: Handed) -> ! {
    let built = build(control, spec, runtime, handed);
    match built.and_then(|(sandbox, begin)| start(runtime, sandbox, begin).map(|()| sandbox)) {
        Ok(sandbox) => attend(runtime, sandbox, spec.streams),
        Err(failure) => {
            report(control, &failure);
            syscall::exit_now(1)
        }
    }
}

/// Everything up to the warden's byte. Gives the process id of the sandbox, and how the agent begins.
fn build(control: &OwnedFd, spec: &Spec, runtime: &Runtime<'_>, handed: Handed) -> Step<(i32, Begin)> {
    let Handed { mut word, namespaces, root, volumes, mut not_applied } = handed;
    inside::enter_network(&namespaces.network)
        .and_then(|()| inside::mounts(spec, root, volumes))
        .inspect_err(|_| drop(word.wait(&mut Vec::new())))?;
    if !matches!(spec.streams, STREAMS_ALL | STREAMS_TERMINAL) {
        inside::own_null(&[rustix::stdio::dup2_stdin])?;
    }
    inside::network(spec, control, &mut word, &mut not_applied)?;
    hardening::own_core_cookie();
    own_root(spec, runtime.sandbox)?;
    enter(spec, &namespaces.user, &mut not_applied)?;
    unless_weaker(spec, &mut not_applied, load_filter(spec))?;
    syscall::set_signal_mask(&FORWARDED).named("", || "block signals".into())?;
    let pid_file = "/log/pid";
    let pid_argument = format!("--pid-file={pid_file}");
    let created = runtime.run(&["create", "--bundle=/bundle", &pid_argument, NAME])?;
    succeeded(created, "create the sandbox")?;
    let sandbox = fs::read_to_string(pid_file).ok().and_then(|text| text.trim().parse::<i32>().ok());
    let sandbox = sandbox.filter(|pid| *pid > 1).ok_or(Errno::SRCH);
    let sandbox = sandbox.named("", || "find the sandbox's process".into())?;
    drop_capabilities()?;
    if spec.streams == STREAMS_TERMINAL {
        let _ = rustix::process::setsid();
        own_terminal()?;
    }
    let begin = runtime.prepare_start()?;
    wait_for_go(control, not_applied, Vec::new())?;
    Ok((sandbox, begin))
}

/// A root for the sandbox's program: the agent's tree, a process file system, and memory. Nothing of the box.
fn own_root(spec: &Spec, sandbox: &Sandbox) -> Step<()> {
    const CONTROL: &str = "private-root";
    const NEW: &str = "/run/.sandbox";
    let memory = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let create = |path: &str| fs::create_dir(path).named(CONTROL, || format!("create {path}"));
    create(NEW)?;
    mount("tmpfs", NEW, "tmpfs", memory, c"size=8m,nr_inodes=256,mode=755")
        .named(CONTROL, || "mount the sandbox's root".into())?;
    for folder in ["rootfs", "proc", "dev", "bundle", "state", "log", "tmp"] {
        create(&format!("{NEW}/{folder}"))?;
    }
    // Whole, unlike the agent's: a user namespace may mount one only where it sees a whole one. The agent's is the
    // sandbox's own.
    mount("proc", format!("{NEW}/proc"), "proc", memory, None)
        .named(CONTROL, || "mount the sandbox's /proc".into())?;
    mount("tmpfs", format!("{NEW}/log"), "tmpfs", memory, c"size=1m,nr_inodes=16,mode=755")
        .named(CONTROL, || "mount the sandbox's log".into())?;
    mount_bind("/dev", format!("{NEW}/dev")).named(CONTROL, || "mount the sandbox's /dev".into())?;
    fs::write(format!("{NEW}/bundle/config.json"), &sandbox.config)
        .named(CONTROL, || "write the sandbox's configuration".into())?;
    for folder in ["bundle", "state", "log"] {
        std::os::unix::fs::chown(format!("{NEW}/{folder}"), Some(spec.uid_base), Some(spec.uid_base))
            .named(CONTROL, || format!("give {folder} to the sandbox"))?;
    }
    rustix::process::pivot_root(NEW, format!("{NEW}{ROOT}").as_str())
        .named(CONTROL, || "change to the sandbox's root".into())?;
    rustix::process::chdir("/").named(CONTROL, || "enter the sandbox's root".into())?;
    fs::remove_dir(format!("{ROOT}{NEW}")).named(CONTROL, || "remove the sandbox's mount point".into())
}

/// Leaves the box's user namespace for the agent's, in which the sandbox's program may mount in a mount namespace that
/// the agent's user namespace owns, and has no right over anything of the box.
fn enter(spec: &Spec, user_namespace: &OwnedFd, not_applied: &mut Vec<String>) -> Step<()> {
    const CONTROL: &str = "no-privileges";
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let limit = |value: u64| Rlimit { current: Some(value), maximum: Some(value) };
    let open_files = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(OPEN_FILES_MAX);
    rustix::process::setrlimit(Resource::Nofile, limit(open_files.min(OPEN_FILES_MAX)))
        .and_then(|()| rustix::process::setrlimit(Resource::Core, limit(0)))
        .and_then(|()| rustix::process::setrlimit(Resource::Rtprio, limit(0)))
        .and_then(|()| rustix::process::setrlimit(Resource::Nice, limit(0)))
        .and_then(|()| rustix::process::setpriority_process(None, 0))
        .named(CONTROL, || "set limits and priority".into())?;
    fs::write("/proc/self/oom_score_adj", spec.oom_score_adj.to_string())
        .named(CONTROL, || "set the out-of-memory score".into())?;
    become_inner_root(user_namespace)?;
    let keyring =
        syscall::join_session_keyring().map(drop).named("keyring", || "join a session keyring".into());
    unless_weaker(spec, not_applied, keyring)?;
    unless_weaker(spec, not_applied, no_speculation())?;
    syscall::unshare_mount_namespace()
        .and_then(|()| mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE))
        .named("namespaces", || "make a mount namespace of the agent's user namespace".into())?;
    syscall::default_signal_actions();
    Ok(())
}

/// Becomes root of the agent's user namespace, which is nobody outside of it, for good.
fn become_inner_root(user_namespace: &OwnedFd) -> Step<()> {
    const CONTROL: &str = "no-privileges";
    move_into_link_name_space(user_namespace.as_fd(), Some(LinkNameSpaceType::User))
        .named("user-namespace", || "enter the user namespace".into())?;
    clear_ambient_capability_set().named(CONTROL, || "empty the ambient set".into())?;
    let (uid, gid) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
    rustix::thread::set_thread_groups(&[])
        .and_then(|()| rustix::thread::set_thread_res_gid(gid, gid, gid))
        .and_then(|()| rustix::thread::set_thread_res_uid(uid, uid, uid))
        .named(CONTROL, || "become root of the user namespace".into())?;
    // After the change of identity, which clears it: the compartment dies with the warden.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .and_then(|()| rustix::thread::set_no_new_privs(true))
        .named(CONTROL, || "set no_new_privs".into())
}

/// What all that the sandbox's program starts inherits.
fn no_speculation() -> Step<()> {
    hardening::force_disable_speculation()
        .named("speculation", || "switch off speculation that the kernel can switch".into())
}

/// The filter of all the sandbox's processes; the sandbox puts narrower ones on top.
fn load_filter(spec: &Spec) -> Step<()> {
    seccomp::load(&spec.seccomp).named("seccomp", || "load the filter".into())
}

/// Gives up what only the making of the sandbox needs, for this process and all that it starts from here on.
fn drop_capabilities() -> Step<()> {
    const CONTROL: &str = "no-privileges";
    for capability in CapabilitySet::all().iter() {
        match remove_capability_from_bounding_set(capability) {
            // A capability that this kernel does not have.
            Err(Errno::INVAL) | Ok(()) => {}
            Err(errno) => return Err(errno).named(CONTROL, || "empty the bounding set".into()),
        }
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .named(CONTROL, || "drop capabilities".into())
}

/// Lets the agent run, and sees to it that the sandbox is behind its own filter by then.
fn start(runtime: &Runtime<'_>, sandbox: i32, begin: Begin) -> Step<()> {
    const STEP: &str = "start the agent in the sandbox";
    let started = match begin {
        Begin::Later => runtime.run(&START)?,
        Begin::Held { pid, calls } => {
            // The child is not waited for yet: its number is its own.
            let pidfd = Pid::from_raw(pid).ok_or(Errno::SRCH);
            let pidfd = pidfd.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
            pidfd
                .and_then(|pidfd| held::let_go(&calls, pidfd.as_fd()))
                .and_then(|()| syscall::wait_child(pid))
                .named("", || STEP.into())?
        }
    };
    succeeded(started, STEP)?;
    // What was started here is behind this process's filter already.
    let of =
        |pid: &str| fs::read_to_string(format!("/proc/{pid}/status")).ok().and_then(|text| filters(&text));
    if matches!((of(&sandbox.to_string()), of("self")), (Some(its), Some(own)) if its > own) {
        Ok(())
    } else {
        Err(Errno::PERM).named("seccomp", || "find the sandbox's own system call filter on it".into())
    }
}

/// How many filters a process is behind, in the text of its `status` (`Seccomp_filters`, Linux 5.9).
fn filters(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"))?.trim().parse().ok()
}

/// How the agent begins, once the warden has said so.
enum Begin {
    /// The program that lets it begin waits where it would connect to the sandbox.
    Held { pid: i32, calls: OwnedFd },
    /// It runs then: this kernel does not hold calls, or holds those of the box for somebody else.
    Later,
}

impl Runtime<'_> {
    /// Starts the program that lets the agent begin, and has the kernel hold it: all of it that reaches the sandbox comes
    /// after a call of `connect`.
    fn prepare_start(&self) -> Step<Begin> {
        let step = || "prepare the start of the agent".to_owned();
        let connect = u32::try_from(libc::SYS_connect).map_err(|_| Errno::RANGE).named("", step)?;
        let arguments = self.arguments(&START)?;
        let (ours, theirs) = packet_pair().named("", step)?;
        match syscall::fork_single_threaded().named("", step)? {
            Forked::Child => {
                let handed =
                    held::hold(connect).and_then(|calls| send_packet(&theirs, b"h", &[calls.as_fd()]));
                match handed {
                    Ok(()) => self.become_program(&arguments),
                    Err(_) => syscall::exit_now(STATUS_NOT_RUN),
                }
            }
            Forked::Parent(pid) => {
                drop(theirs);
                let (_, descriptors) = receive_packet(&ours, 1).named("", step)?;
                match descriptors.into_iter().next() {
                    Some(calls) => Ok(Begin::Held { pid, calls }),
                    None => syscall::wait_child(pid).map(|_| Begin::Later).named("", step),
                }
            }
        }
    }

    /// Runs one command of the sandbox's program to its end. Gives its wait status.
    fn run(&self, command: &[&str]) -> Step<i32> {
        let arguments = self.arguments(command)?;
        match syscall::fork_single_threaded().named("", || "start the sandbox's program".into())? {
            Forked::Child => self.become_program(&arguments),
            Forked::Parent(pid) => {
                syscall::wait_child(pid).named("", || "wait for the sandbox's program".into())
            }
        }
    }

    fn arguments(&self, command: &[&str]) -> Step<Vec<CString>> {
        let command = command.iter().map(|word| (*word).to_owned());
        let log = [format!("--log={LOG}"), "--root=/state".to_owned()];
        let words = std::iter::once("sandbox".to_owned()).chain(log);
        c_strings(&words.chain(self.sandbox.options.iter().cloned()).chain(command).collect::<Vec<_>>())
    }

    /// By descriptor, so that it is the very program that was measured.
    fn become_program(&self, arguments: &[CString]) -> ! {
        let _ = syscall::set_signal_mask(&[]);
        // Keys of the agent's terminal are not for this program.
        let _ = rustix::process::setsid();
        if let (Ok(program), Ok(path)) = (
            CString::new(format!("/proc/self/fd/{}", self.program.as_raw_fd())),
            CString::new("PATH=/usr/bin:/bin"),
        ) {
            let _ = syscall::execve(&program, arguments, &[path]);
        }
        syscall::exit_now(STATUS_NOT_RUN)
    }
}

/// Turns a wait status into a step; one that failed has the end of the program's own log in it.
fn succeeded(status: i32, step: &'static str) -> Step<()> {
    match exit_status(status) {
        0 => Ok(()),
        status => Err(Failure {
            control: "",
            step: format!("{step} (status {status}): {}", last_words(Path::new(LOG))),
            errno: Errno::CANCELED,
        }),
    }
}

/// The message of the last line of the program's log, a JSON object a line.
fn last_words(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().last().unwrap_or_default();
    let last = last.strip_prefix("{\"msg\":\"").unwrap_or(last);
    let last = last.split("\",\"level\"").next().unwrap_or_default();
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    last.chars().take(LOG_CHARACTERS_MAX).map(plain).collect()
}

/// Passes on signals, reaps, and ends with the sandbox's status, which is the agent's.
fn attend(runtime: &Runtime<'_>, sandbox: i32, streams: u8) -> ! {
    // Nothing of the warden's stays open here: not the control socket, not the agent's output.
    let _ = syscall::close_all_but(runtime.program.as_raw_fd());
    loop {
        match syscall::wait_signal_of(&FORWARDED) {
            Ok((libc::SIGCHLD, _)) => {
                while let Some((pid, status)) = syscall::reap_any() {
                    if pid == sandbox {
                        syscall::exit_now(exit_status(status));
                    }
                }
            }
            // Keys of the terminal, of which this process has the session: what the sandbox gets itself it gives to the
            // processes in the foreground there.
            Ok((signal, Sender::Kernel)) if streams == STREAMS_TERMINAL => {
                syscall::kill_child(sandbox, signal)
            }
            Ok((signal, _)) => pass_on(runtime, signal),
            Err(Errno::INTR) => {}
            Err(_) => syscall::exit_now(1),
        }
    }
}

/// Has the sandbox's program send the agent a signal, and does not wait for it.
fn pass_on(runtime: &Runtime<'_>, signal: i32) {
    let Ok(arguments) = runtime.arguments(&["kill", NAME, &signal.to_string()]) else { return };
    if let Ok(Forked::Child) = syscall::fork_single_threaded() {
        runtime.become_program(&arguments);
    }
}

/// Makes the agent's tree the root of this process, which still has root: to copy files of it. What the sandbox has of its
/// own in its place, process and device files, is covered by nothing: what lies there is not what the agent sees.
pub(super) fn see_tree() -> Step<()> {
    const CONTROL: &str = "private-root";
    syscall::unshare_mount_namespace()
        .and_then(|()| mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE))
        .named(CONTROL, || "make a mount namespace to copy in".into())?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    for folder in ["proc", "dev"] {
        mount("tmpfs", format!("{ROOT}/{folder}"), "tmpfs", flags, c"size=4k,nr_inodes=1,mode=0")
            .named(CONTROL, || format!("cover /{folder}"))?;
    }
    rustix::process::chroot(ROOT)
        .and_then(|()| rustix::process::chdir("/"))
        .named(CONTROL, || "change to the agent's tree".into())
}

/// Runs one more command in the sandbox; this process is in the compartment's namespaces but its user namespace.
/// Becomes the sandbox's program, which ends with the command's status.
pub(super) fn execute(
    spec: &Spec,
    runtime: &Runtime<'_>,
    user_namespace: &OwnedFd,
    pid_file: &str,
    not_applied: &mut Vec<String>,
) -> Step<()> {
    become_inner_root(user_namespace)?;
    drop_capabilities()?;
    unless_weaker(spec, not_applied, no_speculation())?;
    unless_weaker(spec, not_applied, load_filter(spec))?;
    let step = || "hand over the command".to_owned();
    let process = rustix::fs::memfd_create("process", MemfdFlags::empty()).named("", step)?;
    let mut process = fs::File::from(process);
    process.write_all(runtime.sandbox.config.as_bytes()).named("", step)?;
    let process_argument = format!("--process=/proc/self/fd/{}", process.as_raw_fd());
    let pid_argument = format!("--internal-pid-file={pid_file}");
    let arguments = runtime.arguments(&["exec", &process_argument, &pid_argument, NAME])?;
    runtime.become_program(&arguments)
}

/// Ends the command that [`execute`] runs, which does not end with the process that asked for it.
pub(super) fn end_command(runtime: &Runtime<'_>, user_namespace: &OwnedFd, pid_file: &str) {
    let Ok(Forked::Child) = syscall::fork_single_threaded() else { return };
    let pid = fs::read_to_string(pid_file).ok().and_then(|text| text.trim().parse::<u32>().ok());
    if let Some(pid) = pid
        && become_inner_root(user_namespace).and_then(|()| drop_capabilities()).is_ok()
        && let Ok(arguments) = runtime.arguments(&["kill", &format!("--pid={pid}"), NAME, "9"])
    {
        runtime.become_program(&arguments);
    }
    syscall::exit_now(1)
}
