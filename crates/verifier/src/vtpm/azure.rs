//! Azure: the attestation key is in the variable data of an HCL report, whose digest the hardware's report data hold.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use casemate_canon::{Sha256, from_slice_unique};
use casemate_evidence::{HclHardware, TdReport, TdReportStruct, parse_hcl_report};
use serde::Deserialize;

use super::key::AttestationKey;
use crate::hex_text::Hex;
use crate::ledger::{Failed, Ledger, Voucher};

/// An HCL report whose variable data were read. Nothing of it holds before the hardware's report is verified.
#[derive(Debug)]
pub(crate) struct AzureReport<'a> {
    pub(crate) hardware: HclHardware<'a>,
    /// What the hardware's report data must be: SHA-256 over the variable data, then zeros.
    expected: [u8; 64],
    claims: RuntimeClaims,
}

/// The part of the variable data that is read. The paravisor writes more, and its digest covers all of it.
#[derive(Debug, Deserialize)]
struct RuntimeClaims {
    keys: Vec<Jwk>,
    #[serde(default, rename = "vm-configuration")]
    configuration: serde_json::Map<String, serde_json::Value>,
    #[serde(default, rename = "user-data")]
    user_data: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Jwk {
    kid: String,
    kty: String,
    n: Option<String>,
    e: Option<String>,
}

/// Most claims taken of the machine's configuration.
const CONFIGURATION_CLAIMS_MAX: usize = 32;

/// Why the variable data have no attestation key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum JwkError {
    #[error("{found} keys named HCLAkPub")]
    Count { found: usize },
    #[error("not an RSA key in base64url")]
    Form,
    #[error(transparent)]
    Key(#[from] super::key::KeyError),
}

/// Reads an HCL report and its variable data.
pub(crate) fn read_report<'a>(ledger: &mut Ledger, bytes: &'a [u8]) -> Result<AzureReport<'a>, Failed> {
    let report = ledger.accept("azure.hcl-report", "an HCL report", parse_hcl_report(bytes))?;
    let claims = from_slice_unique::<RuntimeClaims>(report.variable_data);
    let claims = ledger.accept("azure.runtime-data", "runtime claims in JSON", claims)?;
    let mut expected = [0; 64];
    for (to, from) in expected.iter_mut().zip(Sha256::of(report.variable_data).0) {
        *to = from;
    }
    Ok(AzureReport { hardware: report.hardware, expected, claims })
}

impl AzureReport<'_> {
    /// That the verified hardware's report data are those of this report, and the attestation key in it.
    pub(crate) fn require_bound(
        &self,
        ledger: &mut Ledger,
        report_data: &[u8; 64],
    ) -> Result<AttestationKey, Failed> {
        ledger.equal("azure.report-data", &Hex(self.expected), &Hex(*report_data))?;
        ledger.accept("vtpm.key", "one RSA key named HCLAkPub in the HCL report", self.claims.key())
    }

    /// What the paravisor says of the machine: it is measured, and what it says is bound. The user data are the guest's,
    /// which can write anything there before it asks for a report; the paravisor copies them.
    pub(crate) fn claim_all(&self, ledger: &mut Ledger, voucher: Voucher) {
        for (name, value) in self.claims.configuration.iter().take(CONFIGURATION_CLAIMS_MAX) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            ledger.claim("platform", &format!("azure.{name}"), value, voucher);
        }
        if let Some(user_data) = &self.claims.user_data {
            ledger.claim("platform", "azure.user-data", user_data, Voucher::HostClaimed);
        }
    }
}

impl RuntimeClaims {
    /// The key that the paravisor made for quotes. What its `key_ops` say differs between releases and is not read.
    fn key(&self) -> Result<AttestationKey, JwkError> {
        let named: Vec<&Jwk> = self.keys.iter().filter(|key| key.kid == "HCLAkPub").collect();
        let [key] = named.as_slice() else { return Err(JwkError::Count { found: named.len() }) };
        let (Some(n), Some(e)) = (&key.n, &key.e) else { return Err(JwkError::Form) };
        if key.kty != "RSA" {
            return Err(JwkError::Form);
        }
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| JwkError::Form);
        Ok(AttestationKey::of_rsa(&bytes(n)?, &bytes(e)?)?)
    }
}

/// That the TDREPORT in the HCL report says what the quote says. The quote alone is signed by Intel's keys; a TDREPORT
/// that differs is of another trust domain or another time.
pub(crate) fn require_tdreport(
    ledger: &mut Ledger,
    found: &TdReportStruct<'_>,
    quote: &TdReport<'_>,
) -> Result<(), Failed> {
    const RULE: &str = "azure.tdreport";
    let fields: [(&str, &[u8], &[u8]); 15] = [
        ("report data", quote.report_data, found.report_data),
        ("TEE_TCB_SVN", quote.tee_tcb_svn, found.tee_tcb_svn),
        ("MRSEAM", quote.mr_seam, found.mr_seam),
        ("MRSIGNERSEAM", quote.mr_signer_seam, found.mr_signer_seam),
        ("SEAMATTRIBUTES", quote.seam_attributes, found.seam_attributes),
        ("TDATTRIBUTES", quote.td_attributes, found.td_attributes),
        ("XFAM", quote.xfam, found.xfam),
        ("MRTD", quote.mr_td, found.mr_td),
        ("MRCONFIGID", quote.mr_config_id, found.mr_config_id),
        ("MROWNER", quote.mr_owner, found.mr_owner),
        ("MROWNERCONFIG", quote.mr_owner_config, found.mr_owner_config),
        ("RTMR0", quote.rtmr[0], found.rtmr[0]),
        ("RTMR1", quote.rtmr[1], found.rtmr[1]),
        ("RTMR2", quote.rtmr[2], found.rtmr[2]),
        ("RTMR3", quote.rtmr[3], found.rtmr[3]),
    ];
    let differing: Vec<&str> =
        fields.iter().filter(|(_, quoted, found)| quoted != found).map(|(name, ..)| *name).collect();
    let text = if differing.is_empty() {
        "the same".to_owned()
    } else {
        format!("differing {}", differing.join(", "))
    };
    ledger.require(RULE, differing.is_empty(), "a TDREPORT with the quote's values", text)
}
