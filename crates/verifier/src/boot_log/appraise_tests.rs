//! The rules about a log: one accepting log, and for each rule one that is refused by it alone.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{SHA256, SHA384, digest};
use casemate_evidence::{BootEvent, EventType, TpmHash, parse_boot_log};

use super::appraise::appraise;
use super::builder::{LogBuilder, partition_table, variable};
use super::label::EventLabel;
use super::label::crc32;
use super::register::{Measured, Register, RegisterKind, RegisterValue};
use super::table::{BootLogRow, boot_log_rows};
use crate::ledger::{Claim, Ledger, RuleResult, Voucher};
use crate::policy::{BootLogExpectations, BootLogPresence, DataMismatch, ExpectedEvents};

const KERNEL: &[u8] = b"kernel image";
const OTHER_KERNEL: &[u8] = b"some other kernel";
const CALLING: &[u8] = b"Calling EFI Application from Boot Option";
const EXIT: &[u8] = b"Exit Boot Services Invocation";
const APPLICATION: EventType = EventType::EFI_BOOT_SERVICES_APPLICATION;
/// Index of RTMR1 in a CCEL.
const RTMR1: u32 = 2;

fn register(name: &str) -> Register {
    Register::from_name(name).unwrap()
}

fn registers<const N: usize>(names: [&str; N]) -> BTreeSet<Register> {
    names.into_iter().map(register).collect()
}

fn sha384(of: &[u8]) -> Vec<u8> {
    digest(&SHA384, of).as_ref().to_vec()
}

/// A log of a TDX firmware that boots this kernel.
fn honest(kernel: &[u8]) -> LogBuilder {
    LogBuilder::ccel()
        .event(0, EventType::NO_ACTION, b"SP800-155 Event3")
        .measure(1, EventType::EFI_HANDOFF_TABLES2, b"the tables", b"\x08TdxTable")
        .event(1, EventType::EFI_VARIABLE_DRIVER_CONFIG, &variable("SecureBoot", &[1]))
        .event(1, EventType::SEPARATOR, &[0; 4])
        .event(RTMR1, EventType::EFI_ACTION, CALLING)
        .event(RTMR1, EventType::SEPARATOR, &[0; 4])
        .event(RTMR1, EventType::EFI_GPT_EVENT, &partition_table(3))
        .measure(RTMR1, APPLICATION, kernel, &[0; 32])
        .measure(3, EventType::IPL, b"root=/dev/vda", b"kernel_cmdline: root=/dev/vda\0")
        .event(RTMR1, EventType::EFI_ACTION, EXIT)
}

fn expectations() -> BootLogExpectations {
    BootLogExpectations {
        presence: BootLogPresence::Required,
        registers: registers(["rtmr0", "rtmr1", "rtmr2", "rtmr3"]),
        expect: vec![ExpectedEvents {
            register: register("rtmr1"),
            event: APPLICATION,
            digests: BTreeSet::from([sha384(KERNEL), sha384(b"yesterday's kernel")]),
        }],
        allow_unlisted: BTreeSet::new(),
        data_mismatch: DataMismatch::Refused,
    }
}

struct Outcome {
    rules: Vec<RuleResult>,
    claims: Vec<Claim>,
    rows: Vec<BootLogRow>,
}

impl Outcome {
    /// Rules that did not hold, with what was found.
    fn failed(&self) -> Vec<(&str, &str)> {
        let failed = self.rules.iter().filter(|rule| !rule.passed);
        failed.map(|rule| (rule.detail.rule.as_ref(), rule.detail.found.as_str())).collect()
    }

    fn failed_rules(&self) -> Vec<&str> {
        self.failed().into_iter().map(|(rule, _)| rule).collect()
    }
}

fn outcome(log: Option<&[u8]>, measured: Measured<'_>, expected: &BootLogExpectations) -> Outcome {
    let mut ledger = Ledger::new();
    let rows = appraise(&mut ledger, log, measured, expected, Voucher::Hardware);
    let (claims, rules) = ledger.into_parts();
    Outcome { rules, claims, rows }
}

fn appraised(log: &LogBuilder, expected: &BootLogExpectations) -> Outcome {
    log.measured_with(|measured| outcome(Some(&log.bytes), measured, expected))
}

#[test]
fn accepts_a_log_that_says_what_was_measured_and_expected() {
    let outcome = appraised(&honest(KERNEL), &expectations());
    let rules: Vec<&str> = outcome.rules.iter().map(|rule| rule.detail.rule.as_ref()).collect();
    let expected = [
        "boot-log.rtmr0",
        "boot-log.rtmr1",
        "boot-log.rtmr2",
        "boot-log.rtmr3",
        "boot-log.index",
        "boot-log.data",
        "boot-log.error",
        "boot-log.expect",
        "boot-log.unlisted",
    ];
    assert_eq!(rules, expected);
    assert_eq!(outcome.failed(), []);
    let labels: Vec<EventLabel> = outcome.rows.iter().map(|row| row.label).collect();
    let expected = [
        EventLabel::NotExtended,
        EventLabel::DigestBound,
        EventLabel::DataBound,
        EventLabel::DataBound,
        EventLabel::DataBound,
        EventLabel::DataBound,
        EventLabel::DataBound,
        EventLabel::DigestBound,
        EventLabel::ContentBound,
        EventLabel::DataBound,
    ];
    assert_eq!(labels, expected);
}

#[test]
fn hardware_vouches_for_what_replays_and_the_host_for_the_rest() {
    let log = honest(KERNEL).extend_unlogged(3, b"after the log was read");
    let outcome = appraised(&log, &expectations());
    let claim = |name: &str| {
        let claim = outcome.claims.iter().find(|claim| claim.name == name).unwrap();
        (claim.value.as_str(), claim.voucher)
    };
    assert_eq!(claim("boot-log.format"), ("crypto-agile", Voucher::HostClaimed));
    let rtmr1 = "4 data-bound, 0 content-bound, 1 digest-bound, 0 data-mismatch";
    assert_eq!(claim("boot-log.rtmr1.sha384"), (rtmr1, Voucher::Hardware));
    let rtmr2 = ("not what the log replays to", Voucher::HostClaimed);
    assert_eq!(claim("boot-log.rtmr2.sha384"), rtmr2);
}

#[test]
fn refuses_a_register_that_went_on_after_the_log() {
    for (index, rule) in [(1, "boot-log.rtmr0"), (3, "boot-log.rtmr2"), (4, "boot-log.rtmr3")] {
        let outcome = appraised(&honest(KERNEL).extend_unlogged(index, b"x"), &expectations());
        assert_eq!(outcome.failed_rules(), [rule]);
        let rows = outcome.rows.iter().filter(|row| row.index == index);
        assert!(rows.clone().all(|row| row.label == EventLabel::Unbound));
    }
}

#[test]
fn a_register_says_what_is_signed_and_what_the_log_replays_to() {
    let log = honest(KERNEL).extend_unlogged(4, b"x");
    let outcome = appraised(&log, &expectations());
    let rule = outcome.rules.iter().find(|rule| rule.detail.rule == "boot-log.rtmr3").unwrap();
    let signed = digest(&SHA384, &[&[0; 48][..], &sha384(b"x")].concat());
    assert_eq!(rule.detail.expected, format!("sha384:{}", hex::encode(signed)));
    assert_eq!(rule.detail.found, format!("sha384:{}", "00".repeat(48)));
}

#[test]
fn a_register_that_the_policy_does_not_name_is_not_asked_for() {
    let log = honest(KERNEL).extend_unlogged(4, b"an application's own events");
    let expected =
        BootLogExpectations { registers: registers(["rtmr0", "rtmr1", "rtmr2"]), ..expectations() };
    assert_eq!(appraised(&log, &expected).failed(), []);
}

#[test]
fn refuses_a_register_that_nothing_signs() {
    let log = honest(KERNEL);
    let none = Measured { kind: RegisterKind::Rtmr, values: &[] };
    let outcome = outcome(Some(&log.bytes), none, &expectations());
    let rules = ["boot-log.rtmr0", "boot-log.rtmr1", "boot-log.rtmr2", "boot-log.rtmr3"];
    assert_eq!(outcome.failed_rules(), [&rules[..], &["boot-log.expect", "boot-log.unlisted"]].concat());
    assert!(outcome.claims.iter().all(|claim| claim.voucher == Voucher::HostClaimed));
}

#[test]
fn each_kind_of_statement_is_judged_by_its_own_registers() {
    let both =
        BootLogExpectations { registers: registers(["rtmr0", "pcr7"]), expect: vec![], ..expectations() };
    assert_eq!(appraised(&honest(KERNEL), &both).failed(), []);
    let spoilt = honest(KERNEL).extend_unlogged(1, b"x");
    assert_eq!(appraised(&spoilt, &both).failed_rules(), ["boot-log.rtmr0"]);
    // Of a kind that the policy does not name, nothing would be asked: refused.
    let other = BootLogExpectations { registers: registers(["pcr7"]), expect: vec![], ..expectations() };
    let found = "one that names pcrs alone";
    assert_eq!(appraised(&honest(KERNEL), &other).failed(), [("boot-log.registers", found)]);
    let tpm = LogBuilder::new(RegisterKind::Pcr, &[TpmHash::Sha256]);
    let found = "one that names rtmrs alone";
    assert_eq!(appraised(&tpm, &expectations()).failed(), [("boot-log.registers", found)]);
}

#[test]
fn refuses_evidence_without_the_log_that_is_required() {
    let none = Measured { kind: RegisterKind::Rtmr, values: &[] };
    assert_eq!(outcome(None, none, &expectations()).failed(), [("boot-log.present", "none")]);
    let optional =
        BootLogExpectations { presence: BootLogPresence::Optional, expect: vec![], ..expectations() };
    let without = outcome(None, none, &optional);
    assert_eq!((without.failed(), without.rules.len()), (vec![], 1));
    // One that is there is judged all the same.
    assert_eq!(
        appraised(&honest(KERNEL).extend_unlogged(1, b"x"), &optional).failed_rules(),
        ["boot-log.rtmr0"]
    );
}

#[test]
fn refuses_what_is_no_log() {
    let log = honest(KERNEL);
    let cut = &log.bytes[..log.bytes.len() - 1];
    let outcome = log.measured_with(|measured| outcome(Some(cut), measured, &expectations()));
    let found = format!("event log ends at byte {} within event 10", cut.len());
    assert_eq!(outcome.failed(), [("boot-log.format", found.as_str())]);
    assert_eq!(outcome.rows, []);
}

#[test]
fn refuses_an_event_of_a_register_that_nothing_extends() {
    for index in [0, 5, u32::MAX - 1] {
        let log = honest(KERNEL).event(index, EventType::IPL, b"x");
        let found = format!("event 11 at index {index}");
        assert_eq!(appraised(&log, &expectations()).failed(), [("boot-log.index", found.as_str())]);
    }
    let log = honest(KERNEL).event(0, EventType::NO_ACTION, b"x").event(5, EventType::NO_ACTION, b"x");
    assert_eq!(appraised(&log, &expectations()).failed(), []);
}

#[test]
fn refuses_data_that_is_not_what_was_measured_unless_the_policy_allows_it() {
    let secure_boot = |value| variable("SecureBoot", &[value]);
    let log = LogBuilder::ccel()
        .measure(1, EventType::EFI_VARIABLE_DRIVER_CONFIG, &secure_boot(0), &secure_boot(1))
        .measure(1, EventType::EFI_ACTION, b"UEFI Debug Mode", CALLING);
    let expected = BootLogExpectations { expect: vec![], ..expectations() };
    let outcome = appraised(&log, &expected);
    let found = "event 1 (EV_EFI_VARIABLE_DRIVER_CONFIG) of rtmr0 with other data, and 1 more";
    assert_eq!(outcome.failed(), [("boot-log.data", found)]);
    assert!(outcome.rows.iter().all(|row| row.label == EventLabel::DataMismatch));
    let allowed = BootLogExpectations { data_mismatch: DataMismatch::Allowed, ..expected.clone() };
    assert_eq!(appraised(&log, &allowed).failed(), []);
    // Not of a register that the policy asks about.
    let other = BootLogExpectations { registers: registers(["rtmr1"]), ..expected };
    assert_eq!(appraised(&log, &other).failed(), []);
}

#[test]
fn refuses_firmware_that_measured_an_error_whatever_the_log_calls_it() {
    let error = [1, 0, 0, 0];
    for log in [
        honest(KERNEL).event(1, EventType::SEPARATOR, &error),
        honest(KERNEL).measure(1, EventType::PLATFORM_CONFIG_FLAGS, &error, b"ACPI DATA"),
    ] {
        assert_eq!(appraised(&log, &expectations()).failed(), [("boot-log.error", "event 11")]);
    }
    // A real machine measures the content 1, 0 of its BootOrder, which has the same digest.
    let order = variable("BootOrder", &error);
    let log = honest(KERNEL).measure(1, EventType::EFI_VARIABLE_BOOT, &error, &order);
    assert_eq!(appraised(&log, &expectations()).failed(), []);
}

#[test]
fn refuses_an_event_that_has_another_digest_than_those_expected() {
    let outcome = appraised(&honest(OTHER_KERNEL), &expectations());
    let found = format!("event 8 with sha384:{}", hex::encode(sha384(OTHER_KERNEL)));
    let unlisted = "event 8 (EV_EFI_BOOT_SERVICES_APPLICATION)";
    let expected = [("boot-log.expect", found.as_str()), ("boot-log.unlisted", unlisted)];
    assert_eq!(outcome.failed(), expected);
}

#[test]
fn refuses_a_second_event_beside_the_one_expected() {
    let log = honest(KERNEL).measure(RTMR1, APPLICATION, OTHER_KERNEL, &[0; 32]);
    assert_eq!(appraised(&log, &expectations()).failed_rules(), ["boot-log.expect", "boot-log.unlisted"]);
    let log = honest(KERNEL).measure(RTMR1, APPLICATION, KERNEL, &[0; 32]);
    assert_eq!(appraised(&log, &expectations()).failed(), []);
}

#[test]
fn refuses_a_log_without_an_event_that_is_expected() {
    let log = LogBuilder::ccel().event(RTMR1, EventType::EFI_ACTION, CALLING);
    assert_eq!(appraised(&log, &expectations()).failed(), [("boot-log.expect", "no such event")]);
}

#[test]
fn an_event_cannot_hide_under_another_type() {
    for event in [
        EventType::IPL,
        EventType::PLATFORM_CONFIG_FLAGS,
        EventType::EFI_VARIABLE_BOOT,
        EventType::S_CRTM_VERSION,
        EventType(0x8000_1234),
    ] {
        let log = honest(KERNEL).measure(RTMR1, event, OTHER_KERNEL, b"harmless");
        let found = format!("event 11 ({event})");
        assert_eq!(appraised(&log, &expectations()).failed(), [("boot-log.unlisted", found.as_str())]);
    }
    // Data that hashes to the digest does not help: it is no separator, no passing action, no partition table.
    for event in [EventType::SEPARATOR, EventType::EFI_ACTION, EventType::EFI_GPT_EVENT] {
        let log = honest(KERNEL).event(RTMR1, event, OTHER_KERNEL);
        assert_eq!(appraised(&log, &expectations()).failed_rules(), ["boot-log.unlisted"], "{event}");
    }
    // And what is shaped like one does not help where the digest is of something else.
    for (event, data) in [(EventType::SEPARATOR, &[0; 4][..]), (EventType::EFI_ACTION, EXIT)] {
        let log = honest(KERNEL).measure(RTMR1, event, OTHER_KERNEL, data);
        let rules = ["boot-log.data", "boot-log.unlisted"];
        assert_eq!(appraised(&log, &expectations()).failed_rules(), rules, "{event}");
    }
}

#[test]
fn a_policy_can_allow_unlisted_events_of_a_register() {
    let log = honest(KERNEL).measure(RTMR1, EventType::IPL, OTHER_KERNEL, b"harmless");
    let allowed = BootLogExpectations { allow_unlisted: registers(["rtmr1"]), ..expectations() };
    assert_eq!(appraised(&log, &allowed).failed(), []);
    let other = BootLogExpectations { allow_unlisted: registers(["rtmr0"]), ..expectations() };
    assert_eq!(appraised(&log, &other).failed_rules(), ["boot-log.unlisted"]);
}

#[test]
fn what_passes_unlisted_says_nothing_of_what_runs() {
    let passes = |event: EventType, data: &[u8]| {
        let log = honest(KERNEL).event(RTMR1, event, data);
        appraised(&log, &expectations()).failed_rules().is_empty()
    };
    assert!(passes(EventType::SEPARATOR, &[0; 4]));
    assert!(passes(EventType::SEPARATOR, &[0xff; 4]));
    assert!(!passes(EventType::SEPARATOR, &[0; 5]));
    assert!(!passes(EventType::SEPARATOR, b"WBCL"));
    assert!(passes(EventType::EFI_ACTION, b"Returning from EFI Application from Boot Option"));
    assert!(!passes(EventType::EFI_ACTION, b"UEFI Debug Mode"));
    assert!(passes(EventType::EFI_GPT_EVENT, &partition_table(0)));
    assert!(passes(EventType::EFI_GPT_EVENT, &partition_table(12)));
    let mut table = partition_table(1);
    table.push(0);
    assert!(!passes(EventType::EFI_GPT_EVENT, &table));
    // Signature, revision, size, CRC-32, the zero field, and what only the CRC-32 covers.
    for at in [0, 8, 12, 16, 20, 24, 91] {
        let mut table = partition_table(1);
        table[at] ^= 0x40;
        assert!(!passes(EventType::EFI_GPT_EVENT, &table), "{at}");
    }
    for at in [8, 12, 20] {
        let mut table = partition_table(1);
        table[at] ^= 0x40;
        table[16..20].fill(0);
        let crc = crc32(&table[..92]);
        table[16..20].copy_from_slice(&crc.to_le_bytes());
        assert!(!passes(EventType::EFI_GPT_EVENT, &table), "{at} under its own CRC-32");
    }
    let mut table = partition_table(1);
    table[92..100].fill(0xff);
    assert!(!passes(EventType::EFI_GPT_EVENT, &table));
    assert!(!passes(EventType::EFI_VARIABLE_DRIVER_CONFIG, &variable("db", b"certificates")));
}

#[test]
fn every_bank_that_is_signed_must_replay() {
    let banks = [TpmHash::Sha1, TpmHash::Sha256];
    let log = LogBuilder::new(RegisterKind::Pcr, &banks).event(4, APPLICATION, KERNEL);
    let expected = BootLogExpectations {
        registers: registers(["pcr4"]),
        expect: vec![ExpectedEvents {
            register: register("pcr4"),
            event: APPLICATION,
            digests: BTreeSet::from([digest(&SHA256, KERNEL).as_ref().to_vec()]),
        }],
        ..expectations()
    };
    assert_eq!(appraised(&log, &expected).failed(), []);
    // Expectations in a bank that is not signed.
    let sha384 = BootLogExpectations {
        expect: vec![ExpectedEvents {
            digests: BTreeSet::from([sha384(KERNEL)]),
            ..expected.expect[0].clone()
        }],
        ..expected.clone()
    };
    let rules = ["boot-log.expect", "boot-log.unlisted"];
    assert_eq!(appraised(&log, &sha384).failed_rules(), rules);
    // One bank of two that is something else.
    log.measured_with(|measured| {
        for bank in banks {
            let spoilt: Vec<RegisterValue<'_>> = measured
                .values
                .iter()
                .map(|value| match (value.bank == bank, value.number) {
                    (true, 4) => RegisterValue { value: &[9; 20], ..*value },
                    _ => *value,
                })
                .collect();
            let spoilt = Measured { values: &spoilt, ..measured };
            let outcome = outcome(Some(&log.bytes), spoilt, &expected);
            assert_eq!(outcome.failed_rules()[0], "boot-log.pcr4", "{bank:?}");
        }
    });
}

#[test]
fn sha1_alone_is_shown_and_never_enough() {
    let log = LogBuilder::new(RegisterKind::Pcr, &[TpmHash::Sha1]).event(4, EventType::SEPARATOR, &[0; 4]);
    let expected = BootLogExpectations { registers: registers(["pcr4"]), expect: vec![], ..expectations() };
    let outcome = appraised(&log, &expected);
    assert_eq!(outcome.failed(), [("boot-log.pcr4", "one of SHA-1 alone")]);
    assert_eq!((outcome.rows[0].bank, outcome.rows[0].label), (Some(TpmHash::Sha1), EventLabel::DataBound));
}

#[test]
fn a_bank_that_cannot_be_replayed_is_refused_and_said_so() {
    let log = LogBuilder::new(RegisterKind::Pcr, &[TpmHash::Sm3]).event(4, APPLICATION, KERNEL);
    let expected = BootLogExpectations { registers: registers(["pcr4"]), expect: vec![], ..expectations() };
    let outcome = appraised(&log, &expected);
    let found = "a bank of sm3_256 digests, which cannot be replayed here";
    assert_eq!(outcome.failed(), [("boot-log.pcr4", found)]);
    assert_eq!(outcome.rows[0].label, EventLabel::Unbound);
    let sha1 = LogBuilder::new(RegisterKind::Pcr, &[TpmHash::Sha1]).event(4, APPLICATION, KERNEL);
    let stated = [RegisterValue { number: 4, bank: TpmHash::Sha256, value: &[0; 32] }];
    let measured = Measured { kind: RegisterKind::Pcr, values: &stated };
    let outcome = self::outcome(Some(&sha1.bytes), measured, &expected);
    assert_eq!(outcome.failed(), [("boot-log.pcr4", "a log without sha256 digests")]);
}

#[test]
fn the_table_is_bound_by_the_longest_digest_that_is_signed() {
    let banks = [TpmHash::Sha1, TpmHash::Sha256, TpmHash::Sha384];
    let log = LogBuilder::new(RegisterKind::Pcr, &banks).event(7, EventType::SEPARATOR, &[0; 4]);
    log.measured_with(|measured| {
        let rows = |banks: &[TpmHash]| {
            let of = measured.values.iter().copied().filter(|value| banks.contains(&value.bank));
            let values: Vec<RegisterValue<'_>> = of.collect();
            boot_log_rows(&log.bytes, Measured { values: &values, ..measured }).unwrap().remove(0)
        };
        let row = rows(&banks);
        assert_eq!((row.bank, row.label), (Some(TpmHash::Sha384), EventLabel::DataBound));
        assert_eq!(row.digest, sha384(&[0; 4]));
        assert_eq!(rows(&banks[..2]).bank, Some(TpmHash::Sha256));
        assert_eq!(rows(&banks[..1]).bank, Some(TpmHash::Sha1));
        assert_eq!(rows(&[]).label, EventLabel::Unbound);
    });
}

/// Which part of which event each byte after the header belongs to.
fn parts_of(log: &LogBuilder) -> Vec<(usize, &'static str)> {
    let parsed = parse_boot_log(&log.bytes).unwrap();
    let lengths = |event: &BootEvent<'_>| {
        [
            ("index", 4),
            ("type", 4),
            ("framing", 6),
            ("digest", 48),
            ("framing", 4),
            ("data", event.data.len()),
        ]
    };
    let of_event = |event: BootEvent<'_>| {
        let parts = lengths(&event).into_iter();
        parts.flat_map(|(part, length)| vec![(event.number, part); length]).collect::<Vec<_>>()
    };
    parsed.events().flat_map(of_event).collect()
}

#[test]
fn every_byte_that_a_register_covers_is_refused_where_it_is_changed() {
    let log = honest(KERNEL);
    let begin = LogBuilder::ccel().bytes.len();
    let parts = parts_of(&log);
    assert_eq!(parts.len(), log.bytes.len() - begin);
    let mut passed = BTreeSet::new();
    for (place, (number, part)) in parts.into_iter().enumerate() {
        let mut bytes = log.bytes.clone();
        bytes[begin + place] ^= 1;
        let outcome = log.measured_with(|measured| outcome(Some(&bytes), measured, &expectations()));
        if outcome.failed().is_empty() {
            passed.insert((number, part));
        }
    }
    // What passes is what nothing covers: EV_NO_ACTION, the types of events in a register where the policy expects no
    // single event, and data whose digest is of something else. In RTMR1 and in data that is hashed, nothing passes.
    let uncovered = [
        (1, "data"),
        (1, "digest"),
        (1, "index"),
        (2, "data"),
        (2, "type"),
        (3, "type"),
        (4, "type"),
        (8, "data"),
        (9, "data"),
        (9, "type"),
    ];
    assert_eq!(passed, BTreeSet::from(uncovered));
}

/// dstack, Bluethroat 6/6: a log replayed, and the names and payloads of its events were taken for verified.
#[test]
fn past_bug_04_a_forged_payload_beside_an_extended_digest_is_not_verified() {
    let log = LogBuilder::ccel()
        .measure(1, EventType::EFI_PLATFORM_FIRMWARE_BLOB2, b"bad firmware", b"\x0dgood firmware")
        .measure(3, EventType::IPL, b"init=/bin/sh", b"kernel_cmdline: init=/sbin/init\0")
        .measure(4, EventType(0x0800_0001), b"app-id: evil", b"app-id: good");
    let expected = BootLogExpectations { expect: vec![], ..expectations() };
    let outcome = appraised(&log, &expected);
    // It replays: these digests were extended.
    assert_eq!(outcome.failed(), []);
    for row in &outcome.rows {
        assert_eq!(row.label, EventLabel::DigestBound, "{row:?}");
    }
    // Nothing of the payloads becomes a claim, whoever would vouch for it.
    for claim in &outcome.claims {
        assert!(!claim.value.contains("good") && !claim.value.contains("init"), "{claim:?}");
    }
}

/// tpm2-tools #2247 and #2264: the data and type of an event that replays were shown as if they were bound.
#[test]
fn past_bug_14_the_type_and_the_data_of_an_event_are_not_bound_by_replay() {
    let secure_boot_off = variable("SecureBoot", &[0]);
    // The real event under another type, and its digest again under its own type with other data.
    let forged = LogBuilder::ccel()
        .measure(1, EventType::PLATFORM_CONFIG_FLAGS, &secure_boot_off, b"ACPI DATA")
        .event(RTMR1, APPLICATION, OTHER_KERNEL);
    let honest = LogBuilder::ccel().event(1, EventType::EFI_VARIABLE_DRIVER_CONFIG, &secure_boot_off).event(
        RTMR1,
        EventType::IPL,
        OTHER_KERNEL,
    );
    let expected = BootLogExpectations { expect: vec![], ..expectations() };
    // Both replay to the same registers.
    let of_honest = honest.measured_with(|measured| outcome(Some(&forged.bytes), measured, &expected));
    assert_eq!(of_honest.failed(), []);
    let labels: Vec<EventLabel> = of_honest.rows.iter().map(|row| row.label).collect();
    assert_eq!(labels, [EventLabel::DigestBound, EventLabel::DigestBound]);
    // A policy that expects something of the register is not fooled by either type.
    for log in [&forged, &honest] {
        let outcome = honest.measured_with(|measured| outcome(Some(&log.bytes), measured, &expectations()));
        assert!(outcome.failed_rules().contains(&"boot-log.unlisted"));
        assert!(outcome.failed_rules().contains(&"boot-log.expect"));
    }
    // Data under a type that hashes it is told apart from what was measured.
    let lied = LogBuilder::ccel().claim(
        1,
        EventType::EFI_VARIABLE_DRIVER_CONFIG,
        &secure_boot_off,
        &variable("SecureBoot", &[1]),
    );
    let measured = LogBuilder::ccel().event(1, EventType::EFI_VARIABLE_DRIVER_CONFIG, &secure_boot_off);
    let outcome = measured.measured_with(|measured| outcome(Some(&lied.bytes), measured, &expected));
    assert_eq!(outcome.failed_rules(), ["boot-log.data"]);
    assert_eq!(outcome.rows[0].label, EventLabel::DataMismatch);
}

#[test]
fn a_command_that_begins_as_a_partition_table_is_not_hidden_by_another_type() {
    // The kernel's EFI stub measures its load options, UTF-16, and reads no further than a zero.
    let mut options = b"EFI PART".to_vec();
    options.extend(" init=/bin/sh rw".encode_utf16().flat_map(u16::to_le_bytes));
    while options.len() < 92 {
        options.extend([0x20, 0]);
    }
    options.extend([0; 8]);
    for (index, name) in [(RTMR1, "rtmr1"), (3, "rtmr2")] {
        let expected = BootLogExpectations {
            expect: vec![ExpectedEvents {
                register: register(name),
                event: EventType::IPL,
                digests: BTreeSet::from([sha384(b"root=/dev/vda")]),
            }],
            ..expectations()
        };
        let honest = LogBuilder::ccel().measure(
            index,
            EventType::IPL,
            b"root=/dev/vda",
            b"kernel_cmdline: root=/dev/vda\0",
        );
        assert_eq!(appraised(&honest, &expected).failed(), []);
        for event in [EventType::EVENT_TAG, EventType::EFI_GPT_EVENT] {
            let log = honest.clone().event(index, event, &options);
            assert_eq!(appraised(&log, &expected).failed_rules(), ["boot-log.unlisted"], "{name} {event}");
        }
    }
}

#[test]
fn a_partition_table_is_harmless_only_where_firmware_measures_those() {
    let failed = |kind: RegisterKind, index: u32, name: &str| {
        let bank = if kind == RegisterKind::Rtmr { TpmHash::Sha384 } else { TpmHash::Sha256 };
        let log = LogBuilder::new(kind, &[bank]).event(index, APPLICATION, KERNEL).event(
            index,
            EventType::EFI_GPT_EVENT,
            &partition_table(3),
        );
        let digest = if kind == RegisterKind::Rtmr {
            sha384(KERNEL)
        } else {
            digest(&SHA256, KERNEL).as_ref().to_vec()
        };
        let expected = BootLogExpectations {
            registers: registers([name]),
            expect: vec![ExpectedEvents {
                register: register(name),
                event: APPLICATION,
                digests: BTreeSet::from([digest]),
            }],
            ..expectations()
        };
        appraised(&log, &expected).failed_rules().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    for number in 0..24 {
        let rules: &[&str] = if number == 5 { &[] } else { &["boot-log.unlisted"] };
        assert_eq!(failed(RegisterKind::Pcr, number, &format!("pcr{number}")), rules, "{number}");
    }
    for number in 0..4 {
        let rules: &[&str] = if number == 1 { &[] } else { &["boot-log.unlisted"] };
        assert_eq!(failed(RegisterKind::Rtmr, number + 1, &format!("rtmr{number}")), rules, "{number}");
    }
}

#[test]
fn a_crc_32_is_the_one_of_the_specification() {
    assert_eq!(crc32(b""), 0);
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}
