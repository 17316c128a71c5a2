//! Logs of real machines: what they replay to, and what is wrong with some of them.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use casemate_evidence::{BootLogError, EventType, LogFormat, TpmHash, parse_boot_log, parse_tdx_quote};

use super::label::EventLabel;
use super::register::{Measured, Register, RegisterKind, RegisterValue};
use super::replay::{Replay, ReplayError};
use super::table::{BootLogRow, boot_log_rows};
use casemate_testkit::vectors;

const TPM_LOGS: &str = "go-eventlog/testdata/eventlogs/tpm";
const CCELS: &str = "go-eventlog/testdata/eventlogs/ccel";
const OLD_LOGS: &str = "go-eventlog/testdata/legacydata";
const COS_113_CCEL: &str = "go-tdx-guest/testing/testdata/ccel/ccel_data.dat";
const COS_113_QUOTE: &str = "go-tdx-guest/testing/testdata/ccel/cos-113-tdx-quote.dat";

/// A row of the folder's index about a log.
struct IndexRow {
    file: String,
    kind: RegisterKind,
    events: usize,
    banks: Vec<String>,
    registers: Vec<(Register, String)>,
}

fn index(folder: &Path) -> Vec<IndexRow> {
    let text = String::from_utf8(vectors::read(folder, "INDEX.md")).unwrap();
    let mut section = "";
    let mut rows = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.split(' ').next().unwrap();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, file, what, _, known, ..] = cells[..] else { continue };
        let Some(what) = what.strip_prefix("TCG event log ") else { continue };
        let parts: Vec<&str> = what.split(", ").collect();
        let kind = if parts[0] == "CCEL" { RegisterKind::Rtmr } else { RegisterKind::Pcr };
        let registers = known.split("; ").filter(|known| !known.is_empty()).map(|known| {
            let (name, prefix) = known.split_once(' ').unwrap();
            (Register::from_name(&name.to_lowercase()).unwrap(), prefix.to_owned())
        });
        rows.push(IndexRow {
            file: format!("{section}/{file}"),
            kind,
            events: parts[1].trim_end_matches(" events").parse().unwrap(),
            banks: parts[2].trim_start_matches("digests ").split(',').map(str::to_owned).collect(),
            registers: registers.collect(),
        });
    }
    rows
}

#[test]
fn every_log_replays_to_what_the_index_says() {
    let Some(folder) = vectors::folder("every_log_replays_to_what_the_index_says") else { return };
    let rows = index(&folder);
    assert!(rows.len() >= 27, "only {} logs in the index", rows.len());
    // The index leaves the startup locality out. These begin at locality 3; for the first, the value of the real PCR
    // was published (go-tpm-tools, server/eventlog_test.go).
    let with_locality = [("glinux-alex.bin", "0e5ea849d764"), ("gdc-host.bin", "dab77c454bd1")];
    for row in rows {
        let bytes = vectors::read(&folder, &row.file);
        let log = parse_boot_log(&bytes).unwrap_or_else(|error| panic!("{}: {error}", row.file));
        assert_eq!(log.format(), LogFormat::CryptoAgile, "{}", row.file);
        assert_eq!(log.event_count(), row.events, "{}", row.file);
        let banks: Vec<String> = log.banks().map(|bank| bank.to_string()).collect();
        let expected: Vec<String> = row.banks.iter().map(|bank| bank.replace("sm3", "sm3_256")).collect();
        assert_eq!(banks, expected, "{}", row.file);
        let bank = TpmHash::ALL.into_iter().rfind(|bank| row.banks.iter().any(|of| of == bank.name()));
        let Some(bank) = bank else {
            let sm3 = Err(ReplayError::NotComputed { bank: TpmHash::Sm3 });
            assert_eq!(Replay::of(&log, row.kind, TpmHash::Sm3), sm3, "{}", row.file);
            continue;
        };
        let replay = Replay::of(&log, row.kind, bank).unwrap();
        assert!(!row.registers.is_empty(), "{}", row.file);
        for (register, mut prefix) in row.registers {
            let special = with_locality.iter().find(|(file, _)| row.file.ends_with(file));
            if let Some((_, real)) = special.filter(|_| register.number() == 0) {
                (*real).clone_into(&mut prefix);
            }
            let found = hex::encode(replay.value(register).unwrap());
            assert!(found.starts_with(&prefix), "{} {register}: {found}, not {prefix}", row.file);
        }
    }
}

/// A log, a bank, and how the values of some of its registers begin.
type Published = (&'static str, TpmHash, &'static [(u8, &'static str)]);

/// Values that the TPMs of these machines had, as published with the logs (go-tpm-tools, server/eventlog_test.go).
const PUBLISHED: [Published; 13] = [
    (
        "rhel8-uefi.bin",
        TpmHash::Sha1,
        &[
            (0, "0f2d3a2a1ada"),
            (4, "7fbe2df30156"),
            (5, "3258daa13f4c"),
            (7, "d7a632f8990b"),
            (14, "1f5149668c40"),
        ],
    ),
    (
        "rhel8-uefi.bin",
        TpmHash::Sha256,
        &[
            (0, "24af52a4f429"),
            (4, "758a3d35f1b0"),
            (5, "53d0ee361632"),
            (8, "25c3874041eb"),
            (9, "d43b2f61eb18"),
        ],
    ),
    (
        "ubuntu-1804-amd-sev.bin",
        TpmHash::Sha1,
        &[(0, "c032c3b51dbb"), (1, "35f38e5ce907"), (7, "6530ed2dcba6")],
    ),
    (
        "ubuntu-1804-amd-sev.bin",
        TpmHash::Sha256,
        &[(0, "0f35c214608d"), (5, "0b75168095fd"), (9, "2d334f1eeb9a")],
    ),
    (
        "ubuntu-2104-no-dbx.bin",
        TpmHash::Sha256,
        &[(0, "24af52a4f429"), (4, "295aeaeacad1"), (7, "ca37324eeffa")],
    ),
    ("ubuntu-2104-no-secure-boot.bin", TpmHash::Sha256, &[(5, "47715f9f2c10"), (7, "0d8847bc5eca")]),
    ("glinux-alex.bin", TpmHash::Sha1, &[(0, "29d236609a5f"), (2, "0c8ef58d40b8"), (7, "9221b8fc57b6")]),
    ("glinux-alex.bin", TpmHash::Sha256, &[(0, "0e5ea849d764"), (4, "ddb124ca9013"), (7, "9d1be46302bc")]),
    (
        "arch-linux-workstation.bin",
        TpmHash::Sha256,
        &[(0, "758b773d94fe"), (4, "925d453d3dfe"), (8, "47591b43af43")],
    ),
    (
        "debian-10.bin",
        TpmHash::Sha1,
        &[
            (0, "0f2d3a2a1ada"),
            (1, "b1676439cac1"),
            (4, "1eb30816474a"),
            (5, "019079179dbc"),
            (7, "9e6c57e850f3"),
        ],
    ),
    ("cos-85-amd-sev.bin", TpmHash::Sha256, &[(4, "d690bdac2aa8"), (7, "3365d7fa2b02"), (9, "f4f2d92d6d54")]),
    ("cos-93-amd-sev.bin", TpmHash::Sha1, &[(4, "1e4b998edfb4"), (7, "42e669233f0e"), (8, "ec84952e0c5c")]),
    (
        "cos-101-amd-sev.bin",
        TpmHash::Sha256,
        &[(5, "d1a1ab23a5c3"), (7, "2bc6edaa921f"), (14, "d0d95459205a")],
    ),
];

#[test]
fn logs_replay_to_the_values_that_their_tpms_had() {
    let Some(folder) = vectors::folder("logs_replay_to_the_values_that_their_tpms_had") else { return };
    for (file, bank, registers) in PUBLISHED {
        let bytes = vectors::read(&folder, &format!("{TPM_LOGS}/{file}"));
        let log = parse_boot_log(&bytes).unwrap();
        let replay = Replay::of(&log, RegisterKind::Pcr, bank).unwrap();
        for (number, prefix) in registers {
            let register = Register::new(RegisterKind::Pcr, *number).unwrap();
            let found = hex::encode(replay.value(register).unwrap());
            assert!(found.starts_with(prefix), "{file} {} {register}: {found}, not {prefix}", bank.name());
        }
    }
}

fn rows_against_quote(folder: &Path, log: &str, quote: &str) -> (Vec<BootLogRow>, [bool; 4]) {
    let quote = vectors::read(folder, quote);
    let quote = parse_tdx_quote(&quote).unwrap();
    let log = vectors::read(folder, log);
    let mut number = 0;
    let values = quote.body.rtmr.map(|value| {
        number += 1;
        RegisterValue { number: number - 1, bank: TpmHash::Sha384, value }
    });
    let measured = Measured { kind: RegisterKind::Rtmr, values: &values };
    let parsed = parse_boot_log(&log).unwrap();
    let comparisons = super::replay::compare(&parsed, measured);
    let matches: Vec<bool> = comparisons.iter().map(super::replay::Comparison::matches).collect();
    (boot_log_rows(&log, measured).unwrap(), matches.try_into().unwrap())
}

fn count(rows: &[BootLogRow], label: EventLabel) -> usize {
    rows.iter().filter(|row| row.label == label).count()
}

#[test]
fn a_real_ccel_replays_to_the_quote_of_its_boot() {
    let Some(folder) = vectors::folder("a_real_ccel_replays_to_the_quote_of_its_boot") else { return };
    let (rows, matches) = rows_against_quote(&folder, COS_113_CCEL, COS_113_QUOTE);
    assert_eq!(matches, [true; 4]);
    assert_eq!(rows.len(), 43);
    assert_eq!(count(&rows, EventLabel::Unbound), 0);
    assert_eq!(count(&rows, EventLabel::DataMismatch), 0);
    let row = |number: usize| {
        let row = &rows[number - 1];
        assert_eq!(row.number, number);
        (row.register.unwrap().to_string(), row.event_type.to_string(), row.label, row.text.clone())
    };
    let expected = |register: &str, event: &str, label: EventLabel, text: &str| {
        (register.to_owned(), event.to_owned(), label, text.to_owned())
    };
    let (data, content, digest) = (EventLabel::DataBound, EventLabel::ContentBound, EventLabel::DigestBound);
    assert_eq!(row(1), expected("rtmr0", "EV_EFI_HANDOFF_TABLES2", digest, "TdxTable"));
    assert_eq!(row(3), expected("rtmr0", "EV_EFI_VARIABLE_DRIVER_CONFIG", data, "SecureBoot = 00"));
    assert_eq!(row(8), expected("rtmr0", "EV_SEPARATOR", data, "00000000"));
    assert_eq!(row(9), expected("rtmr0", "EV_PLATFORM_CONFIG_FLAGS", digest, "ACPI DATA"));
    assert_eq!(row(12), expected("rtmr0", "EV_EFI_VARIABLE_BOOT", content, "BootOrder, 4 bytes"));
    assert_eq!(row(17), expected("rtmr1", "EV_EFI_GPT_EVENT", data, "12 partitions"));
    assert_eq!(row(18).2, digest);
    assert_eq!(
        row(24),
        expected("rtmr1", "EV_EFI_BOOT_SERVICES_APPLICATION", digest, r"\EFI\BOOT\grub-lakitu.efi")
    );
    assert_eq!(row(38), expected("rtmr2", "EV_IPL", content, "grub_cmd: setparams verified image A"));
    assert_eq!(row(40), expected("rtmr2", "EV_IPL", digest, "/syslinux/vmlinuz.A"));
    assert_eq!(row(41).2, content);
    assert!(row(41).3.starts_with("kernel_cmdline: /syslinux/vmlinuz.A init="));
    assert_eq!(row(43), expected("rtmr1", "EV_EFI_ACTION", data, "Exit Boot Services Returned with Success"));
}

#[test]
fn a_repeated_separator_breaks_the_registers_it_is_in() {
    let Some(folder) = vectors::folder("a_repeated_separator_breaks_the_registers_it_is_in") else { return };
    for file in ["cos-113-intel-tdx-dupe-separator.bin", "cos-113-intel-tdx-dupe-separator-unpadded.bin"] {
        let (rows, matches) = rows_against_quote(&folder, &format!("{CCELS}/{file}"), COS_113_QUOTE);
        assert_eq!(matches, [false, false, true, true], "{file}");
        for row in rows {
            let broken = row.register.is_some_and(|register| register.number() < 2);
            assert_eq!(row.label == EventLabel::Unbound, broken, "{file}: {row:?}");
        }
    }
}

#[test]
fn a_log_of_another_boot_binds_only_what_both_boots_share() {
    let Some(folder) = vectors::folder("a_log_of_another_boot_binds_only_what_both_boots_share") else {
        return;
    };
    let (rows, matches) = rows_against_quote(
        &folder,
        "dstack/dstack/cc-eventlog/samples/ccel.bin",
        "_extracted/phala-quote-from-tappd.quote.bin",
    );
    assert_eq!(matches, [true, false, true, false]);
    for row in rows {
        let rtmr1 = row.register == Register::new(RegisterKind::Rtmr, 1);
        assert_eq!(row.label == EventLabel::Unbound, rtmr1, "{row:?}");
    }
}

#[test]
fn an_event_of_mrtd_is_no_event_of_a_register() {
    let Some(folder) = vectors::folder("an_event_of_mrtd_is_no_event_of_a_register") else { return };
    let log = vectors::read(&folder, "trustee/deps/eventlog/test_data/CCEL_data_grub_gke");
    let rows = boot_log_rows(&log, Measured { kind: RegisterKind::Rtmr, values: &[] }).unwrap();
    let of_mrtd: Vec<&BootLogRow> = rows.iter().filter(|row| row.index == 0).collect();
    assert_eq!(of_mrtd.len(), 2);
    for row in of_mrtd {
        assert_eq!((row.register, row.label), (None, EventLabel::NotExtended));
        assert_eq!(row.text, "SP800-155 Event3");
    }
}

/// The table of a TPM's log against its own replay: what the labels say of firmware that is honest.
fn own_rows(log: &[u8], bank: TpmHash) -> Vec<BootLogRow> {
    let parsed = parse_boot_log(log).unwrap();
    let replay = Replay::of(&parsed, RegisterKind::Pcr, bank).unwrap();
    let registers = (0..24).map(|number| Register::new(RegisterKind::Pcr, number).unwrap());
    let values: Vec<RegisterValue<'_>> = registers
        .map(|register| RegisterValue {
            number: register.number(),
            bank,
            value: replay.value(register).unwrap(),
        })
        .collect();
    boot_log_rows(log, Measured { kind: RegisterKind::Pcr, values: &values }).unwrap()
}

#[test]
fn firmware_that_logs_other_data_than_it_measures_is_told() {
    let Some(folder) = vectors::folder("firmware_that_logs_other_data_than_it_measures_is_told") else {
        return;
    };
    let mismatches = |file: &str| -> Vec<usize> {
        let log = vectors::read(&folder, file);
        let rows = own_rows(&log, TpmHash::Sha256);
        let of = rows.iter().filter(|row| row.label == EventLabel::DataMismatch);
        of.inspect(|row| assert_eq!(row.event_type, EventType::EFI_VARIABLE_AUTHORITY, "{file}: {row:?}"))
            .map(|row| row.number)
            .collect()
    };
    assert_eq!(mismatches(&format!("{OLD_LOGS}/sb_cert_eventlog")).len(), 2);
    assert_eq!(mismatches(&format!("{TPM_LOGS}/cos-85-amd-sev.bin")).len(), 2);
    assert_eq!(mismatches(&format!("{TPM_LOGS}/cos-93-amd-sev.bin")).len(), 2);
    assert!(mismatches(&format!("{TPM_LOGS}/cos-101-amd-sev.bin")).is_empty());
    assert!(mismatches(&format!("{TPM_LOGS}/rhel8-uefi.bin")).is_empty());
}

#[test]
fn logs_of_the_older_layout_are_read() {
    let Some(folder) = vectors::folder("logs_of_the_older_layout_are_read") else { return };
    let cases = [
        (format!("{TPM_LOGS}/debian-10.bin"), None),
        (format!("{OLD_LOGS}/ebs_event_missing_eventlog"), None),
        (format!("{OLD_LOGS}/option_rom_eventlog"), None),
        (format!("{OLD_LOGS}/short_no_action_eventlog"), Some(1)),
    ];
    for (file, count) in cases {
        let bytes = vectors::read(&folder, &file);
        let log = parse_boot_log(&bytes).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(log.format(), LogFormat::Sha1, "{file}");
        assert!(count.is_none_or(|count| count == log.event_count()), "{file}");
        assert_eq!(
            Replay::of(&log, RegisterKind::Pcr, TpmHash::Sha256),
            Err(ReplayError::NoBank { bank: TpmHash::Sha256 })
        );
    }
}

#[test]
fn a_log_without_the_end_of_boot_services_does_not_replay_to_pcr5() {
    let test = "a_log_without_the_end_of_boot_services_does_not_replay_to_pcr5";
    let Some(folder) = vectors::folder(test) else { return };
    let log = vectors::read(&folder, &format!("{OLD_LOGS}/ebs_event_missing_eventlog"));
    let rows = own_rows(&log, TpmHash::Sha1);
    assert!(!rows.iter().any(|row| row.text.starts_with("Exit Boot Services")));
    // What the machine did and its log does not say: PCR5 went on, so nothing of PCR5 is bound.
    let parsed = parse_boot_log(&log).unwrap();
    let replay = Replay::of(&parsed, RegisterKind::Pcr, TpmHash::Sha1).unwrap();
    let pcr5 = Register::new(RegisterKind::Pcr, 5).unwrap();
    let sha1 = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
    let mut value = replay.value(pcr5).unwrap().to_vec();
    for action in ["Exit Boot Services Invocation", "Exit Boot Services Returned with Success"] {
        let digest = aws_lc_rs::digest::digest(sha1, action.as_bytes());
        value = aws_lc_rs::digest::digest(sha1, &[&value, digest.as_ref()].concat()).as_ref().to_vec();
    }
    let values = [RegisterValue { number: 5, bank: TpmHash::Sha1, value: &value }];
    let rows = boot_log_rows(&log, Measured { kind: RegisterKind::Pcr, values: &values }).unwrap();
    let of_pcr5: Vec<&BootLogRow> = rows.iter().filter(|row| row.register == Some(pcr5)).collect();
    assert!(!of_pcr5.is_empty());
    assert!(of_pcr5.iter().all(|row| row.label == EventLabel::Unbound));
}

#[test]
fn logs_handed_over_with_their_registers_replay_to_them() {
    let Some(folder) = vectors::folder("logs_handed_over_with_their_registers_replay_to_them") else {
        return;
    };
    for (file, least) in [("linux_tpm12.json", 8), ("windows_gcp_shielded_vm.json", 8)] {
        let json = vectors::read(&folder, &format!("{OLD_LOGS}/{file}"));
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let log = STANDARD.decode(json["Log"]["Raw"].as_str().unwrap()).unwrap();
        let parsed = parse_boot_log(&log).unwrap_or_else(|error| panic!("{file}: {error}"));
        let replay = Replay::of(&parsed, RegisterKind::Pcr, TpmHash::Sha1).unwrap();
        let mut matching = Vec::new();
        for stated in json["Log"]["PCRs"].as_array().unwrap() {
            let number = u8::try_from(stated["Index"].as_u64().unwrap()).unwrap();
            let value = STANDARD.decode(stated["Digest"].as_str().unwrap()).unwrap();
            let replayed = replay.value(Register::new(RegisterKind::Pcr, number).unwrap()).unwrap();
            if value == replayed {
                matching.push(number);
            }
        }
        matching.sort_unstable();
        assert!(matching.len() >= least, "{file}: {matching:?}");
        assert!((0..8).all(|number| matching.contains(&number)), "{file}: {matching:?}");
    }
}

#[test]
fn what_is_no_log_is_refused() {
    let Some(folder) = vectors::folder("what_is_no_log_is_refused") else { return };
    // The ACPI table that says where the log is, and a quote.
    let table = vectors::read(&folder, &format!("{CCELS}/CCEL.bin"));
    assert!(matches!(parse_boot_log(&table), Err(BootLogError::Truncated { event: 0, .. })));
    let quote = vectors::read(&folder, COS_113_QUOTE);
    assert_eq!(parse_boot_log(&quote), Err(BootLogError::Padding { offset: 32 }));
}

#[test]
fn a_real_log_cut_anywhere_replays_to_other_registers_or_is_refused() {
    let test = "a_real_log_cut_anywhere_replays_to_other_registers_or_is_refused";
    let Some(folder) = vectors::folder(test) else { return };
    let whole = vectors::read(&folder, &format!("{CCELS}/CCEL_unpadded.data.bin"));
    let events = parse_boot_log(&whole).unwrap().event_count();
    for end in 0..whole.len() {
        match parse_boot_log(&whole[..end]) {
            Ok(log) => assert!(log.event_count() < events),
            Err(BootLogError::Truncated { .. } | BootLogError::Empty) => {}
            Err(other) => panic!("{end}: {other}"),
        }
    }
}
