//! A log as a table, one row an event, each with what the signed registers prove of it.

use casemate_evidence::{BootLog, BootLogError, EventType, TpmHash, parse_boot_log};

use super::label::{EventLabel, label};
use super::register::{Measured, Register, RegisterKind};
use super::replay::{Comparison, bound_bank, compare};
use super::text;

/// One event, ready to be shown. The label says which cells a signature covers; type and text are never more than the
/// host's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootLogRow {
    /// Its place in the log, from 1.
    pub number: usize,
    /// Index as the log gives it.
    pub index: u32,
    /// The register at this index; none where the kind has none, as at index 0 (MRTD) of a CCEL.
    pub register: Option<Register>,
    /// What it says it is.
    pub event_type: EventType,
    /// Bank of the digest that is shown: where the event is bound, the bank that binds it.
    pub bank: Option<TpmHash>,
    /// The digest.
    pub digest: Vec<u8>,
    /// What the signed registers prove of it.
    pub label: EventLabel,
    /// A few words about its data: one line of at most 80 characters.
    pub text: String,
}

/// The table of a log against registers whose signature held; without registers every event is unbound.
/// At most [`casemate_evidence::BOOT_LOG_EVENTS_MAX`] rows.
///
/// # Errors
/// [`BootLogError`].
pub fn boot_log_rows(log: &[u8], measured: Measured<'_>) -> Result<Vec<BootLogRow>, BootLogError> {
    let log = parse_boot_log(log)?;
    Ok(rows(&log, measured.kind, &compare(&log, measured)))
}

pub(super) fn rows(log: &BootLog<'_>, kind: RegisterKind, comparisons: &[Comparison<'_>]) -> Vec<BootLogRow> {
    let bound = BoundBanks::of(kind, comparisons);
    log.events()
        .map(|event| {
            let register = kind.at(event.index);
            let bank = register.and_then(|register| bound.bank(register));
            let label = match bank {
                _ if event.event_type == EventType::NO_ACTION => EventLabel::NotExtended,
                Some(bank) => label(&event, bank),
                None => EventLabel::Unbound,
            };
            let shown = bank.or_else(|| longest_bank(log));
            BootLogRow {
                number: event.number,
                index: event.index,
                register,
                event_type: event.event_type,
                bank: shown,
                digest: shown.and_then(|bank| event.digests.get(bank)).unwrap_or_default().to_vec(),
                label,
                text: text::short(&event),
            }
        })
        .collect()
}

/// The bank that binds each register, looked up once and not for each event.
pub(super) struct BoundBanks(Vec<Option<TpmHash>>);

impl BoundBanks {
    pub(super) fn of(kind: RegisterKind, comparisons: &[Comparison<'_>]) -> Self {
        let bank = |number| bound_bank(comparisons, Register::new(kind, number)?);
        Self((0..kind.count()).map(bank).collect())
    }

    pub(super) fn bank(&self, register: Register) -> Option<TpmHash> {
        self.0.get(usize::from(register.number())).copied().flatten()
    }
}

fn longest_bank(log: &BootLog<'_>) -> Option<TpmHash> {
    let known = log.banks().filter_map(|bank| match bank {
        casemate_evidence::Bank::Known(hash) => Some(hash),
        casemate_evidence::Bank::Other { .. } => None,
    });
    known.max_by_key(|hash| hash.digest_bytes())
}
