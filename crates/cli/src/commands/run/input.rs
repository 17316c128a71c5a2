//! What a one-off agent reads: the caller's standard input, or keys of the caller's terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use casemate_composition::lock::AgentName;
use casemate_protocol::control::ControlRequest;
use casemate_protocol::inside::InsideRequest;

use crate::control;
use crate::failure::Failure;
use crate::follow::POLL;
use crate::inside;
use crate::project::Project;

const PIECE_BYTES: usize = 64 << 10;
/// Time to show what a terminal printed last.
const SHOWN_BOUND: Duration = Duration::from_secs(5);

/// What the caller's standard input is to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// Nothing.
    None,
    /// Bytes, and their end.
    Stream,
    /// A terminal, which becomes a view of the program's own.
    Terminal,
}

/// Why the program's input or terminal cannot be had, once that is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Refused(Arc<Mutex<Option<Failure>>>);

impl Refused {
    fn put(&self, failure: Failure) {
        // A program that has ended reads nothing, and its caller knows.
        if failure.refusal.as_ref().is_none_or(|refusal| refusal.rule != "agent.running") {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        }
    }

    /// It, the first time.
    pub(super) fn take(&self) -> Option<Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Passes standard input on until it ends, on a thread that nobody waits for. The agent is tainted by the first byte, and
/// not by an end before it.
pub(super) fn pass_on(project: &Project, agent: &AgentName, refused: &Refused) {
    let (project, agent, refused) = (project.clone(), agent.clone(), refused.clone());
    std::thread::spawn(move || {
        let mut piece = vec![0; PIECE_BYTES];
        let first = read(&mut piece);
        let sink = match first {
            0 => None,
            _ => match inside::begin(&project, InsideRequest::Input { agent: agent.clone() }) {
                Ok((_, streams)) => streams.input,
                // The program is not told an end that its input does not have.
                Err(failure) => return refused.put(failure),
            },
        };
        let Some(sink) = sink else {
            let _ = control::ask(&project, &ControlRequest::Inside(InsideRequest::NoInput { agent }));
            return;
        };
        let (mut sink, mut count) = (File::from(sink), first);
        while count > 0 && sink.write_all(piece.get(..count).unwrap_or_default()).is_ok() {
            count = read(&mut piece);
        }
    });
}

/// The next bytes of standard input; 0 at its end, and where it cannot be read.
fn read(piece: &mut [u8]) -> usize {
    loop {
        match std::io::stdin().read(piece) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            read => return read.unwrap_or(0),
        }
    }
}

/// The caller's terminal as a view of the program's.
#[derive(Debug)]
pub(super) struct Keyboard {
    /// Whether all was shown.
    thread: JoinHandle<bool>,
    left: Arc<AtomicBool>,
}

impl Keyboard {
    /// Begins to show the terminal, from what it printed first.
    pub(super) fn attach(project: &Project, agent: &AgentName, refused: &Refused) -> Self {
        let refused = refused.clone();
        let (project, request) = (project.clone(), InsideRequest::Input { agent: agent.clone() });
        let left = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&left);
        let thread = std::thread::spawn(move || {
            let left = inside::begin(&project, request).and_then(|(_visit, streams)| inside::watch(streams));
            match left {
                Ok(left) => {
                    told.store(left == inside::Left::Caller, Ordering::Release);
                    true
                }
                Err(failure) => {
                    refused.put(failure);
                    false
                }
            }
        });
        Self { thread, left }
    }

    /// Whether the caller left the terminal before the program ended.
    pub(super) fn was_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// Waits until all is shown; call it when the box is gone. Whether anything was: of a program that ended before it
    /// could be, the log has what it printed.
    pub(super) fn end(self) -> bool {
        let end = Instant::now() + SHOWN_BOUND;
        // A box that could not be ended goes on writing.
        while !self.thread.is_finished() {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(POLL);
        }
        self.thread.join().unwrap_or(false)
    }
}
