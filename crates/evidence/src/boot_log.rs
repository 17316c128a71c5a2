//! Event logs of firmware: what a TPM's firmware (TCG2) or a TDX virtual firmware (CCEL) says it measured.
//!
//! What it is: framing of the log, and views of its events without copies. What it is not: a check of anything. A log
//! is the host's word; only replay against a signed register makes more of it, and never of an event's type.
//!
//! Layout: TCG PC Client Platform Firmware Profile, family 2.0, version 1.05 revision 23 ("PFP"), sections 10.2.1
//! (`TCG_PCR_EVENT`), 10.2.2 (`TCG_PCR_EVENT2`) and 10.4.5.1 (`TCG_EfiSpecIDEvent`); algorithms of the TCG Algorithm
//! Registry. A CCEL has the same layout (UEFI specification 2.10, section 38.4; ACPI 6.5, section 5.2.34), with
//! measurement registers where a TPM has PCRs: 0 is MRTD and `n + 1` is RTMR `n`.
//!
//! Logs of the older SHA-1 layout, which TPM 1.2 firmware and some TPM 2.0 firmware write, are read too: they have one
//! bank, and replay against any other fails.

use core::fmt;

use crate::boot_event::EventType;
use crate::cursor::{Cursor, Truncated};
use crate::tpm::TpmHash;

/// Largest log in bytes, with padding. Real logs have 2 to 75 KB, in areas of up to 1 MiB.
pub const BOOT_LOG_BYTES_MAX: usize = 2 << 20;
/// Most events of a log, its header not counted. Real logs have up to 160.
pub const BOOT_LOG_EVENTS_MAX: usize = 16_384;
/// Most banks of a log.
pub const BOOT_LOG_BANKS_MAX: usize = 8;
/// Longest digest of an algorithm that is not known here, in bytes.
const OTHER_DIGEST_BYTES_MAX: usize = 128;

const SPEC_ID_03: &[u8; 16] = b"Spec ID Event03\0";
/// Headers of logs in the SHA-1 layout: UEFI and conventional firmware for TPM 1.2.
const SPEC_ID_SHA1: [&[u8; 16]; 2] = [b"Spec ID Event02\0", b"Spec ID Event00\0"];
const SHA1_BYTES: usize = 20;
/// Index, type and count (or the begin of a digest): what no event has all zero or all ones.
const EVENT_BEGIN_BYTES: usize = 12;

/// Why bytes are not a firmware event log. Events count from 1; 0 is the header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BootLogError {
    /// Larger than [`BOOT_LOG_BYTES_MAX`].
    #[error("event log of {found} bytes, at most {BOOT_LOG_BYTES_MAX} allowed")]
    TooLong {
        /// Its size.
        found: usize,
    },
    /// No event at all.
    #[error("event log without an event")]
    Empty,
    /// The bytes end within an event.
    #[error("event log ends at byte {found} within event {event}")]
    Truncated {
        /// The event.
        event: usize,
        /// Where the log, or the data of its header, ends.
        found: usize,
    },
    /// A header that begins like one and is of no known kind.
    #[error("header is neither `Spec ID Event03` nor an older one")]
    SpecId,
    /// The header has a digest.
    #[error("digest of the header is not zero")]
    HeaderDigest,
    /// The header is at an index that neither a TPM's nor a TDX firmware uses.
    #[error("header at index {found}, not 0 or 1")]
    HeaderIndex {
        /// The index.
        found: u32,
    },
    /// Neither a client (0) nor a server (1).
    #[error("platform class {found} is not 0 or 1")]
    PlatformClass {
        /// The class.
        found: u32,
    },
    /// Another version of the layout.
    #[error("specification version {major}.{minor} is not 2.0")]
    SpecVersion {
        /// Major.
        major: u8,
        /// Minor.
        minor: u8,
    },
    /// Neither 32 (1) nor 64 (2) bits.
    #[error("size of UINTN {found} is not 1 or 2")]
    UintnSize {
        /// The size.
        found: u8,
    },
    /// No bank, or more than [`BOOT_LOG_BANKS_MAX`].
    #[error("{found} banks, 1 to {BOOT_LOG_BANKS_MAX} allowed")]
    BankCount {
        /// How many.
        found: u32,
    },
    /// The header gives an algorithm another length than it has.
    #[error("digests of algorithm {algorithm:#06x} have {expected} bytes, {found} given")]
    BankSize {
        /// Identifier of the algorithm.
        algorithm: u16,
        /// Its length; for an algorithm that is not known, the nearest length accepted.
        expected: usize,
        /// The length given.
        found: u16,
    },
    /// The header names an algorithm twice.
    #[error("algorithm {algorithm:#06x} is named twice")]
    BankRepeated {
        /// Identifier of the algorithm.
        algorithm: u16,
    },
    /// Bytes after the last field of the header.
    #[error("header has {found} bytes after its last field")]
    HeaderTrailing {
        /// How many.
        found: usize,
    },
    /// More than [`BOOT_LOG_EVENTS_MAX`] events.
    #[error("more than {BOOT_LOG_EVENTS_MAX} events")]
    TooManyEvents,
    /// An event without exactly one digest for each bank.
    #[error("event {event} has {found} digests where the header names {expected} banks")]
    DigestCount {
        /// The event.
        event: usize,
        /// Banks of the header.
        expected: usize,
        /// Digests.
        found: u32,
    },
    /// A digest of a bank that the header does not name.
    #[error("event {event} has a digest of algorithm {algorithm:#06x}, which the header does not name")]
    DigestBank {
        /// The event.
        event: usize,
        /// Identifier of the algorithm.
        algorithm: u16,
    },
    /// Two digests of one bank.
    #[error("event {event} has two digests of algorithm {algorithm:#06x}")]
    DigestRepeated {
        /// The event.
        event: usize,
        /// Identifier of the algorithm.
        algorithm: u16,
    },
    /// Other bytes within the padding.
    #[error("padding from byte {offset} on is not of one byte, 0x00 or 0xff")]
    Padding {
        /// Where it begins.
        offset: usize,
    },
}

/// A bank: the registers, and the digests, of one algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bank {
    /// An algorithm that is known here.
    Known(TpmHash),
    /// Another one.
    Other {
        /// Identifier in the TCG Algorithm Registry.
        algorithm: u16,
        /// Length of its digests in bytes, as the header gives it.
        digest_bytes: u16,
    },
}

impl Bank {
    /// Identifier in the TCG Algorithm Registry.
    #[must_use]
    pub const fn algorithm(self) -> u16 {
        match self {
            Self::Known(hash) => hash.id(),
            Self::Other { algorithm, .. } => algorithm,
        }
    }

    /// Length of a digest in bytes.
    #[must_use]
    pub fn digest_bytes(self) -> usize {
        match self {
            Self::Known(hash) => hash.digest_bytes(),
            Self::Other { digest_bytes, .. } => usize::from(digest_bytes),
        }
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(hash) => f.write_str(hash.name()),
            Self::Other { algorithm, .. } => write!(f, "algorithm {algorithm:#06x}"),
        }
    }
}

/// Which layout a log has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `TCG_PCR_EVENT2`, after a header that names the banks.
    CryptoAgile,
    /// `TCG_PCR_EVENT`: one SHA-1 digest for each event.
    Sha1,
}

/// The banks of a log, in the order of its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Banks {
    list: [Option<Bank>; BOOT_LOG_BANKS_MAX],
}

impl Banks {
    const SHA1: Self =
        Self { list: [Some(Bank::Known(TpmHash::Sha1)), None, None, None, None, None, None, None] };

    fn iter(&self) -> impl Iterator<Item = Bank> + use<> {
        self.list.into_iter().flatten()
    }

    fn find(&self, algorithm: u16) -> Option<(usize, Bank)> {
        self.iter().enumerate().find(|(_, bank)| bank.algorithm() == algorithm)
    }
}

/// A log whose framing holds from end to end. Everything borrows from the bytes given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootLog<'a> {
    format: LogFormat,
    banks: Banks,
    /// The events alone: no header, no padding.
    events: &'a [u8],
    event_count: usize,
}

impl<'a> BootLog<'a> {
    /// Its layout.
    #[must_use]
    pub const fn format(&self) -> LogFormat {
        self.format
    }

    /// Its banks, in the order of the header.
    pub fn banks(&self) -> impl Iterator<Item = Bank> + use<> {
        self.banks.iter()
    }

    /// How many events it has, its header not counted.
    #[must_use]
    pub const fn event_count(&self) -> usize {
        self.event_count
    }

    /// Its events in order, the header left out.
    #[must_use]
    pub const fn events(&self) -> BootEvents<'a> {
        BootEvents {
            at: Cursor::new(self.events),
            format: self.format,
            banks: self.banks,
            read: 0,
            count: self.event_count,
        }
    }
}

/// One event. Every field is an allegation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BootEvent<'a> {
    /// Its place in the log, from 1; the header is 0.
    pub number: usize,
    /// The register: a PCR, or in a CCEL a measurement register, RTMR `n` as `n + 1`.
    pub index: u32,
    /// What it says it is.
    pub event_type: EventType,
    /// Its digests.
    pub digests: Digests<'a>,
    /// Its data.
    pub data: &'a [u8],
}

/// The digests of an event, one for each bank of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digests<'a> {
    format: LogFormat,
    banks: Banks,
    raw: &'a [u8],
}

impl<'a> Digests<'a> {
    /// The digest in the bank of this algorithm.
    #[must_use]
    pub fn get(&self, hash: TpmHash) -> Option<&'a [u8]> {
        self.iter().find(|(bank, _)| *bank == Bank::Known(hash)).map(|(_, digest)| digest)
    }

    /// Every bank with its digest, in the order of the event.
    pub fn iter(&self) -> impl Iterator<Item = (Bank, &'a [u8])> + use<'a> {
        let Self { format, banks, raw } = *self;
        let mut at = Cursor::new(raw);
        core::iter::from_fn(move || {
            if at.rest().is_empty() {
                return None;
            }
            match format {
                LogFormat::Sha1 => {
                    at.slice(SHA1_BYTES).ok().map(|digest| (Bank::Known(TpmHash::Sha1), digest))
                }
                LogFormat::CryptoAgile => {
                    let (_, bank) = banks.find(at.u16().ok()?)?;
                    at.slice(bank.digest_bytes()).ok().map(|digest| (bank, digest))
                }
            }
        })
    }
}

/// The events of a log, in order.
#[derive(Debug, Clone)]
pub struct BootEvents<'a> {
    at: Cursor<'a>,
    format: LogFormat,
    banks: Banks,
    read: usize,
    count: usize,
}

impl<'a> Iterator for BootEvents<'a> {
    type Item = BootEvent<'a>;

    fn next(&mut self) -> Option<BootEvent<'a>> {
        if self.read >= self.count {
            return None;
        }
        self.read = self.read.saturating_add(1);
        // These bytes were read once before, when the log was parsed, with the same outcome.
        read_event(&mut self.at, self.format, self.banks, self.read).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.count.saturating_sub(self.read);
        (left, Some(left))
    }
}

/// Takes a log apart. Padding of 0x00 or of 0xff from some event's place to the end of the bytes ends it; both occur
/// where a log is handed over with the whole area that firmware reserved. Allocates nothing; linear in the bytes.
///
/// # Errors
/// [`BootLogError`].
pub fn parse_boot_log(bytes: &[u8]) -> Result<BootLog<'_>, BootLogError> {
    if bytes.len() > BOOT_LOG_BYTES_MAX {
        return Err(BootLogError::TooLong { found: bytes.len() });
    }
    let mut at = Cursor::new(bytes);
    if at_end(&at)? {
        return Err(BootLogError::Empty);
    }
    let first = read_event(&mut at, LogFormat::Sha1, Banks::SHA1, 0)?;
    let (format, banks) = match spec_id(&first) {
        Some(id) if id == SPEC_ID_03 => (LogFormat::CryptoAgile, read_header(&first)?),
        Some(id) if !SPEC_ID_SHA1.contains(&id) => return Err(BootLogError::SpecId),
        found => {
            // Without a header, the first event is an event.
            if found.is_none() {
                at = Cursor::new(bytes);
            }
            (LogFormat::Sha1, Banks::SHA1)
        }
    };
    let events = at.rest();
    let mut events_at = Cursor::new(events);
    let begin = at.offset();
    let mut event_count: usize = 0;
    while !at_end_from(&events_at, begin)? {
        event_count = event_count.saturating_add(1);
        if event_count > BOOT_LOG_EVENTS_MAX {
            return Err(BootLogError::TooManyEvents);
        }
        read_event(&mut events_at, format, banks, event_count).map_err(|error| match error {
            BootLogError::Truncated { event, .. } => BootLogError::Truncated { event, found: bytes.len() },
            other => other,
        })?;
    }
    let events = events.get(..events_at.offset()).unwrap_or(events);
    Ok(BootLog { format, banks, events, event_count })
}

fn at_end(at: &Cursor<'_>) -> Result<bool, BootLogError> {
    at_end_from(at, 0)
}

/// Whether nothing but padding is left. It looks at every byte only where no event can begin, so at most once.
fn at_end_from(at: &Cursor<'_>, begin: usize) -> Result<bool, BootLogError> {
    let rest = at.rest();
    let head = rest.get(..EVENT_BEGIN_BYTES).unwrap_or(rest);
    for fill in [0x00, 0xff] {
        if head.iter().all(|byte| *byte == fill) {
            return if rest.iter().all(|byte| *byte == fill) {
                Ok(true)
            } else {
                Err(BootLogError::Padding { offset: begin.saturating_add(at.offset()) })
            };
        }
    }
    Ok(false)
}

/// The signature of a header; none where the first event is not one.
fn spec_id<'a>(first: &BootEvent<'a>) -> Option<&'a [u8; 16]> {
    let (id, _) = first.data.split_first_chunk::<16>()?;
    (first.event_type == EventType::NO_ACTION && id.starts_with(b"Spec ID Event")).then_some(id)
}

/// The banks that the header names. PFP section 10.4.5.1.
fn read_header(event: &BootEvent<'_>) -> Result<Banks, BootLogError> {
    if event.digests.raw.iter().any(|byte| *byte != 0) {
        return Err(BootLogError::HeaderDigest);
    }
    // A TPM's firmware writes 0, a TDX firmware 0 or 1.
    if event.index > 1 {
        return Err(BootLogError::HeaderIndex { found: event.index });
    }
    let mut at = Cursor::new(event.data);
    let banks = read_spec_id(&mut at).map_err(in_event(0))??;
    match at.rest().len() {
        0 => Ok(banks),
        found => Err(BootLogError::HeaderTrailing { found }),
    }
}

/// The outer error is a truncation, the inner one anything else.
fn read_spec_id(at: &mut Cursor<'_>) -> Result<Result<Banks, BootLogError>, Truncated> {
    at.array::<16>()?;
    let class = at.u32()?;
    let (minor, major, _errata, uintn) = (at.u8()?, at.u8()?, at.u8()?, at.u8()?);
    let count = at.u32()?;
    if class > 1 {
        return Ok(Err(BootLogError::PlatformClass { found: class }));
    }
    if (major, minor) != (2, 0) {
        return Ok(Err(BootLogError::SpecVersion { major, minor }));
    }
    if !matches!(uintn, 1 | 2) {
        return Ok(Err(BootLogError::UintnSize { found: uintn }));
    }
    let wanted = usize::try_from(count).unwrap_or(usize::MAX);
    if !(1..=BOOT_LOG_BANKS_MAX).contains(&wanted) {
        return Ok(Err(BootLogError::BankCount { found: count }));
    }
    let mut banks = Banks { list: [None; BOOT_LOG_BANKS_MAX] };
    for place in 0..wanted {
        let (algorithm, found) = (at.u16()?, at.u16()?);
        if banks.find(algorithm).is_some() {
            return Ok(Err(BootLogError::BankRepeated { algorithm }));
        }
        let bank =
            TpmHash::from_id(algorithm).map_or(Bank::Other { algorithm, digest_bytes: found }, Bank::Known);
        let expected = bank.digest_bytes().clamp(1, OTHER_DIGEST_BYTES_MAX);
        if usize::from(found) != expected {
            return Ok(Err(BootLogError::BankSize { algorithm, expected, found }));
        }
        if let Some(slot) = banks.list.get_mut(place) {
            *slot = Some(bank);
        }
    }
    let vendor_bytes = usize::from(at.u8()?);
    at.slice(vendor_bytes)?;
    Ok(Ok(banks))
}

/// One event of either layout. PFP sections 10.2.1 and 10.2.2.
fn read_event<'a>(
    at: &mut Cursor<'a>,
    format: LogFormat,
    banks: Banks,
    number: usize,
) -> Result<BootEvent<'a>, BootLogError> {
    let truncated = in_event(number);
    let index = at.u32().map_err(&truncated)?;
    let event_type = EventType(at.u32().map_err(&truncated)?);
    let raw = match format {
        LogFormat::Sha1 => at.slice(SHA1_BYTES).map_err(&truncated)?,
        LogFormat::CryptoAgile => read_digests(at, banks, number)?,
    };
    let data = at.sized_u32().map_err(&truncated)?;
    Ok(BootEvent { number, index, event_type, digests: Digests { format, banks, raw }, data })
}

/// Exactly one digest for each bank of the header, in any order.
fn read_digests<'a>(at: &mut Cursor<'a>, banks: Banks, event: usize) -> Result<&'a [u8], BootLogError> {
    let found = at.u32().map_err(in_event(event))?;
    let expected = banks.iter().count();
    if usize::try_from(found) != Ok(expected) {
        return Err(BootLogError::DigestCount { event, expected, found });
    }
    let digests = at.rest();
    let begin = at.offset();
    let mut seen = [false; BOOT_LOG_BANKS_MAX];
    for _ in 0..expected {
        let algorithm = at.u16().map_err(in_event(event))?;
        let (place, bank) = banks.find(algorithm).ok_or(BootLogError::DigestBank { event, algorithm })?;
        if let Some(seen) = seen.get_mut(place)
            && core::mem::replace(seen, true)
        {
            return Err(BootLogError::DigestRepeated { event, algorithm });
        }
        at.slice(bank.digest_bytes()).map_err(in_event(event))?;
    }
    Ok(digests.get(..at.offset().saturating_sub(begin)).unwrap_or(digests))
}

fn in_event(event: usize) -> impl Fn(Truncated) -> BootLogError {
    move |Truncated { found }| BootLogError::Truncated { event, found }
}

#[cfg(test)]
#[path = "boot_log_tests.rs"]
mod tests;
