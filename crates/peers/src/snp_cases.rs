//! Cases of AMD SEV-SNP: real reports with their certificates, by name.

use std::path::Path;

use casemate_evidence::SNP_REPORT_BYTES;
use casemate_verifier::SnpCollateral;
use serde_json::Value;

use crate::vectors::{Unusable, certificate, read};

const AMD: &str = "attestation-rs/crates/attestation/certs/amd";

/// One real report and a certificate that should or should not be its key's.
#[derive(Debug, Clone, Copy)]
pub struct SnpCase {
    /// File of the report.
    pub report: &'static str,
    /// How the report lies in it.
    pub form: Form,
    /// `milan`, `genoa` or `turin`.
    pub product: &'static str,
    /// `ask` or `asvk`.
    pub intermediate: &'static str,
    /// File of the VCEK or VLEK.
    pub vek: &'static str,
}

/// How a report lies in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// From this byte on.
    At(usize),
    /// In hexadecimal digits.
    Hex,
    /// In Azure's JSON: an array of bytes with a header of 32.
    AzureJson,
}

const fn milan(report: &'static str, form: Form, vek: &'static str) -> SnpCase {
    SnpCase { report, form, product: "milan", intermediate: "ask", vek }
}

const REPORT: &str = "trustee/deps/verifier/test_data/snp/test-report.bin";
const VCEK: &str = "trustee/deps/verifier/test_data/snp/test-vcek.der";
const VLEK_REPORT: &str = "trustee/deps/verifier/test_data/snp/test-vlek-report.bin";
const VLEK: &str = "trustee/deps/verifier/test_data/snp/test-vlek.der";

/// Every real report with its key, and some with another one.
pub const CASES: [SnpCase; 15] = [
    milan(REPORT, Form::At(0), VCEK),
    milan(
        "virtee-sev/tests/certs_data/report_milan.hex",
        Form::Hex,
        "virtee-sev/tests/certs_data/vcek_milan.der",
    ),
    milan(
        "dstack/dstack/dstack-attest/tests/sev_snp_attestation.bin",
        Form::At(4),
        "dstack/dstack/dstack-attest/tests/sev_snp_vcek.pem",
    ),
    milan(
        "go-sev-guest/verify/testdata/attestation.bin",
        Form::At(0),
        "go-sev-guest/verify/testdata/vcek.testcer",
    ),
    milan(
        "trustee/deps/verifier/test_data/az-snp-vtpm/hcl-report.bin",
        Form::At(32),
        "trustee/deps/verifier/test_data/az-snp-vtpm/vcek.pem",
    ),
    SnpCase {
        product: "genoa",
        ..milan(
            "trustee/deps/verifier/test_data/az-snp-vtpm/evidence-genoa.json",
            Form::AzureJson,
            "trustee/deps/verifier/test_data/az-snp-vtpm/vcek-genoa.pem",
        )
    },
    SnpCase { intermediate: "asvk", ..milan(VLEK_REPORT, Form::At(0), VLEK) },
    // Keys that are not the report's, or not AMD's.
    milan(VLEK_REPORT, Form::At(0), VLEK),
    milan(VLEK_REPORT, Form::At(0), VCEK),
    SnpCase { intermediate: "asvk", ..milan(REPORT, Form::At(0), VCEK) },
    milan(REPORT, Form::At(0), "virtee-sev/tests/certs_data/vcek_milan.der"),
    milan(REPORT, Form::At(0), "trustee/deps/verifier/test_data/snp/test-vcek-invalid-legacy.der"),
    milan(REPORT, Form::At(0), "trustee/deps/verifier/test_data/snp/test-vcek-invalid-new.der"),
    SnpCase { product: "genoa", ..milan(REPORT, Form::At(0), VCEK) },
    SnpCase { product: "turin", ..milan(REPORT, Form::At(0), "virtee-sev/tests/certs_data/vcek_turin.der") },
];

/// Times at which they are verified, in Unix seconds: 2025-06-01, with the VLEK; 2026-01-01, after it; 2027-01-01, with
/// the youngest VCEK; 2034-01-01, after all.
pub const TIMES: [u64; 4] = [1_748_736_000, 1_767_225_600, 1_798_761_600, 2_019_686_400];

impl SnpCase {
    /// Report and key by the last part of their names, for tables.
    #[must_use]
    pub fn name(&self) -> String {
        let short = |path: &'static str| path.rsplit('/').next().unwrap_or(path);
        format!("{}/{}/{}/{}", short(self.report), self.product, self.intermediate, short(self.vek))
    }

    /// The report.
    ///
    /// # Errors
    /// Where the file is of another form.
    pub fn report(&self, folder: &Path) -> Result<Vec<u8>, Unusable> {
        let file = read(folder, self.report)?;
        let (bytes, start) = match self.form {
            Form::At(start) => (file, start),
            Form::Hex => (hex::decode(file.trim_ascii())?, 0),
            Form::AzureJson => {
                let json: Value = serde_json::from_slice(&file)?;
                let report = json.get("report").cloned().ok_or("no report")?;
                (serde_json::from_value(report)?, 32)
            }
        };
        let report = bytes.get(start..).and_then(|rest| rest.get(..SNP_REPORT_BYTES));
        Ok(report.ok_or("shorter than a report")?.to_vec())
    }

    /// Its certificates. There is no CRL of AMD among the vectors.
    ///
    /// # Errors
    /// Where a file is of another form.
    pub fn collateral(&self, folder: &Path) -> Result<SnpCollateral, Unusable> {
        Ok(SnpCollateral {
            ark: certificate(folder, &format!("{AMD}/{}/ark.der", self.product))?,
            ask: certificate(folder, &format!("{AMD}/{}/{}.der", self.product, self.intermediate))?,
            crl: Vec::new(),
            vek: Some(certificate(folder, self.vek)?),
        })
    }
}

/// Which field of a report a byte belongs to (SEV-SNP firmware ABI 56860, table ATTESTATION_REPORT).
#[must_use]
pub const fn region(offset: usize) -> &'static str {
    match offset {
        0x00..0x04 => "version",
        0x34..0x38 => "signature-algorithm",
        0x38..0x40 => "current-tcb",
        0x48..0x4c => "key-info",
        0x180..0x188 => "reported-tcb",
        0x188..0x18b => "cpuid",
        0x1a0..0x1e0 => "chip-id",
        0x1e0..0x1e8 => "committed-tcb",
        0x1f0..0x1f8 => "launch-tcb",
        0x2a0..0x2d0 => "signature-r",
        0x2d0..0x2e8 => "signature-r-upper",
        0x2e8..0x318 => "signature-s",
        0x318..0x330 => "signature-s-upper",
        0x330.. => "signature-reserved",
        _ => "signed",
    }
}
