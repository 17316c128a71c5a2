//! Secrets into the agent's own memory file system, and out again for the agent itself.
//!
//! While the warden has a secret in clear, it is in memory that the kernel does not map ([`casemate_sys::secret_memory`]):
//! here when it is opened and written to the agent's memory file system, and in a line of its own when the agent asks
//! for it over its socket. Before, it is sealed; after, it is the agent's.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, openat};

use casemate_sys::secret_memory::{Kind, SecretMemory};

use crate::error::WardenError;

/// Largest secret in bytes.
pub(crate) use casemate_protocol::rcar::SECRET_BYTES_MAX;

/// Longest text in JSON that stands for one byte: `\\u0000`.
const ESCAPED_BYTES_MAX: usize = 6;
/// What a line has besides a secret's value and name.
const LINE_BYTES: usize = 64;

/// What the memory of this warden's desk is, once there is one.
pub(crate) static KIND: OnceLock<Kind> = OnceLock::new();

/// Where one secret at a time is in clear, on its way to its agent. It is there for the warden's whole life.
#[derive(Debug)]
pub(crate) struct Desk(RefCell<SecretMemory>);

impl Desk {
    /// Says in the log what kind of memory this kernel has for it.
    pub(crate) fn new() -> Result<Self, WardenError> {
        let memory = of_size(SECRET_BYTES_MAX)?;
        let _ = KIND.set(memory.kind());
        match memory.kind() {
            Kind::Secret => tracing::info!("secrets are opened in memory that the kernel does not map"),
            Kind::Locked => tracing::warn!(
                "this kernel has no memfd_secret: secrets are opened in memory that is locked, and that the kernel maps"
            ),
        }
        Ok(Self(RefCell::new(memory)))
    }

    /// Has `open` put a secret there, hands it to `take`, and overwrites it, whatever comes of it.
    pub(crate) fn pass(
        &self,
        open: impl FnOnce(&mut [u8]) -> Result<usize, WardenError>,
        take: impl FnOnce(&[u8]) -> Result<(), WardenError>,
    ) -> Result<(), WardenError> {
        // Neither of the two waits, so nobody else is at it.
        let mut memory = self.0.try_borrow_mut().map_err(|error| WardenError::ours(&error))?;
        let outcome =
            open(memory.bytes_mut()).and_then(|count| take(memory.bytes().get(..count).unwrap_or_default()));
        memory.clear();
        outcome
    }
}

fn of_size(bytes: usize) -> Result<SecretMemory, WardenError> {
    SecretMemory::new(bytes).map_err(WardenError::system("get memory for secrets"))
}

/// An answer line with a secret.
#[derive(Debug)]
pub(crate) struct SecretLine {
    memory: SecretMemory,
    bytes: usize,
}

impl SecretLine {
    /// `{"ok":{"name":NAME,"value":CONTENT}}`, with its line end; none where the content is no text.
    fn of(name: &str, content: &[u8]) -> Result<Option<Self>, WardenError> {
        let Ok(text) = std::str::from_utf8(content) else { return Ok(None) };
        let size = text.len().saturating_add(name.len()).saturating_mul(ESCAPED_BYTES_MAX);
        let mut memory = of_size(size.saturating_add(LINE_BYTES))?;
        let whole = memory.bytes().len();
        let mut rest = memory.bytes_mut();
        let written = (|| -> std::io::Result<()> {
            rest.write_all(b"{\"ok\":{\"name\":")?;
            serde_json::to_writer(&mut rest, name)?;
            rest.write_all(b",\"value\":")?;
            serde_json::to_writer(&mut rest, text)?;
            rest.write_all(b"}}\n")
        })();
        written.map_err(|error| WardenError::ours(&error))?;
        let bytes = whole.saturating_sub(rest.len());
        Ok(Some(Self { memory, bytes }))
    }

    /// The line.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.memory.bytes().get(..self.bytes).unwrap_or_default()
    }
}

/// Refuses a folder for secrets that is not a memory file system: an image or a mount that got in its place.
pub(crate) fn require_memory(directory: &OwnedFd) -> Result<(), WardenError> {
    /// TMPFS_MAGIC (linux/magic.h).
    const TMPFS: u64 = 0x0102_1994;
    let found = rustix::fs::fstatfs(directory).map_err(WardenError::system("look at /run/secrets"))?;
    let found = u64::try_from(found.f_type).unwrap_or(0);
    if found == TMPFS {
        return Ok(());
    }
    Err(casemate_protocol::Refusal::new("secrets.memory", "tmpfs", format!("file system {found:#x}")).into())
}

/// Writes `/run/secrets/<name>`: mode 0400, owned by the agent's outer user. Nothing of it touches a disk: the folder
/// is a memory file system, without swap where the kernel can.
pub(crate) fn write(
    directory: &OwnedFd,
    name: &str,
    content: &[u8],
    uid: u32,
    gid: u32,
) -> Result<(), WardenError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let descriptor = openat(directory.as_fd(), name, flags, Mode::from_raw_mode(0o400))
        .map_err(WardenError::system("create a secret's file"))?;
    fchown(&descriptor, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .and_then(|()| fchmod(&descriptor, Mode::from_raw_mode(0o400)))
        .map_err(WardenError::system("give a secret's file to the agent"))?;
    std::fs::File::from(descriptor)
        .write_all(content)
        .map_err(WardenError::file(format!("/run/secrets/{name}")))
}

/// Reads it back, as the answer to its agent; none where it is no text.
pub(crate) fn line(directory: &OwnedFd, name: &str) -> Result<Option<SecretLine>, WardenError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let descriptor = openat(directory.as_fd(), name, flags, Mode::empty())
        .map_err(WardenError::system("open a secret's file"))?;
    // No more than it has: each page of such memory costs every core of the machine an interrupt.
    let size =
        rustix::fs::fstat(&descriptor).map_err(WardenError::system("look at a secret's file"))?.st_size;
    let size = usize::try_from(size).unwrap_or(SECRET_BYTES_MAX).clamp(1, SECRET_BYTES_MAX);
    let (mut memory, mut count) = (of_size(size)?, 0_usize);
    let mut file = std::fs::File::from(descriptor);
    while let Some(rest) = memory.bytes_mut().get_mut(count..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).map_err(WardenError::file(format!("/run/secrets/{name}")))? {
            0 => break,
            read => count = count.saturating_add(read),
        }
    }
    SecretLine::of(name, memory.bytes().get(..count).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_a_secret_is_what_any_other_answer_would_be() {
        for text in ["", "plain", "\u{0}\u{1f}\"\\\n/", "\u{20ac}uro \u{1f600}"] {
            let line = SecretLine::of("na-me", text.as_bytes()).unwrap().unwrap();
            let value = serde_json::json!({ "name": "na-me", "value": text });
            let usual = casemate_protocol::agent_api::AgentResponse::Ok(value);
            assert_eq!(line.bytes(), format!("{}\n", serde_json::to_string(&usual).unwrap()).as_bytes());
        }
        let longest = vec![0; SECRET_BYTES_MAX];
        assert_eq!(SecretLine::of("n", &longest).unwrap().unwrap().bytes().len(), 31 + 6 * SECRET_BYTES_MAX);
        assert!(SecretLine::of("n", &[0xff]).unwrap().is_none());
    }

    #[test]
    fn a_secret_is_overwritten_when_it_was_passed_and_when_it_was_not() {
        let desk = Desk::new().unwrap();
        let put = |memory: &mut [u8]| {
            memory[..3].copy_from_slice(b"abc");
            Ok(3)
        };
        let gone = || desk.0.borrow().bytes().iter().all(|byte| *byte == 0);
        desk.pass(put, |content| {
            assert_eq!(content, b"abc");
            Ok(())
        })
        .unwrap();
        assert!(gone());
        assert!(desk.pass(put, |_| Err(WardenError::ShuttingDown)).is_err());
        assert!(gone());
    }
}
