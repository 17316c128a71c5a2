//! The policy's expectations of a TDX box, and the claims that a quote makes.

use std::fmt;

use super::attributes::{TdAttributes, xfam_defects};
use super::quote::VerifiedTdx;
use super::tcb_info::TcbStatus;
use crate::hex_text::Hex;
use crate::ledger::{Failed, Ledger, Voucher};
use crate::platform::{Scope, Weakness};
use crate::policy::{Measurement, PlatformProperty, SeptVeDisable, TdxExpectations};
use crate::time::UnixTime;

/// Records every rule of `[platform.tdx]`; goes on after one that does not hold.
pub(crate) fn require_expectations(
    ledger: &mut Ledger,
    verified: &VerifiedTdx<'_>,
    expected: &TdxExpectations,
    age_max_days: u32,
    scope: Scope,
    now: UnixTime,
) -> Result<(), Failed> {
    let body = &verified.quote.body;
    let [rtmr0, rtmr1, rtmr2] = &expected.rtmr;
    let [found0, found1, found2, found3] = body.rtmr;
    let results = [
        require_age(ledger, verified, age_max_days, now),
        expected.root_crl_age_max_days.map_or(Ok(()), |days| {
            ledger.require_age("CRL of the root", verified.root_crl_issued, days, now)
        }),
        require_evaluation(ledger, verified, expected),
        require_status(ledger, verified, expected),
        require_platform(ledger, verified, expected),
        require_attributes(ledger, verified, expected),
        require_sept_ve_disable(ledger, verified, expected.sept_ve_disable),
        require_service_td(ledger, verified, &expected.mrservicetd),
        require_measurement(ledger, "tdx.mrtd", &expected.mrtd, body.mr_td),
        require_measurement(ledger, "tdx.rtmr0", rtmr0, found0),
        require_measurement(ledger, "tdx.rtmr1", rtmr1, found1),
        require_measurement(ledger, "tdx.rtmr2", rtmr2, found2),
        require_measurement(ledger, "tdx.mrowner", &expected.mrowner, body.mr_owner),
        require_measurement(ledger, "tdx.mrownerconfig", &expected.mrownerconfig, body.mr_owner_config),
        match &expected.mrseam {
            Some(values) => require_measurement(ledger, "tdx.mrseam", values, body.mr_seam),
            None => Ok(()),
        },
        match scope {
            // The event log and the composition say what these must be.
            Scope::Agent => Ok(()),
            Scope::Platform => require_measurement(ledger, "tdx.rtmr3", &expected.rtmr3, found3)
                .and(require_measurement(ledger, "tdx.mrconfigid", &expected.mrconfigid, body.mr_config_id)),
        },
    ];
    results.into_iter().collect()
}

/// Adds what the quote says to the claims.
pub(crate) fn claim_all(ledger: &mut Ledger, verified: &VerifiedTdx<'_>, voucher: Voucher) {
    let body = &verified.quote.body;
    let attributes = TdAttributes::from_bytes(*body.td_attributes);
    let mut claim =
        |name: &'static str, value: &dyn fmt::Display| ledger.claim("platform", name, value, voucher);
    claim("tee", &"tdx");
    claim("tcb-status", &verified.tcb.status);
    claim("tcb-advisories", &Joined(&verified.tcb.advisories, " "));
    claim("tcb-date", &verified.tcb.date);
    claim("tcb-evaluation-data-number", &verified.tcb_evaluation_data_number);
    claim("quote-version", &verified.quote.version);
    claim("fmspc", &Hex(verified.sgx.fmspc));
    claim("ppid", &Hex(verified.sgx.ppid));
    claim("sgx-type", &verified.sgx.sgx_type);
    for property in PlatformProperty::ALL {
        let value = match verified.sgx.properties {
            None => "not certified",
            Some(set) => match set.states(property) {
                None => "not certified",
                Some(true) => "true",
                Some(false) => "false",
            },
        };
        claim(property.name(), &value);
    }
    claim("qe-svn", &verified.qe_svn);
    claim("tee-tcb-svn", &Hex(*body.tee_tcb_svn));
    claim("mrseam", &Hex(*body.mr_seam));
    claim("td-attributes", &Hex(*body.td_attributes));
    claim("debug", &attributes.has(TdAttributes::DEBUG));
    claim("open-to-host", &attributes.has(TdAttributes::UNTRUSTED));
    claim("migratable", &attributes.has(TdAttributes::MIGRATABLE));
    claim("sept-ve-disable", &attributes.has(TdAttributes::SEPT_VE_DISABLE));
    claim("xfam", &Hex(*body.xfam));
    claim("mrtd", &Hex(*body.mr_td));
    claim("mrconfigid", &Hex(*body.mr_config_id));
    claim("mrowner", &Hex(*body.mr_owner));
    claim("mrownerconfig", &Hex(*body.mr_owner_config));
    for (name, register) in ["rtmr0", "rtmr1", "rtmr2", "rtmr3"].into_iter().zip(body.rtmr) {
        claim(name, &Hex(*register));
    }
    if let Some(later) = &body.version_15 {
        claim("tee-tcb-svn2", &Hex(*later.tee_tcb_svn2));
        claim("mrservicetd", &Hex(*later.mr_service_td));
        if let Some(extended) = &later.extended {
            claim("vm-id", &extended.vm_id);
            claim("td-id", &Hex(*extended.td_id));
            claim("device-info", &Hex(*extended.device_info));
            claim("initial-service-td", &Hex(*extended.initial_service_td));
            claim("current-service-td", &Hex(*extended.current_service_td));
            claim("initial-fmspc", &Hex(*extended.initial_fmspc));
        }
    }
}

/// What stands against genuine hardware that a policy accepts all the same: a weaker status, and whatever a policy must
/// allow by name before it passes.
pub(crate) fn weakness(verified: &VerifiedTdx<'_>) -> Weakness {
    let body = &verified.quote.body;
    let attributes = TdAttributes::from_bytes(*body.td_attributes);
    let services = body.version_15.iter().flat_map(|later| {
        [Some(later.mr_service_td), later.extended.map(|extended| extended.current_service_td)]
    });
    let clean = verified.tcb.status == TcbStatus::UpToDate
        && verified.tcb.advisories.is_empty()
        && attributes.beyond(TdAttributes::NONE) == TdAttributes::NONE
        && attributes.has(TdAttributes::SEPT_VE_DISABLE)
        && xfam_defects(u64::from_le_bytes(*body.xfam), 0).is_none()
        && services.flatten().all(|service| *service == [0; 48]);
    if clean { Weakness::None } else { Weakness::Known }
}

/// Items one after the other.
struct Joined<'a, T>(&'a [T], &'static str);

impl<T: fmt::Display> fmt::Display for Joined<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { self.1 })?;
            item.fmt(f)?;
        }
        Ok(())
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

/// Intel signs old TCB information that stays unexpired: a number that only grows tells which release it is.
fn require_evaluation(
    ledger: &mut Ledger,
    verified: &VerifiedTdx<'_>,
    expected: &TdxExpectations,
) -> Result<(), Failed> {
    let found = verified.tcb_evaluation_data_number;
    ledger.require(
        "tdx.tcb-evaluation",
        found >= expected.tcb_evaluation_min,
        format_args!("tcbEvaluationDataNumber of at least {}", expected.tcb_evaluation_min),
        found,
    )
}

fn require_status(
    ledger: &mut Ledger,
    verified: &VerifiedTdx<'_>,
    expected: &TdxExpectations,
) -> Result<(), Failed> {
    let tcb = &verified.tcb;
    let accepted = expected.tcb_status.contains(&tcb.status);
    let status = ledger.require("tdx.tcb-status", accepted, Joined(&expected.tcb_status, " or "), tcb);
    let unknown = |advisory: &&String| !expected.allow_advisories.contains(advisory.as_str());
    let beyond: Vec<&String> = tcb.advisories.iter().filter(unknown).collect();
    let advisories = if beyond.is_empty() {
        ledger.require("tdx.advisories", true, "no advisory that is not allowed", "none")
    } else {
        let expected: Vec<&str> = expected.allow_advisories.iter().map(String::as_str).collect();
        let expected = if expected.is_empty() { "none".to_owned() } else { expected.join(", ") };
        Err(ledger.fail("tdx.advisories", expected, Joined(&beyond, ", ")))
    };
    let date = expected.tcb_date_min.map_or(Ok(()), |min| {
        let expected = format_args!("a TCB level of {min} or later").to_string();
        ledger.require("tdx.tcb-date", tcb.date >= min, expected, tcb.date)
    });
    status.and(advisories).and(date)
}

/// Which platforms: families, single ones, and what Intel certified of their configuration.
fn require_platform(
    ledger: &mut Ledger,
    verified: &VerifiedTdx<'_>,
    expected: &TdxExpectations,
) -> Result<(), Failed> {
    let sgx = &verified.sgx;
    let fmspc = expected.fmspc.as_ref().map_or(Ok(()), |allowed| {
        let names: Vec<String> = allowed.iter().map(hex::encode).collect();
        ledger.require(
            "tdx.platform-family",
            allowed.contains(&sgx.fmspc),
            names.join(" or "),
            Hex(sgx.fmspc),
        )
    });
    let ppid = expected.ppid.as_ref().map_or(Ok(()), |allowed| {
        let names: Vec<String> = allowed.iter().map(hex::encode).collect();
        ledger.require("tdx.platform-id", allowed.contains(&sgx.ppid), names.join(" or "), Hex(sgx.ppid))
    });
    if expected.refuse_platform.is_empty() {
        return fmspc.and(ppid);
    }
    let names: Vec<&str> = expected.refuse_platform.iter().map(|property| property.name()).collect();
    let wanted = format!("a platform certified without {}", names.join(", "));
    let certified = match sgx.properties {
        None => Err(ledger.fail("tdx.platform-properties", wanted, "a certificate that does not say")),
        Some(set) => {
            // What is not stated is not known to be absent.
            let stated = expected.refuse_platform.iter().filter(|p| set.states(**p) != Some(false));
            let found: Vec<&str> = stated.map(|property| property.name()).collect();
            let text = if found.is_empty() { "none of them".to_owned() } else { found.join(", ") };
            ledger.require("tdx.platform-properties", found.is_empty(), wanted, text)
        }
    };
    fmspc.and(ppid).and(certified)
}

fn require_attributes(
    ledger: &mut Ledger,
    verified: &VerifiedTdx<'_>,
    expected: &TdxExpectations,
) -> Result<(), Failed> {
    let found = TdAttributes::from_bytes(*verified.quote.body.td_attributes);
    let beyond = found.beyond(expected.allow_attributes);
    let attributes = ledger.require(
        "tdx.td-attributes",
        beyond == TdAttributes::NONE,
        Allowed(expected.allow_attributes),
        format_args!("{:#018x}, of which not allowed: {beyond}", found.0),
    );
    let xfam = u64::from_le_bytes(*verified.quote.body.xfam);
    let defects = xfam_defects(xfam, expected.allow_xfam);
    let xfam = match defects {
        None => ledger.require("tdx.xfam", true, "fixed bits set and none unknown", Bits(xfam)),
        Some((missing, beyond)) => Err(ledger.fail(
            "tdx.xfam",
            "fixed bits set and none unknown",
            format_args!("{xfam:#x}, fixed bits missing {missing:#x}, unknown bits {beyond:#x}"),
        )),
    };
    attributes.and(xfam)
}

/// What may be set, in words.
struct Allowed(TdAttributes);

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no debug, no profiling, not migratable, no unknown bit")?;
        if self.0 == TdAttributes::NONE { Ok(()) } else { write!(f, "; allowed: {}", self.0) }
    }
}

struct Bits(u64);

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

fn require_sept_ve_disable(
    ledger: &mut Ledger,
    verified: &VerifiedTdx<'_>,
    expected: SeptVeDisable,
) -> Result<(), Failed> {
    let set = TdAttributes::from_bytes(*verified.quote.body.td_attributes).has(TdAttributes::SEPT_VE_DISABLE);
    let text = match expected {
        SeptVeDisable::Required => "SEPT_VE_DISABLE set",
        SeptVeDisable::NotRequired => "SEPT_VE_DISABLE set or clear",
    };
    let found = if set { "SEPT_VE_DISABLE set" } else { "SEPT_VE_DISABLE clear" };
    ledger.require("tdx.sept-ve-disable", set || expected == SeptVeDisable::NotRequired, text, found)
}

/// A service trust domain could migrate this one.
fn require_service_td(
    ledger: &mut Ledger,
    verified: &VerifiedTdx<'_>,
    expected: &[Measurement],
) -> Result<(), Failed> {
    const RULE: &str = "tdx.service-td";
    match &verified.quote.body.version_15 {
        Some(later) => {
            let bound = require_measurement(ledger, RULE, expected, later.mr_service_td);
            // What is bound after creation can migrate it as well.
            let now = later.extended.map_or(Ok(()), |extended| {
                require_measurement(ledger, RULE, expected, extended.current_service_td)
            });
            bound.and(now)
        }
        // This form of a report has no field for service trust domains. Intel's library asks for no more here.
        None => {
            let none = expected.contains(&Measurement([0; 48]));
            ledger.require(
                RULE,
                none,
                "no service trust domain, or one that is named",
                "a report without the field",
            )
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
    ledger.require(rule, expected.contains(&found), Joined(expected, " or "), found)
}
