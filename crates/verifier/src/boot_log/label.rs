//! How far a replayed register speaks for an event.

use std::fmt;

use aws_lc_rs::digest::digest;
use casemate_evidence::boot_event::UefiVariable;
use casemate_evidence::{BootEvent, EventType, TpmHash};

use super::register::{Register, RegisterKind};
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
/// Revision 1.0, and the header's size of 92 bytes (UEFI section 5.3.2, table 5.5).
const GPT_REVISION_AND_SIZE: [u8; 8] = [0, 0, 1, 0, 92, 0, 0, 0];
/// Header of a partition table, then the count of its entries (`UEFI_GPT_DATA`; PFP section 10.2.5).
const GPT_HEADER_BYTES: usize = 92;
const GPT_ENTRY_BYTES: usize = 128;

/// Whether an event may stand unlisted though its type is not covered. Its digest is the hash of its data, and the data
/// are a separator, one of five texts, or a whole partition table in the register that firmware measures those into.
/// Whoever can choose what is measured can write a partition table too: elsewhere one counts as any other data.
pub(super) fn is_harmless(event: &BootEvent<'_>, bank: TpmHash, register: Register) -> bool {
    let shaped = match event.event_type {
        EventType::SEPARATOR => SEPARATORS.iter().any(|separator| event.data == separator),
        EventType::EFI_ACTION => PASSING_ACTIONS.contains(&event.data),
        EventType::EFI_GPT_EVENT => holds_partition_tables(register) && partition_count(event.data).is_some(),
        _ => false,
    };
    shaped && label(event, bank) == EventLabel::DataBound
}

/// Whether firmware measures partition tables into this register: PCR 5, in a CCEL RTMR1 (PFP section 3.3.4.6; UEFI
/// section 38.4.1). Into others, boot loaders and kernels measure text that somebody can choose.
const fn holds_partition_tables(register: Register) -> bool {
    matches!((register.kind(), register.number()), (RegisterKind::Pcr, 5) | (RegisterKind::Rtmr, 1))
}

/// Entries that a partition table event claims, where its header is whole and its length is exactly theirs.
pub(super) fn partition_count(data: &[u8]) -> Option<u64> {
    let (header, rest) = data.split_at_checked(GPT_HEADER_BYTES)?;
    let (count, entries) = rest.split_first_chunk::<8>()?;
    let count = u64::from_le_bytes(*count);
    let bytes = usize::try_from(count).ok()?.checked_mul(GPT_ENTRY_BYTES)?;
    (is_partition_header(header) && entries.len() == bytes).then_some(count)
}

/// Signature, revision, size, CRC-32 over the header with zeros in its place, and a reserved field of zeros (UEFI
/// section 5.3.2, table 5.5).
fn is_partition_header(header: &[u8]) -> bool {
    let read = || {
        let rest = header.strip_prefix(GPT_SIGNATURE)?.strip_prefix(&GPT_REVISION_AND_SIZE)?;
        let (found, rest) = rest.split_first_chunk::<4>()?;
        let disk = rest.strip_prefix(&[0; 4])?;
        let covered = [GPT_SIGNATURE.as_slice(), &GPT_REVISION_AND_SIZE, &[0; 8], disk].concat();
        Some(u32::from_le_bytes(*found) == crc32(&covered))
    };
    read() == Some(true)
}

/// CRC-32 as UEFI computes it (section 4.2.1): reflected polynomial 0xedb88320, all ones before and inverted after.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let low = crc & 1;
            crc >>= 1;
            if low == 1 {
                crc ^= 0xedb8_8320;
            }
        }
    }
    !crc
}
