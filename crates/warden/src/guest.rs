//! A command at work in a compartment, from outside: its end, signals to it, and that nothing of it stays behind.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;
use std::time::{Duration, Instant};

use casemate_compartment::{Visit, backend};
use casemate_composition::lock::Backend;
use casemate_sys::spawn::{LaunchError, Streams};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::net::unix::pipe::Receiver;

use crate::agent::{Running, blocking, explain, explain_launch};
use crate::error::WardenError;

/// How long a command that was asked to end may take.
const END_WAIT_MAX: Duration = Duration::from_secs(2);
/// Time between two looks whether it did.
const POLL: Duration = Duration::from_millis(10);

/// A command that does not run.
#[derive(Debug)]
pub(crate) enum NotBegun {
    Refused(WardenError),
    /// 127 where there is no such program, 126 else.
    NotExecuted(i32, String),
}

impl From<WardenError> for NotBegun {
    fn from(error: WardenError) -> Self {
        Self::Refused(error)
    }
}

impl std::fmt::Display for NotBegun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::NotExecuted(_, what) => f.write_str(what),
        }
    }
}

/// Starts what `visit` says in a compartment. It runs when this is done.
pub(crate) async fn begin(
    kind: Backend,
    running: &Running,
    visit: &Visit,
    streams: Streams,
) -> Result<Guest, NotBegun> {
    let (child, released) = backend(kind).visit(&running.compartment, visit, streams).map_err(explain)?;
    let guest = Guest::new(child);
    match blocking(move || released.executed()).await? {
        Ok(()) => Ok(guest),
        Err(LaunchError::Step { control, step, errno }) if control.is_empty() => {
            Err(NotBegun::NotExecuted(126, format!("{step}: {errno}")))
        }
        Err(error) => Err(match explain_launch(error) {
            WardenError::NotExecuted { status, what } => NotBegun::NotExecuted(status, what),
            other => other.into(),
        }),
    }
}

/// It. Dropped before its end (its time is up, the caller is gone, or the agent ended), it is asked to end: the launcher
/// ends the command and takes its status, which nobody else would. Only then it is killed.
#[derive(Debug)]
pub(crate) struct Guest {
    child: Child,
    pidfd: Option<OwnedFd>,
    ended: bool,
}

impl Guest {
    fn new(child: Child) -> Self {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Self { child, pidfd, ended: false }
    }

    /// Its exit status, 128 + signal number for a signal, when it comes.
    pub(crate) async fn ended(&mut self) -> i32 {
        // Tokio has no type for a pidfd; a receiver waits for readability of any descriptor and is never read from.
        let pidfd = self.pidfd.as_ref().and_then(|pidfd| pidfd.try_clone().ok());
        let readable = pidfd.and_then(|pidfd| Receiver::from_owned_fd_unchecked(pidfd).ok());
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    self.ended = true;
                    let signal = status.signal().map(|signal| signal.saturating_add(128));
                    return status.code().or(signal).unwrap_or(255);
                }
                Ok(None) => {}
                Err(_) => return 255,
            }
            match &readable {
                Some(readable) if readable.readable().await.is_ok() => tokio::task::yield_now().await,
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Sends the command's processes a signal. A number that is none is no concern of theirs.
    pub(crate) fn signal(&self, number: i32) {
        if let (Some(pidfd), Some(signal)) = (&self.pidfd, Signal::from_named_raw(number)) {
            let _ = pidfd_send_signal(pidfd, signal);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let Some(pidfd) = self.pidfd.take() else { return };
        let _ = pidfd_send_signal(&pidfd, Signal::TERM);
        std::thread::spawn(move || {
            let deadline = Instant::now() + END_WAIT_MAX;
            loop {
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
                match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
                    Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL),
                    Ok(None) => {
                        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
                        std::thread::sleep(POLL);
                    }
                    _ => return,
                }
            }
        });
    }
}
