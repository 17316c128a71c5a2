//! What agents print: files of each agent's own, private to root, bounded.
//!
//! Each line begins with the time at which it arrived, in seconds since 1970 by the box's clock: `1764315379.123456 TEXT`.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use casemate_composition::lock::LogLimits;

use crate::error::WardenError;
use crate::pace::Pace;

/// A pipe: the end that is read here and the end that the agent writes.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), WardenError> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(WardenError::system("make a pipe"))
}

/// Output that is taken at once, and as much of it in a second as is taken from there on. The copying is the warden's work
/// and the box's disk: an agent that prints more waits.
const BURST_BYTES: u64 = 8 << 20;
const BYTES_A_SECOND: u64 = 4 << 20;
/// Most that is read at once.
pub(crate) const PIECE_BYTES: usize = 16 << 10;

/// Where an agent's output goes: its file, for all that print on its behalf.
#[derive(Clone)]
pub(crate) struct Output(Arc<Mutex<Sink>>);

struct Sink {
    log: Log,
    pace: Pace,
}

impl Output {
    /// Into the file at `path`.
    pub(crate) fn to(path: PathBuf, limits: LogLimits) -> Self {
        let pace = Pace::new(BURST_BYTES, BYTES_A_SECOND, Instant::now());
        Self(Arc::new(Mutex::new(Sink { log: Log::open(path, limits), pace })))
    }

    /// Copies what arrives on `pipe` to the file until all writers are gone, on a thread of its own: a disk that is slow
    /// under one agent's flood holds up that agent, not the warden, and no agent prints faster than [`BYTES_A_SECOND`]
    /// for long. What cannot be written (full disk) is dropped.
    pub(crate) fn copy(&self, pipe: OwnedFd) {
        self.copy_with(pipe, |_| {});
    }

    /// Likewise, and shows each piece.
    pub(crate) fn copy_with(&self, pipe: OwnedFd, mut show: impl FnMut(&[u8]) + Send + 'static) {
        let output = self.clone();
        std::thread::spawn(move || {
            let mut pipe = File::from(pipe);
            let mut buffer = vec![0; PIECE_BYTES];
            loop {
                match pipe.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => {
                        let piece = buffer.get(..count).unwrap_or_default();
                        show(piece);
                        output.take(piece);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        });
    }

    /// Adds these bytes, and waits where they came too fast.
    pub(crate) fn take(&self, bytes: &[u8]) {
        let pause = {
            let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let written = sink.log.take(bytes, now());
            sink.pace.pause_after(written, Instant::now())
        };
        std::thread::sleep(pause);
    }
}

/// The file that is written, and where it stands.
struct Log {
    path: PathBuf,
    limits: LogLimits,
    file: Option<File>,
    size: u64,
    at_line_start: bool,
}

impl Log {
    /// Goes on with the file at `path`, on a line of its own.
    fn open(path: PathBuf, limits: LogLimits) -> Self {
        let mut log = Self { file: open(&path), path, limits, size: 0, at_line_start: true };
        log.size = log.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |found| found.len());
        if log.size > 0 && !log.ends_with_line() {
            log.write(b"\n");
        }
        log
    }

    fn ends_with_line(&mut self) -> bool {
        let mut last = [0; 1];
        let Some(file) = &mut self.file else { return true };
        file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last)).is_ok() && last == *b"\n"
    }

    /// Adds these bytes, each line behind its time. How many bytes that makes: of empty lines, many times as many.
    fn take(&mut self, bytes: &[u8], stamp: String) -> u64 {
        let mut written = 0_u64;
        let mut out = Vec::with_capacity(bytes.len().saturating_add(64));
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.size.saturating_add(out.len() as u64) >= self.limits.file_bytes {
                self.write(&out);
                written = written.saturating_add(out.len() as u64);
                out.clear();
                self.put_aside();
            }
            if self.at_line_start {
                out.extend_from_slice(stamp.as_bytes());
            }
            out.extend_from_slice(piece);
            self.at_line_start = piece.ends_with(b"\n");
        }
        self.write(&out);
        written.saturating_add(out.len() as u64)
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(file) = &mut self.file {
            let _ = file.write_all(bytes);
        }
        self.size = self.size.saturating_add(bytes.len() as u64);
    }

    /// Makes the file `.1`, that one `.2`, and so on; the oldest is gone. A line that is broken by it begins anew.
    fn put_aside(&mut self) {
        let oldest = self.limits.files.saturating_sub(1);
        for number in (1..oldest).rev() {
            let _ = std::fs::rename(aside(&self.path, number), aside(&self.path, number.saturating_add(1)));
        }
        let _ = if oldest == 0 {
            std::fs::remove_file(&self.path)
        } else {
            std::fs::rename(&self.path, aside(&self.path, 1))
        };
        self.file = open(&self.path);
        self.size = 0;
        self.at_line_start = true;
    }
}

/// Where a file is put aside: `NAME.log.1` and on.
fn aside(path: &Path, number: u32) -> PathBuf {
    path.with_extension(format!("log.{number}"))
}

fn open(path: &Path) -> Option<File> {
    OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path).ok()
}

fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:06} ", now.as_secs(), now.subsec_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn every_line_has_its_time_and_a_broken_one_is_ended_before_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let limits = LogLimits { file_bytes: 1 << 20, files: 2 };
        let mut log = Log::open(path.clone(), limits);
        log.take(b"one\ntw", "1.5 ".into());
        log.take(b"o\n\nthr", "2.5 ".into());
        drop(log);
        Log::open(path.clone(), limits).take(b"four\n", "3.5 ".into());
        assert_eq!(read(&path), "1.5 one\n1.5 two\n2.5 \n2.5 thr\n3.5 four\n");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_times_of_lines_are_counted_with_what_was_printed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let mut log = Log::open(path.clone(), LogLimits { file_bytes: 1 << 20, files: 1 });
        assert_eq!(log.take(b"\n\n\n", "1.5 ".into()), 15);
        assert_eq!(read(&path).len(), 15);
        let mut log = Log::open(path, LogLimits { file_bytes: 16, files: 2 });
        assert_eq!(log.take(b"a\nb\n", "1.5 ".into()), 12, "over two files");
    }

    #[test]
    fn files_are_put_aside_at_their_size_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        for (files, left) in [(1, vec!["g\nh\n"]), (3, vec!["g\nh\n", "e\nf\n", "c\nd\n"])] {
            let _ = std::fs::remove_file(&path);
            let mut log = Log::open(path.clone(), LogLimits { file_bytes: 4, files });
            for line in ["a\n", "b\nc\n", "d\ne\nf\n", "g\nh\n"] {
                log.take(line.as_bytes(), String::new());
            }
            let all: Vec<String> = std::iter::once(path.clone())
                .chain((1..9).map(|number| aside(&path, number)))
                .map(|path| read(&path))
                .filter(|text| !text.is_empty())
                .collect();
            assert_eq!(all, left);
        }
    }
}
