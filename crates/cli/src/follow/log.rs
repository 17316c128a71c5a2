//! The log files of one agent: the one that is written, and those put aside before it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// How far from its end a file is searched for the last lines, in bytes.
const TAIL_BYTES_MAX: u64 = 8 << 20;
/// Longest line that is shown whole, in bytes; a longer one is broken.
const SHOWN_LINE_BYTES_MAX: usize = 64 << 10;
/// Most that is read of one agent at a time.
const READ_BYTES_MAX: u64 = 1 << 20;
/// Most files that are put aside, as a Compose file may ask.
const FILES_MAX: u32 = 100;

/// A line of an agent, and when it arrived in the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// By the box's clock; none where the line does not say.
    pub(crate) time: Option<Timestamp>,
    /// Without the line's end.
    pub(crate) text: Vec<u8>,
}

/// The files of one agent.
pub(super) struct Log {
    path: PathBuf,
    /// Files put aside that are still to be read, the next one last.
    older: Vec<PathBuf>,
    /// Where the next file begins to be read.
    offset: u64,
    file: Option<File>,
    partial: Vec<u8>,
}

impl Log {
    /// At the last `tail` lines; at the first of the oldest file where it is none.
    pub(super) fn open(path: PathBuf, tail: Option<usize>) -> Self {
        let aside = |number: u32| path.with_extension(format!("log.{number}"));
        let mut older: Vec<PathBuf> = (1..FILES_MAX).map(aside).take_while(|path| path.exists()).collect();
        let mut offset = 0;
        if let Some(mut missing) = tail {
            let found = last_lines(&path, missing);
            offset = found.0;
            missing = missing.saturating_sub(found.1);
            let mut needed = 0;
            for path in &older {
                if missing == 0 {
                    break;
                }
                let found = last_lines(path, missing);
                offset = found.0;
                missing = missing.saturating_sub(found.1);
                needed += 1;
            }
            older.truncate(needed);
        }
        Self { path, older, offset, file: None, partial: Vec::new() }
    }

    /// Lines that ended since.
    pub(super) fn new_lines(&mut self) -> Vec<Line> {
        let mut found = Vec::new();
        while let Some(bytes) = self.read_new() {
            self.partial.extend_from_slice(&bytes);
            while let Some(end) = self.partial.iter().position(|b| *b == b'\n') {
                let rest = self.partial.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.partial, rest);
                line.pop();
                found.push(Line::of(line));
            }
            if self.partial.len() > SHOWN_LINE_BYTES_MAX {
                found.push(Line::of(std::mem::take(&mut self.partial)));
            }
            if !found.is_empty() {
                break;
            }
        }
        found
    }

    /// A line that has not ended.
    pub(super) fn rest(&mut self) -> Option<Line> {
        (!self.partial.is_empty()).then(|| Line::of(std::mem::take(&mut self.partial)))
    }

    /// More bytes; none where there are none now.
    fn read_new(&mut self) -> Option<Vec<u8>> {
        loop {
            if self.file.is_none() {
                let path = self.older.last().unwrap_or(&self.path);
                let mut file = File::open(path).ok()?;
                file.seek(SeekFrom::Start(std::mem::take(&mut self.offset))).ok()?;
                self.file = Some(file);
            }
            let mut bytes = Vec::new();
            let file = self.file.as_mut()?;
            file.take(READ_BYTES_MAX).read_to_end(&mut bytes).ok()?;
            if !bytes.is_empty() {
                return Some(bytes);
            }
            // At the end of a file that was put aside, or was put aside meanwhile, or removed or cut: the next one.
            if self.older.pop().is_none() && !self.is_over() {
                return None;
            }
            self.file = None;
        }
    }

    /// Whether the file that is read is not the one at the path any more.
    fn is_over(&mut self) -> bool {
        let Some(file) = &mut self.file else { return false };
        let (Ok(own), Ok(there)) = (file.metadata(), std::fs::metadata(&self.path)) else { return false };
        let cut = file.stream_position().is_ok_and(|position| position > own.len());
        cut || (own.dev(), own.ino()) != (there.dev(), there.ino())
    }
}

impl Line {
    /// `SECONDS.MICROSECONDS TEXT`, as the warden writes it; else text alone.
    fn of(mut line: Vec<u8>) -> Self {
        let stamp = || -> Option<(Timestamp, usize)> {
            let end = line.iter().take(32).position(|b| *b == b' ')?;
            let (seconds, micros) = std::str::from_utf8(line.get(..end)?).ok()?.split_once('.')?;
            let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
            if !(all_digits(seconds) && all_digits(micros) && micros.len() == 6) {
                return None;
            }
            let nanos = micros.parse::<i32>().ok()?.checked_mul(1000)?;
            Some((Timestamp::new(seconds.parse().ok()?, nanos).ok()?, end + 1))
        };
        match stamp() {
            Some((time, begin)) => Self { time: Some(time), text: line.split_off(begin) },
            None => Self { time: None, text: line },
        }
    }
}

/// Where the last `lines` lines of a file begin, and how many there are, at most that many.
fn last_lines(path: &Path, lines: usize) -> (u64, usize) {
    let tail = || -> std::io::Result<(u64, usize)> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let start = length.saturating_sub(TAIL_BYTES_MAX);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
        let body = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        if lines == 0 {
            return Ok((length, 0));
        }
        let mut ends = body.iter().enumerate().rev().filter(|(_, b)| **b == b'\n');
        Ok(match ends.nth(lines - 1) {
            Some((position, _)) => (start + u64::try_from(position).unwrap_or(0) + 1, lines),
            None if bytes.is_empty() => (0, 0),
            None => (start, body.iter().filter(|b| **b == b'\n').count() + 1),
        })
    };
    tail().unwrap_or((0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: Vec<Line>) -> Vec<String> {
        lines.into_iter().map(|line| String::from_utf8(line.text).unwrap()).collect()
    }

    #[test]
    fn finds_the_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "a\nb\nc\n").unwrap();
        for (lines, found) in [(0, (6, 0)), (1, (4, 1)), (2, (2, 2)), (3, (0, 3)), (9, (0, 3))] {
            assert_eq!(last_lines(&path, lines), found, "{lines}");
        }
        assert_eq!(last_lines(&dir.path().join("none"), 3), (0, 0));
    }

    #[test]
    fn reads_on_through_files_that_are_put_aside_and_begins_with_those_that_were() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let mut log = Log::open(path.clone(), None);
        assert!(log.new_lines().is_empty());
        std::fs::write(&path, "one\ntw").unwrap();
        assert_eq!(texts(log.new_lines()), ["one"]);
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        std::fs::rename(&path, dir.path().join("a.log.1")).unwrap();
        std::fs::write(&path, "four\n").unwrap();
        assert_eq!(texts(log.new_lines()), ["two", "three"]);
        assert_eq!(texts(log.new_lines()), ["four"]);
        assert!(log.new_lines().is_empty());
        for (tail, first) in [(None, "one"), (Some(1), "four"), (Some(2), "three"), (Some(9), "one")] {
            let mut log = Log::open(path.clone(), tail);
            assert_eq!(texts(log.new_lines()).first().map(String::as_str), Some(first), "{tail:?}");
        }
        assert!(Log::open(path, Some(0)).new_lines().is_empty());
    }

    #[test]
    fn a_line_has_its_time_or_is_text_alone() {
        let line = Line::of(b"1764315379.123456 a b".to_vec());
        assert_eq!(line.time.unwrap().to_string(), "2025-11-28T07:36:19.123456Z");
        assert_eq!(line.text, b"a b");
        for text in ["", "a b", "1.5 x", "1764315379.12345x y", "1764315379.123456", "-1.000000 x"] {
            assert_eq!(Line::of(text.into()), Line { time: None, text: text.into() });
        }
    }
}
