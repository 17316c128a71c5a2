//! How far a replayed register speaks for an event.

use std::fmt;

use aws_lc_rs::digest::digest;
use casemate_evidence::boot_event::UefiVariable;
use casemate_evidence::{BootEvent, EventType, TpmHash};

use super::replay::algorithm;

/// What the signed register proves of one event of the log.
///
/// None of them covers the event's **type**, which is in no digest: whoever hands over the log can write any type
/// beside a digest that was extended, and data that hashes to it under that type. Which register an event went into,
/// and the order of the events of one register, are covered wherever the label is not [`Self::Unbound`] or
/// [`Self::NotExtended`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventLabel {
    /// The event extends nothing (EV_NO_ACTION): the host's word.
    NotExtended,
    /// No signed value of its register is what the log replays to: the host's word.
    Unbound,
    /// Its digest was extended. Its data is the host's word: the digest is of something else, which the log does not
    /// hold, or which this event's type does not say.
    DigestBound,
    /// Its digest was extended, and is the hash of a part of the data: the content of a UEFI variable, without its
    /// name, or the text after the prefix that GRUB writes before what it measured.
    ContentBound,
    /// Its digest was extended, and is the hash of the data as it stands.
    DataBound,
    /// Its digest was extended, its type is one whose data is hashed as it stands, and the data is something else.
    DataMismatch,
}

impl EventLabel {
    /// The name used in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotExtended => "not-extended",
            Self::Unbound => "unbound",
            Self::DigestBound => "digest-bound",
            Self::ContentBound => "content-bound",
            Self::DataBound => "data-bound",
            Self::DataMismatch => "data-mismatch",
        }
    }
}

impl fmt::Display for EventLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the digest of an event of some type is the hash of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hashed {
    /// The data as it stands; anything else is a mismatch.
    Data,
    /// The data as it stands, by some firmware; something else by other firmware.
    DataOrOther,
    /// The whole structure of a UEFI variable, or its content alone.
    VariableOrContent,
    /// What stands after GRUB's prefix, or something that the log does not hold.
    AfterPrefixOrOther,
    /// Something that the log does not hold: an image, a table, a region of memory.
    Other,
}

/// PFP section 10.4.1, column "digest"; for EV_IPL, GRUB (`grub-core/commands/tpm.c`), which measures a text and logs
/// it after a prefix.
const fn hashed(event_type: EventType) -> Hashed {
    match event_type {
        EventType::SEPARATOR
        | EventType::ACTION
        | EventType::EFI_ACTION
        | EventType::EFI_GPT_EVENT
        | EventType::EFI_GPT_EVENT2
        | EventType::EFI_VARIABLE_DRIVER_CONFIG
        | EventType::EFI_VARIABLE_BOOT2
        | EventType::EFI_VARIABLE_AUTHORITY
        | EventType::EFI_SPDM_DEVICE_POLICY
        | EventType::EFI_SPDM_DEVICE_AUTHORITY => Hashed::Data,
        EventType::S_CRTM_VERSION | EventType::EVENT_TAG | EventType::NONHOST_INFO => Hashed::DataOrOther,
        EventType::EFI_VARIABLE_BOOT => Hashed::VariableOrContent,
        EventType::IPL => Hashed::AfterPrefixOrOther,
        _ => Hashed::Other,
    }
}

/// Prefixes that GRUB writes before the text that it measured.
const GRUB_PREFIXES: [&[u8]; 3] = [b"grub_cmd: ", b"kernel_cmdline: ", b"module_cmdline: "];

/// The label of an event whose register is, in this bank, what the log replays to. One hash of the data, at most two.
pub(super) fn label(event: &BootEvent<'_>, bank: TpmHash) -> EventLabel {
    if event.event_type == EventType::NO_ACTION {
        return EventLabel::NotExtended;
    }
    let (Some(algorithm), Some(extended)) = (algorithm(bank), event.digests.get(bank)) else {
        return EventLabel::Unbound;
    };
    let is_hash_of = |bytes: &[u8]| digest(algorithm, bytes).as_ref() == extended;
    match hashed(event.event_type) {
        Hashed::Data if is_hash_of(event.data) => EventLabel::DataBound,
        Hashed::Data => EventLabel::DataMismatch,
        Hashed::DataOrOther | Hashed::VariableOrContent if is_hash_of(event.data) => EventLabel::DataBound,
        Hashed::VariableOrContent
            if UefiVariable::read(event.data).is_some_and(|variable| is_hash_of(variable.content)) =>
        {
            EventLabel::ContentBound
        }
        Hashed::AfterPrefixOrOther if after_prefix(event.data).is_some_and(is_hash_of) => {
            EventLabel::ContentBound
        }
        _ => EventLabel::DigestBound,
    }
}

/// What follows GRUB's prefix, without the zero at its end.
fn after_prefix(data: &[u8]) -> Option<&[u8]> {
    let text = data.strip_suffix(b"\0").unwrap_or(data);
    GRUB_PREFIXES.iter().find_map(|prefix| text.strip_prefix(*prefix))
}

/// Texts that firmware measures on the way to an operating system, and that say nothing about what it is
/// (PFP section 10.4.4). Others, such as "UEFI Debug Mode", do.
const PASSING_ACTIONS: [&[u8]; 5] = [
    b"Calling EFI Application from Boot Option",
    b"Returning from EFI Application from Boot Option",
    b"Exit Boot Services Invocation",
    b"Exit Boot Services Returned with Failure",
    b"Exit Boot Services Returned with Success",
];

/// `EV_SEPARATOR` of a firmware that found no error (PFP section 10.4.1).
const SEPARATORS: [[u8; 4]; 2] = [[0x00; 4], [0xff; 4]];
/// What firmware measures with `EV_SEPARATOR` after an error (PFP section 10.4.1).
pub(super) const ERROR_SEPARATOR: [u8; 4] = [1, 0, 0, 0];

const GPT_SIGNATURE: &[u8; 8] = b"EFI PART";
/// Header of a partition table, then the count of its entries (`UEFI_GPT_DATA`; PFP section 10.2.5).
const GPT_HEADER_BYTES: usize = 92;
const GPT_ENTRY_BYTES: usize = 128;

/// Whether an event is nothing but what its type says, though its type is not covered: its digest is the hash of data
/// that cannot be an image, a configuration or a command. Such an event need not be listed to be harmless.
pub(super) fn is_harmless(event: &BootEvent<'_>, bank: TpmHash) -> bool {
    let shaped = match event.event_type {
        EventType::SEPARATOR => SEPARATORS.iter().any(|separator| event.data == separator),
        EventType::EFI_ACTION => PASSING_ACTIONS.contains(&event.data),
        EventType::EFI_GPT_EVENT => is_partition_table(event.data),
        _ => false,
    };
    shaped && label(event, bank) == EventLabel::DataBound
}

/// Entries that a partition table event claims, where its length is exactly theirs.
pub(super) fn partition_count(data: &[u8]) -> Option<u64> {
    let (header, rest) = data.split_at_checked(GPT_HEADER_BYTES)?;
    let (count, entries) = rest.split_first_chunk::<8>()?;
    let count = u64::from_le_bytes(*count);
    let bytes = usize::try_from(count).ok()?.checked_mul(GPT_ENTRY_BYTES)?;
    (header.starts_with(GPT_SIGNATURE) && entries.len() == bytes).then_some(count)
}

fn is_partition_table(data: &[u8]) -> bool {
    partition_count(data).is_some()
}
