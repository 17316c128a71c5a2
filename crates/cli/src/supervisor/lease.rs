//! The lease on a project: an flock that its supervisor holds for as long as it lives, so that a crash frees it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::failure::{Failure, Outcome};
use crate::project::Project;

/// Time between two tries.
const RETRY: Duration = Duration::from_millis(20);

/// The lease, held until it is dropped. The descriptor is closed in every program that is started.
pub(crate) struct Lease {
    _file: File,
}

impl Lease {
    /// Takes the lease; none where a supervisor holds it.
    pub(crate) fn take(project: &Project) -> Outcome<Option<Self>> {
        let path = project.run_lock();
        let failed = |error: std::io::Error| {
            Failure::environment(
                format!("{}: {error}", path.display()),
                "run the command as root, or set CASEMATE_HOME to a folder that you may write",
            )
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Takes the lease, waiting for it at most this long.
    pub(crate) fn wait(project: &Project, timeout: Duration) -> Outcome<Option<Self>> {
        let end = Instant::now() + timeout;
        loop {
            match Self::take(project)? {
                None if Instant::now() < end => std::thread::sleep(RETRY),
                taken => return Ok(taken),
            }
        }
    }
}
