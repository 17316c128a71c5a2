//! What agents print: one file an agent, private to root, bounded.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Instant;

use crate::error::WardenError;
use crate::pace::Pace;

/// Size at which a file is put aside as `.1` and a new one begun.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A pipe: the end that is read here and the end that the agent writes.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), WardenError> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(WardenError::system("make a pipe"))
}

/// Output that is taken at once, and as much of it in a second as is taken from there on. The copying is the warden's work
/// and the box's disk: an agent that prints more waits.
const BURST_BYTES: u64 = 8 << 20;
const BYTES_A_SECOND: u64 = 4 << 20;

/// Copies what arrives on `pipe` to the file until all writers are gone, on a thread of its own: a disk that is slow
/// under one agent's flood holds up that agent, not the warden, and no agent prints faster than [`BYTES_A_SECOND`] for
/// long. What cannot be written (full disk) is dropped.
pub(crate) fn copy(pipe: OwnedFd, path: PathBuf) {
    std::thread::spawn(move || {
        let mut pipe = File::from(pipe);
        let mut file = open(&path);
        let mut size = file.as_ref().and_then(|f| f.metadata().ok()).map_or(0, |m| m.len());
        let mut buffer = vec![0; 16 << 10];
        let mut pace = Pace::new(BURST_BYTES, BYTES_A_SECOND, Instant::now());
        loop {
            let count = match pipe.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let Some(bytes) = buffer.get(..count) else { break };
            if size > FILE_BYTES_MAX {
                let _ = std::fs::rename(&path, path.with_extension("log.1"));
                file = open(&path);
                size = 0;
            }
            if let Some(file) = &mut file {
                let _ = file.write_all(bytes);
            }
            size = size.saturating_add(count as u64);
            std::thread::sleep(pace.pause_after(count as u64, Instant::now()));
        }
    });
}

fn open(path: &PathBuf) -> Option<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).ok()
}
