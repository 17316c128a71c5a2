//! The warden's side of a launch: starts the launcher, collects what it hands out, lets the agent go.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::descriptors::{packet_pair, receive_packet, send_packet};
use crate::handover::Handed;
use crate::root::RootObject;
use crate::spec::{Answer, STREAMS_ALL, STREAMS_OUTPUT, STREAMS_TERMINAL, Spec};

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

/// A launcher that runs and waits for what it shall build. Dropping it ends it.
#[derive(Debug)]
pub struct Prepared {
    control: OwnedFd,
    launcher: Option<std::process::Child>,
}

impl Prepared {
    /// Builds a compartment with this root, whose kind decides over [`Spec::shared_root`], with these streams for the
    /// agent, and with the program of the sandbox that the specification asks for.
    ///
    /// # Errors
    /// [`LaunchError::Start`].
    pub fn start(
        self,
        spec: &Spec,
        root: RootObject<'_>,
        program: Option<BorrowedFd<'_>>,
        streams: &Streams,
    ) -> Result<Starting, LaunchError> {
        let (object, metadata) = match root {
            RootObject::Image(image) => (image.data, Some(image.metadata)),
            RootObject::Shared(mount) => (mount, None),
        };
        let spec = &Spec { shared_root: u8::from(metadata.is_none()), ..spec.clone() };
        let (launcher, control) = self.hand_over(spec, object, metadata, program, Some(streams))?;
        let sockets = spec
            .listeners
            .len()
            .saturating_add(spec.socket_paths.len())
            .saturating_add(if spec.resolver == 0 { 0 } else { 2 })
            .saturating_add(spec.pool.try_into().unwrap_or(usize::MAX));
        Ok(Starting { control, launcher, sockets })
    }

    fn hand_over(
        mut self,
        spec: &Spec,
        object: BorrowedFd<'_>,
        metadata: Option<BorrowedFd<'_>>,
        program: Option<BorrowedFd<'_>>,
        streams: Option<&Streams>,
    ) -> Result<(std::process::Child, OwnedFd), LaunchError> {
        let (number, streams) = match streams {
            None => (spec.streams, [None, None, None]),
            Some(Streams::Output { stdout, stderr }) => {
                (STREAMS_OUTPUT, [None, Some(stdout.as_fd()), Some(stderr.as_fd())])
            }
            Some(Streams::All { stdin, stdout, stderr }) => {
                (STREAMS_ALL, [Some(stdin.as_fd()), Some(stdout.as_fd()), Some(stderr.as_fd())])
            }
            Some(Streams::Terminal(slave)) => (STREAMS_TERMINAL, [Some(slave.as_fd()); 3]),
        };
        let spec = Spec { streams: number, ..spec.clone() };
        Handed { object, metadata, program, streams }.send(&self.control, &spec.encode())?;
        let control = self.control.try_clone()?;
        match self.launcher.take() {
            Some(launcher) => Ok((launcher, control)),
            None => Err(protocol("a launcher builds once")),
        }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some(launcher) = &mut self.launcher {
            let _ = launcher.kill();
            let _ = launcher.wait();
        }
    }
}

/// Starts `launcher`, which then waits. Call it on a thread that lives as long as the compartment shall: the kernel ends
/// the compartment with that thread.
///
/// # Errors
/// [`LaunchError::Start`].
pub fn prepare(launcher: &Path) -> Result<Prepared, LaunchError> {
    let errno = |e: Errno| LaunchError::Start { source: e.into() };
    let (control, theirs) = packet_pair().map_err(errno)?;
    rustix::net::sockopt::set_socket_timeout(
        &control,
        rustix::net::sockopt::Timeout::Recv,
        Some(ANSWER_WAIT_MAX),
    )
    .map_err(errno)?;
    // Nothing may have to run between `fork` and `exec`, so that the C library starts it without a copy of this
    // process.
    let mut command = Command::new(launcher);
    command.env_clear().stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null());
    let launcher = Some(command.spawn()?);
    Ok(Prepared { control, launcher })
}

/// Runs one command in the compartment of `first`, confined as its agent is. The child ends with the command's status;
/// its output is dropped.
///
/// # Errors
/// [`LaunchError::Start`].
pub fn join(launcher: &Path, spec: &Spec, first: &FirstProcess) -> Result<std::process::Child, LaunchError> {
    prepare(launcher)?.hand_over(spec, first.pidfd.as_fd(), None, None, None).map(|(child, _)| child)
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

/// As [`join`], with these streams and, for a compartment that has a sandbox, its program; and the line that tells whether
/// the command could be executed.
///
/// # Errors
/// [`LaunchError::Start`].
pub fn join_with(
    launcher: &Path,
    spec: &Spec,
    first: &FirstProcess,
    program: Option<BorrowedFd<'_>>,
    streams: &Streams,
) -> Result<(std::process::Child, Released), LaunchError> {
    join_at(launcher, spec, first.pidfd.as_fd(), program, streams)
}

/// As [`join_with`], where the first process is somebody else's to end: by its pidfd alone.
///
/// # Errors
/// [`LaunchError::Start`].
pub fn join_at(
    launcher: &Path,
    spec: &Spec,
    first: BorrowedFd<'_>,
    program: Option<BorrowedFd<'_>>,
    streams: &Streams,
) -> Result<(std::process::Child, Released), LaunchError> {
    let prepared = prepare(launcher)?;
    let (child, control) = prepared.hand_over(spec, first, None, program, Some(streams))?;
    Ok((child, Released { control }))
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

    /// Whether the process behind a pidfd lives.
    pub(crate) fn lives(pidfd: &OwnedFd) -> Result<(), Errno> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), options))? {
            None => Ok(()),
            Some(_) => Err(Errno::SRCH),
        }
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
