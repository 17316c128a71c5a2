//! Real reports against real chains. There is no real CRL of AMD among the vectors, so `platform.crl` fails in each,
//! and every other rule is looked at.

use std::path::Path;

use casemate_evidence::{SNP_REPORT_BYTES, parse_snp_report};

use super::report::verify;
use super::vek::SnpProduct;
use crate::collateral::SnpCollateral;
use crate::ledger::Ledger;
use crate::roots::Roots;
use crate::time::UnixTime;
use crate::vectors;
use crate::x509::{Certificate, read_pem_chain};

const CERTIFICATES: &str = "attestation-rs/crates/attestation/certs/amd";
const TRUSTEE: &str = "trustee/deps/verifier/test_data/snp";

/// DER from a file of either form; of PEM, the first certificate.
fn certificate(folder: &Path, file: &str) -> Vec<u8> {
    let bytes = vectors::read(folder, file);
    if bytes.starts_with(b"-----BEGIN") { read_pem_chain(&bytes).unwrap().swap_remove(0) } else { bytes }
}

fn collateral(folder: &Path, product: &str, intermediate: &str, vek: &str) -> SnpCollateral {
    SnpCollateral {
        ark: certificate(folder, &format!("{CERTIFICATES}/{product}/ark.der")),
        ask: certificate(folder, &format!("{CERTIFICATES}/{product}/{intermediate}.der")),
        crl: Vec::new(),
        vek: Some(certificate(folder, vek)),
    }
}

/// The rules that failed.
fn failed(report: &[u8], collateral: &SnpCollateral, now: &str) -> Vec<String> {
    let mut ledger = Ledger::new();
    let report = parse_snp_report(report).unwrap();
    let now = UnixTime::from_rfc3339(now).unwrap();
    assert!(verify(&mut ledger, report, &[], collateral, &Roots::Production, now).is_err());
    let (_, rules) = ledger.into_parts();
    rules.into_iter().filter(|rule| !rule.passed).map(|rule| rule.detail.rule).collect()
}

const ONLY_THE_CRL: [&str; 1] = ["platform.crl"];

#[test]
fn real_reports_verify_with_their_keys() {
    let Some(folder) = vectors::folder("real_reports_verify_with_their_keys") else { return };
    let milan = |vek: &str| collateral(&folder, "milan", "ask", vek);
    let trustee = vectors::read(&folder, &format!("{TRUSTEE}/test-report.bin"));
    let vcek = milan(&format!("{TRUSTEE}/test-vcek.der"));
    assert_eq!(failed(&trustee, &vcek, "2026-01-01T00:00:00Z"), ONLY_THE_CRL);
    assert_eq!(failed(&trustee, &vcek, "2030-02-01T00:00:00Z"), ["platform.chain"]);
    assert_eq!(failed(&trustee, &vcek, "2022-02-01T00:00:00Z"), ["platform.chain"]);

    let virtee = vectors::read(&folder, "virtee-sev/tests/certs_data/report_milan.hex");
    let virtee = hex::decode(virtee.trim_ascii()).unwrap();
    let own = milan("virtee-sev/tests/certs_data/vcek_milan.der");
    assert_eq!(failed(&virtee, &own, "2026-01-01T00:00:00Z"), ONLY_THE_CRL);
    // Each with the other's key.
    assert_eq!(failed(&virtee, &vcek, "2026-01-01T00:00:00Z"), ["platform.crl", "platform.signature"]);

    let dstack = vectors::read(&folder, "dstack/dstack/dstack-attest/tests/sev_snp_attestation.bin");
    let key = milan("dstack/dstack/dstack-attest/tests/sev_snp_vcek.pem");
    assert_eq!(failed(&dstack[4..4 + SNP_REPORT_BYTES], &key, "2027-01-01T00:00:00Z"), ONLY_THE_CRL);
    let debug = vectors::read(&folder, "go-sev-guest/verify/testdata/attestation.bin");
    let key = milan("go-sev-guest/verify/testdata/vcek.testcer");
    assert_eq!(failed(&debug[..SNP_REPORT_BYTES], &key, "2026-01-01T00:00:00Z"), ONLY_THE_CRL);
}

#[test]
fn real_reports_inside_azures_evidence_verify_with_their_keys() {
    let name = "real_reports_inside_azures_evidence_verify_with_their_keys";
    let Some(folder) = vectors::folder(name) else { return };
    let azure = "trustee/deps/verifier/test_data/az-snp-vtpm";
    let file = vectors::read(&folder, &format!("{azure}/evidence-genoa.json"));
    let evidence: serde_json::Value = serde_json::from_slice(&file).unwrap();
    let hcl: Vec<u8> = serde_json::from_value(evidence["report"].clone()).unwrap();
    let vek = read_pem_chain(evidence["vcek"].as_str().unwrap().as_bytes()).unwrap().swap_remove(0);
    let genoa = collateral(&folder, "genoa", "ask", &format!("{azure}/vcek-genoa.pem"));
    assert_eq!(genoa.vek.as_ref(), Some(&vek));
    // The report follows a header of 32 bytes.
    assert_eq!(failed(&hcl[32..32 + SNP_REPORT_BYTES], &genoa, "2026-01-01T00:00:00Z"), ONLY_THE_CRL);
    let hcl = vectors::read(&folder, &format!("{azure}/hcl-report.bin"));
    let milan = collateral(&folder, "milan", "ask", &format!("{azure}/vcek.pem"));
    assert_eq!(failed(&hcl[32..32 + SNP_REPORT_BYTES], &milan, "2026-01-01T00:00:00Z"), ONLY_THE_CRL);
}

#[test]
fn a_real_vlek_report_needs_the_vlek_chain_and_its_year() {
    let Some(folder) = vectors::folder("a_real_vlek_report_needs_the_vlek_chain_and_its_year") else {
        return;
    };
    let report = vectors::read(&folder, &format!("{TRUSTEE}/test-vlek-report.bin"));
    let vlek = format!("{TRUSTEE}/test-vlek.der");
    let good = collateral(&folder, "milan", "asvk", &vlek);
    assert_eq!(failed(&report, &good, "2025-06-01T00:00:00Z"), ONLY_THE_CRL);
    assert_eq!(failed(&report, &good, "2026-01-01T00:00:00Z"), ["platform.chain"]);
    let by_ask = collateral(&folder, "milan", "ask", &vlek);
    assert_eq!(failed(&report, &by_ask, "2025-06-01T00:00:00Z"), ["platform.chain"]);
    let by_vcek = collateral(&folder, "milan", "ask", &format!("{TRUSTEE}/test-vcek.der"));
    assert_eq!(failed(&report, &by_vcek, "2025-06-01T00:00:00Z"), ["platform.chain"]);
}

#[test]
fn forged_keys_and_foreign_chains_are_refused() {
    let Some(folder) = vectors::folder("forged_keys_and_foreign_chains_are_refused") else { return };
    let report = vectors::read(&folder, &format!("{TRUSTEE}/test-report.bin"));
    for forged in ["test-vcek-invalid-legacy.der", "test-vcek-invalid-new.der"] {
        let key = collateral(&folder, "milan", "ask", &format!("{TRUSTEE}/{forged}"));
        assert_eq!(failed(&report, &key, "2026-01-01T00:00:00Z"), ["platform.chain"], "{forged}");
    }
    let vcek = format!("{TRUSTEE}/test-vcek.der");
    let genoa = collateral(&folder, "genoa", "ask", &vcek);
    assert_eq!(failed(&report, &genoa, "2026-01-01T00:00:00Z"), ["platform.roots"]);
    let turin = collateral(&folder, "turin", "ask", "virtee-sev/tests/certs_data/vcek_turin.der");
    let found = failed(&report, &turin, "2026-01-01T00:00:00Z");
    assert_eq!(found, ["platform.crl", "platform.signature"], "the Turin chain itself holds");
}

#[test]
fn every_changed_byte_that_is_signed_breaks_the_signature() {
    let Some(folder) = vectors::folder("every_changed_byte_that_is_signed_breaks_the_signature") else {
        return;
    };
    let report = vectors::read(&folder, &format!("{TRUSTEE}/test-report.bin"));
    let vcek = collateral(&folder, "milan", "ask", &format!("{TRUSTEE}/test-vcek.der"));
    // Among them 0x182, a reserved byte of the reported TCB, and bytes in no field at all.
    for offset in [0x04, 0x08, 0x30, 0x4c, 0x50, 0x90, 0xc0, 0x182, 0x18c, 0x1a0, 0x1f8, 0x29f] {
        let mut changed = report.clone();
        changed[offset] ^= 1;
        let found = failed(&changed, &vcek, "2026-01-01T00:00:00Z");
        assert_eq!(found, ["platform.crl", "platform.signature"], "{offset:#x}");
    }
}

#[test]
fn every_pinned_root_is_the_key_of_the_vendors_certificate() {
    let name = "every_pinned_root_is_the_key_of_the_vendors_certificate";
    let Some(folder) = vectors::folder(name) else { return };
    for product in [SnpProduct::Milan, SnpProduct::Genoa, SnpProduct::Turin] {
        let lower = product.name().to_lowercase();
        for file in [
            format!("{CERTIFICATES}/{lower}/ark.der"),
            format!("virtee-sev/src/certs/snp/builtin/{lower}/ark.pem"),
        ] {
            let der = certificate(&folder, &file);
            let ark = Certificate::read(&der).unwrap();
            assert!(Roots::Production.accept(product.root(), &ark.key_digest()), "{file}");
            for other in [SnpProduct::Milan, SnpProduct::Genoa, SnpProduct::Turin] {
                let same = other == product;
                assert_eq!(Roots::Production.accept(other.root(), &ark.key_digest()), same, "{file} {other}");
            }
        }
    }
}
