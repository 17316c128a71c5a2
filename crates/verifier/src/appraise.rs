//! The appraisal of evidence: every rule tried as far as it is safe, one verdict.
//!
//! Rules that fail are collected, and later rules then read allegations: that is safe because any failed rule ends
//! in [`Refused`], and only a ledger without one becomes an [`Appraisal`]. Where no accepted root stands behind the
//! hardware's statement, nothing else is read: not the log, which is long and would be anybody's.

mod agent;
mod boxed;
mod log;
mod posture;

use casemate_composition::lock::Agent;
use casemate_protocol::Nonce;
use casemate_protocol::cmw::{Evidence, Platform};

use crate::appraisal::{Appraisal, Passed, PlatformAppraisal, Refused};
use crate::boot_log::appraise_beside;
use crate::hex_text::Hex;
use crate::ledger::{Failed, Ledger};
use crate::platform::{self, PlatformView, Scope, Standing};
use crate::policy::Policy;
use crate::time::UnixTime;
use crate::verified_collateral::VerifiedCollateral;
use crate::vtpm;

/// What a statement without a box around it must have bound in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// All 64 bytes of report data, of a TDX quote or an SNP report.
    ReportData([u8; 64]),
    /// All of the extra data of a TPM quote, at most 64 bytes.
    ExtraData(Vec<u8>),
}

/// Appraises a hardware statement by itself: no box, no composition, no agent. It shows a platform and what was
/// measured there, and nothing of who runs inside. `boot_log` is the event log of its firmware: CCEL beside a TDX
/// quote, TCG2 log beside a TPM's; what is asked of it stands in `[boot-log]` of the policy.
///
/// # Errors
/// [`Refused`], with every rule that was tried.
pub fn appraise_platform(
    statement: &Platform,
    boot_log: Option<&[u8]>,
    binding: &Binding,
    policy: &Policy,
    collateral: &mut VerifiedCollateral,
    now: UnixTime,
) -> Result<PlatformAppraisal, Refused> {
    let mut ledger = Ledger::new();
    let values = policy.values();
    let standing = match (statement, binding) {
        (Platform::Vtpm(statement), Binding::ExtraData(expected)) => {
            let standing = vtpm::appraise(&mut ledger, statement, expected, values, collateral, now);
            standing.unwrap_or(Standing::Unverified)
        }
        (Platform::Vtpm(_), Binding::ReportData(_)) => {
            let expected = "a TDX quote or SNP report with report data";
            let _recorded = ledger.fail("vtpm.extra-data", expected, "a TPM quote with extra data");
            Standing::Unverified
        }
        _ => {
            let view = platform::appraise(&mut ledger, statement, values, collateral, Scope::Platform, now);
            view.map_or(Standing::Unverified, |view| {
                let _recorded = require_binding(&mut ledger, binding, &view);
                view.standing
            })
        }
    };
    if standing == Standing::Unverified && !ledger.any_failed() {
        let _recorded = ledger.fail("appraisal", "a statement that was verified", "one that was not");
    }
    let mut rows = Vec::new();
    if standing != Standing::Unverified {
        // A TPM is the hardware's own only where nothing runs it; Azure's is run by the measured paravisor.
        let voucher = match statement {
            Platform::Vtpm(_) => standing.runtime(),
            _ => standing.hardware(),
        };
        rows = appraise_beside(&mut ledger, statement, boot_log, values.boot_log.as_ref(), voucher);
    }
    if ledger.any_failed() {
        let (claims, rules) = ledger.into_parts();
        return Err(Refused { claims, rules, boot_log: rows, standing });
    }
    Ok(PlatformAppraisal { standing, record: ledger.into_record(), boot_log: rows })
}

/// That report data are what they must be, in all 64 bytes.
fn require_binding(ledger: &mut Ledger, binding: &Binding, view: &PlatformView) -> Result<(), Failed> {
    const RULE: &str = "platform.report-data";
    match binding {
        Binding::ReportData(expected) => ledger.equal(RULE, &Hex(*expected), &Hex(view.report_data)),
        Binding::ExtraData(expected) => {
            let expected = format!("a TPM quote with extra data {}", hex::encode(expected));
            Err(ledger.fail(RULE, expected, "a statement with report data"))
        }
    }
}

/// Appraises evidence of one agent against a policy.
///
/// # Errors
/// [`Refused`], with every rule that was tried.
pub fn appraise(
    evidence: &Evidence,
    nonce: &Nonce,
    policy: &Policy,
    collateral: &mut VerifiedCollateral,
    now: UnixTime,
) -> Result<Appraisal, Refused> {
    let mut ledger = Ledger::new();
    let passed = try_all(&mut ledger, evidence, nonce, policy, collateral, now);
    if passed.is_none() && !ledger.any_failed() {
        let _recorded =
            ledger.fail("appraisal", "every part of the evidence appraised", "a part that was not");
    }
    let (failed, standing) = (ledger.any_failed(), ledger.standing());
    let (claims, rules) = ledger.into_parts();
    match passed {
        Some(passed) if !failed => Ok(Appraisal::new(passed, claims, rules, policy, nonce, now)),
        _ => Err(Refused { claims, rules, boot_log: Vec::new(), standing }),
    }
}

/// Tries every rule; the result only counts where the ledger holds no failed one.
fn try_all(
    ledger: &mut Ledger,
    evidence: &Evidence,
    nonce: &Nonce,
    policy: &Policy,
    collateral: &mut VerifiedCollateral,
    now: UnixTime,
) -> Option<Passed> {
    let values = policy.values();
    let platform = platform::appraise(ledger, &evidence.platform, values, collateral, Scope::Agent, now)?;
    if platform.standing == Standing::Unverified {
        // Whoever sent this has no platform: the rest may be anything, and reading it costs more than sending it.
        return None;
    }
    // Our evidence carries no log of firmware: a policy that requires one is not met.
    let asked = values.boot_log.as_ref();
    let _no_rows = appraise_beside(ledger, &evidence.platform, None, asked, platform.standing.hardware());
    let Some(composition) = &values.composition else {
        let expected = "a policy that names a composition and its agents";
        let _recorded = ledger.fail("composition.digest", expected, "a policy for platforms alone");
        return None;
    };
    let claims = boxed::appraise(ledger, &evidence.box_claims, &platform, nonce, &composition.digest)?;
    let token = agent::open_token(ledger, &evidence.agent_token, &claims, nonce)?;
    let expected = agent::appraise(ledger, &token, &evidence.agent_config, &claims, composition, &platform);
    let posture = posture::open(ledger, &evidence.posture, &token, &platform);
    // What cannot be read has failed already.
    let config: Option<Agent> = serde_json::from_slice(&evidence.agent_config).ok();
    let service = config.as_ref().and_then(|agent| agent.replica_of.as_ref());
    let log = log::appraise(ledger, &evidence.event_log, &claims, &token, service, &platform);
    let expected = expected?;
    let logged = log?;
    agent::require_untainted(ledger, &token, logged.taint, expected, &platform);
    agent::require_declared_edges(ledger, &logged.added_edges, expected, &platform);
    let others = composition.agents.keys().filter(|name| **name != token.sub).collect();
    posture::require(ledger, posture.as_ref(), &token, &expected.posture, &others);
    Some(Passed { token, secrets: expected.secrets.clone(), standing: platform.standing })
}
