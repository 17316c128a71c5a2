//! The event log: on disk, in memory for evidence, and in the runtime measurement register.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use casemate_attester::RuntimeRegister;
use casemate_canon::to_canonical_json;
use casemate_composition::lock::AgentName;
use casemate_protocol::Refusal;
use casemate_protocol::event::{AGENTS_EVENTS_BYTES_MAX, AGENTS_EVENTS_MAX, EVENTS_MAX, Event, LogHead};

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
    /// What the events about each agent take.
    used: BTreeMap<AgentName, Used>,
    /// What they may take before nothing about it begins any more.
    share: Used,
}

/// Events and their size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Used {
    events: usize,
    bytes: usize,
}

impl EventLog {
    /// A fresh log at `path`; an older one is replaced, because registers start anew with the box.
    ///
    /// `agents` share what evidence can carry: none fills the log of another.
    pub(crate) fn create(
        path: &Path,
        register: Option<RuntimeRegister>,
        agents: usize,
    ) -> Result<Self, WardenError> {
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(WardenError::file(path))?;
        let agents = agents.max(1);
        Ok(Self {
            file,
            saved_bytes: 0,
            text: Vec::new(),
            head: LogHead::EMPTY,
            register,
            broken: false,
            used: BTreeMap::new(),
            share: Used { events: AGENTS_EVENTS_MAX / agents, bytes: AGENTS_EVENTS_BYTES_MAX / agents },
        })
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
        if let Some(agent) = event.agent() {
            let used = self.used.entry(agent.clone()).or_default();
            used.events = used.events.saturating_add(1);
            used.bytes = used.bytes.saturating_add(line.len());
        }
        self.text.extend_from_slice(&line);
        self.head = self.head.extended(&digest);
        self.broken = false;
        self.save();
        Ok(())
    }

    /// Refuses that anything begins about this agent where its events have their share of the log.
    pub(crate) fn require_room(&self, agent: &AgentName) -> Result<(), WardenError> {
        let used = self.used.get(agent).copied().unwrap_or_default();
        if used.events < self.share.events && used.bytes < self.share.bytes {
            return Ok(());
        }
        let told = |used: Used| format!("{} events, {} bytes", used.events, used.bytes);
        let expected = format!("less than the share of {agent} in the event log: {}", told(self.share));
        Err(Refusal::new("agent.events", expected, told(used)).into())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_agent_has_its_share_of_the_log_and_takes_nothing_from_another() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = EventLog::create(&dir.path().join("events.jsonl"), None, 1000).unwrap();
        let (one, other): (AgentName, AgentName) = ("one".parse().unwrap(), "other".parse().unwrap());
        let tainted = Event::AgentTainted { agent: one.clone(), by: "exec".into() };
        let mut events = 0;
        while log.require_room(&one).is_ok() {
            log.append(&tainted).unwrap();
            events += 1;
        }
        assert_eq!(events, 75);
        let refused = log.require_room(&one).unwrap_err();
        assert_eq!(refused.refusal().unwrap().rule, "agent.events");
        assert!(refused.todo().contains("casemate up"), "{}", refused.todo());
        log.require_room(&other).unwrap();
        // Its end is said in any case.
        log.append(&Event::AgentExited { agent: one, instance: 1, status: 0 }).unwrap();
    }

    #[test]
    fn evidence_carries_all_shares_and_more() {
        use casemate_protocol::{cmw::COLLECTION_BYTES_MAX, posture::POSTURE_BYTES_MAX};
        let in_base64 = |bytes: usize| bytes.div_ceil(3) * 4;
        let both = in_base64(AGENTS_EVENTS_BYTES_MAX) + in_base64(POSTURE_BYTES_MAX);
        assert!(both + (1 << 20) < COLLECTION_BYTES_MAX);
        const { assert!(AGENTS_EVENTS_MAX < EVENTS_MAX) };
    }
}
