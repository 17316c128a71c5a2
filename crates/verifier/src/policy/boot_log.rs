//! `[boot-log]`: what a policy expects of the event log of a box's firmware.

use std::collections::BTreeSet;

use casemate_evidence::EventType;

use crate::boot_log::Register;

/// Expectations of the event log of firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootLogExpectations {
    /// Whether there must be one.
    pub presence: BootLogPresence,
    /// Registers that it must replay to, in every bank that evidence states; at least one.
    pub registers: BTreeSet<Register>,
    /// Events that must be there. In every register named here, each event must be listed, or be harmless: an event's
    /// type is in no digest, so an event that should not be there can pose as one of another type.
    pub expect: Vec<ExpectedEvents>,
    /// Registers named in `expect` that may hold other events all the same. Weakens.
    pub allow_unlisted: BTreeSet<Register>,
    /// Whether the data of an event may be something else than what its digest says. Weakens.
    pub data_mismatch: DataMismatch,
}

/// Whether there must be a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootLogPresence {
    /// Evidence without one is refused.
    Required,
    /// There may be none: then nothing of this table is asked for.
    Optional,
}

/// Whether the data of an event whose type hashes it as it stands may be something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataMismatch {
    /// It may not.
    Refused,
    /// It may, for firmware that is known to log other data than it measures.
    Allowed,
}

/// Events of one register and type: at least one is there, and each has one of these digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedEvents {
    /// The register.
    pub register: Register,
    /// The type that the log gives them.
    pub event: EventType,
    /// Digests, all of one length, which says the bank: 20 (SHA-1), 32, 48 or 64 bytes.
    pub digests: BTreeSet<Vec<u8>>,
}
