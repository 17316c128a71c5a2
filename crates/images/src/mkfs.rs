//! `mkfs.erofs` (erofs-utils 1.5): a directory becomes two read-only files, the same bytes each time.
//!
//! Metadata (names, inodes, where contents lie) in the one, contents in the other: the kernel reads
//! metadata through the page cache of its file, so each agent gets a copy of the one and reads the
//! other past the cache (decision 0010). Not compressed: pages then come straight from the file,
//! and hashing is the only cost of a start.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::ImageError;
use crate::limits::MKFS_MS_MAX;
use crate::parts::RootfsFiles;

/// Names the options below: images built in another way are another build.
pub(crate) const BUILDER: &str = "casemate-erofs/2";
/// Fixed, so that the same files give the same bytes.
const FILESYSTEM_UUID: &str = "c5e3a7e0-0000-4000-8000-000000000001";
/// Fixed build time, seconds since 1970 (year 2100). The tool takes it as the latest time of a file,
/// and keeps earlier ones; with `-T` it would set all files to one time.
const FILESYSTEM_TIME: &str = "4102444800";
/// Contents are cut into chunks of this many bytes; equal chunks lie in the data once.
const CHUNK_BYTES: &str = "65536";
pub(crate) const PROGRAM: &str = "mkfs.erofs";
/// Bytes of the tool's output that an error shows.
const OUTPUT_BYTES_MAX: u64 = 400;

/// Makes `files`, which must not exist, from what is in `root`. `log` takes the tool's output.
pub(crate) fn make_erofs(root: &Path, files: &RootfsFiles, log: &Path) -> Result<(), ImageError> {
    let output = File::create(log).map_err(|error| ImageError::io("make", log, &error))?;
    let errors = output.try_clone().map_err(|error| ImageError::io("open", log, &error))?;
    // `setpriv` (util-linux) ends the tool if we are killed, and it needs no privilege to gain.
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--no-new-privs", "--", PROGRAM])
        .args(["-x-1", "--preserve-mtime", "-U", FILESYSTEM_UUID])
        // Each copy of the metadata gets a UUID of its own, which a checksum of the superblock would not let pass.
        .arg("-Enosbcrc")
        .args(["--chunksize", CHUNK_BYTES])
        .arg("--blobdev")
        .arg(&files.data)
        .arg(&files.metadata)
        .arg(root)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .env("SOURCE_DATE_EPOCH", FILESYSTEM_TIME)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|error| ImageError::Tool {
            program: "setpriv",
            problem: format!("does not start: {error}"),
        })?;
    let deadline = Instant::now() + Duration::from_millis(MKFS_MS_MAX);
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => {
                let problem = format!("failed ({status}): {}", output_of(log));
                return Err(ImageError::Tool { program: PROGRAM, problem });
            }
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                let problem = format!("did not end within {MKFS_MS_MAX} ms");
                return Err(ImageError::Tool { program: PROGRAM, problem });
            }
        }
    }
}

fn output_of(log: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(log) {
        let _ = file.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
