//! Intel's signed JSON, verified: signer, signature over the bytes received, and dates.

use serde::Deserialize;

use super::chains::TcbSigner;
use super::tcb_info::{QeIdentity, SignedQeIdentity, SignedTcbInfo, TcbInfo};
use crate::hex_text::Hex;
use crate::json::require_unique;
use crate::ledger::{Failed, Ledger};
use crate::time::{UnixTime, Window};

/// Largest document in bytes.
const DOCUMENT_BYTES_MAX: usize = 1 << 20;

/// TCB information whose signature, dates and kind were verified.
pub(crate) struct VerifiedTcbInfo {
    pub(crate) info: TcbInfo,
    pub(crate) window: Window,
}

/// A QE identity whose signature, dates and kind were verified.
pub(crate) struct VerifiedQeIdentity {
    pub(crate) identity: QeIdentity,
    pub(crate) window: Window,
}

pub(crate) fn verify_tcb_info(
    ledger: &mut Ledger,
    document: &[u8],
    signer: &TcbSigner<'_>,
    now: UnixTime,
) -> Result<VerifiedTcbInfo, Failed> {
    const RULE: &str = "tdx.tcb-info";
    const EXPECTED: &str =
        "TCB information of version 3 for TDX, signed by Intel SGX TCB Signing and current";
    let signed: SignedTcbInfo<'_> = read(ledger, RULE, EXPECTED, document)?;
    require_signature(ledger, RULE, EXPECTED, signer, signed.body.get(), &signed.signature)?;
    let info: TcbInfo = read(ledger, RULE, EXPECTED, signed.body.get().as_bytes())?;
    let window = read_window(ledger, RULE, EXPECTED, &info.issue_date, &info.next_update)?;
    let kind = info.id == "TDX" && info.version == 3 && info.tcb_type == 0;
    let found = format!(
        "{} of version {} and type {}, issued {}, next update {}",
        info.id, info.version, info.tcb_type, info.issue_date, info.next_update
    );
    ledger.require(RULE, kind && window.holds_at(now), EXPECTED, found)?;
    Ok(VerifiedTcbInfo { info, window })
}

pub(crate) fn verify_qe_identity(
    ledger: &mut Ledger,
    document: &[u8],
    signer: &TcbSigner<'_>,
    now: UnixTime,
) -> Result<VerifiedQeIdentity, Failed> {
    const RULE: &str = "tdx.qe-identity";
    const EXPECTED: &str = "a TD_QE identity of version 2, signed by Intel SGX TCB Signing and current";
    let signed: SignedQeIdentity<'_> = read(ledger, RULE, EXPECTED, document)?;
    require_signature(ledger, RULE, EXPECTED, signer, signed.body.get(), &signed.signature)?;
    let identity: QeIdentity = read(ledger, RULE, EXPECTED, signed.body.get().as_bytes())?;
    let window = read_window(ledger, RULE, EXPECTED, &identity.issue_date, &identity.next_update)?;
    let kind = identity.id == "TD_QE" && identity.version == 2;
    let found = format!(
        "{} of version {}, issued {}, next update {}",
        identity.id, identity.version, identity.issue_date, identity.next_update
    );
    ledger.require(RULE, kind && window.holds_at(now), EXPECTED, found)?;
    Ok(VerifiedQeIdentity { identity, window })
}

fn read<'a, T: Deserialize<'a>>(
    ledger: &mut Ledger,
    rule: &'static str,
    expected: &str,
    bytes: &'a [u8],
) -> Result<T, Failed> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        let found = format!("{} bytes, at most {DOCUMENT_BYTES_MAX} allowed", bytes.len());
        return Err(ledger.fail(rule, expected, found));
    }
    // A member twice would let other readers of the same signed bytes see another value.
    ledger.accept(rule, expected, require_unique(bytes))?;
    ledger.accept(rule, expected, serde_json::from_slice(bytes))
}

fn require_signature(
    ledger: &mut Ledger,
    rule: &'static str,
    expected: &str,
    signer: &TcbSigner<'_>,
    body: &str,
    signature: &Hex<64>,
) -> Result<(), Failed> {
    if signer.signed(body.as_bytes(), &signature.0) {
        return Ok(());
    }
    Err(ledger.fail(rule, expected, "another signature"))
}

fn read_window(
    ledger: &mut Ledger,
    rule: &'static str,
    expected: &str,
    issue_date: &str,
    next_update: &str,
) -> Result<Window, Failed> {
    match (UnixTime::from_rfc3339(issue_date), UnixTime::from_rfc3339(next_update)) {
        (Some(from), Some(until)) => Ok(Window { from, until }),
        _ => Err(ledger.fail(rule, expected, format_args!("dates `{issue_date}` and `{next_update}`"))),
    }
}
