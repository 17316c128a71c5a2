//! The result of an appraisal as EAR claims, with an honest trust vector.
//!
//! Values: AR4SI (draft-ietf-rats-ar4si), section 2.3; status and members: draft-ietf-rats-ear-04. A member that nothing
//! was appraised for is left out, which AR4SI reads as "no claim". Under simulated hardware no value affirms: a known
//! weakness of an agent stays in its vector, everything else is left out, and the status is `warning`: the policy names the
//! development root, so it is not contraindicated. A part that was refused affirms nothing either, and repeats nothing
//! of what the evidence said: it names the rules that did not hold.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use casemate_protocol::agent_token::{AgentToken, Control, ControlStatus};
use casemate_protocol::controls::Need;
use casemate_protocol::ear::{EAR_PROFILE, Ear, PLATFORM_SUBMODULE, Submodule, Tier, VerifierId};
use casemate_protocol::{Nonce, Refusal};
use serde_json::{Value, json};

use crate::appraisal::{Passed, Refused};
use crate::dates::CollateralPart;
use crate::ledger::{Claim, RuleResult};
use crate::platform::{Memory, Standing, Weakness};
use crate::policy::Policy;
use crate::roots::Roots;
use crate::time::UnixTime;

/// How long a result holds.
const EAR_VALIDITY_SECONDS: u64 = 300;
/// From this value on the tier is "warning".
const TIER_WARNING_MIN: i8 = 32;
/// From this value on the tier is "contraindicated".
const TIER_CONTRAINDICATED_MIN: i8 = 96;
/// Most rules that did not hold in one result; the first say why.
const RULES_SHOWN_MAX: usize = 32;
/// Lengths of a nonce in bytes (RFC 9711, section 4.1).
const NONCE_BYTES: std::ops::RangeInclusive<usize> = 8..=64;

/// `configuration`: approved.
const CONFIGURATION_APPROVED: i8 = 2;
/// `configuration`: with known weaknesses.
const CONFIGURATION_UNSAFE: i8 = 32;
/// `configuration`: not supportable.
const CONFIGURATION_UNSUPPORTABLE: i8 = 96;
/// `executables`: only approved ones, during and after boot.
const EXECUTABLES_APPROVED_RUNTIME: i8 = 2;
/// `executables`: only approved ones during boot.
const EXECUTABLES_APPROVED_BOOT: i8 = 3;
/// `executables`: some that are not recognised.
const EXECUTABLES_UNRECOGNISED: i8 = 33;
/// `executables`: some that may not run.
const EXECUTABLES_CONTRAINDICATED: i8 = 96;
/// `file-system`: only approved content.
const FILE_SYSTEM_APPROVED: i8 = 2;
/// `hardware`: genuine, without known weakness.
const HARDWARE_GENUINE: i8 = 2;
/// `hardware`: genuine, with known weaknesses.
const HARDWARE_UNSAFE: i8 = 32;
/// `hardware`: genuine, and not to be trusted.
const HARDWARE_CONTRAINDICATED: i8 = 96;
/// `hardware`: not one that the verifier can judge.
const HARDWARE_UNRECOGNISED: i8 = 97;
/// `instance-identity`: not the one that was asked.
const INSTANCE_UNRECOGNISED: i8 = 97;
/// `runtime-opaque`: memory is encrypted and closed to the host.
const RUNTIME_ENCRYPTED: i8 = 2;
/// `runtime-opaque`: memory is open to the host.
const RUNTIME_VISIBLE: i8 = 96;
/// Any category: cryptographic validation failed.
const CRYPTO_VALIDATION_FAILED: i8 = 99;

/// What the evidence was asked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge<'a> {
    /// A nonce in box claims and agent token.
    Nonce(&'a Nonce),
    /// Report data of a quote or report.
    ReportData(&'a [u8; 64]),
    /// Extra data of a TPM quote.
    ExtraData(&'a [u8]),
}

impl Challenge<'_> {
    /// The member `eat_nonce` of a result; none where it would not be 8 to 64 bytes long.
    #[must_use]
    pub fn eat_nonce(self) -> Option<String> {
        let bytes = match self {
            Self::Nonce(nonce) => nonce.as_str().as_bytes(),
            Self::ReportData(data) => data.as_slice(),
            Self::ExtraData(data) => data,
        };
        NONCE_BYTES.contains(&bytes.len()).then(|| URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The member of every part's verifier claims, by name and value.
    #[must_use]
    pub fn claim(self) -> (String, Value) {
        match self {
            Self::Nonce(nonce) => ("nonce".to_owned(), json!(nonce.as_str())),
            Self::ReportData(data) => ("report-data".to_owned(), json!(hex::encode(data))),
            Self::ExtraData(data) => ("extra-data".to_owned(), json!(hex::encode(data))),
        }
    }
}

/// Refuses a result that is contraindicated although every rule holds: the policy then permits something that leaves
/// nothing to trust, such as debugging, with which the host reads all memory.
///
/// # Errors
/// Rule `platform.contraindicated`, with each part's values that say so.
pub fn require_not_contraindicated(ear: &Ear) -> Result<(), Refusal> {
    if ear.status != Tier::Contraindicated {
        return Ok(());
    }
    let values = ear.submods.iter().flat_map(|(name, part)| {
        let bad = part.trustworthiness.iter().filter(|(_, value)| **value >= TIER_CONTRAINDICATED_MIN);
        bad.map(move |(category, value)| format!("{name}: {category} {value}"))
    });
    let found = values.take(RULES_SHOWN_MAX).collect::<Vec<_>>().join(", ");
    let found = if found.is_empty() { Tier::Contraindicated.name().to_owned() } else { found };
    Err(Refusal::new(
        "platform.contraindicated",
        format_args!("no value of the trust vector from {TIER_CONTRAINDICATED_MIN} on"),
        found,
    ))
}

/// Which policy judged what was asked with what, and when: the same for every part of a result.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) challenge: Challenge<'a>,
    pub(crate) now: UnixTime,
}

/// The result for an agent that passed.
pub(crate) fn build(passed: &Passed, claims: &[Claim], frame: Frame<'_>) -> Ear {
    let platform = frame.platform(passed.standing, claims);
    let agent =
        frame.passed(agent_vector(&passed.token, passed.standing), passed.standing, claims, Part::Agent);
    let mut ear = frame.ear(BTreeMap::from([
        (PLATFORM_SUBMODULE.to_owned(), platform),
        (format!("agent/{}", passed.token.sub), agent),
    ]));
    ear.tee_pubkey = Some(passed.token.cnf.jwk.clone());
    ear
}

/// The result for a platform's statement that passed, with no agent in it.
pub(crate) fn build_platform(standing: Standing, claims: &[Claim], frame: Frame<'_>) -> Ear {
    frame.ear(BTreeMap::from([(PLATFORM_SUBMODULE.to_owned(), frame.platform(standing, claims))]))
}

impl Refused {
    /// The refusal as EAR claims: `contraindicated`, with a vector that says where, and nothing affirmed but what is
    /// about a platform that passed by itself.
    #[must_use]
    pub fn ear(&self, policy: &Policy, challenge: Challenge<'_>, now: UnixTime) -> Ear {
        let frame = Frame { policy, challenge, now };
        let failed = |of_agent| {
            let failed = self.rules.iter().filter(|rule| !rule.passed);
            failed.filter(|rule| (part_of(rule) == Part::Agent) == of_agent).collect::<Vec<_>>()
        };
        let (of_platform, of_agent) = (failed(false), failed(true));
        let standing = self.standing;
        if !of_platform.is_empty() || of_agent.is_empty() || standing == Standing::Unverified {
            let vector = refused_platform_vector(&of_platform, standing);
            let refused = frame.refused(vector, &of_platform);
            // What an agent says counts for nothing without a platform.
            return frame.ear(BTreeMap::from([(PLATFORM_SUBMODULE.to_owned(), refused)]));
        }
        // Where the event log was not reached, nothing says what the platform's box did: it is not judged.
        let judged = self.rules.iter().any(|rule| rule.detail.rule == "log.chain");
        let platform = if judged { frame.platform(standing, &self.claims) } else { frame.unjudged() };
        let name = self.claims.iter().find(|claim| claim.part == "agent" && claim.name == "name");
        let label = name.map_or_else(|| "agent".to_owned(), |name| format!("agent/{}", name.value));
        frame.ear(BTreeMap::from([
            (PLATFORM_SUBMODULE.to_owned(), platform),
            (label, frame.refused(refused_agent_vector(&of_agent), &of_agent)),
        ]))
    }
}

/// Adds to each part of a result which endorsements it rests on: name, dates, and digest of the bytes given.
pub fn name_collateral(ear: &mut Ear, parts: &[CollateralPart]) {
    let described = |part: &CollateralPart| match &part.dates {
        Ok((from, until)) => json!({
            "part": part.name, "sha256": hex::encode(part.sha256.0),
            "from": from.to_string(), "until": until.to_string(),
        }),
        Err(error) => {
            json!({"part": part.name, "sha256": hex::encode(part.sha256.0), "error": error.to_string()})
        }
    };
    let parts = Value::Array(parts.iter().map(described).collect());
    for submodule in ear.submods.values_mut() {
        submodule.verifier_claims.insert("collateral".to_owned(), parts.clone());
    }
}

/// Whose part a claim or a rule is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Hardware, firmware, boot and box.
    Platform,
    /// One agent.
    Agent,
}

fn part_of(rule: &RuleResult) -> Part {
    let name = rule.detail.rule.as_str();
    let of_agent = name.starts_with("agent.") || name == "log.head" || name == "log.agent-launched";
    if of_agent { Part::Agent } else { Part::Platform }
}

impl Frame<'_> {
    fn ear(&self, submods: BTreeMap<String, Submodule>) -> Ear {
        Ear {
            eat_profile: EAR_PROFILE.to_owned(),
            status: submods.values().map(|part| part.status).max().unwrap_or(Tier::Contraindicated),
            iat: self.now.0,
            exp: self.now.0.saturating_add(EAR_VALIDITY_SECONDS),
            verifier_id: VerifierId {
                developer: "https://casemate.dev".to_owned(),
                build: concat!("casemate-verifier ", env!("CARGO_PKG_VERSION")).to_owned(),
            },
            eat_nonce: self.challenge.eat_nonce(),
            tee_pubkey: None,
            submods,
        }
    }

    fn platform(&self, standing: Standing, claims: &[Claim]) -> Submodule {
        self.passed(platform_vector(standing), standing, claims, Part::Platform)
    }

    fn passed(
        &self,
        vector: BTreeMap<String, i8>,
        standing: Standing,
        claims: &[Claim],
        part: Part,
    ) -> Submodule {
        Submodule {
            status: status(&vector, standing),
            trustworthiness: vector,
            policy_ids: vec![self.policy.id().to_string()],
            attester_claims: claims_of(claims, part, standing),
            verifier_claims: self.verifier_claims(&[]),
        }
    }

    fn refused(&self, vector: BTreeMap<String, i8>, failed: &[&RuleResult]) -> Submodule {
        Submodule {
            status: Tier::Contraindicated,
            trustworthiness: vector,
            policy_ids: vec![self.policy.id().to_string()],
            attester_claims: BTreeMap::new(),
            verifier_claims: self.verifier_claims(failed),
        }
    }

    /// For a part that was not appraised to its end.
    fn unjudged(&self) -> Submodule {
        Submodule { status: Tier::None, ..self.refused(BTreeMap::new(), &[]) }
    }

    fn verifier_claims(&self, failed: &[&RuleResult]) -> BTreeMap<String, Value> {
        let roots = match self.policy.values().roots {
            Roots::Production => "production",
            Roots::Development(_) => "development",
        };
        let rules = failed.iter().take(RULES_SHOWN_MAX).map(|rule| {
            let detail = &rule.detail;
            json!({"rule": detail.rule, "expected": detail.expected, "found": detail.found})
        });
        BTreeMap::from([
            ("time".to_owned(), json!(self.now.to_string())),
            ("roots".to_owned(), json!(roots)),
            ("collateral-age-max-days".to_owned(), json!(self.policy.values().collateral_age_max_days)),
            ("rules-failed".to_owned(), Value::Array(rules.collect())),
            self.challenge.claim(),
        ])
    }
}

/// Parts of the names of rules about the hardware itself and what its vendor says of it.
const OF_HARDWARE: [&str; 9] = [
    "tcb",
    "advisories",
    "tdx.platform-",
    "mrseam",
    "snp.product",
    "snp.chip",
    "snp.firmware",
    "snp.mitigations",
    "collateral",
];

/// Where a refused platform fails. At least one value is contraindicated.
fn refused_platform_vector(failed: &[&RuleResult], standing: Standing) -> BTreeMap<String, i8> {
    let named = |name: &str| failed.iter().any(|rule| rule.detail.rule == name);
    if standing == Standing::Unverified {
        let unknown = named("platform.tee") || named("collateral.present");
        let value = if unknown { HARDWARE_UNRECOGNISED } else { CRYPTO_VALIDATION_FAILED };
        return BTreeMap::from([("hardware".to_owned(), value)]);
    }
    worst(failed, |rule| {
        let has = |part: &str| rule.contains(part);
        if rule == "nonce" || has("report-data") || has("extra-data") {
            ("instance-identity", INSTANCE_UNRECOGNISED)
        } else if ["mrtd", "rtmr", "measurement", "pcr", "log."].into_iter().any(has) {
            ("executables", EXECUTABLES_CONTRAINDICATED)
        } else if OF_HARDWARE.into_iter().any(has) {
            ("hardware", HARDWARE_CONTRAINDICATED)
        } else {
            ("configuration", CONFIGURATION_UNSUPPORTABLE)
        }
    })
}

fn refused_agent_vector(failed: &[&RuleResult]) -> BTreeMap<String, i8> {
    worst(failed, |rule| match rule {
        "agent.token" => ("instance-identity", CRYPTO_VALIDATION_FAILED),
        "agent.name" | "agent.membership" | "agent.key" | "agent.profile" => {
            ("instance-identity", INSTANCE_UNRECOGNISED)
        }
        "agent.measurement" | "agent.taint" | "log.head" | "log.agent-launched" => {
            ("executables", EXECUTABLES_CONTRAINDICATED)
        }
        _ => ("configuration", CONFIGURATION_UNSUPPORTABLE),
    })
}

/// For each category the worst value that a failed rule gives it.
fn worst(failed: &[&RuleResult], value_of: impl Fn(&str) -> (&'static str, i8)) -> BTreeMap<String, i8> {
    let mut vector = BTreeMap::new();
    for rule in failed {
        let (category, value) = value_of(&rule.detail.rule);
        let worst = vector.entry(category.to_owned()).or_insert(value);
        *worst = value.max(*worst);
    }
    vector
}

fn platform_vector(standing: Standing) -> BTreeMap<String, i8> {
    let mut vector =
        vec![("configuration", CONFIGURATION_APPROVED), ("executables", EXECUTABLES_APPROVED_BOOT)];
    if let Standing::Genuine(known) = standing {
        let hardware = match known.platform {
            Weakness::None => HARDWARE_GENUINE,
            Weakness::Known => HARDWARE_UNSAFE,
        };
        let memory = match known.memory {
            Memory::Closed => RUNTIME_ENCRYPTED,
            Memory::Debuggable => RUNTIME_VISIBLE,
        };
        vector.extend([("hardware", hardware), ("runtime-opaque", memory)]);
    }
    named(vector, standing)
}

fn agent_vector(token: &AgentToken, standing: Standing) -> BTreeMap<String, i8> {
    let enforced = |control: Control| token.controls.get(&control) == Some(&ControlStatus::Enforced);
    // The policy accepted the backend, and so what this backend promises.
    let as_promised = |control: Control| {
        let status = token.controls.get(&control);
        status.is_some_and(|status| status.meets(control.promised_by(token.backend.kind())))
    };
    let configuration =
        if Control::ALL.into_iter().filter(|control| control.need() == Need::Always).all(as_promised) {
            CONFIGURATION_APPROVED
        } else {
            CONFIGURATION_UNSAFE
        };
    let executables = if token.tainted { EXECUTABLES_UNRECOGNISED } else { EXECUTABLES_APPROVED_RUNTIME };
    let mut vector = vec![("configuration", configuration), ("executables", executables)];
    if enforced(Control::PrivateRoot) {
        vector.push(("file-system", FILE_SYSTEM_APPROVED));
    }
    named(vector, standing)
}

/// The vector by name. Without a vendor's root or a TPM's named key behind it, nothing is affirmed.
fn named(vector: Vec<(&str, i8)>, standing: Standing) -> BTreeMap<String, i8> {
    let known = matches!(standing, Standing::Genuine(_) | Standing::Tpm(_));
    let kept = vector.into_iter().filter(|(_, value)| known || *value >= TIER_WARNING_MIN);
    kept.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The worst tier of the vector, and never better than "warning" for what is simulated, or where no hardware keeps the
/// host out.
fn status(vector: &BTreeMap<String, i8>, standing: Standing) -> Tier {
    if vector.values().any(|value| *value >= TIER_CONTRAINDICATED_MIN) {
        return Tier::Contraindicated;
    }
    let weak = vector.values().any(|value| *value >= TIER_WARNING_MIN);
    if weak || !matches!(standing, Standing::Genuine(_)) { Tier::Warning } else { Tier::Affirming }
}

/// The claims of one part. Those of hardware, boot and box stand together: a name that is taken gets its part before it.
fn claims_of(claims: &[Claim], part: Part, standing: Standing) -> BTreeMap<String, Value> {
    let mut members = BTreeMap::new();
    for claim in claims.iter().filter(|claim| (claim.part == "agent") == (part == Part::Agent)) {
        let value = match claim.value.as_str() {
            "true" => json!(true),
            "false" => json!(false),
            text => json!(text),
        };
        let taken = members.contains_key(&claim.name);
        let name = if taken { format!("{}.{}", claim.part, claim.name) } else { claim.name.clone() };
        members.insert(name, json!({ "value": value, "vouched-by": claim.voucher.name() }));
    }
    let simulated = standing == Standing::Simulated;
    let voucher = match standing {
        Standing::Simulated => "simulated",
        Standing::Tpm(voucher) => voucher.name(),
        Standing::Unverified | Standing::Genuine(_) => "hardware",
    };
    members.insert("simulated".to_owned(), json!({ "value": simulated, "vouched-by": voucher }));
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Voucher;
    use crate::platform::Known;

    fn clean() -> Standing {
        Standing::Genuine(Known { platform: Weakness::None, memory: Memory::Closed })
    }

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
        let genuine = |platform, memory| judged(Standing::Genuine(Known { platform, memory }));
        let clean = (Some(HARDWARE_GENUINE), Some(RUNTIME_ENCRYPTED), Tier::Affirming);
        assert_eq!(genuine(Weakness::None, Memory::Closed), clean);
        let weak = (Some(HARDWARE_UNSAFE), Some(RUNTIME_ENCRYPTED), Tier::Warning);
        assert_eq!(genuine(Weakness::Known, Memory::Closed), weak);
        let open = (Some(HARDWARE_GENUINE), Some(RUNTIME_VISIBLE), Tier::Contraindicated);
        assert_eq!(genuine(Weakness::None, Memory::Debuggable), open);
        assert_eq!(judged(Standing::Simulated), (None, None, Tier::Warning));
        assert_eq!(platform_vector(Standing::Simulated), BTreeMap::new());
        assert_eq!(judged(Standing::Unverified), (None, None, Tier::Warning));
    }

    #[test]
    fn a_tpm_alone_affirms_what_was_measured_and_nothing_of_hardware_or_memory() {
        for voucher in [Voucher::Hardware, Voucher::HostClaimed] {
            let standing = Standing::Tpm(voucher);
            let vector = platform_vector(standing);
            assert_eq!(vector.get("executables"), Some(&EXECUTABLES_APPROVED_BOOT));
            assert_eq!((vector.get("hardware"), vector.get("runtime-opaque")), (None, None));
            assert_eq!(status(&vector, standing), Tier::Warning);
        }
    }

    #[test]
    fn a_contraindicated_result_is_refused_by_name_although_every_rule_holds() {
        let ear = |standing| {
            let vector = platform_vector(standing);
            let part = Submodule {
                status: status(&vector, standing),
                trustworthiness: vector,
                policy_ids: vec![],
                attester_claims: BTreeMap::new(),
                verifier_claims: BTreeMap::new(),
            };
            Ear {
                eat_profile: EAR_PROFILE.to_owned(),
                status: part.status,
                iat: 0,
                exp: 1,
                verifier_id: VerifierId { developer: String::new(), build: String::new() },
                eat_nonce: None,
                tee_pubkey: None,
                submods: BTreeMap::from([(PLATFORM_SUBMODULE.to_owned(), part)]),
            }
        };
        for fine in [clean(), Standing::Simulated, Standing::Tpm(Voucher::HostClaimed)] {
            assert_eq!(require_not_contraindicated(&ear(fine)), Ok(()));
        }
        let open = Standing::Genuine(Known { platform: Weakness::None, memory: Memory::Debuggable });
        let refusal = require_not_contraindicated(&ear(open)).unwrap_err();
        assert_eq!(refusal.rule, "platform.contraindicated");
        assert_eq!(refusal.expected, "no value of the trust vector from 96 on");
        assert_eq!(refusal.found, "platform: runtime-opaque 96");
        let mut bare = ear(open);
        bare.submods.clear();
        assert_eq!(require_not_contraindicated(&bare).unwrap_err().found, "contraindicated");
    }

    fn failed(names: &[&str]) -> Vec<RuleResult> {
        let detail = |name: &&str| Refusal::new(name, "e", "f");
        names.iter().map(|name| RuleResult { passed: false, detail: detail(name) }).collect()
    }

    #[test]
    fn a_refused_platform_says_where_it_fails() {
        let vector = |names: &[&str], standing| {
            let rules = failed(names);
            let rules: Vec<&RuleResult> = rules.iter().collect();
            refused_platform_vector(&rules, standing).into_iter().collect::<Vec<_>>()
        };
        let genuine = clean();
        for (names, category, value) in [
            (["snp.measurement"], "executables", 96),
            (["tdx.rtmr2"], "executables", 96),
            (["log.chain"], "executables", 96),
            (["tdx.tcb-status"], "hardware", 96),
            (["collateral.age"], "hardware", 96),
            (["tdx.advisories"], "hardware", 96),
            (["tdx.platform-id"], "hardware", 96),
            (["tdx.td-attributes"], "configuration", 96),
            (["snp.vmpl"], "configuration", 96),
            (["box.report-data"], "instance-identity", 97),
            (["nonce"], "instance-identity", 97),
        ] {
            assert_eq!(vector(&names, genuine), [(category.to_owned(), value)], "{names:?}");
        }
        assert_eq!(
            vector(&["tdx.mrtd", "tdx.tcb-status", "tdx.rtmr0"], genuine),
            [("executables".to_owned(), 96), ("hardware".to_owned(), 96)]
        );
        assert_eq!(vector(&["platform.tee"], Standing::Unverified), [("hardware".to_owned(), 97)]);
        assert_eq!(vector(&["tdx.quote"], Standing::Unverified), [("hardware".to_owned(), 99)]);
        assert_eq!(vector(&[], Standing::Unverified), [("hardware".to_owned(), 99)]);
    }

    #[test]
    fn a_challenge_that_is_no_nonce_is_named_and_not_echoed() {
        let long: Nonce = "n".repeat(88).parse().unwrap();
        assert_eq!(Challenge::Nonce(&long).eat_nonce(), None);
        assert_eq!(Challenge::Nonce(&long).claim().1, json!("n".repeat(88)));
        assert_eq!(Challenge::ReportData(&[0; 64]).eat_nonce().map(|text| text.len()), Some(86));
        assert_eq!(Challenge::ExtraData(&[1; 7]).eat_nonce(), None);
        assert_eq!(Challenge::ExtraData(&[1; 8]).eat_nonce().as_deref(), Some("AQEBAQEBAQE"));
    }
}
