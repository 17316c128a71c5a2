//! Real reports against real chains: the table of docs/verification.md. No CRL of AMD is among the vectors, so that
//! `platform.crl` fails in each; where what comes after is looked at, a test says that it assumes one.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use casemate_evidence::{SNP_REPORT_BYTES, parse_snp_report};

use super::report_tests::{expectations, failed_rules};
use super::{Endorsed, SnpProduct, require_expectations, verify};
use crate::collateral::SnpCollateral;
use crate::crl::RevokedSerials;
use crate::ledger::Ledger;
use crate::policy::{SnpAllowance, SnpExpectations};
use crate::roots::Roots;
use crate::time::{UnixTime, Window};
use crate::x509::{Certificate, read_pem_chain};
use casemate_testkit::vectors;

const CERTIFICATES: &str = "attestation-rs/crates/attestation/certs/amd";
const TRUSTEE: &str = "trustee/deps/verifier/test_data/snp";
const DSTACK: &str = "dstack/dstack/dstack-attest/tests";
const CLOUD: &str = "CN=cc-us-east-2.amazonaws.com";

const MILAN: SnpProduct = SnpProduct::Milan;
const GENOA: SnpProduct = SnpProduct::Genoa;
const TURIN: SnpProduct = SnpProduct::Turin;

/// DER from a file of either form, or from JSON; of PEM, the first certificate.
fn certificate(folder: &Path, file: &str) -> Vec<u8> {
    let bytes = vectors::read(folder, file);
    let bytes = if file.ends_with(".json") {
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        match json["vcek"].as_str() {
            Some(pem) if pem.starts_with("-----BEGIN") => pem.as_bytes().to_vec(),
            Some(base64) => URL_SAFE_NO_PAD.decode(base64.trim_end_matches('=')).unwrap(),
            None => serde_json::from_value(json["vcek"].clone()).unwrap(),
        }
    } else {
        bytes
    };
    if bytes.starts_with(b"-----BEGIN") { read_pem_chain(&bytes).unwrap().swap_remove(0) } else { bytes }
}

/// The report of a file: alone, after a header, as hexadecimal digits, or in JSON.
fn report(folder: &Path, file: &str, offset: usize) -> Vec<u8> {
    let bytes = vectors::read(folder, file);
    let bytes = if file.ends_with(".hex") {
        hex::decode(bytes.trim_ascii()).unwrap()
    } else if file.ends_with(".json") {
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        if let Some(text) = json["hcl_report"].as_str() {
            URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).unwrap()
        } else if let Some(text) = json["attestation"].as_str() {
            hex::decode(text).unwrap()
        } else {
            serde_json::from_value(json["report"].clone()).unwrap()
        }
    } else {
        bytes
    };
    bytes[offset..offset + SNP_REPORT_BYTES].to_vec()
}

fn collateral(folder: &Path, product: SnpProduct, intermediate: &str, vek: &str) -> SnpCollateral {
    let product = product.name().to_lowercase();
    SnpCollateral {
        ark: certificate(folder, &format!("{CERTIFICATES}/{product}/ark.der")),
        ask: certificate(folder, &format!("{CERTIFICATES}/{product}/{intermediate}.der")),
        crl: Vec::new(),
        vek: Some(certificate(folder, vek)),
    }
}

/// The rules that failed, without a CRL.
fn failed(report: &[u8], collateral: &SnpCollateral, now: &str) -> Vec<String> {
    let now = UnixTime::from_rfc3339(now).unwrap();
    let mut endorsed = Endorsed::verify(collateral);
    let mut ledger = Ledger::new();
    let report = parse_snp_report(report).unwrap();
    assert!(verify(&mut ledger, report, &[], &mut endorsed, &Roots::Production, now).is_err());
    failed_rules(ledger.into_parts().1)
}

/// The rules that failed where a good CRL is assumed, and the policy is looked at.
fn failed_under(
    report: &[u8],
    collateral: &SnpCollateral,
    policy: &SnpExpectations,
    now: &str,
) -> Vec<String> {
    let now = UnixTime::from_rfc3339(now).unwrap();
    let mut endorsed = Endorsed::verify(collateral);
    endorsed.assume_crl(RevokedSerials::none(Window { from: now, until: now }));
    let mut ledger = Ledger::new();
    let parsed = parse_snp_report(report).unwrap();
    if let Ok(verified) = verify(&mut ledger, parsed, &[], &mut endorsed, &Roots::Production, now) {
        let mut policy = policy.clone();
        policy.measurement = vec![crate::policy::Measurement(*verified.report.measurement)];
        let _recorded = require_expectations(&mut ledger, &verified, &policy, now);
    }
    failed_rules(ledger.into_parts().1)
}

const ONLY_THE_CRL: [&str; 1] = ["platform.crl"];

/// One real report: what a strict policy refuses it for, and which policy accepts it.
struct Row {
    file: &'static str,
    offset: usize,
    vek: &'static str,
    product: SnpProduct,
    version: u32,
    now: &'static str,
    /// Rules that fail under a policy that accepts the product, any security version and SMT, and allows nothing.
    strict: &'static [&'static str],
    /// What the policy must allow besides.
    allow: fn(&mut SnpExpectations),
}

fn nothing(_: &mut SnpExpectations) {}

fn provisional(policy: &mut SnpExpectations) {
    policy.allow.flags.insert(SnpAllowance::ProvisionalFirmware);
}

fn table() -> Vec<Row> {
    let now = "2026-01-01T00:00:00Z";
    let row = |file, offset, vek, version, strict, allow| Row {
        file,
        offset,
        vek,
        product: MILAN,
        version,
        now,
        strict,
        allow,
    };
    const RELATIONS: &[&str] = &["snp.tcb-relations"];
    vec![
        row(
            "trustee/deps/verifier/test_data/snp/test-report.bin",
            0,
            "trustee/deps/verifier/test_data/snp/test-vcek.der",
            2,
            RELATIONS,
            provisional,
        ),
        Row {
            now: "2025-06-01T00:00:00Z",
            ..row(
                "trustee/deps/verifier/test_data/snp/test-vlek-report.bin",
                0,
                "trustee/deps/verifier/test_data/snp/test-vlek.der",
                3,
                &["snp.vlek-cloud", "snp.tcb-relations", "snp.vmpl"],
                |policy| {
                    provisional(policy);
                    policy.allow.vlek_clouds = vec![CLOUD.into()];
                    policy.vmpl = 1;
                },
            )
        },
        row(
            "trustee/deps/verifier/test_data/az-snp-vtpm/hcl-report.bin",
            32,
            "trustee/deps/verifier/test_data/az-snp-vtpm/vcek.pem",
            2,
            RELATIONS,
            provisional,
        ),
        Row {
            product: GENOA,
            ..row(
                "trustee/deps/verifier/test_data/az-snp-vtpm/evidence-genoa.json",
                32,
                "trustee/deps/verifier/test_data/az-snp-vtpm/vcek-genoa.pem",
                3,
                &[],
                nothing,
            )
        },
        row(
            "trustee/deps/verifier/test_data/az-snp-vtpm/evidence-v0.json",
            32,
            "trustee/deps/verifier/test_data/az-snp-vtpm/evidence-v0.json",
            3,
            &[],
            nothing,
        ),
        row(
            "trustee/deps/verifier/test_data/az-snp-vtpm/evidence-v1.json",
            32,
            "trustee/deps/verifier/test_data/az-snp-vtpm/evidence-v1.json",
            3,
            &[],
            nothing,
        ),
        row(
            "trustee/deps/verifier/test_data/az-snp-vtpm/evidence-v2.json",
            32,
            "trustee/deps/verifier/test_data/az-snp-vtpm/evidence-v2.json",
            3,
            &[],
            nothing,
        ),
        Row {
            now: "2027-01-01T00:00:00Z",
            ..row(
                "dstack/dstack/dstack-attest/tests/sev_snp_attestation.bin",
                4,
                "dstack/dstack/dstack-attest/tests/sev_snp_vcek.pem",
                3,
                &[],
                nothing,
            )
        },
        Row {
            now: "2027-01-01T00:00:00Z",
            ..row(
                "dstack/dstack/verifier/fixtures/sev-snp-attestation.json",
                4,
                "dstack/dstack/dstack-attest/tests/sev_snp_vcek.pem",
                3,
                &[],
                nothing,
            )
        },
        row(
            "go-sev-guest/verify/testdata/attestation.bin",
            0,
            "go-sev-guest/verify/testdata/vcek.testcer",
            2,
            &["snp.policy"],
            |policy| {
                policy.allow.flags.insert(SnpAllowance::Debug);
            },
        ),
        row(
            "virtee-sev/tests/certs_data/report_milan.hex",
            0,
            "virtee-sev/tests/certs_data/vcek_milan.der",
            2,
            &[],
            nothing,
        ),
    ]
}

#[test]
fn real_reports_are_accepted_by_a_policy_that_allows_what_they_need_and_by_no_stricter_one() {
    let name = "real_reports_are_accepted_by_a_policy_that_allows_what_they_need_and_by_no_stricter_one";
    let Some(folder) = vectors::folder(name) else { return };
    for row in table() {
        let file = row.file;
        let report = report(&folder, file, row.offset);
        let parsed = parse_snp_report(&report).unwrap();
        assert_eq!((parsed.version, parsed.reserved_set), (row.version, None), "{file}");
        let intermediate = if row.vek.ends_with("vlek.der") { "asvk" } else { "ask" };
        let endorsements = collateral(&folder, row.product, intermediate, row.vek);
        assert_eq!(failed(&report, &endorsements, row.now), ONLY_THE_CRL, "{file}");
        let mut policy = expectations(&[row.product]);
        assert_eq!(failed_under(&report, &endorsements, &policy, row.now), row.strict, "{file}");
        (row.allow)(&mut policy);
        assert_eq!(failed_under(&report, &endorsements, &policy, row.now), [""; 0], "{file}");
        if row.product == MILAN {
            let genoa = SnpExpectations { products: expectations(&[GENOA]).products, ..policy };
            assert_eq!(failed_under(&report, &endorsements, &genoa, row.now), ["snp.product"], "{file}");
        }
    }
}

#[test]
fn past_bug_16_a_real_report_below_the_floor_is_refused_although_the_firmware_is_newer() {
    let name = "past_bug_16_a_real_report_below_the_floor_is_refused_although_the_firmware_is_newer";
    let Some(folder) = vectors::folder(name) else { return };
    // The report's TCB is SNP 0x17, and the firmware that runs is 0x18.
    let report = report(&folder, &format!("{DSTACK}/sev_snp_attestation.bin"), 4);
    let endorsements = collateral(&folder, MILAN, "ask", &format!("{DSTACK}/sev_snp_vcek.pem"));
    let mut policy = expectations(&[MILAN]);
    policy.products.get_mut(&MILAN).unwrap().snp = 0x17;
    assert_eq!(failed_under(&report, &endorsements, &policy, "2027-01-01T00:00:00Z"), [""; 0]);
    policy.products.get_mut(&MILAN).unwrap().snp = 0x18;
    assert_eq!(failed_under(&report, &endorsements, &policy, "2027-01-01T00:00:00Z"), ["snp.tcb-min"]);
}

#[test]
fn past_bug_12_a_real_vcek_is_refused_outside_its_dates() {
    let Some(folder) = vectors::folder("past_bug_12_a_real_vcek_is_refused_outside_its_dates") else {
        return;
    };
    let report = report(&folder, &format!("{TRUSTEE}/test-report.bin"), 0);
    let vcek = collateral(&folder, MILAN, "ask", &format!("{TRUSTEE}/test-vcek.der"));
    for (now, expected) in [
        ("2023-01-24T17:58:25Z", "platform.chain"),
        ("2023-01-24T17:58:26Z", "platform.crl"),
        ("2030-01-24T17:58:26Z", "platform.crl"),
        ("2030-01-24T17:58:27Z", "platform.chain"),
    ] {
        assert_eq!(failed(&report, &vcek, now), [expected], "{now}");
    }
}

#[test]
fn a_real_report_with_a_key_of_another_chip_is_refused() {
    let name = "a_real_report_with_a_key_of_another_chip_is_refused";
    let Some(folder) = vectors::folder(name) else { return };
    let now = "2026-01-01T00:00:00Z";
    let virtee = report(&folder, "virtee-sev/tests/certs_data/report_milan.hex", 0);
    let vcek = collateral(&folder, MILAN, "ask", &format!("{TRUSTEE}/test-vcek.der"));
    assert_eq!(failed(&virtee, &vcek, now), ["platform.crl", "platform.signature"]);
    let azure = "azure-cvm-tooling/az-cvm-vtpm/test";
    let hcl = report(&folder, &format!("{azure}/hcl-report-snp.bin"), 32);
    let certs = collateral(&folder, MILAN, "ask", &format!("{azure}/certs.pem"));
    assert_eq!(failed(&hcl, &certs, now), ["platform.crl", "platform.signature"]);
}

#[test]
fn past_bug_10_a_real_vlek_needs_the_vlek_chain_and_its_year() {
    let Some(folder) = vectors::folder("past_bug_10_a_real_vlek_needs_the_vlek_chain_and_its_year") else {
        return;
    };
    let report = report(&folder, &format!("{TRUSTEE}/test-vlek-report.bin"), 0);
    let vlek = format!("{TRUSTEE}/test-vlek.der");
    let good = collateral(&folder, MILAN, "asvk", &vlek);
    assert_eq!(failed(&report, &good, "2025-06-01T00:00:00Z"), ONLY_THE_CRL);
    // It ran out on 2025-12-10; `sev` accepts it after that.
    assert_eq!(failed(&report, &good, "2025-12-10T22:14:21Z"), ONLY_THE_CRL);
    assert_eq!(failed(&report, &good, "2025-12-10T22:14:22Z"), ["platform.chain"]);
    let by_ask = collateral(&folder, MILAN, "ask", &vlek);
    assert_eq!(failed(&report, &by_ask, "2025-06-01T00:00:00Z"), ["platform.chain"]);
    let by_vcek = collateral(&folder, MILAN, "ask", &format!("{TRUSTEE}/test-vcek.der"));
    assert_eq!(failed(&report, &by_vcek, "2025-06-01T00:00:00Z"), ["platform.chain"]);
    // SIGNING_KEY says VLEK, and a VCEK under its own right chain does not do.
    let vcek_under_asvk = collateral(&folder, MILAN, "asvk", &format!("{TRUSTEE}/test-vcek.der"));
    assert_eq!(failed(&report, &vcek_under_asvk, "2025-06-01T00:00:00Z"), ["platform.chain"]);
}

#[test]
fn past_bug_11_real_keys_forged_or_under_another_root_are_refused() {
    let name = "past_bug_11_real_keys_forged_or_under_another_root_are_refused";
    let Some(folder) = vectors::folder(name) else { return };
    let report = report(&folder, &format!("{TRUSTEE}/test-report.bin"), 0);
    for forged in ["test-vcek-invalid-legacy.der", "test-vcek-invalid-new.der"] {
        let key = collateral(&folder, MILAN, "ask", &format!("{TRUSTEE}/{forged}"));
        assert_eq!(failed(&report, &key, "2026-01-01T00:00:00Z"), ["platform.chain"], "{forged}");
    }
    let vcek = format!("{TRUSTEE}/test-vcek.der");
    let genoa = collateral(&folder, GENOA, "ask", &vcek);
    assert_eq!(failed(&report, &genoa, "2026-01-01T00:00:00Z"), ["platform.chain"]);
    let milan = collateral(&folder, MILAN, "ask", &vcek);
    let mixed = SnpCollateral { ark: genoa.ark, ..milan };
    assert_eq!(failed(&report, &mixed, "2026-01-01T00:00:00Z"), ["platform.chain"]);
}

#[test]
fn the_real_turin_chain_holds_up_to_the_signature() {
    let Some(folder) = vectors::folder("the_real_turin_chain_holds_up_to_the_signature") else { return };
    let report = report(&folder, &format!("{TRUSTEE}/test-report.bin"), 0);
    let turin = collateral(&folder, TURIN, "ask", "virtee-sev/tests/certs_data/vcek_turin.der");
    let found = failed(&report, &turin, "2026-01-01T00:00:00Z");
    assert_eq!(found, ["platform.crl", "platform.signature"]);
}

#[test]
fn gap_of_sev_every_changed_byte_that_is_signed_breaks_the_signature() {
    let name = "gap_of_sev_every_changed_byte_that_is_signed_breaks_the_signature";
    let Some(folder) = vectors::folder(name) else { return };
    let report = report(&folder, &format!("{TRUSTEE}/test-report.bin"), 0);
    let vcek = collateral(&folder, MILAN, "ask", &format!("{TRUSTEE}/test-vcek.der"));
    // Among them 0x182, a reserved byte of the reported TCB that `sev` 8.0.0 does not put back into what it hashes, and
    // bytes in no field at all.
    for offset in [0x04, 0x08, 0x30, 0x4c, 0x50, 0x90, 0xc0, 0x182, 0x18c, 0x1a0, 0x1f8, 0x29f] {
        let mut changed = report.clone();
        changed[offset] ^= 1;
        let found = failed(&changed, &vcek, "2026-01-01T00:00:00Z");
        assert_eq!(found, ["platform.crl", "platform.signature"], "{offset:#x}");
    }
    for offset in [0x2d0, 0x2e7, 0x318, 0x330, 0x49f] {
        let mut changed = report.clone();
        changed[offset] = 1;
        assert!(parse_snp_report(&changed).is_err(), "reserved byte of the signature {offset:#x}");
    }
}

#[test]
fn every_pinned_root_is_the_key_of_the_vendors_certificate() {
    let name = "every_pinned_root_is_the_key_of_the_vendors_certificate";
    let Some(folder) = vectors::folder(name) else { return };
    for product in SnpProduct::ALL {
        let lower = product.name().to_lowercase();
        for file in [
            format!("{CERTIFICATES}/{lower}/ark.der"),
            format!("virtee-sev/src/certs/snp/builtin/{lower}/ark.pem"),
        ] {
            let der = certificate(&folder, &file);
            let ark = Certificate::read(&der).unwrap();
            for other in SnpProduct::ALL {
                let same = other == product;
                assert_eq!(Roots::Production.accept(other.root(), &ark.key_digest()), same, "{file} {other}");
            }
            ark.require_issued_by(&ark).unwrap();
        }
    }
}

/// Every real certificate file is one of these or of the table.
#[test]
fn every_real_intermediate_leads_to_its_root() {
    let Some(folder) = vectors::folder("every_real_intermediate_leads_to_its_root") else { return };
    let files: Vec<PathBuf> = [
        "go-sev-guest/verify/testdata/milan.testcer",
        "go-sev-guest/verify/testdata/milanvlek.testcer",
        "go-sev-guest/verify/trust/ask_ark_genoa.pem",
        "go-sev-guest/verify/trust/ask_ark_genoa_vlek.pem",
        "go-sev-guest/verify/trust/ask_ark_turin_vcek.pem",
        "go-sev-guest/verify/trust/ask_ark_turin_vlek.pem",
    ]
    .into_iter()
    .map(PathBuf::from)
    .collect();
    for file in files {
        let chain = read_pem_chain(&vectors::read(&folder, file.to_str().unwrap())).unwrap();
        let [ask, ark] = chain.as_slice() else { panic!("{}", file.display()) };
        let endorsements = SnpCollateral { ark: ark.clone(), ask: ask.clone(), crl: Vec::new(), vek: None };
        let mut endorsed = Endorsed::verify(&endorsements);
        assert!(endorsed.chain_holds(), "{}", file.display());
        let swapped = SnpCollateral { ark: ask.clone(), ask: ark.clone(), crl: Vec::new(), vek: None };
        endorsed = Endorsed::verify(&swapped);
        assert!(!endorsed.chain_holds(), "{}", file.display());
    }
}
