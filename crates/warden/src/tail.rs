//! The end of what a command printed, for whoever is told that it failed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Most of it that is kept.
const BYTES_MAX: usize = 2048;
/// Most characters that are told.
const CHARACTERS_MAX: usize = 300;
/// Most lines that are told.
const LINES_MAX: usize = 3;

/// It. All copies are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    pub(crate) fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let over = kept.len().saturating_sub(BYTES_MAX);
        kept.drain(..over);
    }

    /// Its last lines on one: printable characters alone, so that no agent moves the cursor of who reads it. Empty where
    /// nothing was printed.
    pub(crate) fn told(&self) -> String {
        let kept: Vec<u8> = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let text = String::from_utf8_lossy(&kept);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let first = lines.len().saturating_sub(LINES_MAX);
        let line = lines.get(first..).unwrap_or_default().join(" / ");
        let cut = line.chars().count().saturating_sub(CHARACTERS_MAX);
        let shown: String = line.chars().skip(cut).flat_map(printable).collect();
        if cut > 0 { format!("\u{2026}{shown}") } else { shown }
    }
}

fn printable(c: char) -> impl Iterator<Item = char> {
    // What changes the order of characters is escaped as well (Unicode Standard Annex 9).
    let hidden = c.is_control()
        || matches!(
            c,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        );
    let escaped = hidden.then(|| c.escape_default());
    let plain = (!hidden).then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: &[u8]) -> String {
        let tail = Tail::default();
        bytes.chunks(7).for_each(|piece| tail.add(piece));
        tail.told()
    }

    #[test]
    fn the_last_lines_are_told_on_one_and_nothing_moves_the_cursor() {
        assert_eq!(told(b""), "");
        assert_eq!(told(b"one\n"), "one");
        assert_eq!(told(b"a\n\nb\r\nc\nd"), "b / c / d");
        assert_eq!(told(b"\x1b[2Jgone\x07\n"), "\\u{1b}[2Jgone\\u{7}");
        assert_eq!(told("x\u{202e}y".as_bytes()), "x\\u{202e}y");
        assert_eq!(told(b"\xff!"), "\u{fffd}!");
    }

    #[test]
    fn what_is_kept_and_what_is_told_is_bounded() {
        let tail = Tail::default();
        (0..100_000).for_each(|_| tail.add(b"0123456789"));
        assert_eq!(tail.0.lock().unwrap().len(), BYTES_MAX);
        assert_eq!(tail.told().chars().count(), CHARACTERS_MAX + 1);
    }
}
