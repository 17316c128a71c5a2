//! Cases of Intel TDX: real quotes and collateral by name, and quotes made to order.

use std::collections::BTreeMap;
use std::path::Path;

use casemate_canon::Sha256;
use casemate_evidence::{TdxQuoteError, parse_tdx_quote};
use casemate_testkit::QuoteParts;
use dcap_qvl::QuoteCollateralV3;
use serde_json::Value;

use crate::vectors::{Unusable, read};

/// Every real TDX quote among the vectors.
pub const QUOTES: [&str; 11] = [
    "_extracted/dstack-quote-report.quote.bin",
    "_extracted/phala-quote-from-tappd.quote.bin",
    "_extracted/phala-tdx-quote.quote.bin",
    "dcap-qvl/sample/tdx_quote",
    "dcap-qvl/sample/tdx_quote_outdated",
    "dstack/dstack/ra-tls/assets/tdx_quote",
    "go-tdx-guest/testing/testdata/ccel/cos-113-tdx-quote.dat",
    "go-tdx-guest/testing/testdata/quote_v5_sample.dat",
    "go-tdx-guest/testing/testdata/tdx_prod_quote_SPR_E4.dat",
    "trustee/deps/verifier/test_data/az-tdx-vtpm/td-quote.bin",
    "trustee/deps/verifier/test_data/tdx_quote_4.dat",
];

/// Quotes of SGX enclaves, which are no TDX quotes.
pub const SGX_QUOTES: [&str; 3] = [
    "dcap-qvl/sample/sgx_quote",
    "trustee/deps/verifier/test_data/occlum_quote.dat",
    "_extracted/automata-godcap-0.quote.bin",
];

/// Collateral of the first of them, and a time at which it holds.
pub const SGX_SET: (&str, u64) = ("S0-phala-sgx-00a067-2025-06.json", 1_750_400_000);

/// Every set of collateral for TDX, in `_assembled`.
pub const SETS: [&str; 10] = [
    "S1-phala-b0c06f-2025-06",
    "S2-phala-90c06f-2026-02",
    "S4-attrs-50806f-2026-03",
    "S4-attrs-90c06f-2026-03",
    "S5-automata-00806f-2025-10",
    "S6-automata-00806f-2025-06",
    "S6-automata-90c06f-2025-06",
    "S7-trustee-00a06d-2025-10",
    "S9-gotdx-50806f-2023-06",
    "S10-gotdx-90c06f-2026-02",
];

/// When all of a set holds, both ends included, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First second.
    pub from: u64,
    /// Last second.
    pub until: u64,
}

/// The windows of all sets.
///
/// # Errors
/// Where the file is of another form.
pub fn windows(folder: &Path) -> Result<BTreeMap<String, Window>, Unusable> {
    let file: BTreeMap<String, Value> = serde_json::from_slice(&read(folder, "_assembled/windows.json")?)?;
    let second = |window: &Value, end: &str| {
        let text = window.get(end).and_then(Value::as_str).ok_or("no end")?;
        let date: der::DateTime = text.parse().map_err(|_| "no date")?;
        Ok::<_, Unusable>(date.unix_duration().as_secs())
    };
    file.iter()
        .map(|(name, window)| {
            Ok((name.clone(), Window { from: second(window, "lo")?, until: second(window, "hi")? }))
        })
        .collect()
}

/// The middle of two times.
#[must_use]
pub const fn middle(from: u64, until: u64) -> u64 {
    from + until.saturating_sub(from) / 2
}

/// The quote without what follows it where that is not padding; one real file has such bytes.
#[must_use]
pub fn readable(bytes: &[u8]) -> &[u8] {
    match parse_tdx_quote(bytes) {
        Err(TdxQuoteError::Trailing { part: "quote", found }) => {
            bytes.get(..bytes.len().saturating_sub(found)).unwrap_or(bytes)
        }
        _ => bytes,
    }
}

/// Which field of a quote a byte belongs to.
#[must_use]
pub fn region(quote: &[u8], offset: usize) -> &'static str {
    let Ok(parsed) = parse_tdx_quote(quote) else { return "unreadable" };
    let signed = parsed.signed.len();
    let auth = parsed.qe_auth_data.len();
    let fields = [
        (2, "version"),
        (2, "attestation-key-type"),
        (4, "tee-type"),
        (4, "header-reserved"),
        (16, "qe-vendor"),
        (20, "user-data"),
        (signed.saturating_sub(48), "body"),
        (4, "signature-data-length"),
        (64, "signature"),
        (64, "attestation-key"),
        (2, "outer-type"),
        (4, "outer-length"),
        (384, "qe-report"),
        (64, "qe-report-signature"),
        (2, "qe-auth-data-length"),
        (auth, "qe-auth-data"),
        (2, "inner-type"),
        (4, "inner-length"),
        (parsed.pck_chain.len(), "pck-chain"),
    ];
    let mut end = 0;
    for (length, name) in fields {
        end += length;
        if offset < end {
            return name;
        }
    }
    "padding"
}

/// For a byte of a PEM chain, which certificate it is in; nothing for other members.
#[must_use]
pub fn certificate_of_chain(set: &QuoteCollateralV3, member: &str, offset: usize) -> &'static str {
    let chain = match member {
        "pck-crl-issuer-chain" => &set.pck_crl_issuer_chain,
        "tcb-info-issuer-chain" => &set.tcb_info_issuer_chain,
        "qe-identity-issuer-chain" => &set.qe_identity_issuer_chain,
        _ => return "",
    };
    let first = chain.find("-----END CERTIFICATE-----\n").map_or(0, |at| at + 26);
    if offset < first { "/issuer" } else { "/root" }
}

/// Makes the QE report bind the attestation key and authentication data as they are now.
pub fn bind(parts: &mut QuoteParts) {
    let digest = Sha256::of_parts(&[&parts.attestation_key, &parts.qe_auth_data]);
    for (to, from) in parts.qe_report.iter_mut().skip(320).zip(digest.0) {
        *to = from;
    }
}

/// Turns a version 4 quote into one of version 5: `kind` and `size` before the body, `tail` after it.
pub fn version_5(parts: &mut QuoteParts, kind: u16, size: u32, tail: &[u8]) {
    if let Some(version) = parts.header.first_mut() {
        *version = 5;
    }
    let mut body = [kind.to_le_bytes().as_slice(), &size.to_le_bytes(), &parts.body, tail].concat();
    if kind == 1 {
        // An enclave's report is shorter than a trust domain's.
        body.truncate(6 + 384);
    }
    parts.body = body;
}
