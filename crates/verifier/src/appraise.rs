//! The appraisal of evidence: every rule tried as far as it is safe, one verdict.
//!
//! Rules that fail are collected, and later rules then read allegations: that is safe because any failed rule ends
//! in [`Refused`], and only a ledger without one becomes an [`Appraisal`]. Where no accepted root stands behind the
//! hardware's statement, nothing else is read: not the log, which is long and would be anybody's.

mod agent;
mod boxed;
mod log;

use casemate_protocol::Nonce;
use casemate_protocol::cmw::Evidence;

use crate::appraisal::{Appraisal, Passed, Refused};
use crate::collateral::Collateral;
use crate::ledger::Ledger;
use crate::platform::{self, Standing};
use crate::policy::Policy;
use crate::time::UnixTime;

/// Appraises evidence against a policy.
///
/// # Errors
/// [`Refused`], with every rule that was tried.
pub fn appraise(
    evidence: &Evidence,
    nonce: &Nonce,
    policy: &Policy,
    collateral: &Collateral,
    now: UnixTime,
) -> Result<Appraisal, Refused> {
    let mut ledger = Ledger::new();
    let passed = try_all(&mut ledger, evidence, nonce, policy, collateral, now);
    if passed.is_none() && !ledger.any_failed() {
        let _recorded =
            ledger.fail("appraisal", "every part of the evidence appraised", "a part that was not");
    }
    let failed = ledger.any_failed();
    let (claims, rules) = ledger.into_parts();
    match passed {
        Some(passed) if !failed => Ok(Appraisal::new(passed, claims, rules, policy, nonce, now)),
        _ => Err(Refused { claims, rules }),
    }
}

/// Tries every rule; the result only counts where the ledger holds no failed one.
fn try_all(
    ledger: &mut Ledger,
    evidence: &Evidence,
    nonce: &Nonce,
    policy: &Policy,
    collateral: &Collateral,
    now: UnixTime,
) -> Option<Passed> {
    let values = policy.values();
    let platform = platform::appraise(ledger, &evidence.platform, values, collateral, now)?;
    if platform.standing == Standing::Unverified {
        // Whoever sent this has no platform: the rest may be anything, and reading it costs more than sending it.
        return None;
    }
    let claims = boxed::appraise(ledger, &evidence.box_claims, &platform, nonce, values)?;
    let token = agent::open_token(ledger, &evidence.agent_token, &claims, nonce)?;
    let expected = agent::appraise(ledger, &token, &evidence.agent_config, &claims, values, &platform);
    let log = log::appraise(ledger, &evidence.event_log, &claims, &token, &platform);
    let expected = expected?;
    agent::require_untainted(ledger, &token, log?, expected, &platform);
    Some(Passed { token, secrets: expected.secrets.clone(), standing: platform.standing })
}
