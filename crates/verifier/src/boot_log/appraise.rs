//! The rules about a log: that it replays, that its data is what was measured, that it tells what the policy expects.

use std::collections::BTreeSet;

use casemate_evidence::{BootEvent, BootLog, EventType, LogFormat, TpmHash, parse_boot_log};

use super::label::{ERROR_SEPARATOR, EventLabel, is_harmless, label};
use super::register::{Measured, Register, RegisterKind};
use super::replay::{Comparison, algorithm, compare};
use super::table::{BootLogRow, BoundBanks, rows};
use crate::ledger::{Ledger, Voucher};
use crate::policy::{BootLogExpectations, BootLogPresence, DataMismatch, ExpectedEvents};

/// Tries every rule about a log. `measured` is what a verified statement says; `hardware` is who vouches for it.
/// Returns the table of the log, empty where there is none that can be read.
pub(crate) fn appraise(
    ledger: &mut Ledger,
    log: Option<&[u8]>,
    measured: Measured<'_>,
    expected: &BootLogExpectations,
    hardware: Voucher,
) -> Vec<BootLogRow> {
    let Some(log) = log else {
        let required = expected.presence == BootLogPresence::Required;
        let wanted = if required { "an event log of firmware" } else { "an event log of firmware, or none" };
        let _recorded = ledger.require("boot-log.present", !required, wanted, "none");
        return Vec::new();
    };
    let Ok(log) = ledger.accept("boot-log.format", "an event log of firmware", parse_boot_log(log)) else {
        return Vec::new();
    };
    let comparisons = compare(&log, measured);
    let appraised = Appraised { log, kind: measured.kind, comparisons: &comparisons, expected };
    appraised.require_registers(ledger);
    appraised.require_indices(ledger);
    appraised.require_data(ledger);
    appraised.require_no_error(ledger);
    appraised.require_events(ledger);
    let rows = rows(&log, measured.kind, &comparisons);
    claim_all(ledger, &log, &comparisons, &rows, hardware);
    rows
}

struct Appraised<'a> {
    log: BootLog<'a>,
    kind: RegisterKind,
    comparisons: &'a [Comparison<'a>],
    expected: &'a BootLogExpectations,
}

impl<'a> Appraised<'a> {
    /// Registers of the policy that a statement of this kind can sign.
    fn named(&self) -> impl Iterator<Item = Register> + use<'a> {
        let kind = self.kind;
        self.expected.registers.iter().copied().filter(move |register| register.kind() == kind)
    }

    /// Rules `boot-log.rtmr0` and so on: each register of the policy is what the log replays to, in every bank signed.
    /// A policy for several kinds of statement names registers of each; one of this kind is named at least.
    fn require_registers(&self, ledger: &mut Ledger) {
        if self.named().next().is_none() {
            let (wanted, other) = match self.kind {
                RegisterKind::Rtmr => ("a policy that names an rtmr", "one that names pcrs alone"),
                RegisterKind::Pcr => ("a policy that names a pcr", "one that names rtmrs alone"),
            };
            let _recorded = ledger.fail("boot-log.registers", wanted, other);
        }
        for register in self.named() {
            let rule = register.rule();
            if !self.of(register).any(|comparison| comparison.signed.bank != TpmHash::Sha1) {
                let expected = format!("a signed value of {register} in a bank of SHA-256 or longer digests");
                let found = if self.of(register).next().is_none() { "none" } else { "one of SHA-1 alone" };
                let _recorded = ledger.fail(rule, expected, found);
            }
            for comparison in self.of(register) {
                let bank = comparison.signed.bank.name();
                let expected = format!("{bank}:{}", hex::encode(comparison.signed.value));
                let _recorded = match &comparison.replayed {
                    Ok(replayed) => {
                        let found = format!("{bank}:{}", hex::encode(replayed));
                        ledger.require(rule, comparison.matches(), expected, found)
                    }
                    Err(error) => Err(ledger.fail(rule, expected, error)),
                };
            }
        }
    }

    /// Rule `boot-log.index`: no event extends a register that does not exist, or that nothing can extend.
    fn require_indices(&self, ledger: &mut Ledger) {
        let outside = self.extending().find(|event| self.kind.at(event.index).is_none());
        let expected = match self.kind {
            RegisterKind::Rtmr => "events that extend measurement registers 1 to 4 (rtmr0 to rtmr3)",
            RegisterKind::Pcr => "events that extend pcr0 to pcr23",
        };
        let _recorded = match outside {
            None => ledger.require("boot-log.index", true, expected, "no other"),
            Some(event) => {
                let found = format_args!("event {} at index {}", event.number, event.index);
                ledger.require("boot-log.index", false, expected, found)
            }
        };
    }

    /// Rule `boot-log.data`: data that its type hashes as it stands has the digest that was extended.
    fn require_data(&self, ledger: &mut Ledger) {
        let bound = BoundBanks::of(self.kind, self.comparisons);
        let mismatch = |event: &BootEvent<'_>| {
            let register = self.kind.at(event.index)?;
            let bank = bound.bank(register).filter(|_| self.expected.registers.contains(&register))?;
            (label(event, bank) == EventLabel::DataMismatch).then_some(register)
        };
        let mut mismatches = self
            .extending()
            .filter_map(|event| Some((event.number, event.event_type, mismatch(&event)?)))
            .peekable();
        let allowed = self.expected.data_mismatch == DataMismatch::Allowed;
        let expected = if allowed {
            "any data, as the policy allows"
        } else {
            "data that hashes to its digest, where its type says so"
        };
        let first = mismatches.peek().copied();
        let found = first.map_or_else(
            || "no other".to_owned(),
            |(number, event_type, register)| {
                let more = match mismatches.count().saturating_sub(1) {
                    0 => String::new(),
                    more => format!(", and {more} more"),
                };
                format!("event {number} ({event_type}) of {register} with other data{more}")
            },
        );
        let _recorded = ledger.require("boot-log.data", allowed || first.is_none(), expected, found);
    }

    /// Rule `boot-log.error`: firmware measured no error. The digest is looked for whatever type the log gives it,
    /// since types can be forged; but a variable with the same content, as a BootOrder of 1 and 0, has it too.
    fn require_no_error(&self, ledger: &mut Ledger) {
        let hashes: Vec<(TpmHash, Vec<u8>)> = TpmHash::ALL
            .into_iter()
            .filter_map(|bank| Some((bank, algorithm(bank)?)))
            .map(|(bank, hash)| (bank, aws_lc_rs::digest::digest(hash, &ERROR_SEPARATOR).as_ref().to_vec()))
            .collect();
        let error = self.extending().find(|event| {
            let of_policy = self.kind.at(event.index).is_some_and(|of| self.expected.registers.contains(&of));
            let is_error = |(bank, hash): &(TpmHash, Vec<u8>)| {
                event.digests.get(*bank) == Some(hash) && label(event, *bank) != EventLabel::ContentBound
            };
            of_policy && hashes.iter().any(is_error)
        });
        let expected = "firmware that measured no error";
        let _recorded = match error {
            None => ledger.require("boot-log.error", true, expected, "none"),
            Some(event) => {
                ledger.require("boot-log.error", false, expected, format_args!("event {}", event.number))
            }
        };
    }

    /// Rules `boot-log.expect` and `boot-log.unlisted`.
    fn require_events(&self, ledger: &mut Ledger) {
        for entry in self.entries() {
            let (holds, found) = self.find_expected(entry);
            let expected = format_args!(
                "events {} of {}, each with one of {} digests",
                entry.event,
                entry.register,
                entry.digests.len()
            );
            let _recorded = ledger.require("boot-log.expect", holds, expected, found);
        }
        let closed: BTreeSet<Register> = self
            .entries()
            .map(|entry| entry.register)
            .filter(|register| !self.expected.allow_unlisted.contains(register))
            .collect();
        for register in closed {
            let unlisted = self.find_unlisted(register);
            let _recorded = ledger.require(
                "boot-log.unlisted",
                unlisted.is_none(),
                format_args!("no event of {register} but those listed, separators, passing actions and partition tables"),
                unlisted.unwrap_or_else(|| "no other".to_owned()),
            );
        }
    }

    /// Entries about registers that a statement of this kind can sign.
    fn entries(&self) -> impl Iterator<Item = &'a ExpectedEvents> + use<'a> {
        let kind = self.kind;
        self.expected.expect.iter().filter(move |entry| entry.register.kind() == kind)
    }

    /// Whether an entry holds, and what was found.
    fn find_expected(&self, entry: &ExpectedEvents) -> (bool, String) {
        let Some(bank) = self.bank_of(entry) else {
            return (
                false,
                format!("no bank of {} with such digests that the log replays to", entry.register),
            );
        };
        let mut count: usize = 0;
        for event in self.of_register(entry.register).filter(|event| event.event_type == entry.event) {
            let digest = event.digests.get(bank).unwrap_or_default();
            if !entry.digests.contains(digest) {
                return (
                    false,
                    format!("event {} with {}:{}", event.number, bank.name(), hex::encode(digest)),
                );
            }
            count = count.saturating_add(1);
        }
        (count > 0, if count == 0 { "no such event".to_owned() } else { format!("{count}") })
    }

    /// The first event of a register that no entry lists and that is not harmless.
    fn find_unlisted(&self, register: Register) -> Option<String> {
        let entries: Vec<(TpmHash, &ExpectedEvents)> = self
            .expected
            .expect
            .iter()
            .filter(|entry| entry.register == register)
            .filter_map(|entry| Some((self.bank_of(entry)?, entry)))
            .collect();
        let listed = |event: &BootEvent<'_>| {
            let has = |(bank, entry): &(TpmHash, &ExpectedEvents)| {
                event.digests.get(*bank).is_some_and(|digest| entry.digests.contains(digest))
            };
            entries.iter().any(has)
        };
        let bank = entries.first().map(|(bank, _)| *bank);
        let harmless = |event: &BootEvent<'_>| bank.is_some_and(|bank| is_harmless(event, bank, register));
        self.of_register(register)
            .find(|event| !listed(event) && !harmless(event))
            .map(|event| format!("event {} ({})", event.number, event.event_type))
    }

    /// The bank of an entry's digests: of this length, signed, and what the log replays to.
    fn bank_of(&self, entry: &ExpectedEvents) -> Option<TpmHash> {
        let bytes = entry.digests.first()?.len();
        self.of(entry.register)
            .find(|comparison| comparison.matches() && comparison.signed.bank.digest_bytes() == bytes)
            .map(|comparison| comparison.signed.bank)
    }

    fn of(&self, register: Register) -> impl Iterator<Item = &'a Comparison<'a>> + use<'a> {
        self.comparisons.iter().filter(move |comparison| comparison.register == Some(register))
    }

    fn extending(&self) -> impl Iterator<Item = BootEvent<'a>> + use<'a> {
        self.log.events().filter(|event| event.event_type != EventType::NO_ACTION)
    }

    fn of_register(&self, register: Register) -> impl Iterator<Item = BootEvent<'a>> + use<'a> {
        let kind = self.kind;
        self.extending().filter(move |event| kind.at(event.index) == Some(register))
    }
}

/// One claim for the log and one for each signed register. Hardware vouches for a register's line only where the log
/// replays to it, and the line counts events by label: it repeats nothing that the log alone says.
fn claim_all(
    ledger: &mut Ledger,
    log: &BootLog<'_>,
    comparisons: &[Comparison<'_>],
    rows: &[BootLogRow],
    hardware: Voucher,
) {
    let format = match log.format() {
        LogFormat::CryptoAgile => "crypto-agile",
        LogFormat::Sha1 => "sha1",
    };
    ledger.claim("platform", "boot-log.format", format, Voucher::HostClaimed);
    for comparison in comparisons {
        let Some(register) = comparison.register else { continue };
        let name = format!("boot-log.{register}.{}", comparison.signed.bank.name());
        if !comparison.matches() {
            ledger.claim("platform", &name, "not what the log replays to", Voucher::HostClaimed);
            continue;
        }
        let of_register =
            |label| rows.iter().filter(|row| row.register == Some(register) && row.label == label).count();
        let counts = [
            EventLabel::DataBound,
            EventLabel::ContentBound,
            EventLabel::DigestBound,
            EventLabel::DataMismatch,
        ]
        .map(|label| format!("{} {label}", of_register(label)));
        ledger.claim("platform", &name, counts.join(", "), hardware);
    }
}
