//! Carries bytes between the caller's streams and those of a command in a compartment, and passes on signals.

use std::fs::File;
use std::io::{IsTerminal as _, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::terminal::Raw;
use super::{Streams, Visit, event_loop, window_of_stdin};
use crate::failure::{Failure, Outcome};
use crate::lines;

/// Time between two looks whether a command that says nothing has ended.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// Most that is still taken of a command that has ended, where its descendants go on writing.
const AFTER_END_BYTES_MAX: usize = 4 << 20;
const PIECE_BYTES: usize = 64 << 10;

/// How the streams are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relay {
    /// As they are.
    Plain,
    /// To and from a terminal of the command's own: the caller's passes every key on.
    Terminal,
}

/// Carries until the command ended, and gives its status. The first Ctrl-C goes to the command, the second ends it.
pub(crate) fn relay(visit: &Visit, streams: Streams, how: Relay) -> Outcome<u8> {
    let runtime = event_loop()?;
    let master = streams.terminal.as_ref().and_then(|master| master.try_clone().ok());
    let raw = if how == Relay::Terminal { Raw::stdin() } else { None };
    let ended = Arc::new(AtomicBool::new(false));
    let outputs = carry(streams, &ended);
    let waiter = visit.try_clone()?;
    let status = runtime.block_on(async {
        let mut status = tokio::task::spawn_blocking(move || waiter.status());
        let mut signals = Signals::listen()?;
        let (mut interrupted, mut hung_up) = (false, None);
        loop {
            tokio::select! {
                ended = &mut status => {
                    let ended = ended.unwrap_or_else(|_| Err(crate::control::unexpected_reply()));
                    return hung_up.map_or(ended, Ok);
                }
                said = signals.next() => match said {
                    Said::Interrupt if interrupted => {
                        visit.hang_up();
                        hung_up = Some(130);
                    }
                    Said::Interrupt => {
                        visit.signal(2);
                        interrupted = true;
                    }
                    Said::End => {
                        visit.hang_up();
                        hung_up = Some(143);
                    }
                    Said::Window => {
                        if let (Some(master), Some(size)) = (&master, window_of_stdin()) {
                            let _ = casemate_sys::terminal::resize(master, size);
                        }
                    }
                },
            }
        }
    });
    ended.store(true, Ordering::Release);
    for output in outputs {
        let _ = output.join();
    }
    drop(raw);
    // A thread that waits for input is not waited for: the program ends with it.
    runtime.shutdown_background();
    status.map(|status| u8::try_from(status).unwrap_or(255))
}

/// What a signal to the caller says.
pub(super) enum Said {
    Interrupt,
    End,
    Window,
}

pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    window: Signal,
}

impl Signals {
    pub(super) fn listen() -> Outcome<Self> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::environment(format!("cannot wait for signals: {error}"), "try again")
            })
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            window: listen(SignalKind::window_change())?,
        })
    }

    pub(super) async fn next(&mut self) -> Said {
        tokio::select! {
            _ = self.interrupt.recv() => Said::Interrupt,
            _ = self.terminate.recv() => Said::End,
            _ = self.hang_up.recv() => Said::End,
            _ = self.window.recv() => Said::Window,
        }
    }
}

/// Starts a thread for each stream; those of the outputs end with the command.
fn carry(streams: Streams, ended: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let Streams { input, output, error, terminal } = streams;
    if let Some(input) = input {
        std::thread::spawn(move || copy(&mut std::io::stdin(), &mut File::from(input)));
    }
    let mut outputs = Vec::new();
    let mut begin = |from: OwnedFd, to: To| {
        let ended = Arc::clone(ended);
        outputs.push(std::thread::spawn(move || drain(from, to, &ended)));
    };
    let safe = |is_terminal| if is_terminal { Shown::Printable } else { Shown::AsItIs };
    if let Some(from) = output {
        begin(from, To::Output(safe(std::io::stdout().is_terminal())));
    }
    if let Some(from) = error {
        begin(from, To::Error(safe(std::io::stderr().is_terminal())));
    }
    if let Some(from) = terminal {
        begin(from, To::Output(Shown::AsItIs));
    }
    outputs
}

/// Where output goes.
pub(super) enum To {
    Output(Shown),
    Error(Shown),
}

/// How output is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    AsItIs,
    /// Nothing that moves the cursor or hides: the caller's terminal was not given to the agent.
    Printable,
}

impl To {
    fn write(&self, bytes: &[u8]) -> std::io::Result<()> {
        let (Self::Output(shown) | Self::Error(shown)) = self;
        let shown = match shown {
            Shown::AsItIs => bytes.to_vec(),
            Shown::Printable => {
                bytes.split(|b| *b == b'\n').map(lines::printable).collect::<Vec<_>>().join("\n").into_bytes()
            }
        };
        match self {
            Self::Output(_) => {
                let mut out = std::io::stdout().lock();
                out.write_all(&shown).and_then(|()| out.flush())
            }
            Self::Error(_) => std::io::stderr().lock().write_all(&shown),
        }
    }

    /// How much of these bytes can be shown now: not the beginning of a character whose end is to come.
    fn whole(&self, bytes: &[u8]) -> usize {
        match (self, std::str::from_utf8(bytes)) {
            (Self::Output(Shown::Printable) | Self::Error(Shown::Printable), Err(error))
                if error.error_len().is_none() =>
            {
                error.valid_up_to()
            }
            _ => bytes.len(),
        }
    }
}

fn copy(from: &mut impl Read, to: &mut impl Write) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        if to.write_all(piece.get(..count).unwrap_or_default()).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}

/// Takes what comes until nobody writes any more or, once the command has ended, nothing more is there.
pub(super) fn drain(from: OwnedFd, to: To, ended: &AtomicBool) {
    let flags = fcntl_getfl(&from).unwrap_or(OFlags::empty());
    if fcntl_setfl(&from, flags | OFlags::NONBLOCK).is_err() {
        return;
    }
    let mut pending = Vec::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut after_end = 0_usize;
    loop {
        // Asked first: what was written before the end is there when the end is known.
        let is_over = ended.load(Ordering::Acquire);
        match rustix::io::read(&from, &mut piece) {
            Ok(count @ 1..) if after_end < AFTER_END_BYTES_MAX => {
                pending.extend_from_slice(piece.get(..count).unwrap_or_default());
                let rest = pending.split_off(to.whole(&pending));
                if to.write(&pending).is_err() {
                    return;
                }
                pending = rest;
                after_end = if is_over { after_end.saturating_add(count) } else { 0 };
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if !is_over => {
                let mut fds = [PollFd::new(&from, PollFlags::IN)];
                let _ = poll(&mut fds, Some(&LOOK));
            }
            // The end: of the pipe, or EIO of a terminal that no process has open any more.
            _ => break,
        }
    }
    let _ = to.write(&pending);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_was_not_given_away_gets_whole_printable_characters() {
        let to = To::Output(Shown::Printable);
        let euro = "a\u{20ac}".as_bytes();
        assert_eq!((to.whole(&euro[..2]), to.whole(euro), to.whole(b"a\xff")), (1, 4, 2));
        assert_eq!(To::Output(Shown::AsItIs).whole(&euro[..2]), 2);
    }

    #[test]
    fn what_was_written_before_the_end_is_taken_and_a_writer_that_stays_is_not_waited_for() {
        let (read, mut write) = std::io::pipe().unwrap();
        write.write_all(b"said").unwrap();
        let begun = std::time::Instant::now();
        drain(OwnedFd::from(read), To::Error(Shown::AsItIs), &AtomicBool::new(true));
        assert!(begun.elapsed() < std::time::Duration::from_secs(5));
        assert!(write.write_all(b"more").is_err(), "nobody reads any more");
    }
}
