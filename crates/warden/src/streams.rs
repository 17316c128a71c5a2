//! An agent's own streams: pipes, or a terminal of its own. What it prints goes to its log, and while an operator is
//! attached to its terminal, to them as well.
//!
//! The slave of the terminal is all that enters the compartment. The master stays here and with attached operators; an
//! operator's own terminal never enters.

use std::cell::RefCell;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use casemate_composition::lock::{Agent, AgentName};
use casemate_protocol::Refusal;
use casemate_sys::spawn::Streams;
use casemate_sys::terminal::{self, Size};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;

use crate::error::WardenError;
use crate::output::{Output, PIECE_BYTES, pipe};
use crate::world::World;

/// Size of a terminal until somebody is attached to it.
const SIZE: Size = Size { rows: 24, columns: 80 };
/// Most operators at one terminal.
const VIEWERS_MAX: usize = 16;
/// Most bytes that are kept of what a terminal showed before anybody was attached: what fits into a pipe at once.
const BEGINNING_BYTES_MAX: usize = 48 << 10;
/// Time between two looks at a terminal that no process has open at the moment.
const LOOK: Duration = Duration::from_millis(50);
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// The warden's side of them.
pub(crate) struct Own {
    /// Standard input, where it is open for the operator and was handed to none for good.
    pub(crate) stdin: RefCell<Option<OwnedFd>>,
    /// The terminal, where it has one.
    pub(crate) terminal: Option<Screen>,
    /// Where its output goes, and that of commands that the composition has run in it.
    pub(crate) output: Output,
}

/// The streams of an agent, and the warden's side of them.
pub(crate) fn make(world: &World, name: &AgentName, agent: &Agent) -> Result<(Streams, Own), WardenError> {
    let output = Output::to(world.project_dir.join("logs").join(format!("{name}.log")), agent.log);
    if agent.tty {
        let base = casemate_compartment::uid_base(&world.lock, name);
        let outer = |inner: u32| base.saturating_add(inner);
        let pair = terminal::open(outer(agent.user.uid), outer(agent.user.gid), SIZE)
            .map_err(WardenError::system("make a terminal"))?;
        let screen = Screen::show(pair.master, &output)?;
        return Ok((
            Streams::Terminal(pair.slave),
            Own { stdin: RefCell::default(), terminal: Some(screen), output },
        ));
    }
    let (read, stdout) = pipe()?;
    let stderr = stdout.try_clone().map_err(WardenError::file("pipe"))?;
    output.copy(read);
    if !agent.stdin_open {
        return Ok((
            Streams::Output { stdout, stderr },
            Own { stdin: RefCell::default(), terminal: None, output },
        ));
    }
    let (stdin, keys) = pipe()?;
    Ok((
        Streams::All { stdin, stdout, stderr },
        Own { stdin: RefCell::new(Some(keys)), terminal: None, output },
    ))
}

/// The master of an agent's terminal, whose output goes to the log and to who is attached.
pub(crate) struct Screen {
    master: OwnedFd,
    viewers: Viewers,
    over: Arc<AtomicBool>,
}

impl Screen {
    fn show(master: OwnedFd, output: &Output) -> Result<Self, WardenError> {
        let screen = Self { master, viewers: Viewers::default(), over: Arc::default() };
        let from = screen.master.try_clone().map_err(WardenError::file("terminal"))?;
        let (output, viewers, over) = (output.clone(), screen.viewers.clone(), Arc::clone(&screen.over));
        std::thread::spawn(move || {
            let mut lines = LineEnds::default();
            let mut piece = vec![0; PIECE_BYTES];
            while let Some(count) = next(&from, &mut piece, &over) {
                let piece = piece.get(..count).unwrap_or_default();
                viewers.show(piece);
                output.take(&lines.of(piece));
            }
            viewers.clear();
        });
        Ok(screen)
    }

    /// For one more operator: the master, to type and to tell its size, and what is printed from now on, or from the
    /// beginning where nobody was attached before.
    pub(crate) fn attach(&self, since: Since) -> Result<(OwnedFd, OwnedFd), WardenError> {
        let master = self.master.try_clone().map_err(WardenError::file("terminal"))?;
        let (read, write) = pipe()?;
        // Who does not read what is printed misses it: no agent waits for an operator.
        fcntl_setfl(&write, OFlags::NONBLOCK).map_err(WardenError::system("prepare a pipe"))?;
        self.viewers.add(write, since)?;
        Ok((master, read))
    }
}

/// From where on an operator sees what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// As much of the beginning as was kept.
    Beginning,
    Now,
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
    }
}

/// The next bytes that were printed; none where the compartment is gone. That no process has the terminal open says
/// nothing: one that has it as its own may open it again.
fn next(master: &OwnedFd, piece: &mut [u8], over: &AtomicBool) -> Option<usize> {
    loop {
        // Asked first: what was printed before the end is there when the end is known.
        let is_over = over.load(Ordering::Acquire);
        match rustix::io::read(master, &mut *piece) {
            Ok(count @ 1..) => return Some(count),
            Err(Errno::INTR) => {}
            // Who is attached has the same file, and may have made it so that nobody waits at it.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(master, PollFlags::IN)], None);
            }
            _ if is_over => return None,
            _ => std::thread::sleep(LOOK),
        }
    }
}

/// Those who see what is printed.
#[derive(Clone, Default)]
struct Viewers(Arc<Mutex<Attached>>);

#[derive(Default)]
struct Attached {
    all: Vec<OwnedFd>,
    /// What was printed before anybody was.
    beginning: Vec<u8>,
    /// Somebody was.
    begun: bool,
}

impl Viewers {
    fn add(&self, viewer: OwnedFd, since: Since) -> Result<(), Refusal> {
        let mut attached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Attached { all, beginning, begun } = &mut *attached;
        all.retain(is_there);
        if all.len() >= VIEWERS_MAX {
            let expected = format!("fewer than {VIEWERS_MAX} operators at one terminal");
            return Err(Refusal::new("agent.visits", expected, format!("{VIEWERS_MAX} are attached")));
        }
        let shown = std::mem::take(beginning);
        *begun = true;
        if since == Since::Beginning {
            let _ = rustix::io::write(&viewer, &shown);
        }
        all.push(viewer);
        Ok(())
    }

    fn show(&self, bytes: &[u8]) {
        let mut attached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !attached.begun {
            let room = BEGINNING_BYTES_MAX.saturating_sub(attached.beginning.len());
            attached.beginning.extend(bytes.iter().take(room));
        }
        attached.all.retain(
            |viewer| !matches!(rustix::io::write(viewer, bytes), Err(errno) if errno != Errno::AGAIN),
        );
    }

    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all.clear();
    }
}

/// Whether somebody has the other end of this pipe.
fn is_there(viewer: &OwnedFd) -> bool {
    let mut ends = [PollFd::from_borrowed_fd(viewer.as_fd(), PollFlags::empty())];
    let _ = poll(&mut ends, Some(&AT_ONCE));
    !ends.iter().any(|end| end.revents().contains(PollFlags::ERR))
}

/// Takes the carriage return in front of each line end away: a terminal puts it there.
#[derive(Default)]
struct LineEnds {
    /// One that came last, and that the next piece decides about.
    pending: bool,
}

impl LineEnds {
    fn of(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(piece.len().saturating_add(1));
        for byte in piece {
            if std::mem::take(&mut self.pending) && *byte != b'\n' {
                out.push(b'\r');
            }
            match byte {
                b'\r' => self.pending = true,
                other => out.push(*other),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carriage_returns_in_front_of_line_ends_are_taken_away_over_pieces() {
        let mut lines = LineEnds::default();
        let all: Vec<u8> =
            [&b"a\r\nb\r"[..], b"\nc\r", b"d\r\r\n"].iter().flat_map(|p| lines.of(p)).collect();
        assert_eq!(all, b"a\nb\nc\rd\r\n");
    }

    #[test]
    fn who_does_not_read_misses_what_is_printed_and_who_went_away_is_forgotten() {
        let viewers = Viewers::default();
        let mut ends = Vec::new();
        for _ in 0..VIEWERS_MAX {
            let (read, write) = pipe().unwrap();
            fcntl_setfl(&write, OFlags::NONBLOCK).unwrap();
            viewers.add(write, Since::Now).unwrap();
            ends.push(read);
        }
        (0..100).for_each(|_| viewers.show(&[b'x'; 4096]));
        assert_eq!(viewers.0.lock().unwrap().all.len(), VIEWERS_MAX);
        let (_read, write) = pipe().unwrap();
        assert!(viewers.add(write.try_clone().unwrap(), Since::Now).is_err());
        ends.truncate(1);
        viewers.add(write, Since::Now).unwrap();
        assert_eq!(viewers.0.lock().unwrap().all.len(), 2);
    }

    #[test]
    fn what_was_printed_before_anybody_was_attached_is_kept_for_the_first_one() {
        let viewers = Viewers::default();
        viewers.show(b"early ");
        let attach = || {
            let (read, write) = pipe().unwrap();
            fcntl_setfl(&write, OFlags::NONBLOCK).unwrap();
            viewers.add(write, Since::Beginning).unwrap();
            read
        };
        let first = attach();
        viewers.show(b"late");
        let second = attach();
        viewers.clear();
        let all = |end: OwnedFd| std::io::read_to_string(std::fs::File::from(end)).unwrap();
        assert_eq!((all(first), all(second)), ("early late".to_owned(), String::new()));
    }
}
