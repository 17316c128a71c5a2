//! A TPM's statement, Azure's report around its key, and the firmware's event log.

use casemate_evidence::{
    TpmHash, parse_boot_log, parse_hcl_report, parse_tpm_public, parse_tpm_quote, parse_tpm_signature,
    parse_tpm2b_public,
};
use casemate_protocol::vtpm::{AkEvidence, Pcr, Vtpm};
use casemate_verifier::{EventLabel, Measured, RegisterKind, RegisterValue, boot_log_rows};

use super::{BORROWING, outcome, require};
use crate::seeds::real;
use crate::{Bound, Outcome, Target, Violation};

/// Identifiers of algorithms and structures, big-endian as TPMs write them.
const WORDS: &[&[u8]] = &[
    b"\xffTCG",
    b"\x80\x18",
    &[0, 1],
    &[0, 0x0b],
    &[0, 0x0c],
    &[0, 0x10],
    &[0, 0x14],
    &[0, 0x16],
    &[0, 0x18],
    &[0, 0x23],
    &[0, 3],
    &[0, 0, 0, 1],
    &[0, 0, 0, 0],
    &[0xff; 4],
    &[1, 0],
];

pub(super) fn all() -> Vec<Target> {
    let small = Bound { input_bytes_max: 4096, ..BORROWING };
    vec![
        Target {
            name: "tpm-quote",
            what: "casemate_evidence::parse_tpm_quote",
            seeds: quotes,
            words: WORDS,
            run: |input| Ok(outcome(parse_tpm_quote(input), |_| String::new())),
            bound: small,
        },
        Target {
            name: "tpm-signature",
            what: "casemate_evidence::parse_tpm_signature",
            seeds: signatures,
            words: WORDS,
            run: |input| Ok(outcome(parse_tpm_signature(input), |_| String::new())),
            bound: small,
        },
        Target {
            name: "tpm-public",
            what: "casemate_evidence::parse_tpm_public and parse_tpm2b_public",
            seeds: || {
                [rsa_public(), ecc_public()].into_iter().flat_map(|area| [sized(&area), area]).collect()
            },
            words: WORDS,
            run: |input| {
                let bare = outcome(parse_tpm_public(input), |_| String::new());
                let framed = outcome(parse_tpm2b_public(input), |_| String::new());
                Ok(Outcome(format!("{} / {}", bare.0, framed.0)))
            },
            bound: small,
        },
        Target {
            name: "hcl-report",
            what: "casemate_evidence::parse_hcl_report",
            seeds: hcl_reports,
            words: &[b"HCLA", &[2, 0, 0, 0], &[4, 0, 0, 0], &[1, 0, 0, 0], b"{", b"\"", b"{\"keys\":[]}"],
            run: |input| Ok(outcome(parse_hcl_report(input), |_| String::new())),
            bound: BORROWING,
        },
        Target {
            name: "boot-log",
            what: "casemate_evidence::parse_boot_log and its events",
            seeds: boot_logs,
            words: &[
                b"Spec ID Event03\0",
                b"Spec ID Event00\0",
                b"StartupLocality\0",
                &[3, 0, 0, 0],
                &[0x0b, 0],
                &[0x0c, 0],
                &[0x12, 0],
                &[4, 0],
                &[0xff; 16],
                &[0; 16],
                &[4, 0, 0, 0],
            ],
            run: boot_log,
            bound: Bound { input_bytes_max: 96 << 10, ..BORROWING },
        },
        Target {
            name: "boot-log-table",
            what: "casemate_verifier::boot_log_rows: replay, labels and texts",
            seeds: boot_logs,
            words: &[
                b"StartupLocality\0",
                b"kernel_cmdline: ",
                b"EFI PART",
                &[3, 0, 0, 0],
                &[1, 0, 0, 0x80],
                &[2, 0, 0, 0x80],
                &[3, 0, 0, 0x80],
                &[6, 0, 0, 0x80],
                &[0x0a, 0, 0, 0x80],
                &[0xff; 16],
            ],
            run: boot_log_table,
            bound: Bound {
                input_bytes_max: 96 << 10,
                // A row, its digest and its text for each event, of which the smallest has 32 bytes; the list doubles.
                allocation_bytes_per_input_byte: 24,
                time_us: 4_000,
                time_ns_per_input_byte: 2_000,
                ..BORROWING
            },
        },
        Target {
            name: "vtpm-json",
            what: "casemate_protocol::vtpm::Vtpm::from_json_bytes",
            seeds: statements,
            words: &[
                b"\"",
                b"[",
                b"]",
                b"{",
                b"}",
                b",",
                b"\"version\":3",
                b"\"tpm_quote\":",
                b"\"pcrs\":",
                b"\"sha256\"",
                b"null",
                b"0",
                b"256",
                b"-----BEGIN CERTIFICATE-----\\n",
                b"-----END CERTIFICATE-----\\n",
            ],
            run: vtpm,
            bound: Bound {
                input_bytes_max: 64 << 10,
                allocation_bytes: 64 << 10,
                allocation_bytes_per_input_byte: 48,
                time_us: 10_000,
                time_ns_per_input_byte: 2_000,
            },
        },
    ]
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes().as_slice(), bytes].concat()
}

/// TPMS_ATTEST of a quote over PCR 0 to 7 of one bank.
fn quote() -> Vec<u8> {
    let clock = [0; 8 + 4 + 4 + 1 + 8];
    let selection = [0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0, 0];
    [
        b"\xffTCG\x80\x18".as_slice(),
        &sized(&[0, 0x0b]),
        &sized(b"a nonce"),
        &clock,
        &selection,
        &sized(&[7; 32]),
    ]
    .concat()
}

fn quotes() -> Vec<Vec<u8>> {
    let mut seeds = vec![quote()];
    seeds.extend(real(|path| path.ends_with("tpm-quote.msg")));
    seeds
}

fn signature() -> Vec<u8> {
    [[0, 0x14, 0, 0x0b].as_slice(), &sized(&[9; 256])].concat()
}

fn signatures() -> Vec<Vec<u8>> {
    let ecdsa = [[0, 0x18, 0, 0x0b].as_slice(), &sized(&[1; 32]), &sized(&[2; 32])].concat();
    let mut seeds = vec![signature(), ecdsa];
    seeds.extend(real(|path| path.ends_with("tpm-quote.sig")));
    seeds
}

/// A restricted signing key.
fn public_area(kind: [u8; 2], parameters: &[u8], unique: &[u8]) -> Vec<u8> {
    [&kind, [0, 0x0b].as_slice(), &0x0005_0072_u32.to_be_bytes(), &sized(&[]), parameters, unique].concat()
}

fn rsa_public() -> Vec<u8> {
    public_area([0, 1], &[0, 0x10, 0, 0x14, 0, 0x0b, 8, 0, 0, 0, 0, 0], &sized(&[0xc1; 256]))
}

fn ecc_public() -> Vec<u8> {
    let unique = [sized(&[1; 32]), sized(&[2; 32])].concat();
    public_area([0, 0x23], &[0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10], &unique)
}

fn hcl_reports() -> Vec<Vec<u8>> {
    let variable = b"{\"keys\":[]}";
    let size = |parts: usize| u32::try_from(parts + variable.len()).unwrap_or(0).to_le_bytes();
    let report = |kind: u32, first: u8| {
        let mut hardware = vec![0; 1184];
        if let Some(byte) = hardware.first_mut() {
            *byte = first;
        }
        let header =
            [b"HCLA".as_slice(), &2_u32.to_le_bytes(), &size(32 + 1184 + 20), &2_u32.to_le_bytes(), &[0; 16]]
                .concat();
        let request =
            [size(20), 1_u32.to_le_bytes(), kind.to_le_bytes(), 1_u32.to_le_bytes(), size(0)].concat();
        [header, hardware, request, variable.to_vec()].concat()
    };
    let mut seeds = vec![report(2, 2), report(4, 0x81)];
    seeds.extend(real(|path| path.contains("hcl-report")));
    seeds
}

/// A log in two banks: its header, one event that extends, one that does not.
fn boot_logs() -> Vec<Vec<u8>> {
    let word = |value: u32| value.to_le_bytes();
    let spec = [
        b"Spec ID Event03\0".as_slice(),
        &word(0),
        &[0, 2, 0, 2],
        &word(2),
        &[0x0b, 0, 32, 0, 0x0c, 0, 48, 0],
        &[0],
    ]
    .concat();
    let size = |bytes: &[u8]| word(u32::try_from(bytes.len()).unwrap_or(0));
    let event = |index: u32, kind: u32, data: &[u8]| {
        [
            word(index).as_slice(),
            &word(kind),
            &word(2),
            &[0x0b, 0],
            &[1; 32],
            &[0x0c, 0],
            &[2; 48],
            &size(data),
            data,
        ]
        .concat()
    };
    let log = [
        [word(0).as_slice(), &word(3), &[0; 20], &size(&spec), &spec].concat(),
        event(1, 4, &[0; 4]),
        event(0, 3, b"StartupLocality\0\x03"),
    ]
    .concat();
    let mut seeds = vec![[log.as_slice(), &[0xff; 64]].concat(), log];
    seeds.extend(real(|path| {
        path.contains("CCEL") || path.contains("ccel") || path.contains("eventlogs/tpm")
    }));
    seeds
}

fn boot_log(input: &[u8]) -> Result<Outcome, Violation> {
    let result = parse_boot_log(input);
    if let Ok(log) = &result {
        require(log.events().count() == log.event_count(), "another number of events than was counted")?;
    }
    Ok(outcome(result, |log| format!("{:?}", log.format())))
}

/// The table against registers that nothing extended: whatever is extended is unbound there.
fn boot_log_table(input: &[u8]) -> Result<Outcome, Violation> {
    let zeros = [0; 48];
    let values: Vec<RegisterValue<'_>> =
        (0..4).map(|number| RegisterValue { number, bank: TpmHash::Sha384, value: &zeros }).collect();
    for kind in [RegisterKind::Pcr, RegisterKind::Rtmr] {
        let rows = match boot_log_rows(input, Measured { kind, values: &values }) {
            Ok(rows) => rows,
            Err(error) => return Ok(Outcome(error.to_string())),
        };
        for row in &rows {
            let extends = row.label != EventLabel::NotExtended;
            let bound = extends && row.label != EventLabel::Unbound;
            require(!bound, "an event bound by a register that nothing extended")?;
            require(row.text.chars().count() <= 80, "a text of more than 80 characters")?;
        }
    }
    Ok(Outcome("read".to_owned()))
}

fn statements() -> Vec<Vec<u8>> {
    let statement = |ak| Vtpm {
        message: quote(),
        signature: signature(),
        pcrs: (0..8).map(|index| Pcr { bank: TpmHash::Sha256, index, digest: vec![0; 32] }).collect(),
        ak,
    };
    let hcl = hcl_reports().into_iter().next().unwrap_or_default();
    let mut seeds: Vec<Vec<u8>> = [
        AkEvidence::AzureSnp { hcl_report: hcl.clone(), vek: None },
        AkEvidence::AzureTdx { hcl_report: hcl, td_quote: vec![4; 40] },
        AkEvidence::Key(sized(&rsa_public())),
        AkEvidence::Certificates(vec![vec![0x30, 0], vec![0x30, 0]]),
    ]
    .into_iter()
    .map(|ak| statement(ak).to_json().to_string().into_bytes())
    .collect();
    seeds.extend(real(|path| path.ends_with("tpm-quote-v1.json") || path.ends_with("tpm_evidence.json")));
    seeds
}

fn vtpm(input: &[u8]) -> Result<Outcome, Violation> {
    let result = Vtpm::from_json_bytes(input);
    if let Ok(statement) = &result {
        let again = Vtpm::from_json_bytes(statement.to_json().to_string().as_bytes());
        require(again.as_ref() == Ok(statement), "a statement written and read again is another one")?;
    }
    Ok(outcome(result, |_| String::new()))
}
