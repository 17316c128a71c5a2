//! Attestation result as EAR (draft-ietf-rats-ear), as a JWT signed ES256 by the broker.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::jwk::EcJwk;

/// `eat_profile` of our results.
pub const EAR_PROFILE: &str = "tag:casemate.dev,2026:ear/1";

/// Claims of an attestation result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ear {
    /// [`EAR_PROFILE`].
    pub eat_profile: String,
    /// Issued at, seconds since 1970.
    pub iat: u64,
    /// Expires at, seconds since 1970.
    pub exp: u64,
    /// Who appraised.
    #[serde(rename = "ear.verifier-id")]
    pub verifier_id: VerifierId,
    /// The nonce that the evidence answered.
    pub eat_nonce: String,
    /// Key that answers are encrypted to. Also where stock key brokers look for it.
    #[serde(rename = "tee-pubkey")]
    pub tee_pubkey: EcJwk,
    /// `platform` and `agent/<name>`.
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
    /// `affirming`, `warning`, `contraindicated`, `none`.
    #[serde(rename = "ear.status")]
    pub status: String,
    /// AR4SI trust vector: name to value from -128 to 127. One without values is left out, as the draft asks.
    #[serde(rename = "ear.trustworthiness-vector", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub trustworthiness: BTreeMap<String, i8>,
    /// Digest of the policy file.
    #[serde(rename = "ear.appraisal-policy-id")]
    pub policy_id: String,
    /// Every claim, with its voucher: `{"value":…, "vouched-by":"hardware"}`.
    #[serde(rename = "ear.casemate.claims")]
    pub claims: BTreeMap<String, Value>,
}
