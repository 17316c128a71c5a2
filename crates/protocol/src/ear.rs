//! Attestation results: EAT Attestation Results (draft-ietf-rats-ear-04) in their JSON form, to be signed as JWT.
//!
//! What it is: the claims-set of section 3 and the appraisal of section 3.1, as far as results here have them. What it
//! is not: a judge, or a signer. Who trusts it: whoever has the signer's key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::jwk::EcJwk;

/// `eat_profile` of every result: draft-ietf-rats-ear-04, section 3.
pub const EAR_PROFILE: &str = "tag:ietf.org,2026:rats/ear#04";
/// `typ` of a result's JWT.
pub const EAR_TYP: &str = "JWT";
/// Label of the submodule that is about the platform. One about an agent is `agent/` and its name.
pub const PLATFORM_SUBMODULE: &str = "platform";

/// Trustworthiness tier (draft-ietf-rats-ar4si, section 3.2), from best to worst as a result counts them: a part
/// about which nothing is claimed is no affirmation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Nothing speaks against it.
    Affirming,
    /// Nothing is claimed.
    None,
    /// Known weaknesses, or simulated hardware.
    Warning,
    /// Refused.
    Contraindicated,
}

impl Tier {
    /// The name in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Affirming => "affirming",
            Self::None => "none",
            Self::Warning => "warning",
            Self::Contraindicated => "contraindicated",
        }
    }
}

/// Claims of an attestation result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ear {
    /// [`EAR_PROFILE`].
    pub eat_profile: String,
    /// The worst tier of the submodules.
    #[serde(rename = "ear_status")]
    pub status: Tier,
    /// Time of the appraisal, seconds since 1970.
    pub iat: u64,
    /// Expires at, seconds since 1970.
    pub exp: u64,
    /// Who appraised.
    #[serde(rename = "ear_verifier_id")]
    pub verifier_id: VerifierId,
    /// base64url of what the evidence was asked with: a nonce's characters, report data or extra data. Left out where
    /// it is not 8 to 64 bytes long (RFC 9711, section 4.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eat_nonce: Option<String>,
    /// Key that answers are encrypted to; only for an agent that passed. Also where stock key brokers look for it.
    #[serde(rename = "tee-pubkey", default, skip_serializing_if = "Option::is_none")]
    pub tee_pubkey: Option<EcJwk>,
    /// [`PLATFORM_SUBMODULE`] and `agent/<name>`.
    pub submods: BTreeMap<String, Submodule>,
}

/// Who appraised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifierId {
    /// `https://casemate.dev`.
    pub developer: String,
    /// Program and version.
    pub build: String,
}

/// The appraisal of one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submodule {
    /// Never better than the worst value of the vector.
    #[serde(rename = "ear_status")]
    pub status: Tier,
    /// AR4SI trust vector: name to value from -128 to 127. One without values is left out, as the draft asks.
    #[serde(rename = "ear_trustworthiness_vector", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub trustworthiness: BTreeMap<String, i8>,
    /// Digest of the policy file.
    #[serde(rename = "ear_appraisal_policy_ids")]
    pub policy_ids: Vec<String>,
    /// What verified evidence says, each with its voucher: `{"value":…, "vouched-by":"hardware"}`. None where the part
    /// was refused.
    #[serde(rename = "ear_attester_claims", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attester_claims: BTreeMap<String, Value>,
    /// What the verifier adds: time, roots, collateral, and the rules that did not hold.
    #[serde(rename = "ear_verifier_claims", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub verifier_claims: BTreeMap<String, Value>,
}
