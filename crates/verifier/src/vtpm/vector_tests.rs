//! Real quotes of Azure, Google and plain TPMs: each verifies, and each change is refused by its rule.

use std::path::Path;

use casemate_canon::Sha256;
use casemate_evidence::{HclHardware, TpmHash, parse_snp_report, parse_tdx_quote};
use casemate_protocol::vtpm::{AkEvidence, Pcr, Vtpm};

use super::azure::{read_report, require_tdreport};
use super::certificates::{require_google, require_owner_chain};
use super::expectations::claim_all;
use super::key::{AttestationKey, require_owner_key};
use super::quote::{require_extra_data, verify};
use crate::ledger::{Failed, Ledger, Voucher};
use crate::policy::{GoogleExpectations, KeyUsage, OwnerExpectations};
use crate::roots::Roots;
use crate::time::UnixTime;
use casemate_testkit::vectors;

const TRUSTEE: &str = "trustee/deps/verifier/test_data";
const GOOGLE: &str = "go-tpm-tools";

const AZURE: [(&str, &[u8]); 6] = [
    ("az-snp-vtpm/evidence-v0.json", b"challenge"),
    ("az-snp-vtpm/evidence-v1.json", b"challenge"),
    ("az-snp-vtpm/evidence-v2.json", &[]),
    ("az-snp-vtpm/evidence-genoa.json", &[]),
    ("az-tdx-vtpm/evidence-v0.json", b"challenge"),
    ("az-tdx-vtpm/evidence-v1.json", b"challenge"),
];

fn statement(folder: &Path, file: &str) -> Vtpm {
    let json = vectors::read(folder, &format!("{TRUSTEE}/{file}"));
    Vtpm::from_json_bytes(&json).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The rules that failed.
fn failed(ledger: Ledger) -> Vec<String> {
    let (_, rules) = ledger.into_parts();
    rules.into_iter().filter(|rule| !rule.passed).map(|rule| rule.detail.rule).collect()
}

/// The key of a statement of Azure's, taken on the word of the hardware's report alone.
fn azure_key(ledger: &mut Ledger, statement: &Vtpm) -> Result<AttestationKey, Failed> {
    match &statement.ak {
        AkEvidence::AzureSnp { hcl_report, .. } => {
            let report = read_report(ledger, hcl_report)?;
            let HclHardware::Snp(snp) = report.hardware else { panic!("SNP") };
            report.require_bound(ledger, parse_snp_report(snp).unwrap().report_data)
        }
        AkEvidence::AzureTdx { hcl_report, td_quote } => {
            let report = read_report(ledger, hcl_report)?;
            let HclHardware::Tdx(td) = report.hardware else { panic!("TDX") };
            let quote = parse_tdx_quote(td_quote).unwrap();
            require_tdreport(ledger, &td, &quote.body)?;
            report.require_bound(ledger, quote.body.report_data)
        }
        _ => panic!("of Azure"),
    }
}

/// The rules that fail of a statement of Azure's.
fn azure(statement: &Vtpm) -> Vec<String> {
    let mut ledger = Ledger::new();
    if let Ok(key) = azure_key(&mut ledger, statement) {
        let _recorded = verify(&mut ledger, statement, key);
    }
    failed(ledger)
}

#[test]
fn real_azure_evidence_verifies() {
    let Some(folder) = vectors::folder("real_azure_evidence_verifies") else { return };
    for (file, bound) in AZURE {
        let statement = statement(&folder, file);
        let mut ledger = Ledger::new();
        let key = azure_key(&mut ledger, &statement).unwrap();
        let verified = verify(&mut ledger, &statement, key).unwrap_or_else(|_| panic!("{file}"));
        assert_eq!(verified.pcrs.len(), 24, "{file}");
        if !bound.is_empty() {
            assert!(require_extra_data(&mut ledger, &verified, bound).is_ok(), "{file}");
        }
        claim_all(&mut ledger, &verified, Voucher::MeasuredRuntime);
        let (claims, rules) = ledger.into_parts();
        assert!(rules.iter().all(|rule| rule.passed), "{file}: {rules:?}");
        let claim = |name: &str| claims.iter().find(|claim| claim.name == name).unwrap().value.clone();
        assert_eq!(claim("vtpm.clock-safe"), "true");
        assert_eq!(claim("vtpm.firmware-version"), "0x2020031200120003");
        assert_eq!(claim("vtpm.pcr.sha256.17"), "f".repeat(64), "{file}");
    }
}

#[test]
fn other_real_azure_reports_are_bound_to_their_hardware() {
    let Some(folder) = vectors::folder("other_real_azure_reports_are_bound_to_their_hardware") else {
        return;
    };
    for file in [
        "trustee/deps/verifier/test_data/az-snp-vtpm/hcl-report.bin",
        "trustee/deps/verifier/test_data/az-tdx-vtpm/hcl-report.bin",
        "azure-cvm-tooling/az-cvm-vtpm/test/hcl-report-snp.bin",
        "azure-cvm-tooling/az-cvm-vtpm/test/hcl-report-tdx.bin",
    ] {
        let mut ledger = Ledger::new();
        let bytes = vectors::read(&folder, file);
        let report = read_report(&mut ledger, &bytes).unwrap();
        let report_data = match report.hardware {
            HclHardware::Snp(snp) => *parse_snp_report(snp).unwrap().report_data,
            HclHardware::Tdx(td) => *td.report_data,
        };
        assert!(report.require_bound(&mut ledger, &report_data).is_ok(), "{file}");
        let mut longer = report_data;
        longer[63] = 1;
        assert!(report.require_bound(&mut ledger, &longer).is_err(), "{file}");
        assert_eq!(failed(ledger), ["azure.report-data"]);
    }
}

#[test]
fn each_change_of_azure_evidence_is_refused_by_its_rule() {
    let Some(folder) = vectors::folder("each_change_of_azure_evidence_is_refused_by_its_rule") else {
        return;
    };
    for (file, _) in AZURE {
        let whole = statement(&folder, file);
        assert_eq!(azure(&whole), [""; 0], "{file}");
        let changed = |change: &dyn Fn(&mut Vtpm)| {
            let mut statement = whole.clone();
            change(&mut statement);
            azure(&statement)
        };
        for offset in [44, 50, whole.message.len() - 1] {
            let found = changed(&|statement| statement.message[offset] ^= 1);
            assert_eq!(found, ["vtpm.signature"], "{file}: message {offset}");
        }
        assert_eq!(changed(&|statement| statement.message[0] ^= 1), ["vtpm.quote"], "{file}");
        assert_eq!(changed(&|statement| statement.message.push(0)), ["vtpm.quote"], "{file}");
        assert_eq!(changed(&|statement| statement.signature[100] ^= 1), ["vtpm.signature"], "{file}");
        assert_eq!(changed(&|statement| statement.signature.push(0)), ["vtpm.signature"], "{file}");
        // RSAPSS instead of RSASSA, and another hash.
        assert_eq!(changed(&|statement| statement.signature[1] = 0x16), ["vtpm.signature"], "{file}");
        assert_eq!(changed(&|statement| statement.signature[3] = 0x0c), ["vtpm.signature"], "{file}");
        assert_eq!(changed(&|statement| statement.pcrs[7].digest[0] ^= 1), ["vtpm.pcr-digest"], "{file}");
        let hcl = |change: &dyn Fn(&mut Vec<u8>)| {
            changed(&|statement| match &mut statement.ak {
                AkEvidence::AzureSnp { hcl_report, .. } | AkEvidence::AzureTdx { hcl_report, .. } => {
                    change(hcl_report);
                }
                _ => panic!("of Azure"),
            })
        };
        assert_eq!(hcl(&|report| report[0] = 0), ["azure.hcl-report"], "{file}");
        // A digit of the attestation key, and one of another member, in place of another.
        let at = |report: &[u8], text: &[u8]| {
            report.windows(text.len()).position(|window| window == text).unwrap() + text.len()
        };
        for text in [&b"\"n\":\""[..], b"vmUniqueId\":\""] {
            let found = hcl(&|report| {
                let offset = at(report, text);
                report[offset] = if report[offset] == b'9' { b'8' } else { b'9' };
            });
            assert_eq!(found, ["azure.report-data"], "{file}");
        }
        let found = hcl(&|report| {
            let offset = at(report, b"\"kid\":\"HCL");
            report[offset] = b'"';
        });
        assert_eq!(found, ["azure.runtime-data"], "{file}");
    }
}

#[test]
fn a_tdreport_of_another_domain_is_refused() {
    let Some(folder) = vectors::folder("a_tdreport_of_another_domain_is_refused") else { return };
    let whole = statement(&folder, "az-tdx-vtpm/evidence-v1.json");
    // Of the TDREPORT: report data, TEE_TCB_SVN, MRSEAM, attributes, XFAM, MRTD, RTMR0, RTMR3.
    for offset in [128, 264, 280, 512, 520, 528, 720, 864] {
        let mut statement = whole.clone();
        let AkEvidence::AzureTdx { hcl_report, .. } = &mut statement.ak else { panic!("TDX") };
        hcl_report[32 + offset] ^= 1;
        assert_eq!(azure(&statement), ["azure.tdreport"], "{offset}");
    }
    let other = vectors::read(&folder, "azure-cvm-tooling/az-cvm-vtpm/test/hcl-report-tdx.bin");
    let mut statement = whole;
    let AkEvidence::AzureTdx { hcl_report, .. } = &mut statement.ak else { panic!("TDX") };
    *hcl_report = other;
    assert_eq!(azure(&statement), ["azure.tdreport"]);
}

#[test]
fn truncation_of_each_part_is_refused_at_every_offset() {
    let Some(folder) = vectors::folder("truncation_of_each_part_is_refused_at_every_offset") else { return };
    let whole = statement(&folder, "az-snp-vtpm/evidence-v1.json");
    for length in 0..whole.message.len() {
        let message = whole.message[..length].to_vec();
        assert_eq!(azure(&Vtpm { message, ..whole.clone() }), ["vtpm.quote"], "{length}");
    }
    for length in 0..whole.signature.len() {
        let signature = whole.signature[..length].to_vec();
        assert_eq!(azure(&Vtpm { signature, ..whole.clone() }), ["vtpm.signature"], "{length}");
    }
    for length in 0..whole.pcrs.len() {
        let pcrs = whole.pcrs[..length].to_vec();
        assert_eq!(azure(&Vtpm { pcrs, ..whole.clone() }), ["vtpm.pcr-select"], "{length}");
    }
    let AkEvidence::AzureSnp { hcl_report, vek } = &whole.ak else { panic!("SNP") };
    // What follows the variable data is padding.
    for length in 0..32 + 1184 + 1130 {
        let ak = AkEvidence::AzureSnp { hcl_report: hcl_report[..length].to_vec(), vek: vek.clone() };
        assert_eq!(azure(&Vtpm { ak, ..whole.clone() }), ["azure.hcl-report"], "{length}");
    }
}

#[test]
fn past_bug_13_offered_registers_are_those_that_were_quoted() {
    let Some(folder) = vectors::folder("past_bug_13_offered_registers_are_those_that_were_quoted") else {
        return;
    };
    let whole = statement(&folder, "az-snp-vtpm/evidence-v2.json");
    let refused = |change: &dyn Fn(&mut Vec<Pcr>)| {
        let mut statement = whole.clone();
        change(&mut statement.pcrs);
        assert_eq!(azure(&statement), ["vtpm.pcr-select"]);
    };
    refused(&|pcrs| pcrs.clear());
    refused(&|pcrs| drop(pcrs.pop()));
    refused(&|pcrs| pcrs.swap(0, 1));
    // The same values under other labels: the digest over them would hold.
    refused(&|pcrs| pcrs[23].index = 24);
    refused(&|pcrs| pcrs[1].index = 0);
    refused(&|pcrs| pcrs.iter_mut().for_each(|pcr| pcr.bank = TpmHash::Sm3));
    refused(&|pcrs| pcrs.push(Pcr { bank: TpmHash::Sha256, index: 24, digest: vec![0; 32] }));
    refused(&|pcrs| pcrs.push(Pcr { bank: TpmHash::Sha384, index: 0, digest: vec![0; 48] }));
    refused(&|pcrs| pcrs.push(pcrs[23].clone()));
    // Values cut so that those after them fill the gap.
    refused(&|pcrs| {
        pcrs[0].digest.extend_from_slice(&[0; 32]);
        drop(pcrs.remove(1));
    });
    refused(&|pcrs| pcrs[0].digest.truncate(31));
}

#[test]
fn what_was_bound_in_is_compared_in_full() {
    let Some(folder) = vectors::folder("what_was_bound_in_is_compared_in_full") else { return };
    let statement = statement(&folder, "az-snp-vtpm/evidence-v1.json");
    let mut ledger = Ledger::new();
    let key = azure_key(&mut ledger, &statement).unwrap();
    let verified = verify(&mut ledger, &statement, key).unwrap();
    assert!(require_extra_data(&mut ledger, &verified, b"challenge").is_ok());
    for other in [&b""[..], b"challeng", b"challenge\0", b"challengf", b"Challenge"] {
        assert!(require_extra_data(&mut ledger, &verified, other).is_err(), "{other:?}");
    }
    assert_eq!(failed(ledger), ["vtpm.extra-data"; 5]);
}

/// The owner's expectations with these pins and nothing else.
fn owner(keys: Vec<Sha256>, areas: Vec<Sha256>) -> OwnerExpectations {
    OwnerExpectations { keys, areas, roots: vec![], usage: KeyUsage::AttestationKey }
}

#[test]
fn a_real_plain_quote_verifies_under_its_named_key_only() {
    let Some(folder) = vectors::folder("a_real_plain_quote_verifies_under_its_named_key_only") else {
        return;
    };
    let statement = statement(&folder, "tpm_evidence.json");
    let AkEvidence::Key(spki) = &statement.ak else { panic!("a key") };
    let digest = Sha256::of(spki);
    let mut ledger = Ledger::new();
    let key = require_owner_key(&mut ledger, spki, &owner(vec![digest], vec![])).unwrap();
    assert_eq!(key.digest(), Some(digest), "the same SubjectPublicKeyInfo");
    let verified = verify(&mut ledger, &statement, key).unwrap();
    assert_eq!(verified.quote.extra_data.len(), 64);
    assert_eq!(failed(ledger), [""; 0]);
    for pins in
        [owner(vec![Sha256::of(b"other")], vec![]), owner(vec![], vec![digest]), owner(vec![], vec![])]
    {
        let mut ledger = Ledger::new();
        assert!(require_owner_key(&mut ledger, spki, &pins).is_err());
        assert_eq!(failed(ledger), ["vtpm.key-trust"]);
    }
}

/// A quote of Google's attestation: the fields of its protobuf (`attest.proto`) that are read here.
struct GoogleAttestation {
    area: Vec<u8>,
    certificate: Vec<u8>,
    quotes: Vec<Vtpm>,
}

/// Fields of a protobuf message: number and content; integers as their little-endian bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let value = varint(&mut bytes);
        let content = if tag & 7 == 2 {
            let (content, rest) = bytes.split_at(usize::try_from(value).unwrap());
            bytes = rest;
            content.to_vec()
        } else {
            value.to_le_bytes().to_vec()
        };
        fields.push((tag >> 3, content));
    }
    fields
}

fn google(folder: &Path, file: &str) -> GoogleAttestation {
    let bytes = vectors::read(folder, &format!("{GOOGLE}/internal/test/attestations/{file}"));
    let mut read = GoogleAttestation { area: vec![], certificate: vec![], quotes: vec![] };
    for (number, content) in fields(&bytes) {
        match number {
            1 => read.area = content,
            2 => read.quotes.push(google_quote(&content)),
            6 => read.certificate = content,
            _ => {}
        }
    }
    read
}

fn google_quote(bytes: &[u8]) -> Vtpm {
    let mut quote = Vtpm { message: vec![], signature: vec![], pcrs: vec![], ak: AkEvidence::Key(vec![]) };
    for (number, content) in fields(bytes) {
        match number {
            1 => quote.message = content,
            2 => quote.signature = content,
            _ => {
                let mut bank = TpmHash::Sha1;
                for (number, content) in fields(&content) {
                    if number == 1 {
                        bank = TpmHash::from_id(u16::from_le_bytes([content[0], content[1]])).unwrap();
                        continue;
                    }
                    // Index 0 is left out, as protobuf does with zeros.
                    let mut pcr = Pcr { bank, index: 0, digest: vec![] };
                    for (number, content) in fields(&content) {
                        if number == 1 { pcr.index = content[0] } else { pcr.digest = content }
                    }
                    quote.pcrs.push(pcr);
                }
            }
        }
    }
    quote.pcrs.sort_by_key(|pcr| pcr.index);
    quote
}

fn google_chain(folder: &Path, leaf: &[u8], files: [&str; 2]) -> Vec<Vec<u8>> {
    let issuers = files.map(|file| vectors::read(folder, &format!("{GOOGLE}/server/ca-certs/{file}")));
    std::iter::once(leaf.to_vec()).chain(issuers).collect()
}

/// Google's chain, and its quote over the SHA-256 bank with nonce 9009.
pub(super) fn google_statement(folder: &Path) -> (Vec<Vec<u8>>, Vtpm) {
    let mut attestation = google(folder, "gce-cos-85-nonce9009.pb");
    let sha256 = |quote: &Vtpm| quote.pcrs.iter().all(|pcr| pcr.bank == TpmHash::Sha256);
    let index = attestation.quotes.iter().position(sha256).unwrap();
    (google_chain(folder, &attestation.certificate, OLD_CHAIN), attestation.quotes.swap_remove(index))
}

const OLD_CHAIN: [&str; 2] = ["tpm_ek_intermediate_2.crt", "tpm_ek_root_1.cer"];

fn at(time: &str) -> UnixTime {
    UnixTime::from_rfc3339(time).unwrap()
}

fn project(name: &str) -> GoogleExpectations {
    GoogleExpectations { projects: vec![name.to_owned()] }
}

#[test]
fn real_google_quotes_verify_under_their_certificate() {
    let Some(folder) = vectors::folder("real_google_quotes_verify_under_their_certificate") else { return };
    for (file, bound) in [("gce-cos-85-no-nonce.pb", &[][..]), ("gce-cos-85-nonce9009.pb", &[0x90, 0x09])] {
        let attestation = google(&folder, file);
        let chain = google_chain(&folder, &attestation.certificate, OLD_CHAIN);
        let expected = project("google.com:wuale-gcp-testing");
        assert_eq!(attestation.quotes.len(), 3);
        for statement in &attestation.quotes {
            let mut ledger = Ledger::new();
            let now = at("2026-01-01T00:00:00Z");
            let key = require_google(&mut ledger, &chain, &expected, &Roots::Production, now).unwrap();
            // The public area beside it is of the same key, and its attributes are those of an attestation key.
            let area = AttestationKey::read(&attestation.area).unwrap();
            assert_eq!(area.digest(), key.digest());
            let verified = verify(&mut ledger, statement, key).unwrap();
            assert_eq!(verified.pcrs.len(), 24);
            assert!(require_extra_data(&mut ledger, &verified, bound).is_ok());
            let (claims, rules) = ledger.into_parts();
            assert!(rules.iter().all(|rule| rule.passed), "{rules:?}");
            assert!(claims.iter().any(|claim| claim.name == "google.instance" && claim.value == "cos-test"));
        }
    }
}

#[test]
fn real_google_certificates_lead_to_both_roots_and_name_their_machine() {
    let name = "real_google_certificates_lead_to_both_roots_and_name_their_machine";
    let Some(folder) = vectors::folder(name) else { return };
    let new = ["gcp_ek_ak_ca_intermediate_v3.crt", "gcp_ek_ak_ca_root.crt"];
    let old = ["tpm_ek_intermediate_3.crt", "tpm_ek_root_1.cer"];
    let refused = |file: &str, files, expected: &GoogleExpectations, time| {
        let pem = vectors::read(&folder, &format!("{GOOGLE}/internal/test/certificates/{file}"));
        let leaf = crate::x509::read_pem_chain(&pem).unwrap().swap_remove(0);
        let chain = google_chain(&folder, &leaf, files);
        let mut ledger = Ledger::new();
        let _recorded = require_google(&mut ledger, &chain, expected, &Roots::Production, at(time));
        failed(ledger)
    };
    let own = project("google.com:wuale-gcp-testing");
    let now = "2026-01-01T00:00:00Z";
    for kind in ["rsa", "ecc"] {
        assert_eq!(refused(&format!("pca_tpm_{kind}_sign_cert.pem"), new, &own, now), [""; 0], "{kind}");
        assert_eq!(refused(&format!("uca_tpm_{kind}_sign_cert.pem"), old, &own, now), [""; 0], "{kind}");
        // A key for encryption signs nothing.
        assert_eq!(refused(&format!("pca_tpm_{kind}_enc_cert.pem"), new, &own, now), ["vtpm.chain"]);
        assert_eq!(refused(&format!("uca_tpm_{kind}_enc_cert.pem"), old, &own, now), ["vtpm.chain"]);
    }
    let sign = "pca_tpm_rsa_sign_cert.pem";
    assert_eq!(refused(sign, old, &own, now), ["vtpm.chain"], "another issuer");
    assert_eq!(refused(sign, [new[1], new[0]], &own, now), ["platform.roots"], "another order");
    assert_eq!(refused(sign, new, &project("other"), now), ["google.project"]);
    assert_eq!(refused(sign, new, &own, "2022-11-23T18:33:42Z"), ["vtpm.chain"], "too early");
    assert_eq!(refused(sign, new, &own, "2052-11-15T18:33:43Z"), ["vtpm.chain"], "too late");
}

#[test]
fn googles_certificate_is_worth_nothing_under_other_roots() {
    let Some(folder) = vectors::folder("googles_certificate_is_worth_nothing_under_other_roots") else {
        return;
    };
    let attestation = google(&folder, "gce-cos-85-nonce9009.pb");
    let chain = google_chain(&folder, &attestation.certificate, OLD_CHAIN);
    let now = at("2026-01-01T00:00:00Z");
    let mut ledger = Ledger::new();
    let development = Roots::Development(vec![Sha256::of(b"root")]);
    let expected = project("google.com:wuale-gcp-testing");
    assert!(require_google(&mut ledger, &chain, &expected, &development, now).is_err());
    let none = owner(vec![], vec![]);
    assert!(require_owner_chain(&mut ledger, &chain, &none, now).is_err());
    assert_eq!(failed(ledger), ["platform.roots", "platform.roots"]);
    // An owner may name Google's root; every length of chain but its own is refused.
    let root = crate::x509::Certificate::read_tpm(&chain[2]).unwrap().key_digest();
    // Google's say of no key what it is for.
    let named = OwnerExpectations { roots: vec![root], ..none };
    let mut ledger = Ledger::new();
    assert!(require_owner_chain(&mut ledger, &chain, &named, now).is_err());
    assert_eq!(failed(ledger), ["vtpm.key-usage"]);
    let named = OwnerExpectations { usage: KeyUsage::Any, ..named };
    let mut ledger = Ledger::new();
    assert!(require_owner_chain(&mut ledger, &chain, &named, now).is_ok());
    for wrong in [vec![], chain[..1].to_vec(), [&chain[..], &chain[..]].concat()] {
        assert!(require_owner_chain(&mut ledger, &wrong, &named, now).is_err());
    }
    let without_issuer = vec![chain[0].clone(), chain[2].clone()];
    assert!(require_owner_chain(&mut ledger, &without_issuer, &named, now).is_err());
    assert_eq!(failed(ledger), ["vtpm.chain"; 4]);
}
