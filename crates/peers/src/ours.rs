//! Our verdict on one hardware statement, for comparison: what was verified, and what a strict policy says of it.

use casemate_canon::Sha256;
use casemate_evidence::{parse_snp_report, parse_tdx_quote};
use casemate_protocol::cmw::Platform;
use casemate_verifier::{
    Binding, Claim, Collateral, Policy, RuleResult, SnpCollateral, TdxCollateral, UnixTime,
    VerifiedCollateral, appraise_platform,
};

use crate::vectors::Unusable;

/// Which roots count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The vendors'.
    Production,
    /// One development root, by the digest of its key.
    Development(Sha256),
}

/// One rule that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Its name.
    pub rule: String,
    /// What was found.
    pub found: String,
}

/// What came out of one appraisal.
#[derive(Debug, Clone)]
pub struct Outcome {
    claims: Vec<Claim>,
    /// Rules that did not hold, in order.
    pub failed: Vec<Failed>,
}

impl Outcome {
    fn new(claims: Vec<Claim>, rules: Vec<RuleResult>) -> Self {
        let failed = rules.into_iter().filter(|rule| !rule.passed);
        let failed = failed.map(|rule| Failed { rule: rule.detail.rule, found: rule.detail.found }).collect();
        Self { claims, failed }
    }

    /// The value of a claim of the platform, which is only made of what was verified.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&str> {
        let claim = self.claims.iter().find(|claim| claim.part == "platform" && claim.name == name);
        claim.map(|claim| claim.value.as_str())
    }

    /// Whether the vendor's keys vouch for the statement, whatever a policy thinks of it.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.claim("tee").is_some()
    }

    /// Whether every rule held.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.failed.is_empty()
    }

    /// The first rule that did not hold, or nothing.
    #[must_use]
    pub fn first_failed(&self) -> &str {
        self.failed.first().map_or("", |failed| failed.rule.as_str())
    }

    /// Whether this rule did not hold.
    #[must_use]
    pub fn has_failed(&self, rule: &str) -> bool {
        self.failed.iter().any(|failed| failed.rule == rule)
    }
}

/// Endorsements, verified.
#[must_use]
pub fn handle(collateral: &Collateral, trust: Trust, now: u64) -> VerifiedCollateral {
    let _ = (trust, now);
    VerifiedCollateral::verify(collateral)
}

/// Endorsements of Intel, verified.
#[must_use]
pub fn tdx_handle(collateral: &TdxCollateral, trust: Trust, now: u64) -> VerifiedCollateral {
    handle(&Collateral { tdx: Some(collateral.clone()), snp: None }, trust, now)
}

/// Endorsements of AMD, verified.
#[must_use]
pub fn snp_handle(collateral: &SnpCollateral, trust: Trust, now: u64) -> VerifiedCollateral {
    handle(&Collateral { tdx: None, snp: Some(collateral.clone()) }, trust, now)
}

/// Appraises a quote by a strict policy that takes every measured value from the quote itself.
///
/// # Errors
/// Where the policy cannot be read: a mistake here.
pub fn appraise_tdx(
    quote: &[u8],
    handle: &mut VerifiedCollateral,
    trust: Trust,
    now: u64,
) -> Result<Outcome, Unusable> {
    let policy = Policy::parse(&tdx_policy(quote, trust)).map_err(Box::new)?;
    let report_data = parse_tdx_quote(quote).map_or([0; 64], |quote| *quote.body.report_data);
    let statement = Platform::Tdx { quote: quote.to_vec() };
    Ok(appraise(&statement, report_data, &policy, handle, now))
}

/// Appraises a report by a strict policy that takes every measured value from the report itself.
///
/// # Errors
/// Where the policy cannot be read: a mistake here.
pub fn appraise_snp(
    report: &[u8],
    handle: &mut VerifiedCollateral,
    trust: Trust,
    now: u64,
) -> Result<Outcome, Unusable> {
    let policy = Policy::parse(&snp_policy(report, trust)).map_err(Box::new)?;
    let report_data = parse_snp_report(report).map_or([0; 64], |report| *report.report_data);
    let statement = Platform::Snp { report: report.to_vec(), certificates: Vec::new() };
    Ok(appraise(&statement, report_data, &policy, handle, now))
}

/// Appraises a statement by a given policy.
#[must_use]
pub fn appraise(
    statement: &Platform,
    report_data: [u8; 64],
    policy: &Policy,
    handle: &mut VerifiedCollateral,
    now: u64,
) -> Outcome {
    let binding = Binding::ReportData(report_data);
    match appraise_platform(statement, None, &binding, policy, handle, UnixTime(now)) {
        Ok(passed) => Outcome::new(passed.claims(), passed.rules()),
        Err(refused) => Outcome::new(refused.claims, refused.rules),
    }
}

fn head(tee: &str, trust: Trust) -> String {
    let roots = match trust {
        Trust::Production => "roots = \"production\"".to_owned(),
        Trust::Development(key) => format!("roots = \"development\"\ndevelopment-roots = [\"{key}\"]"),
    };
    format!("version = 1\n\n[platform]\ntee = [\"{tee}\"]\n{roots}\ncollateral-age-max-days = 30\n")
}

/// The strict policy for a quote: up to date, nothing allowed that is optional, its own measurements.
#[must_use]
pub fn tdx_policy(quote: &[u8], trust: Trust) -> String {
    let mut lines = vec![
        "tcb-status = [\"UpToDate\"]".to_owned(),
        "tcb-evaluation-min = 1".to_owned(),
        "require-sept-ve-disable = true".to_owned(),
    ];
    let zero = [0; 48];
    let parsed = parse_tdx_quote(quote).ok();
    let body = parsed.as_ref().map(|quote| &quote.body);
    let rtmr = body.map_or([&zero; 4], |body| body.rtmr);
    let registers = ["rtmr0", "rtmr1", "rtmr2", "rtmr3"].into_iter().zip(rtmr);
    let others = [
        ("mrtd", body.map_or(&zero, |body| body.mr_td)),
        ("mrconfigid", body.map_or(&zero, |body| body.mr_config_id)),
        ("mrowner", body.map_or(&zero, |body| body.mr_owner)),
        ("mrownerconfig", body.map_or(&zero, |body| body.mr_owner_config)),
    ];
    lines.extend(registers.chain(others).map(|(key, value)| format!("{key} = [\"{}\"]", hex::encode(value))));
    format!("{}\n[platform.tdx]\n{}\n", head("tdx", trust), lines.join("\n"))
}

/// No floor.
const FLOOR: &str = "bootloader = 0, tee = 0, snp = 0, microcode = 0";

/// The strict policy for a report: its own measurement and level, any product, no floor.
#[must_use]
pub fn snp_policy(report: &[u8], trust: Trust) -> String {
    let parsed = parse_snp_report(report).ok();
    let (measurement, vmpl) = parsed.map_or(([0; 48], 0), |report| (*report.measurement, report.vmpl));
    let lines = [
        format!("measurement = [\"{}\"]", hex::encode(measurement)),
        format!("vmpl = {}", vmpl.min(3)),
        "allow-smt = true".to_owned(),
        "crl-age-max-days = 400".to_owned(),
        "[platform.snp.products]".to_owned(),
        format!("Milan = {{ tcb-min = {{ {FLOOR} }}, allow-extractable-seed = true }}"),
        format!("Genoa = {{ tcb-min = {{ {FLOOR} }} }}"),
        format!("Turin = {{ tcb-min = {{ fmc = 0, {FLOOR} }} }}"),
    ];
    format!("{}\n[platform.snp]\n{}\n", head("snp", trust), lines.join("\n"))
}
