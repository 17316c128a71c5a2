//! The result of an appraisal as EAR claims, with an honest trust vector.
//!
//! Values: AR4SI (draft-ietf-rats-ar4si), section 2.3; status and members: draft-ietf-rats-ear. A member that nothing
//! was appraised for is left out, which AR4SI reads as "no claim". Under simulated hardware no value affirms: what is
//! known to be weak stays in the vectors, everything else is left out, and the status is `warning`: the policy names the
//! development root, so it is not contraindicated.

use std::collections::BTreeMap;

use casemate_protocol::Nonce;
use casemate_protocol::agent_token::{AgentToken, Control, ControlStatus};
use casemate_protocol::ear::{EAR_PROFILE, Ear, Submodule, VerifierId};
use serde_json::{Value, json};

use crate::appraisal::Passed;
use crate::ledger::Claim;
use crate::platform::Standing;
use crate::policy::Policy;
use crate::tdx::TcbStatus;
use crate::time::UnixTime;

/// How long a result holds.
const EAR_VALIDITY_SECONDS: u64 = 300;
/// From this value on the tier is "warning".
const TIER_WARNING_MIN: i8 = 32;

/// `configuration`: approved.
const CONFIGURATION_APPROVED: i8 = 2;
/// `configuration`: with known weaknesses.
const CONFIGURATION_UNSAFE: i8 = 32;
/// `executables`: only approved ones, during and after boot.
const EXECUTABLES_APPROVED_RUNTIME: i8 = 2;
/// `executables`: only approved ones during boot.
const EXECUTABLES_APPROVED_BOOT: i8 = 3;
/// `executables`: some that are not recognised.
const EXECUTABLES_UNRECOGNISED: i8 = 33;
/// `file-system`: only approved content.
const FILE_SYSTEM_APPROVED: i8 = 2;
/// `hardware`: genuine, without known weakness.
const HARDWARE_GENUINE: i8 = 2;
/// `hardware`: genuine, with known weaknesses.
const HARDWARE_UNSAFE: i8 = 32;
/// `runtime-opaque`: memory is encrypted and closed to the host.
const RUNTIME_ENCRYPTED: i8 = 2;

pub(crate) fn build(passed: &Passed, claims: &[Claim], policy: &Policy, nonce: &Nonce, now: UnixTime) -> Ear {
    let simulated = passed.standing == Standing::Simulated;
    let submodule = |vector: BTreeMap<String, i8>, parts: &[&str]| Submodule {
        status: status(&vector, passed.standing).to_owned(),
        trustworthiness: vector,
        policy_id: policy.id().to_string(),
        claims: claims_of(claims, parts, simulated),
    };
    let platform = submodule(platform_vector(passed.standing), &["platform", "box"]);
    let agent = submodule(agent_vector(&passed.token, passed.standing), &["agent"]);
    Ear {
        eat_profile: EAR_PROFILE.to_owned(),
        iat: now.0,
        exp: now.0.saturating_add(EAR_VALIDITY_SECONDS),
        verifier_id: VerifierId {
            developer: "https://casemate.dev".to_owned(),
            build: concat!("casemate-verifier ", env!("CARGO_PKG_VERSION")).to_owned(),
        },
        eat_nonce: nonce.to_string(),
        tee_pubkey: passed.token.cnf.jwk.clone(),
        submods: BTreeMap::from([
            ("platform".to_owned(), platform),
            (format!("agent/{}", passed.token.sub), agent),
        ]),
    }
}

fn platform_vector(standing: Standing) -> BTreeMap<String, i8> {
    let mut vector =
        vec![("configuration", CONFIGURATION_APPROVED), ("executables", EXECUTABLES_APPROVED_BOOT)];
    if let Standing::Genuine(status) = standing {
        let clean = status.is_none_or(|status| status == TcbStatus::UpToDate);
        vector.push(("hardware", if clean { HARDWARE_GENUINE } else { HARDWARE_UNSAFE }));
        vector.push(("runtime-opaque", RUNTIME_ENCRYPTED));
    }
    named(vector, standing)
}

fn agent_vector(token: &AgentToken, standing: Standing) -> BTreeMap<String, i8> {
    let enforced = |control: Control| token.controls.get(&control) == Some(&ControlStatus::Enforced);
    let configuration =
        if Control::ALL.into_iter().all(enforced) { CONFIGURATION_APPROVED } else { CONFIGURATION_UNSAFE };
    let executables = if token.tainted { EXECUTABLES_UNRECOGNISED } else { EXECUTABLES_APPROVED_RUNTIME };
    let mut vector = vec![("configuration", configuration), ("executables", executables)];
    if enforced(Control::PrivateRoot) {
        vector.push(("file-system", FILE_SYSTEM_APPROVED));
    }
    named(vector, standing)
}

/// The vector by name. Without a vendor's root behind it, nothing is affirmed.
fn named(vector: Vec<(&str, i8)>, standing: Standing) -> BTreeMap<String, i8> {
    let genuine = matches!(standing, Standing::Genuine(_));
    let kept = vector.into_iter().filter(|(_, value)| genuine || *value >= TIER_WARNING_MIN);
    kept.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The worst tier of the vector, and never better than "warning" for what is simulated.
fn status(vector: &BTreeMap<String, i8>, standing: Standing) -> &'static str {
    let weak = vector.values().any(|value| *value >= TIER_WARNING_MIN);
    if weak || !matches!(standing, Standing::Genuine(_)) { "warning" } else { "affirming" }
}

fn claims_of(claims: &[Claim], parts: &[&str], simulated: bool) -> BTreeMap<String, Value> {
    let mut members: BTreeMap<String, Value> = claims
        .iter()
        .filter(|claim| parts.contains(&claim.part))
        .map(|claim| {
            let value = match claim.value.as_str() {
                "true" => json!(true),
                "false" => json!(false),
                text => json!(text),
            };
            (claim.name.clone(), json!({ "value": value, "vouched-by": claim.voucher.name() }))
        })
        .collect();
    let voucher = if simulated { "simulated" } else { "hardware" };
    members.insert("simulated".to_owned(), json!({ "value": simulated, "vouched-by": voucher }));
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affirms_genuine_hardware_only_and_only_without_known_weakness() {
        let judged = |standing| {
            let vector = platform_vector(standing);
            (
                vector.get("hardware").copied(),
                vector.get("runtime-opaque").copied(),
                status(&vector, standing),
            )
        };
        let clean = (Some(HARDWARE_GENUINE), Some(RUNTIME_ENCRYPTED), "affirming");
        assert_eq!(judged(Standing::Genuine(Some(TcbStatus::UpToDate))), clean);
        assert_eq!(judged(Standing::Genuine(None)), clean);
        for status in TcbStatus::ALL.into_iter().skip(1) {
            let weak = (Some(HARDWARE_UNSAFE), Some(RUNTIME_ENCRYPTED), "warning");
            assert_eq!(judged(Standing::Genuine(Some(status))), weak, "{status}");
        }
        assert_eq!(judged(Standing::Simulated), (None, None, "warning"));
        assert_eq!(platform_vector(Standing::Simulated), BTreeMap::new());
        assert_eq!(judged(Standing::Unverified), (None, None, "warning"));
    }
}
