//! The hardware's statement against the policy: which roots, which platform, what it measured.

use casemate_evidence::{SnpReport, TdxQuote, parse_snp_report, parse_tdx_quote};
use casemate_protocol::cmw::Platform;

use crate::ledger::{Failed, Ledger, Voucher};
use crate::policy::{PolicyValues, SnpExpectations, TdxExpectations};
use crate::roots::Roots;
use crate::tdx::{Endorsed, TdAttributes};
use crate::time::UnixTime;
use crate::verified_collateral::VerifiedCollateral;
use crate::{snp, tdx};

/// What the statement is appraised for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// For an agent: composition and event log say what the registers that they fill must hold.
    Agent,
    /// By itself: the policy says it of every register.
    Platform,
}

/// What the rest of an appraisal reads of the hardware's statement. An allegation unless `standing` says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlatformView {
    pub(crate) report_data: [u8; 64],
    pub(crate) launch: LaunchBinding,
    pub(crate) runtime: RuntimeBinding,
    pub(crate) standing: Standing,
}

/// Where the platform keeps what was bound at launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LaunchBinding {
    /// TDX: MRCONFIGID.
    MrConfigId([u8; 48]),
    /// SEV-SNP: HOST_DATA.
    HostData([u8; 32]),
}

/// Where the platform keeps what happened since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RuntimeBinding {
    /// TDX: RTMR3.
    Rtmr3([u8; 48]),
    /// SEV-SNP has no register: the log head is in report_data alone.
    ReportDataOnly,
}

/// What stands behind a platform's statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing: verification failed.
    Unverified,
    /// A development root.
    Simulated,
    /// A vendor's root.
    Genuine(Known),
    /// A TPM's key that the policy names, and who vouches for it. Nothing is known of memory and machine around it.
    Tpm(Voucher),
}

/// What is known of genuine hardware, where a policy accepts more than the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) platform: Weakness,
    pub(crate) memory: Memory,
}

/// Whether the vendor knows something against a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weakness {
    /// Nothing, or the vendor gives no status.
    None,
    /// A status other than up to date.
    Known,
}

/// Whether the host can look into the guest's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// It cannot, as far as the hardware says.
    Closed,
    /// Debugging or profiling is allowed: it can.
    Debuggable,
}

impl Standing {
    /// Who vouches for what the hardware says.
    pub(crate) const fn hardware(self) -> Voucher {
        match self {
            Self::Unverified => Voucher::HostClaimed,
            Self::Simulated => Voucher::Simulated,
            Self::Genuine(_) => Voucher::Hardware,
            Self::Tpm(voucher) => voucher,
        }
    }

    /// Who vouches for what the measured warden says: nothing more than stands behind its measurement.
    pub(crate) const fn runtime(self) -> Voucher {
        match self {
            Self::Genuine(_) => Voucher::MeasuredRuntime,
            other => other.hardware(),
        }
    }
}

/// Verifies the hardware's statement and compares it with the policy. None where it cannot even be read.
pub(crate) fn appraise(
    ledger: &mut Ledger,
    platform: &Platform,
    policy: &PolicyValues,
    collateral: &mut VerifiedCollateral,
    scope: Scope,
    now: UnixTime,
) -> Option<PlatformView> {
    match platform {
        Platform::Tdx { quote } => {
            let expected = "a TDX quote of version 4 or 5";
            let quote = ledger.accept("tdx.quote", expected, parse_tdx_quote(quote)).ok()?;
            let standing = appraise_tdx(ledger, quote, policy, collateral.tdx.as_mut(), scope, now);
            Some(tdx_view(&quote, standing.unwrap_or(Standing::Unverified)))
        }
        Platform::Snp { report, certificates } => {
            let expected = "an SNP attestation report";
            let report = ledger.accept("snp.report", expected, parse_snp_report(report)).ok()?;
            let standing = appraise_snp(ledger, report, certificates, policy, collateral.snp.as_mut(), now);
            Some(snp_view(&report, standing.unwrap_or(Standing::Unverified)))
        }
        Platform::Vtpm(_) => {
            // A TPM has no place for what is bound at launch: an agent's box cannot be told by it.
            let _recorded = ledger.fail("platform.tee", "a statement with report data", "a TPM quote");
            None
        }
    }
}

fn appraise_tdx(
    ledger: &mut Ledger,
    quote: TdxQuote<'_>,
    policy: &PolicyValues,
    endorsed: Option<&mut Endorsed>,
    scope: Scope,
    now: UnixTime,
) -> Result<Standing, Failed> {
    let expected = require_tee(ledger, policy, policy.tdx.as_ref(), "tdx")?;
    verify_tdx(ledger, quote, expected, policy, endorsed, scope, now)
}

/// Verifies a quote and compares it with these expectations, whatever it stands in.
pub(crate) fn verify_tdx(
    ledger: &mut Ledger,
    quote: TdxQuote<'_>,
    expected: &TdxExpectations,
    policy: &PolicyValues,
    endorsed: Option<&mut Endorsed>,
    scope: Scope,
    now: UnixTime,
) -> Result<Standing, Failed> {
    let endorsed = require_collateral(ledger, endorsed, "tdx")?;
    let verified = tdx::verify(ledger, quote, endorsed, &policy.roots, now)?;
    let open = TdAttributes::from_bytes(*quote.body.td_attributes).has(TdAttributes::UNTRUSTED);
    let standing = standing(
        &policy.roots,
        Known {
            platform: tdx::weakness(&verified),
            memory: if open { Memory::Debuggable } else { Memory::Closed },
        },
    );
    claim_standing(ledger, standing);
    tdx::claim_all(ledger, &verified, standing.hardware());
    // What does not match is in the ledger; the statement itself is verified all the same.
    let _recorded =
        tdx::require_expectations(ledger, &verified, expected, policy.collateral_age_max_days, scope, now);
    Ok(standing)
}

fn appraise_snp(
    ledger: &mut Ledger,
    report: SnpReport<'_>,
    certificates: &[u8],
    policy: &PolicyValues,
    endorsed: Option<&mut snp::Endorsed>,
    now: UnixTime,
) -> Result<Standing, Failed> {
    let expected = require_tee(ledger, policy, policy.snp.as_ref(), "snp")?;
    verify_snp(ledger, report, certificates, expected, policy, endorsed, now)
}

/// Verifies a report and compares it with these expectations, whatever it stands in.
pub(crate) fn verify_snp(
    ledger: &mut Ledger,
    report: SnpReport<'_>,
    certificates: &[u8],
    expected: &SnpExpectations,
    policy: &PolicyValues,
    endorsed: Option<&mut snp::Endorsed>,
    now: UnixTime,
) -> Result<Standing, Failed> {
    let endorsed = require_collateral(ledger, endorsed, "snp")?;
    let verified = snp::verify(ledger, report, certificates, endorsed, &policy.roots, now)?;
    let standing = standing(&policy.roots, snp::known(&verified));
    claim_standing(ledger, standing);
    snp::claim_all(ledger, &verified, standing.hardware());
    let _recorded = snp::require_expectations(ledger, &verified, expected, now);
    Ok(standing)
}

pub(crate) fn require_tee<'a, T>(
    ledger: &mut Ledger,
    policy: &PolicyValues,
    expectations: Option<&'a T>,
    found: &str,
) -> Result<&'a T, Failed> {
    let names = policy.tee_names().join(" or ");
    ledger.require("platform.tee", expectations.is_some(), &names, found)?;
    expectations.ok_or_else(|| ledger.fail("platform.tee", &names, found))
}

fn require_collateral<T>(ledger: &mut Ledger, collateral: Option<T>, tee: &str) -> Result<T, Failed> {
    collateral.ok_or_else(|| ledger.fail("collateral.present", format_args!("collateral for {tee}"), "none"))
}

const fn standing(roots: &Roots, known: Known) -> Standing {
    match roots {
        Roots::Production => Standing::Genuine(known),
        Roots::Development(_) => Standing::Simulated,
    }
}

pub(crate) fn claim_standing(ledger: &mut Ledger, standing: Standing) {
    ledger.stand(standing);
    ledger.claim("platform", "simulated", standing == Standing::Simulated, standing.hardware());
}

fn tdx_view(quote: &TdxQuote<'_>, standing: Standing) -> PlatformView {
    let [.., rtmr3] = quote.body.rtmr;
    PlatformView {
        report_data: *quote.body.report_data,
        launch: LaunchBinding::MrConfigId(*quote.body.mr_config_id),
        runtime: RuntimeBinding::Rtmr3(*rtmr3),
        standing,
    }
}

const fn snp_view(report: &SnpReport<'_>, standing: Standing) -> PlatformView {
    PlatformView {
        report_data: *report.report_data,
        launch: LaunchBinding::HostData(*report.host_data),
        runtime: RuntimeBinding::ReportDataOnly,
        standing,
    }
}
