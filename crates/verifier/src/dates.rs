//! What the parts of collateral say of their own dates, for people. Nothing here is verified.

use casemate_canon::Sha256;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::collateral::Collateral;
use crate::crl::Crl;
use crate::time::{UnixTime, Window};
use crate::x509::{Certificate, read_pem_chain};

/// One part of collateral.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollateralPart {
    /// Where it stands in a bundle, e.g. `tdx.tcb_info`.
    pub name: &'static str,
    /// Digest of its bytes as given.
    pub sha256: Sha256,
    /// From when until when it holds, both included.
    pub dates: Result<(UnixTime, UnixTime), DatesError>,
}

/// The part cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot be read: {reason}")]
pub struct DatesError {
    /// Why.
    pub reason: String,
}

/// The dates of every part. Of a chain, those in which all its certificates hold.
#[must_use]
pub fn collateral_dates(collateral: &Collateral) -> Vec<CollateralPart> {
    let mut parts = Vec::new();
    let mut add = |name, bytes: &[u8], read: fn(&[u8]) -> Result<Window, DatesError>| {
        let dates = read(bytes).map(|window| (window.from, window.until));
        parts.push(CollateralPart { name, sha256: Sha256::of(bytes), dates });
    };
    if let Some(tdx) = &collateral.tdx {
        add("tdx.root_ca_crl", &tdx.root_ca_crl, crl);
        add("tdx.pck_crl", &tdx.pck_crl, crl);
        add("tdx.pck_crl_chain", &tdx.pck_crl_chain, chain);
        add("tdx.tcb_info", &tdx.tcb_info, document);
        add("tdx.tcb_info_chain", &tdx.tcb_info_chain, chain);
        add("tdx.qe_identity", &tdx.qe_identity, document);
        add("tdx.qe_identity_chain", &tdx.qe_identity_chain, chain);
    }
    if let Some(snp) = &collateral.snp {
        add("snp.ark", &snp.ark, certificate);
        add("snp.ask", &snp.ask, certificate);
        add("snp.crl", &snp.crl, crl);
        if let Some(vek) = &snp.vek {
            add("snp.vek", vek, certificate);
        }
    }
    parts
}

/// `{"tcbInfo":{..}}` or `{"enclaveIdentity":{..}}`.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow, alias = "tcbInfo", alias = "enclaveIdentity")]
    body: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dates {
    issue_date: String,
    next_update: String,
}

fn document(json: &[u8]) -> Result<Window, DatesError> {
    let document: Document<'_> = serde_json::from_slice(json).map_err(error)?;
    let dates: Dates = serde_json::from_str(document.body.get()).map_err(error)?;
    match (UnixTime::from_rfc3339(&dates.issue_date), UnixTime::from_rfc3339(&dates.next_update)) {
        (Some(from), Some(until)) => Ok(Window { from, until }),
        _ => Err(error("dates of another form")),
    }
}

fn crl(der: &[u8]) -> Result<Window, DatesError> {
    Crl::read(der).map(|crl| crl.window).map_err(error)
}

fn certificate(der: &[u8]) -> Result<Window, DatesError> {
    Certificate::read(der).map(|certificate| certificate.window).map_err(error)
}

fn chain(pem: &[u8]) -> Result<Window, DatesError> {
    let chain = read_pem_chain(pem).map_err(error)?;
    let mut common = Window { from: UnixTime(0), until: UnixTime(u64::MAX) };
    for der in &chain {
        let window = certificate(der)?;
        common = Window { from: common.from.max(window.from), until: common.until.min(window.until) };
    }
    Ok(common)
}

fn error(reason: impl std::fmt::Display) -> DatesError {
    DatesError { reason: reason.to_string() }
}
