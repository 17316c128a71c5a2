//! What real and made-up files are taken for.

use super::*;
use casemate_testkit::vectors;

fn what(bytes: &[u8]) -> String {
    recognise(bytes).unwrap_or_else(|error| panic!("{}", error.what)).what
}

fn refused(bytes: &[u8]) -> String {
    recognise(bytes).unwrap_err().what
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[test]
fn real_files_are_what_they_are() {
    let Some(folder) = vectors::folder("real_files_are_what_they_are") else { return };
    let azure = "trustee/deps/verifier/test_data/az-tdx-vtpm";
    for (file, expected) in [
        ("dcap-qvl/sample/tdx_quote", "TDX quote, version 4, "),
        ("go-tdx-guest/testing/testdata/quote_v5_sample.dat", "TDX quote, version 5, "),
        ("dcap-qvl/sample/tdx-quote.hex", "TDX quote, version 4, "),
        (
            "virtee-sev/tests/certs_data/report_milan.hex",
            "SEV-SNP report, version 2, 1184 bytes, no certificates, in hexadecimal digits",
        ),
        (
            "trustee/deps/verifier/test_data/snp/test-vlek-report.bin",
            "SEV-SNP report, version 3, 1184 bytes, no certificates",
        ),
        ("go-sev-guest/verify/testdata/attestation.bin", "SEV-SNP report, version 2, "),
        (
            "trustee/deps/verifier/test_data/az-snp-vtpm/evidence-v0.json",
            "Azure's evidence, a TPM quote under an SEV-SNP report, ",
        ),
        (
            "trustee/deps/verifier/test_data/az-snp-vtpm/evidence-v2.json",
            "Azure's evidence, a TPM quote under an SEV-SNP report, ",
        ),
        (&format!("{azure}/evidence-v1.json"), "Azure's evidence, a TPM quote under a TDX quote, "),
        (&format!("{azure}/td-quote.bin"), "TDX quote, version 4, "),
        ("trustee/deps/verifier/test_data/tpm_evidence.json", "a TPM quote with its key, "),
        (
            "trustee/deps/verifier/test_data/az-snp-vtpm/hcl-report.bin",
            "Azure HCL report, 2600 bytes, read as the SEV-SNP report in it",
        ),
    ] {
        let found = what(&vectors::read(&folder, file));
        assert!(found.starts_with(expected), "{file}: {found}");
    }
    for (file, expected) in [
        (format!("{azure}/hcl-report.bin"), "an Azure HCL report with a TD report"),
        ("trustee/deps/verifier/test_data/az-snp-vtpm/tpm-quote.msg".into(), "a TPM quote without signature"),
        ("trustee/deps/verifier/test_data/occlum_quote.dat".into(), "an SGX quote"),
        ("trustee/deps/verifier/test_data/snp/test-vcek.der".into(), "a certificate"),
        ("trustee/deps/verifier/test_data/az-snp-vtpm/vcek.pem".into(), "a certificate"),
        ("trustee/deps/verifier/test_data/CCEL_data".into(), "an event log of firmware"),
        ("trustee/deps/verifier/test_data/tcbInfo.json".into(), "no statement that is known here"),
        (
            "trustee/deps/verifier/test_data/az-snp-vtpm/tpm-quote.sig".into(),
            "no statement that is known here",
        ),
    ] {
        let file = file.replace("test_data/CCEL_data", "test_data/../../eventlog/test_data/CCEL_data");
        let found = refused(&vectors::read(&folder, &file));
        assert!(found.starts_with(expected), "{file}: {found}");
    }
}

#[test]
fn a_quote_is_the_same_in_every_spelling() {
    let Some(folder) = vectors::folder("a_quote_is_the_same_in_every_spelling") else { return };
    let bytes = vectors::read(&folder, "dcap-qvl/sample/tdx_quote");
    let raw = recognise(&bytes).unwrap();
    let digits = hex(&bytes);
    let wrapped: String =
        digits.as_bytes().chunks(64).map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect();
    let standard = base64::engine::general_purpose::STANDARD.encode(&bytes);
    let url = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&bytes);
    for (text, spelling) in [
        (digits.to_lowercase(), "in hexadecimal digits"),
        (format!("0x{digits}\n"), "in hexadecimal digits"),
        (wrapped, "in hexadecimal digits"),
        (standard.clone(), "in base64"),
        (format!("{standard}\n"), "in base64"),
        (url, "in base64"),
    ] {
        let found = recognise(text.as_bytes()).unwrap();
        assert_eq!(found.statement, raw.statement, "{spelling}");
        assert_eq!(found.what, format!("{}, {spelling}", raw.what));
    }
}

/// The first bytes of a quote.
fn quote_header(version: u16, tee_type: u32) -> Vec<u8> {
    [&version.to_le_bytes()[..], &2_u16.to_le_bytes(), &tee_type.to_le_bytes(), &[0; 600]].concat()
}

#[test]
fn a_quote_that_cannot_be_read_is_the_verifiers_to_refuse() {
    let found = what(&quote_header(4, 0x81));
    assert!(found.starts_with("TDX quote that cannot be read, 608 bytes: "), "{found}");
    let mut report = vec![0; SNP_REPORT_BYTES];
    report[0] = 1;
    report[0x34] = 1;
    let found = what(&report);
    assert!(found.starts_with("SEV-SNP report that cannot be read, 1184 bytes: report version 1"), "{found}");
}

#[test]
fn bytes_after_a_report_that_are_no_certificate_table_make_it_unknown() {
    let mut report = vec![0; SNP_REPORT_BYTES];
    report[0] = 2;
    report[0x34] = 1;
    assert!(what(&report).ends_with("no certificates"));
    report.push(7);
    assert!(refused(&report).starts_with("no statement that is known here: 1185 bytes"));
    report.pop();
    report.extend([0; 24]);
    assert_eq!(what(&report), "SEV-SNP report, version 2, 1208 bytes, 0 certificates after it");
}

#[test]
fn what_is_not_known_is_said_with_its_first_bytes() {
    assert_eq!(refused(b""), "an empty file");
    assert_eq!(refused(b" \n"), "no statement that is known here: 2 bytes that begin with 200a");
    assert_eq!(refused(b"!!"), "no statement that is known here: 2 bytes that begin with 2121");
    assert_eq!(
        refused(b"abcdef"),
        "no statement that is known here: 3 bytes that begin with abcdef, in hexadecimal digits"
    );
    assert_eq!(
        refused(b"{\"a\":1}"),
        "no statement that is known here: 7 bytes that begin with 7b2261223a317d, JSON with other members"
    );
    assert!(refused(b"{\"a\":").starts_with("1:5: not JSON: "));
    assert_eq!(
        refused(b"{\"__cmwc_t\":0}"),
        "not evidence: collection type is not tag:casemate.dev,2026:evidence/1"
    );
    assert!(refused(b"{\"quote\":0}").starts_with("not a TPM's statement: "));
    assert!(refused(&quote_header(3, 0)).starts_with("an SGX quote"));
    for bytes in [&b"!!"[..], b"", b"{}"] {
        assert_eq!(recognise(bytes).unwrap_err().todo, KNOWN);
    }
}

#[test]
fn no_beginning_of_a_statement_is_anything_but_it_or_unknown() {
    let Some(folder) = vectors::folder("no_beginning_of_a_statement_is_anything_but_it_or_unknown") else {
        return;
    };
    let quote = vectors::read(&folder, "dcap-qvl/sample/tdx_quote");
    for length in 0..quote.len() {
        match recognise(&quote[..length]) {
            Ok(found) => assert!(found.what.starts_with("TDX quote"), "{length}: {}", found.what),
            Err(error) => assert!(length < 8, "{length}: {}", error.what),
        }
    }
    let report = vectors::read(&folder, "trustee/deps/verifier/test_data/snp/test-report.bin");
    for length in 0..report.len() {
        assert!(recognise(&report[..length]).is_err(), "{length}");
    }
}
