//! The caller's own terminal: its size, and every key passed on as it is.

use std::io::{IsTerminal as _, Stdin};
use std::os::fd::AsFd;

use casemate_sys::terminal::Size;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Size of a terminal; none where it is none.
pub(crate) fn window(terminal: impl AsFd) -> Option<Size> {
    let window = tcgetwinsize(terminal).ok()?;
    Some(Size { rows: window.ws_row, columns: window.ws_col })
}

/// Size of the terminal that standard input is; none where it is none.
pub(crate) fn window_of_stdin() -> Option<Size> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() { window(&stdin) } else { None }
}

/// The terminal in a mode in which keys mean nothing, until this is dropped.
pub(super) struct Raw {
    stdin: Stdin,
    before: Termios,
}

impl Raw {
    /// Standard input; none where it is no terminal.
    pub(super) fn stdin() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self { stdin, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.stdin, OptionalActions::Now, &self.before);
    }
}
