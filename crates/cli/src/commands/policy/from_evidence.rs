//! `casemate policy write --from-evidence`: a policy that accepts what one raw statement shows, trust on first use.
//!
//! What it is: the strict policy with this statement's measurements, appraised; for each rule that does not hold and that
//! an owner may weaken, the weakness is put in, and named. What it is not: a judgement that these measurements are good:
//! whoever uses it trusts the machine that it was shown first. Debugging, revoked platforms, other roots than the
//! vendors' and old endorsements are never put in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use casemate_evidence::{PlatformBit, PolicyBit, SnpReport, parse_snp_report, parse_tdx_quote};
use casemate_protocol::cmw::Platform;
use casemate_verifier::{
    Binding, Claim, Collateral, Measurement, Policy, PolicyValues, Refused, Roots, SeptVeDisable, Smt,
    SnpAllowance, SnpAllowances, SnpExpectations, SnpProduct, SnpRequirements, SnpTcbMin, TcbStatus,
    TdAttributes, TdxExpectations, UnixTime, VerifiedCollateral, appraise_platform, security_versions,
};

use crate::commands::verify::{now, read_statement, read_vek, todo, with_certificate};
use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::lines;
use crate::statement::Statement;

/// Oldest endorsements of Intel that the policy accepts: they are issued anew every 30 days.
const COLLATERAL_AGE_MAX_DAYS: u32 = 30;
/// Oldest CRL of AMD: about a year passes between two.
const AMD_CRL_AGE_MAX_DAYS: u32 = 400;
/// Most times that a weakness is put in: each rule once.
const WEAKNESSES_MAX: usize = 16;
/// TD attributes that the strict rule accepts (Intel TDX module ABI specification, TD_ATTRIBUTES): LASS,
/// SEPT_VE_DISABLE, protection keys, key locker.
const TD_ATTRIBUTES_HARMLESS: u64 = 1 << 27 | 1 << 28 | 1 << 30 | 1 << 31;

/// What to write from what.
pub(super) struct FromEvidence<'a> {
    pub(super) statement: &'a Path,
    pub(super) bundle: &'a Path,
    pub(super) certificate: Option<&'a Path>,
    pub(super) now: Option<jiff::Timestamp>,
    pub(super) output: PathBuf,
}

/// Writes the policy, and says loudly what that means.
pub(super) fn run(args: &FromEvidence<'_>) -> Outcome {
    let path = args.statement.display();
    let recognised = read_statement(args.statement)?;
    let Statement::Platform(platform) = recognised.statement else {
        return Err(Failure::input(
            format!("{path}: {}: no raw statement of the hardware", recognised.what),
            "write the policy of a box from its Compose file: `casemate policy write`",
        ));
    };
    let certificate = args.certificate.map(read_vek).transpose()?;
    let platform = with_certificate(&platform, certificate.as_deref());
    // There is no policy yet that could name signers.
    let bundle = inputs::read_bundle_file(args.bundle)?;
    let collateral = bundle.accept(&[]).map_err(|refusal| {
        Failure::refused(format!("{}: bundle is refused", args.bundle.display()), refusal, "make it anew")
    })?;
    let learned = learn(&platform, &collateral, now(args.now)?).map_err(|error| match error {
        NotLearned::Unreadable(what) => {
            Failure::input(format!("{path}: {what}"), "give a raw TDX quote or SEV-SNP report")
        }
        NotLearned::Refused(refused) => {
            let refusal = refused.first();
            let todo = todo(&refusal.rule);
            Failure::refused(format!("{path}: no policy is written from this"), refusal, todo)
        }
    })?;
    let text = format!(
        "# TRUST ON FIRST USE: written from a statement, not from a build. What it names is what that machine showed.\n\
         # The statement: {}.\n{}",
        recognised.what,
        Policy::render(&learned.values)
    );
    inputs::write_file(&args.output, text.as_bytes())?;
    lines::note(format!(
        "warning: TRUST ON FIRST USE: this policy accepts what {path} showed. Its signatures lead to the vendor, so it is \
         genuine hardware; whether the measurements are of software that you want, nothing here knows. Compare them with \
         a build that you trust."
    ));
    for weakness in &learned.weaknesses {
        lines::note(format!("warning: accepted besides: {weakness}"));
    }
    lines::print(format!("wrote {}", args.output.display()));
    lines::print(format!(
        "next: casemate verify {path} --policy {} --bundle {} --report-data HEX{}",
        args.output.display(),
        args.bundle.display(),
        args.now.map_or_else(String::new, |now| format!(" --now {now}"))
    ));
    Ok(0)
}

/// A policy under which the statement passes, and what it accepts beyond the strict rules.
struct Learned {
    values: PolicyValues,
    weaknesses: Vec<String>,
}

/// Why there is none.
enum NotLearned {
    /// What the statement is.
    Unreadable(String),
    /// What does not hold and is not weakened.
    Refused(Box<Refused>),
}

/// Appraises under the strict policy, and puts in each weakness that an owner may accept, until the statement passes.
fn learn(platform: &Platform, collateral: &Collateral, now: UnixTime) -> Result<Learned, NotLearned> {
    let (mut values, report_data) = strict(platform)?;
    let binding = Binding::ReportData(report_data);
    let mut weaknesses = Vec::new();
    for _ in 0..WEAKNESSES_MAX {
        let policy = Policy::parse(&Policy::render(&values));
        let policy = policy.map_err(|error| NotLearned::Unreadable(error.to_string()))?;
        let mut verified = VerifiedCollateral::verify(collateral);
        let refused = match appraise_platform(platform, None, &binding, &policy, &mut verified, now) {
            Ok(passed) => {
                narrow(&mut values, platform, &passed.claims());
                return Ok(Learned { values, weaknesses });
            }
            Err(refused) => refused,
        };
        match weaken(&mut values, platform, &refused) {
            Some(weakness) if !weaknesses.contains(&weakness) => weaknesses.push(weakness),
            _ => return Err(NotLearned::Refused(Box::new(refused))),
        }
    }
    Err(NotLearned::Unreadable("weakened as often as it may be, and still refused".to_owned()))
}

/// The strict policy with the measurements of this statement, and its report data.
fn strict(platform: &Platform) -> Result<(PolicyValues, [u8; 64]), NotLearned> {
    let mut values = PolicyValues {
        roots: Roots::Production,
        collateral_age_max_days: COLLATERAL_AGE_MAX_DAYS,
        bundle_signers: Vec::new(),
        tdx: None,
        snp: None,
        vtpm: None,
        boot_log: None,
        composition: None,
    };
    match platform {
        Platform::Tdx { quote } => {
            let quote = parse_tdx_quote(quote).map_err(|error| NotLearned::Unreadable(error.to_string()))?;
            let body = &quote.body;
            let one = |value: &[u8; 48]| vec![Measurement(*value)];
            let [rtmr0, rtmr1, rtmr2, rtmr3] = body.rtmr.map(|value| Measurement(*value));
            let mut tdx = TdxExpectations::strict(Measurement(*body.mr_td), [rtmr0, rtmr1, rtmr2], 0);
            tdx.rtmr3 = vec![rtmr3];
            tdx.mrconfigid = one(body.mr_config_id);
            tdx.mrowner = one(body.mr_owner);
            tdx.mrownerconfig = one(body.mr_owner_config);
            values.tdx = Some(tdx);
            Ok((values, *body.report_data))
        }
        Platform::Snp { report, .. } => {
            let report =
                parse_snp_report(report).map_err(|error| NotLearned::Unreadable(error.to_string()))?;
            let nothing = SnpTcbMin { fmc: 0, bootloader: 0, tee: 0, snp: 0, microcode: 0 };
            values.snp = Some(SnpExpectations {
                measurement: vec![Measurement(*report.measurement)],
                vmpl: report.vmpl,
                // Milan is not among them: accepting it is a weakness, put in and named.
                products: BTreeMap::from([(SnpProduct::Genoa, nothing), (SnpProduct::Turin, nothing)]),
                smt: Smt::Refused,
                crl_age_max_days: AMD_CRL_AGE_MAX_DAYS,
                allow: SnpAllowances::none(),
                require: SnpRequirements::none(),
            });
            Ok((values, *report.report_data))
        }
        Platform::Vtpm(_) => Err(NotLearned::Unreadable(
            "a TPM's statement: write `[platform.vtpm]` by hand, as docs/policy.md has it".to_owned(),
        )),
    }
}

/// Puts in what makes the first rule hold that does not, and says what that is. None where no owner may accept it.
fn weaken(values: &mut PolicyValues, platform: &Platform, refused: &Refused) -> Option<String> {
    let refusal = refused.first();
    let weakness = format!("{}: {}", refusal.rule, refusal.found);
    match (platform, &mut values.tdx, &mut values.snp) {
        (Platform::Tdx { quote }, Some(tdx), _) => weaken_tdx(tdx, quote, &refusal.rule, &refused.claims)?,
        (Platform::Snp { report, .. }, _, Some(snp)) => {
            weaken_snp(snp, report, &refusal.rule, &refused.claims)?
        }
        _ => return None,
    }
    Some(weakness)
}

fn value<'a>(claims: &'a [Claim], name: &str) -> Option<&'a str> {
    claims
        .iter()
        .find(|claim| claim.part == "platform" && claim.name == name)
        .map(|claim| claim.value.as_str())
}

fn weaken_tdx(tdx: &mut TdxExpectations, quote: &[u8], rule: &str, claims: &[Claim]) -> Option<()> {
    let quote = parse_tdx_quote(quote).ok()?;
    match rule {
        "tdx.tcb-status" => {
            let status = value(claims, "tcb-status")?;
            let status = TcbStatus::ALL.into_iter().find(|known| known.name() == status)?;
            if status == TcbStatus::Revoked {
                return None;
            }
            // What is better than this machine was is no reason to refuse.
            tdx.tcb_status = vec![TcbStatus::UpToDate, status];
        }
        "tdx.advisories" => {
            let advisories = value(claims, "tcb-advisories")?;
            tdx.allow_advisories = advisories.split_whitespace().map(str::to_owned).collect();
        }
        "tdx.sept-ve-disable" => tdx.sept_ve_disable = SeptVeDisable::NotRequired,
        "tdx.td-attributes" => {
            let set = u64::from_le_bytes(*quote.body.td_attributes);
            if set & TdAttributes::UNTRUSTED.0 != 0 {
                return None;
            }
            tdx.allow_attributes = TdAttributes(set & !TD_ATTRIBUTES_HARMLESS);
        }
        "tdx.service-td" => {
            let later = quote.body.version_15.as_ref()?;
            tdx.mrservicetd = vec![Measurement(*later.mr_service_td)];
        }
        _ => return None,
    }
    Some(())
}

fn weaken_snp(snp: &mut SnpExpectations, report: &[u8], rule: &str, claims: &[Claim]) -> Option<()> {
    let report = parse_snp_report(report).ok()?;
    let none_yet = |allowance| (!snp.allow.flags.contains(&allowance)).then_some(allowance);
    match rule {
        "snp.product" => {
            let product = SnpProduct::from_name(value(claims, "product")?)?;
            let nothing = SnpTcbMin { fmc: 0, bootloader: 0, tee: 0, snp: 0, microcode: 0 };
            snp.products = BTreeMap::from([(product, nothing)]);
        }
        "snp.vlek-cloud" => snp.allow.vlek_clouds = vec![value(claims, "csp-id")?.to_owned()],
        "snp.chip-id" => {
            let allowance = none_yet(SnpAllowance::MaskedChipId)?;
            snp.allow.flags.insert(allowance);
        }
        "snp.tcb-relations" => {
            let allowance = none_yet(SnpAllowance::ProvisionalFirmware)?;
            snp.allow.flags.insert(allowance);
        }
        "snp.policy" | "snp.platform-info" => weaken_bits(snp, &report)?,
        _ => return None,
    }
    Some(())
}

/// Guest policy and platform bits that the strict rules refuse. Debugging is never put in.
fn weaken_bits(snp: &mut SnpExpectations, report: &SnpReport<'_>) -> Option<()> {
    let policy = report.policy;
    if policy.has(PolicyBit::Debug) {
        return None;
    }
    let before = snp.clone();
    if policy.has(PolicyBit::MigrationAgent) {
        snp.allow.flags.insert(SnpAllowance::MigrationAgent);
    }
    if policy.has(PolicyBit::Cxl) {
        snp.allow.flags.insert(SnpAllowance::Cxl);
    }
    if policy.has(PolicyBit::Smt) || report.platform_info.has(PlatformBit::Smt) {
        snp.smt = Smt::Allowed;
    }
    snp.allow.policy_bits = policy.unknown();
    (*snp != before).then_some(())
}

/// What the statement passed with becomes the least that is accepted.
fn narrow(values: &mut PolicyValues, platform: &Platform, claims: &[Claim]) {
    if let Some(tdx) = &mut values.tdx {
        let number = value(claims, "tcb-evaluation-data-number").and_then(|number| number.parse().ok());
        tdx.tcb_evaluation_min = number.unwrap_or(tdx.tcb_evaluation_min);
    }
    if let (Some(snp), Platform::Snp { report, .. }) = (&mut values.snp, platform)
        && let Some(product) = value(claims, "product").and_then(SnpProduct::from_name)
        && let Ok(report) = parse_snp_report(report)
        && let Some(reported) = security_versions(*report.reported_tcb, product)
        && let Some(launch) = security_versions(*report.launch_tcb, product)
    {
        let min = SnpTcbMin {
            fmc: reported.fmc.min(launch.fmc),
            bootloader: reported.bootloader.min(launch.bootloader),
            tee: reported.tee.min(launch.tee),
            snp: reported.snp.min(launch.snp),
            microcode: reported.microcode.min(launch.microcode),
        };
        snp.products = BTreeMap::from([(product, min)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str, value: &str) -> Claim {
        let voucher = casemate_verifier::Voucher::Hardware;
        Claim { part: "platform", name: name.into(), value: value.into(), voucher }
    }

    fn report(policy: u64) -> Vec<u8> {
        let mut report = vec![0; 1184];
        (report[0], report[0x34]) = (2, 1);
        report[0x08..0x10].copy_from_slice(&policy.to_le_bytes());
        report
    }

    fn snp(report: &[u8]) -> SnpExpectations {
        let platform = Platform::Snp { report: report.to_vec(), certificates: vec![] };
        strict(&platform).ok().and_then(|(values, _)| values.snp).unwrap()
    }

    #[test]
    fn debugging_is_never_put_in() {
        let debug = report(1 << 17 | 1 << 19);
        assert_eq!(weaken_snp(&mut snp(&debug), &debug, "snp.policy", &[]), None);
        let smt = report(1 << 17 | 1 << 16);
        let mut expected = snp(&smt);
        assert_eq!(weaken_snp(&mut expected, &smt, "snp.policy", &[]), Some(()));
        assert_eq!(expected.smt, Smt::Allowed);
        assert!(!expected.allow.flags.contains(&SnpAllowance::Debug));
        // What changes nothing is no weakness: the rule would fail again.
        assert_eq!(weaken_snp(&mut expected, &smt, "snp.policy", &[]), None);
    }

    #[test]
    fn rules_of_roots_dates_and_signatures_are_never_weakened() {
        let report = report(1 << 17);
        for rule in [
            "platform.roots",
            "platform.chain",
            "platform.crl",
            "collateral.age",
            "snp.signature",
            "snp.vek-tcb",
        ] {
            assert_eq!(weaken_snp(&mut snp(&report), &report, rule, &[]), None, "{rule}");
        }
    }

    #[test]
    fn a_weakness_needs_the_claim_that_names_it() {
        let report = report(1 << 17);
        let mut expected = snp(&report);
        assert_eq!(weaken_snp(&mut expected, &report, "snp.product", &[]), None);
        assert!(!expected.products.contains_key(&SnpProduct::Milan));
        let claims = [claim("product", "Milan"), claim("csp-id", "a cloud")];
        assert_eq!(weaken_snp(&mut expected, &report, "snp.product", &claims), Some(()));
        assert!(expected.products.contains_key(&SnpProduct::Milan));
        assert_eq!(weaken_snp(&mut expected, &report, "snp.vlek-cloud", &claims), Some(()));
        assert_eq!(expected.allow.vlek_clouds, ["a cloud"]);
    }
}
