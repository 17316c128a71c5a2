//! The warden's side of a launch: starts the launcher, collects what it hands out, lets the agent go.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::descriptors::{packet_pair, receive_packet, send_packet};
use crate::process;
use crate::root::RootObject;
use crate::spec::{
    Answer, CONTROL_FD, METADATA_FD, OBJECT_FD, PROGRAM_FD, SPEC_FD, STREAMS_ALL, STREAMS_OUTPUT,
    STREAMS_TERMINAL, Spec,
};

/// How long the launcher may take from one answer to the next.
pub const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
/// Longest answer in bytes.
const ANSWER_BYTES_MAX: usize = 8192;

/// Why there is no compartment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// A step failed. `control` is the control that hangs on it, or empty.
    #[error("{step}: {errno}")]
    Step {
        /// Name of the control.
        control: String,
        /// What was being done.
        step: String,
        /// The system's error.
        errno: Errno,
    },
    /// The compartment stands, and the program could not be executed.
    #[error("execute the agent's program: {errno}")]
    Program {
        /// The system's error.
        errno: Errno,
    },
    /// The launcher ended without saying why, or said nothing in time.
    #[error("the launcher ended or stopped answering ({errno})")]
    Silent {
        /// What reading from it gave.
        errno: Errno,
    },
    /// The launcher spoke out of turn.
    #[error("the launcher does not speak the start protocol: {reason}")]
    Protocol {
        /// How.
        reason: String,
    },
    /// The launcher could not be started.
    #[error("cannot start the launcher: {source}")]
    Start {
        /// The system's error.
        #[from]
        source: std::io::Error,
    },
}

/// A launcher at work.
#[derive(Debug)]
pub struct Starting {
    control: OwnedFd,
    launcher: std::process::Child,
    sockets: usize,
}

/// A confined first process that waits for its byte.
#[derive(Debug)]
pub struct Launched {
    /// It. Dropping it ends the compartment.
    pub first: FirstProcess,
    /// Listening agent socket, born inside.
    pub agent_socket: OwnedFd,
    /// Directory `/run/secrets` inside.
    pub secrets: OwnedFd,
    /// Listeners, then resolver UDP and TCP, then pool, as the specification asked.
    pub sockets: Vec<OwnedFd>,
    /// Controls that are not applied.
    pub not_applied: Vec<String>,
    /// Controls that the confined first process tried to break, and the kernel refused.
    pub tried: Vec<String>,
    /// Lets the agent run; dropping it unused ends the compartment.
    pub gate: Gate,
}

/// What a confined first process waits at.
#[derive(Debug)]
pub struct Gate {
    control: OwnedFd,
}

/// The line to a running compartment's first moments: tells when the program could not be executed.
#[derive(Debug)]
pub struct Released {
    control: OwnedFd,
}

/// Starts `launcher` with this specification and this root, whose kind decides over [`Spec::shared_root`]. The agent's
/// output goes to `stdout` and `stderr`. Call it on a thread that lives as long as the compartment shall: the kernel ends the compartment with that thread.
///
/// # Errors
/// [`LaunchError::Start`].
pub fn start(
    launcher: &Path,
    spec: &Spec,
    root: RootObject<'_>,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> Result<Starting, LaunchError> {
    start_with(launcher, spec, root, None, Streams::Output { stdout, stderr })
}

/// What a launcher gets besides its specification.
struct Handed<'a> {
    object: BorrowedFd<'a>,
    metadata: Option<BorrowedFd<'a>>,
    program: Option<BorrowedFd<'a>>,
}

/// As [`start`], with these streams for the agent, and with the program of the sandbox that the specification asks for.
///
/// # Errors
/// [`LaunchError::Start`].
pub fn start_with(
    launcher: &Path,
    spec: &Spec,
    root: RootObject<'_>,
    program: Option<BorrowedFd<'_>>,
    streams: Streams,
) -> Result<Starting, LaunchError> {
    let (object, metadata) = match root {
        RootObject::Image(image) => (image.data, Some(image.metadata)),
        RootObject::Shared(mount) => (mount, None),
    };
    let spec = &Spec { shared_root: u8::from(metadata.is_none()), ..spec.clone() };
    let handed = Handed { object, metadata, program };
    let (launcher, control) = run_with(launcher, spec, &handed, streams)?;
    let sockets = spec
        .listeners
        .len()
        .saturating_add(if spec.resolver == 0 { 0 } else { 2 })
        .saturating_add(spec.pool.try_into().unwrap_or(usize::MAX));
    Ok(Starting { control, launcher, sockets })
}

/// Runs one command in the compartment of `first`, confined as its agent is. The child ends with the command's status;
/// its output is dropped.
///
/// # Errors
/// [`LaunchError::Start`].
pub fn join(launcher: &Path, spec: &Spec, first: &FirstProcess) -> Result<std::process::Child, LaunchError> {
    let handed = Handed { object: first.pidfd.as_fd(), metadata: None, program: None };
    join_quietly(launcher, spec, &handed)
}

/// Likewise, in the compartment's sandbox, with the program of that sandbox.
///
/// # Errors
/// [`LaunchError::Start`].
pub fn join_sandbox(
    launcher: &Path,
    spec: &Spec,
    first: &FirstProcess,
    program: BorrowedFd<'_>,
) -> Result<std::process::Child, LaunchError> {
    let handed = Handed { object: first.pidfd.as_fd(), metadata: None, program: Some(program) };
    join_quietly(launcher, spec, &handed)
}

fn join_quietly(
    launcher: &Path,
    spec: &Spec,
    handed: &Handed<'_>,
) -> Result<std::process::Child, LaunchError> {
    let streams = [Stdio::null(), Stdio::null(), Stdio::null()];
    run_launcher(launcher, spec, handed, streams).map(|(child, _)| child)
}

/// What an agent, or a command that joins it, has as its streams.
#[derive(Debug)]
pub enum Streams {
    /// It reads nothing.
    Output {
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// It reads, too.
    All {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// The slave of a terminal, which becomes the command's own.
    Terminal(OwnedFd),
}

/// As [`join`] or, with a program, [`join_sandbox`], with these streams; and the line that tells whether the program could be executed.
///
/// # Errors
/// [`LaunchError::Start`].
pub fn join_with(
    launcher: &Path,
    spec: &Spec,
    first: &FirstProcess,
    program: Option<BorrowedFd<'_>>,
    streams: Streams,
) -> Result<(std::process::Child, Released), LaunchError> {
    let handed = Handed { object: first.pidfd.as_fd(), metadata: None, program };
    let (child, control) = run_with(launcher, spec, &handed, streams)?;
    Ok((child, Released { control }))
}

fn run_with(
    launcher: &Path,
    spec: &Spec,
    handed: &Handed<'_>,
    streams: Streams,
) -> Result<(std::process::Child, OwnedFd), LaunchError> {
    let (number, streams) = match streams {
        Streams::Output { stdout, stderr } => {
            (STREAMS_OUTPUT, [Stdio::null(), Stdio::from(stdout), Stdio::from(stderr)])
        }
        Streams::All { stdin, stdout, stderr } => {
            (STREAMS_ALL, [Stdio::from(stdin), Stdio::from(stdout), Stdio::from(stderr)])
        }
        Streams::Terminal(slave) => {
            let [stdin, stdout] = [slave.try_clone()?, slave.try_clone()?];
            (STREAMS_TERMINAL, [Stdio::from(stdin), Stdio::from(stdout), Stdio::from(slave)])
        }
    };
    run_launcher(launcher, &Spec { streams: number, ..spec.clone() }, handed, streams)
}

fn run_launcher(
    launcher: &Path,
    spec: &Spec,
    handed: &Handed<'_>,
    [stdin, stdout, stderr]: [Stdio; 3],
) -> Result<(std::process::Child, OwnedFd), LaunchError> {
    let errno = |e: Errno| LaunchError::Start { source: e.into() };
    let memory = memfd_create("spec", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).map_err(errno)?;
    let mut file = File::from(memory);
    file.write_all(&spec.encode())?;
    std::io::Seek::rewind(&mut file)?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)
        .map_err(errno)?;
    let (ours, theirs) = packet_pair().map_err(errno)?;
    rustix::net::sockopt::set_socket_timeout(
        &ours,
        rustix::net::sockopt::Timeout::Recv,
        Some(ANSWER_WAIT_MAX),
    )
    .map_err(errno)?;
    let mut command = Command::new(launcher);
    command.env_clear().stdin(stdin).stdout(stdout).stderr(stderr);
    let mut inherit = vec![(theirs.as_fd(), CONTROL_FD), (file.as_fd(), SPEC_FD), (handed.object, OBJECT_FD)];
    inherit.extend(handed.metadata.map(|metadata| (metadata, METADATA_FD)));
    inherit.extend(handed.program.map(|program| (program, PROGRAM_FD)));
    process::prepare(&mut command, &inherit);
    let launcher = command.spawn()?;
    Ok((launcher, ours))
}

impl Starting {
    /// Waits until the compartment is confined. Blocks for at most [`ANSWER_WAIT_MAX`] an answer.
    ///
    /// # Errors
    /// [`LaunchError`]; then nothing of the compartment is left.
    pub fn collect(mut self) -> Result<Launched, LaunchError> {
        let outcome = collect(&self.control, self.sockets);
        if outcome.is_err() {
            let _ = self.launcher.kill();
        }
        let _ = self.launcher.wait();
        let parts = outcome?;
        Ok(Launched {
            first: parts.first,
            agent_socket: parts.agent_socket,
            secrets: parts.secrets,
            sockets: parts.sockets,
            not_applied: parts.not_applied,
            tried: parts.tried,
            gate: Gate { control: self.control },
        })
    }
}

struct Parts {
    first: FirstProcess,
    agent_socket: OwnedFd,
    secrets: OwnedFd,
    sockets: Vec<OwnedFd>,
    not_applied: Vec<String>,
    tried: Vec<String>,
}

/// The first process of a compartment, pinned. Dropping it ends it, and with it all of its process namespace.
#[derive(Debug)]
pub struct FirstProcess {
    pid: i32,
    pidfd: OwnedFd,
}

impl FirstProcess {
    /// Its process id in the box.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Its pidfd: readable when it ended.
    #[must_use]
    pub const fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Sends it a signal, which it passes on to the agent.
    ///
    /// # Errors
    /// The system's error; `ESRCH` where it ended.
    pub fn signal(&self, number: i32) -> Result<(), Errno> {
        let signal = Signal::from_named_raw(number).ok_or(Errno::INVAL)?;
        pidfd_send_signal(&self.pidfd, signal)
    }

    /// Its status as shells tell it; none while it runs. Takes the status: ask until it is told, once.
    ///
    /// # Errors
    /// The system's error.
    pub fn ended(&self) -> Result<Option<i32>, Errno> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), options))?;
        Ok(status.map(|status| {
            status
                .exit_status()
                .or_else(|| status.terminating_signal().map(|signal| signal.saturating_add(128)))
                .unwrap_or(255)
        }))
    }
}

impl Drop for FirstProcess {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        if self.ended() != Ok(None) {
            return;
        }
        // Its end may take its time (a disk that does not answer); whoever drops it must not wait for that.
        if let Ok(pidfd) = self.pidfd.try_clone() {
            std::thread::spawn(move || {
                rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED))
            });
        }
    }
}

impl Gate {
    /// Lets the agent run.
    ///
    /// # Errors
    /// [`LaunchError::Silent`] where the first process is gone.
    pub fn release(self) -> Result<Released, LaunchError> {
        send_packet(&self.control, b"g", &[]).map_err(|errno| LaunchError::Silent { errno })?;
        Ok(Released { control: self.control })
    }
}

impl Released {
    /// Waits until the program runs. Blocks for the time of an `execve`.
    ///
    /// # Errors
    /// [`LaunchError::Program`]; for a command that joins, [`LaunchError::Step`] as well.
    pub fn executed(self) -> Result<(), LaunchError> {
        match receive_packet(&self.control, ANSWER_BYTES_MAX) {
            Ok((packet, _)) if packet.is_empty() => Ok(()),
            Ok((packet, _)) => Err(failure(&packet)),
            Err(errno) => Err(LaunchError::Silent { errno }),
        }
    }
}

/// Whether a process with this number exists.
#[must_use]
pub fn exists(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

fn collect(control: &OwnedFd, sockets_wanted: usize) -> Result<Parts, LaunchError> {
    let (answer, descriptors) = receive(control)?;
    let first = match (answer, <[OwnedFd; 1]>::try_from(descriptors)) {
        (Answer::Spawned { pid }, Ok([pidfd])) => FirstProcess { pid, pidfd },
        _ => return Err(protocol("first answer is not the first process")),
    };
    let (answer, descriptors) = receive(control)?;
    let (agent_socket, secrets) = match (answer, <[OwnedFd; 2]>::try_from(descriptors)) {
        (Answer::Inside, Ok([agent_socket, secrets])) => (agent_socket, secrets),
        _ => return Err(protocol("second answer is not the inside")),
    };
    let mut sockets = Vec::new();
    while sockets.len() < sockets_wanted {
        match receive(control)? {
            (Answer::Sockets, descriptors) if !descriptors.is_empty() => sockets.extend(descriptors),
            _ => return Err(protocol("an answer is not sockets")),
        }
    }
    if sockets.len() != sockets_wanted {
        return Err(protocol("more sockets than asked for"));
    }
    match receive(control)? {
        (Answer::Ready { not_applied, tried }, descriptors) if descriptors.is_empty() => {
            Ok(Parts { first, agent_socket, secrets, sockets, not_applied, tried })
        }
        _ => Err(protocol("last answer is not readiness")),
    }
}

fn receive(control: &OwnedFd) -> Result<(Answer, Vec<OwnedFd>), LaunchError> {
    let (packet, descriptors) =
        receive_packet(control, ANSWER_BYTES_MAX).map_err(|errno| LaunchError::Silent { errno })?;
    if packet.is_empty() {
        return Err(LaunchError::Silent { errno: Errno::PIPE });
    }
    match Answer::decode(&packet) {
        Ok(Answer::Failed { .. }) | Err(_) => Err(failure(&packet)),
        Ok(answer) => Ok((answer, descriptors)),
    }
}

fn failure(packet: &[u8]) -> LaunchError {
    match Answer::decode(packet) {
        Ok(Answer::Failed { control, step, errno }) => {
            LaunchError::Step { control, step, errno: Errno::from_raw_os_error(errno) }
        }
        Ok(Answer::ExecFailed { errno }) => LaunchError::Program { errno: Errno::from_raw_os_error(errno) },
        Ok(_) => protocol("an answer out of turn"),
        Err(error) => protocol(&error.to_string()),
    }
}

fn protocol(reason: &str) -> LaunchError {
    LaunchError::Protocol { reason: reason.to_owned() }
}
