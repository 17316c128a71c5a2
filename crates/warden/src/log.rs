//! The event log: on disk, in memory for evidence, and in the runtime measurement register.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use casemate_attester::RuntimeRegister;
use casemate_canon::to_canonical_json;
use casemate_protocol::event::{EVENTS_MAX, Event, LogHead};

use crate::error::WardenError;

/// The log of one box, from its first event on.
#[derive(Debug)]
pub(crate) struct EventLog {
    file: File,
    /// How much of the text is in the file.
    saved_bytes: usize,
    text: Vec<u8>,
    head: LogHead,
    register: Option<RuntimeRegister>,
    /// An event may have reached the register and not the text: nothing may be attested any more.
    broken: bool,
}

impl EventLog {
    /// A fresh log at `path`; an older one is replaced, because registers start anew with the box.
    pub(crate) fn create(path: &Path, register: Option<RuntimeRegister>) -> Result<Self, WardenError> {
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(WardenError::file(path))?;
        Ok(Self { file, saved_bytes: 0, text: Vec::new(), head: LogHead::EMPTY, register, broken: false })
    }

    /// Adds an event: register first, so that nothing is ever claimed that the hardware does not know.
    pub(crate) fn append(&mut self, event: &Event) -> Result<(), WardenError> {
        self.usable()?;
        if self.head.count >= EVENTS_MAX as u64 {
            return Err(WardenError::Environment {
                what: format!("the event log has its largest length, {EVENTS_MAX} events"),
                todo: "restart the box with `casemate down` and `casemate up`",
            });
        }
        let mut line = to_canonical_json(event).map_err(|e| WardenError::ours(&e))?;
        let digest = event.digest().map_err(|e| WardenError::ours(&e))?;
        line.push(b'\n');
        self.broken = true;
        if let Some(register) = &self.register {
            register.extend(&digest).map_err(|error| WardenError::Environment {
                what: format!("the runtime measurement register cannot be extended: {error}"),
                todo: "check the permissions of the measurement folder; the box must be started again",
            })?;
        }
        self.text.extend_from_slice(&line);
        self.head = self.head.extended(&digest);
        self.broken = false;
        self.save();
        Ok(())
    }

    /// Brings the file up to date. Evidence is made from memory; a full disk, which any agent with a volume can cause,
    /// must not end attestation, and what is missing in the file is written when there is space again.
    fn save(&mut self) {
        let rest = self.text.get(self.saved_bytes..).unwrap_or_default();
        match self.file.write(rest) {
            Ok(written) => self.saved_bytes = self.saved_bytes.saturating_add(written),
            Err(error) => tracing::error!("the event log cannot be written: {error}"),
        }
    }

    /// The head, for evidence.
    pub(crate) fn head(&self) -> Result<LogHead, WardenError> {
        self.usable()?;
        Ok(self.head)
    }

    /// All events as text, for evidence.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    fn usable(&self) -> Result<(), WardenError> {
        if self.broken {
            return Err(WardenError::Environment {
                what: "the event log and the measurement register no longer agree".into(),
                todo: "start the box again with `casemate down` and `casemate up`",
            });
        }
        Ok(())
    }
}
