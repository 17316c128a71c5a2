//! Where victim and attacker play: whatever can start a program with two pipes.

use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::attack::Attack;
use crate::wire;

/// A pair of places: where a victim lives and where an attacker does.
pub trait Target {
    /// Its name, for people.
    fn name(&self) -> String;

    /// Starts `casemate-probe` in one of both.
    ///
    /// # Errors
    /// [`TargetError`].
    fn start(&self, side: Side) -> Result<Streams, TargetError>;

    /// Which kernel answers the attacker.
    fn kernel(&self) -> Kernel {
        Kernel::Common
    }

    /// What of this control of ours stands in the way of `attack` here; none where it is not in force.
    fn stops(&self, attack: &Attack, control: &'static str) -> Option<String> {
        let _ = attack;
        Some(control.to_owned())
    }

    /// A file that both can open by this name; none means that the victim looks for one in its root.
    fn file(&self) -> Option<String> {
        None
    }

    /// A folder on a disk that both can write to by this name; none means that each looks for one of its own.
    fn folder(&self) -> Option<String> {
        None
    }

    /// The root of a small file system that both can write to by this name; none likewise.
    fn small(&self) -> Option<String> {
        None
    }

    /// A socket of what runs both that neither may use; none means the one that the battery was given.
    fn box_socket(&self) -> Option<String> {
        None
    }

    /// Where the victim has a secret, and what it is.
    fn secret(&self) -> Option<(String, String)> {
        None
    }
}

/// Which kernel answers the calls of the attacker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// The one of the machine.
    Common,
    /// A sandbox's, which nobody else has.
    Sandbox,
}

/// A side of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where the victim lives.
    Victim,
    /// Where the attacker lives.
    Attacker,
}

/// A probe that runs.
pub struct Streams {
    /// Its standard input.
    pub input: OwnedFd,
    /// Its standard output.
    pub output: OwnedFd,
    /// Ends it when dropped.
    pub guard: Box<dyn Guard>,
}

/// What a probe runs in. Dropping it ends the probe.
pub trait Guard {
    /// The status with which all of it ended by itself, as shells tell it; none where it did not, or that is not known.
    fn ended(&self) -> Option<i32> {
        None
    }
}

/// Why nobody plays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It could not be started.
    #[error("{0}")]
    Start(String),
    /// It went away.
    #[error("the probe went away while it was to {doing}")]
    Gone {
        /// What it was doing.
        doing: String,
    },
    /// It said nothing in time.
    #[error("the probe said nothing in {} s while it was to {doing}", bound.as_secs())]
    Silent {
        /// What it was doing.
        doing: String,
        /// How long.
        bound: Duration,
    },
    /// It said something else.
    #[error("the probe said `{found}` while it was to {doing}")]
    Protocol {
        /// What it was doing.
        doing: String,
        /// What it said.
        found: String,
    },
}

/// Longest line that a probe may say.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Time to come up, and to end.
const UP_BOUND: Duration = Duration::from_secs(20);

/// Status of what was ended by SIGKILL.
const KILLED: i32 = 137;

/// A probe, spoken to.
pub(crate) struct Probe {
    streams: Streams,
    read: Vec<u8>,
}

impl Probe {
    pub(crate) fn start(target: &dyn Target, side: Side) -> Result<Self, TargetError> {
        let mut probe = Self { streams: target.start(side)?, read: Vec::new() };
        let words = probe.hear("come up", UP_BOUND)?;
        match words.first().map(String::as_str) {
            Some("up") => Ok(probe),
            _ => Err(TargetError::Protocol { doing: "come up".into(), found: words.join(" ") }),
        }
    }

    pub(crate) fn say(&mut self, line: &str) -> Result<(), TargetError> {
        let gone = |_| TargetError::Gone { doing: "read an order".into() };
        let mut file = std::fs::File::from(self.streams.input.try_clone().map_err(gone)?);
        file.write_all(format!("{line}\n").as_bytes()).map_err(gone)
    }

    /// The words of the next line.
    pub(crate) fn hear(&mut self, doing: &str, bound: Duration) -> Result<Vec<String>, TargetError> {
        let end = Instant::now().checked_add(bound);
        loop {
            if let Some(at) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=at).collect();
                let text = String::from_utf8_lossy(&line);
                return Ok(text.trim_end_matches('\n').split('\t').map(str::to_owned).collect());
            }
            let left = end.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()));
            let silent = || TargetError::Silent { doing: doing.to_owned(), bound };
            if left.is_zero() || self.read.len() > LINE_BYTES_MAX {
                return Err(silent());
            }
            let mut fds = [PollFd::new(&self.streams.output, PollFlags::IN)];
            let timeout = Timespec::try_from(left).map_err(|_| silent())?;
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(_) => return Err(silent()),
            }
            let mut part = [0_u8; 4096];
            match rustix::io::read(self.streams.output.as_fd(), &mut part) {
                Ok(0) => return Err(TargetError::Gone { doing: doing.to_owned() }),
                Ok(count) => self.read.extend(part.iter().take(count)),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(TargetError::Gone { doing: doing.to_owned() }),
            }
        }
    }

    /// Ends what runs, and skips what it still says.
    pub(crate) fn end(&mut self) -> Result<(), TargetError> {
        self.say("end")?;
        loop {
            let words = self.hear("end", UP_BOUND)?;
            if words.first().is_some_and(|word| word == "ended") {
                return Ok(());
            }
        }
    }

    /// Whether it went away because the kernel ended all that it ran in: nobody inside can, and who runs it says so.
    pub(crate) fn was_killed(&self, error: &TargetError) -> bool {
        matches!(error, TargetError::Gone { .. }) && self.streams.guard.ended() == Some(KILLED)
    }

    /// A file that the victim has in its root.
    pub(crate) fn file(&mut self) -> Result<String, TargetError> {
        self.say("file")?;
        let words = self.hear("look for a file", UP_BOUND)?;
        match words.as_slice() {
            [word, path] if word == "file" => Ok(wire::word(path)),
            _ => Err(TargetError::Protocol { doing: "look for a file".into(), found: words.join(" ") }),
        }
    }
}
