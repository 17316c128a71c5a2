//! The policy's expectations of a TDX box, and the claims that a quote makes.

use super::quote::VerifiedTdx;
use crate::hex_text::Hex;
use crate::ledger::{Failed, Ledger, Voucher};
use crate::policy::{Measurement, SeptVeDisable, TdxExpectations};
use crate::time::UnixTime;

/// TD attributes (Intel TDX module ABI specification 348551-008, table TD_ATTRIBUTES).
const TD_ATTRIBUTE_DEBUG: u64 = 1;
/// Bits 7:0: features that let the host look into the trust domain.
const TD_ATTRIBUTES_UNTRUSTED: u64 = 0xff;
const TD_ATTRIBUTE_SEPT_VE_DISABLE: u64 = 1 << 28;
const TD_ATTRIBUTE_MIGRATABLE: u64 = 1 << 29;
/// Bits 1-3, 7-15, 23-26 and 32-61.
const TD_ATTRIBUTES_RESERVED: u64 = 0x3fff_ffff_0780_ff8e;
/// XFAM bits that are always set, and those that may be (same document, XFAM).
const XFAM_FIXED_1: u64 = 0x3;
const XFAM_ALLOWED: u64 = 0x6_dbe7;

/// Records every rule of `[platform.tdx]`; goes on after one that does not hold.
pub(crate) fn require_expectations(
    ledger: &mut Ledger,
    verified: &VerifiedTdx<'_>,
    expected: &TdxExpectations,
    age_max_days: u32,
    now: UnixTime,
) -> Result<(), Failed> {
    let results = [
        require_age(ledger, verified, age_max_days, now),
        require_status(ledger, verified, expected),
        require_attributes(ledger, verified),
        require_sept_ve_disable(ledger, verified, expected.sept_ve_disable),
        require_no_service_td(ledger, verified),
        require_measurement(ledger, "tdx.mrtd", &expected.mrtd, verified.quote.body.mr_td),
    ];
    let [rtmr0, rtmr1, rtmr2] = &expected.rtmr;
    let [found0, found1, found2, _] = verified.quote.body.rtmr;
    let registers = [
        require_measurement(ledger, "tdx.rtmr0", rtmr0, found0),
        require_measurement(ledger, "tdx.rtmr1", rtmr1, found1),
        require_measurement(ledger, "tdx.rtmr2", rtmr2, found2),
    ];
    results.into_iter().chain(registers).collect()
}

/// Adds what the quote says to the claims.
pub(crate) fn claim_all(ledger: &mut Ledger, verified: &VerifiedTdx<'_>, voucher: Voucher) {
    let body = &verified.quote.body;
    let attributes = u64::from_le_bytes(*body.td_attributes);
    let mut claim =
        |name: &str, value: &dyn std::fmt::Display| ledger.claim("platform", name, value, voucher);
    claim("tee", &"tdx");
    claim("tcb-status", &verified.tcb.status);
    claim("tcb-advisories", &verified.tcb.advisories.iter().cloned().collect::<Vec<_>>().join(" "));
    claim("tcb-evaluation-data-number", &verified.tcb_evaluation_data_number);
    claim("quote-version", &verified.quote.version);
    claim("fmspc", &Hex(verified.sgx.fmspc));
    claim("ppid", &Hex(verified.sgx.ppid));
    claim("qe-svn", &verified.qe_svn);
    claim("tee-tcb-svn", &Hex(*body.tee_tcb_svn));
    claim("mrseam", &Hex(*body.mr_seam));
    claim("td-attributes", &Hex(*body.td_attributes));
    claim("sept-ve-disable", &(attributes & TD_ATTRIBUTE_SEPT_VE_DISABLE != 0));
    claim("xfam", &Hex(*body.xfam));
    claim("mrtd", &Hex(*body.mr_td));
    claim("mrconfigid", &Hex(*body.mr_config_id));
    claim("mrowner", &Hex(*body.mr_owner));
    claim("mrownerconfig", &Hex(*body.mr_owner_config));
    for (index, register) in body.rtmr.into_iter().enumerate() {
        claim(&format!("rtmr{index}"), &Hex(*register));
    }
}

fn require_age(
    ledger: &mut Ledger,
    verified: &VerifiedTdx<'_>,
    age_max_days: u32,
    now: UnixTime,
) -> Result<(), Failed> {
    let results = verified
        .endorsements_issued
        .map(|(name, issued)| ledger.require_age(name, issued, age_max_days, now));
    results.into_iter().collect()
}

fn require_status(
    ledger: &mut Ledger,
    verified: &VerifiedTdx<'_>,
    expected: &TdxExpectations,
) -> Result<(), Failed> {
    let accepted = expected.tcb_status.contains(&verified.tcb.status);
    let names: Vec<&str> = expected.tcb_status.iter().map(|status| status.name()).collect();
    ledger.require("tdx.tcb-status", accepted, names.join(" or "), &verified.tcb)
}

fn require_attributes(ledger: &mut Ledger, verified: &VerifiedTdx<'_>) -> Result<(), Failed> {
    const EXPECTED: &str = "no debug, no other access for the host, not migratable, reserved bits zero";
    let attributes = u64::from_le_bytes(*verified.quote.body.td_attributes);
    let wrong = [
        (TD_ATTRIBUTE_DEBUG, "debug"),
        (TD_ATTRIBUTES_UNTRUSTED & !TD_ATTRIBUTE_DEBUG, "access for the host"),
        (TD_ATTRIBUTE_MIGRATABLE, "migratable"),
        (TD_ATTRIBUTES_RESERVED, "reserved bits"),
    ];
    let wrong: Vec<&str> =
        wrong.iter().filter(|(bits, _)| attributes & bits != 0).map(|(_, name)| *name).collect();
    let found = format!("{attributes:#018x} {}", wrong.join(", "));
    let attributes = ledger.require("tdx.td-attributes", wrong.is_empty(), EXPECTED, found.trim_end());
    let xfam = u64::from_le_bytes(*verified.quote.body.xfam);
    let holds = xfam & XFAM_FIXED_1 == XFAM_FIXED_1 && xfam & !XFAM_ALLOWED == 0;
    let expected = format!("bits {XFAM_FIXED_1:#x} set and none outside {XFAM_ALLOWED:#x}");
    let xfam = ledger.require("tdx.xfam", holds, expected, format_args!("{xfam:#x}"));
    attributes.and(xfam)
}

fn require_sept_ve_disable(
    ledger: &mut Ledger,
    verified: &VerifiedTdx<'_>,
    expected: SeptVeDisable,
) -> Result<(), Failed> {
    let attributes = u64::from_le_bytes(*verified.quote.body.td_attributes);
    let set = attributes & TD_ATTRIBUTE_SEPT_VE_DISABLE != 0;
    let text = match expected {
        SeptVeDisable::Required => "SEPT_VE_DISABLE set",
        SeptVeDisable::NotRequired => "SEPT_VE_DISABLE set or clear",
    };
    let found = if set { "SEPT_VE_DISABLE set" } else { "SEPT_VE_DISABLE clear" };
    ledger.require("tdx.sept-ve-disable", set || expected == SeptVeDisable::NotRequired, text, found)
}

/// A service trust domain could migrate this one. The policy has no way to name one yet, so none may be bound.
fn require_no_service_td(ledger: &mut Ledger, verified: &VerifiedTdx<'_>) -> Result<(), Failed> {
    const RULE: &str = "tdx.service-td";
    let none = Hex([0; 48]);
    match &verified.quote.body.version_15 {
        Some(later) => ledger.equal(RULE, &none, &Hex(*later.mr_service_td)),
        // TDX 1.0 has no service trust domains, and its reports no field for them.
        None => {
            let found = format!("no such field in a TDX 1.0 report of a v{} quote", verified.quote.version);
            ledger.require(RULE, true, "no service trust domain", found)
        }
    }
}

fn require_measurement(
    ledger: &mut Ledger,
    rule: &'static str,
    expected: &[Measurement],
    found: &[u8; 48],
) -> Result<(), Failed> {
    let found = Measurement(*found);
    let names: Vec<String> = expected.iter().map(ToString::to_string).collect();
    ledger.require(rule, expected.contains(&found), names.join(" or "), found)
}
