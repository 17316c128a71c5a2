//! gVisor's program as a memory file: what was measured is what runs, whatever becomes of the file on disk.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use casemate_canon::Sha256;
use casemate_composition::rules::{GVISOR_SECCOMP_RULES, SECCOMP_RULES};
use casemate_protocol::Refusal;
use casemate_sys::seccomp;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::CompartmentError;

/// Largest program in bytes.
const BYTES_MAX: u64 = 256 << 20;

/// The program `runsc`, sealed, with the digest that the lock asks for.
#[derive(Debug)]
pub(crate) struct Program {
    file: OwnedFd,
    seccomp: Vec<u8>,
    copying_seccomp: Vec<u8>,
}

impl Program {
    /// Reads `path` into memory, and refuses it where it is another program than the lock's.
    pub(crate) fn open(path: &Path, expected: Sha256) -> Result<Self, CompartmentError> {
        let failed = |source| CompartmentError::File { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(failed)?;
        file.take(BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
        let found = Sha256::of(&bytes);
        if found != expected {
            return Err(Refusal::new("gvisor.runsc", expected, found).into());
        }
        let memory =
            memfd_create("runsc", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::EXEC)
                .or_else(|_| memfd_create("runsc", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING))
                .map_err(|errno| failed(errno.into()))?;
        let mut memory = File::from(memory);
        memory.write_all(&bytes).map_err(failed)?;
        fcntl_add_seals(&memory, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)
            .map_err(|errno| failed(errno.into()))?;
        let compiled = |rules| {
            seccomp::compile(rules)
                .map_err(|error| failed(std::io::Error::new(std::io::ErrorKind::InvalidData, error)))
        };
        let (seccomp, copying_seccomp) = (compiled(GVISOR_SECCOMP_RULES)?, compiled(SECCOMP_RULES)?);
        Ok(Self { file: memory.into(), seccomp, copying_seccomp })
    }

    /// It, to be executed.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The compiled filter of all its processes.
    pub(crate) fn seccomp(&self) -> &[u8] {
        &self.seccomp
    }

    /// The compiled filter of who copies files beside the sandbox: a native agent's.
    pub(crate) fn copying_seccomp(&self) -> &[u8] {
        &self.copying_seccomp
    }
}
