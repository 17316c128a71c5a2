//! An agent's own terminal, from the caller's: what is printed from now on, every key, the window's size, and keys to
//! leave by.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use casemate_sys::terminal::{Size, resize};
use tokio::sync::mpsc;

use super::relay::{Said, Shown, Signals, To, drain};
use super::terminal::{Raw, window_of_stdin};
use super::{Streams, event_loop};
use crate::control;
use crate::failure::Outcome;

/// The keys that leave the terminal and not the agent: Ctrl-P, Ctrl-Q.
const LEAVE: [u8; 2] = [0x10, 0x11];

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// The caller left: by keys, by a signal, or as its input ended.
    Caller,
    /// The agent ended.
    Agent,
}

/// Shows the terminal until one of the two is gone.
pub(crate) fn watch(streams: Streams) -> Outcome<Left> {
    let (Some(master), Some(printed)) = (streams.terminal, streams.output) else {
        return Err(control::unexpected_reply());
    };
    let runtime = event_loop()?;
    let is_terminal = std::io::stdin().is_terminal();
    let shown =
        if is_terminal || !std::io::stdout().is_terminal() { Shown::AsItIs } else { Shown::Printable };
    let raw = if is_terminal { Raw::stdin() } else { None };
    redraw(&master);
    let (tell, mut told) = mpsc::unbounded_channel();
    let over = Arc::new(AtomicBool::new(false));
    let screen = std::thread::spawn({
        let (tell, over) = (tell.clone(), Arc::clone(&over));
        move || {
            drain(printed, To::Output(shown), &over);
            let _ = tell.send(Left::Agent);
        }
    });
    if let Ok(keys) = master.try_clone() {
        let leaves = raw.is_some();
        std::thread::spawn(move || {
            type_on(keys, leaves);
            let _ = tell.send(Left::Caller);
        });
    }
    let left = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        loop {
            tokio::select! {
                left = told.recv() => return Ok(left.unwrap_or(Left::Caller)),
                said = signals.next() => match said {
                    Said::Interrupt | Said::End => return Ok(Left::Caller),
                    Said::Window => {
                        if let Some(size) = window_of_stdin() {
                            let _ = resize(&master, size);
                        }
                    }
                },
            }
        }
    });
    over.store(true, std::sync::atomic::Ordering::Release);
    let _ = screen.join();
    drop(raw);
    // A thread that waits for input is not waited for: the program ends with it.
    runtime.shutdown_background();
    left
}

/// Gives the terminal the size of the caller's, by way of another one: a program that has it already draws again.
fn redraw(master: &OwnedFd) {
    if let Some(size) = window_of_stdin() {
        let _ = resize(master, Size { rows: size.rows.saturating_add(1), ..size });
        let _ = resize(master, size);
    }
}

/// Passes on what is typed, until the input ends or, where keys can leave, they did.
fn type_on(keys: OwnedFd, leaves: bool) {
    let (mut piece, mut keys) = (vec![0; 4096], File::from(keys));
    let mut held = Held::default();
    while let Ok(count @ 1..) = std::io::stdin().read(&mut piece) {
        let typed = piece.get(..count).unwrap_or_default();
        let (pass, left) = if leaves { held.of(typed) } else { (typed.to_vec(), false) };
        if keys.write_all(&pass).is_err() || left {
            return;
        }
    }
}

/// The first of the keys to leave by, until the next key decides about it.
#[derive(Debug, Default)]
struct Held(bool);

impl Held {
    /// What is passed on of these keys, and whether the last ones are those to leave by.
    fn of(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let [first, second] = LEAVE;
        let mut pass = Vec::with_capacity(typed.len().saturating_add(1));
        for key in typed {
            if std::mem::take(&mut self.0) {
                if *key == second {
                    return (pass, true);
                }
                pass.push(first);
            }
            if *key == first {
                self.0 = true;
            } else {
                pass.push(*key);
            }
        }
        (pass, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_to_leave_by_are_found_over_pieces_and_all_others_are_passed_on() {
        let mut held = Held::default();
        assert_eq!(held.of(b"ls\x10"), (b"ls".to_vec(), false));
        assert_eq!(held.of(b"\x10x"), (b"\x10\x10x".to_vec(), false));
        assert_eq!(held.of(b"a\x10\x11b"), (b"a".to_vec(), true));
    }
}
