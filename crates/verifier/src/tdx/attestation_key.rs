//! The attestation key of a quote: that Intel's quoting enclave, on this platform, vouches for it.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use casemate_canon::Sha256;
use casemate_evidence::TdxQuote;

use super::pck_chain::PckFacts;
use crate::cache::Cache;
use crate::hex_text::Hex;
use crate::ledger::{Failed, Ledger};

/// A key that a QE report, signed by the PCK key, binds.
#[derive(Clone)]
pub(crate) struct AttestationKey(ParsedPublicKey);

/// The quote's attestation key: a remembered one, or verified now.
pub(super) fn require<'c>(
    ledger: &mut Ledger,
    quote: &TdxQuote<'_>,
    pck: &PckFacts,
    keys: &'c mut Cache<AttestationKey>,
) -> Result<&'c AttestationKey, Failed> {
    // Every byte that the two rules read; all but the authentication data have a fixed length.
    let digest = Sha256::of_parts(&[
        &pck.digest.0,
        quote.qe_report.signed,
        quote.qe_report_signature,
        quote.attestation_key,
        quote.qe_auth_data,
    ]);
    if keys.get(&digest).is_none() {
        let key = verify(ledger, quote, pck)?;
        keys.insert(digest, key);
    }
    let key = keys.get(&digest);
    let key = key.ok_or_else(|| ledger.fail("tdx.qe-report", "a QE report signed by the PCK key", "none"))?;
    ledger.require(
        "tdx.qe-report",
        true,
        "a QE report signed by the PCK key",
        "a signature by the PCK key",
    )?;
    ledger.require(
        "tdx.qe-report-data",
        true,
        "SHA-256 over attestation key and authentication data, then zeros",
        "the same",
    )?;
    Ok(key)
}

impl AttestationKey {
    /// Records rule `platform.signature`: that this key signed the quote.
    pub(super) fn require_signed(&self, ledger: &mut Ledger, quote: &TdxQuote<'_>) -> Result<(), Failed> {
        let signed = self.0.verify_sig(quote.signed, quote.signature).is_ok();
        let found = if signed { "a signature by the attestation key" } else { "another signature" };
        ledger.require("platform.signature", signed, "a quote signed by its attestation key", found)
    }
}

fn verify(ledger: &mut Ledger, quote: &TdxQuote<'_>, pck: &PckFacts) -> Result<AttestationKey, Failed> {
    let report = &quote.qe_report;
    if pck.leaf_key.verify_sig(report.signed, quote.qe_report_signature).is_err() {
        return Err(ledger.fail("tdx.qe-report", "a QE report signed by the PCK key", "another signature"));
    }
    let bound = Sha256::of_parts(&[quote.attestation_key, quote.qe_auth_data]);
    let mut expected = [0; 64];
    for (to, from) in expected.iter_mut().zip(bound.0) {
        *to = from;
    }
    if expected != *report.report_data {
        return Err(ledger.fail("tdx.qe-report-data", Hex(expected), Hex(*report.report_data)));
    }
    let mut point = [4; 65];
    for (to, from) in point.iter_mut().skip(1).zip(quote.attestation_key) {
        *to = *from;
    }
    let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    ledger
        .accept(
            "platform.signature",
            "an attestation key on the curve P-256",
            key.map_err(|_| "another point"),
        )
        .map(AttestationKey)
}
