//! Key-broker messages: RCAR ("request, challenge, attestation, response"), protocol version 0.4.0.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::cmw::COLLECTION_BYTES_MAX;
use crate::jwk::EcJwk;

/// Version that we speak.
pub const RCAR_VERSION: &str = "0.4.0";
/// Path prefix of all requests.
pub const PATH_PREFIX: &str = "/kbs/v0";
/// Name of the session cookie.
pub const SESSION_COOKIE: &str = "kbs-session-id";
/// Start of the `type` of every error.
pub const ERROR_TYPE_PREFIX: &str = "https://github.com/confidential-containers/kbs/errors/";
/// Largest request body in bytes: a collection, and room for what is around it.
pub const REQUEST_BYTES_MAX: usize = COLLECTION_BYTES_MAX + (1 << 20);
/// Largest secret in bytes.
pub const SECRET_BYTES_MAX: usize = 64 << 10;

/// Body of `POST /kbs/v0/auth`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Request {
    /// [`RCAR_VERSION`].
    pub version: String,
    /// `tdx`, `snp`.
    pub tee: String,
    /// Any JSON.
    pub extra_params: Value,
}

/// Answer to [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Challenge {
    /// base64 (standard alphabet) of 32 random bytes.
    pub nonce: String,
    /// Empty text.
    pub extra_params: Value,
}

/// Body of `POST /kbs/v0/attest`, to be sent. Received, it is a [`ReceivedAttestation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Attestation {
    /// `null` from our attester: the composition is bound by the hardware field itself.
    pub init_data: Option<Value>,
    /// What the evidence is bound to.
    pub runtime_data: RuntimeData,
    /// The evidence.
    pub tee_evidence: TeeEvidence,
}

/// What the evidence is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RuntimeData {
    /// The challenge's nonce.
    pub nonce: String,
    /// Key that answers are encrypted to: the agent's key.
    pub tee_pubkey: EcJwk,
}

/// Body of `POST /kbs/v0/attest` as received: nothing is built of init-data, and the evidence is still text.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReceivedAttestation<'a> {
    /// `None` where it is absent or `null`.
    #[serde(default)]
    pub init_data: Option<IgnoredAny>,
    /// What the evidence claims to be bound to.
    pub runtime_data: RuntimeData,
    /// The evidence.
    #[serde(borrow)]
    pub tee_evidence: ReceivedTeeEvidence<'a>,
}

/// The evidence as received.
#[derive(Debug, Deserialize)]
pub struct ReceivedTeeEvidence<'a> {
    /// JSON, see [`crate::cmw::Members`].
    #[serde(borrow)]
    pub primary_evidence: &'a RawValue,
    /// Any text.
    pub additional_evidence: String,
}

/// The evidence (snake case on the wire, unlike its surroundings).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TeeEvidence {
    /// `{"casemate": <CMW collection>}` from our attester ([`crate::cmw::Evidence::to_json`]).
    pub primary_evidence: Value,
    /// Empty text.
    pub additional_evidence: String,
}

/// Answer to [`Attestation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenResponse {
    /// EAR as JWT.
    pub token: String,
}

/// A secret, encrypted to the attested key: flattened JWE (RFC 7516 section 7.2.2). All members base64url
/// without padding. `protected` is authenticated as received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwe {
    /// Protected header.
    pub protected: String,
    /// Wrapped content key, 40 bytes.
    pub encrypted_key: String,
    /// 12 bytes.
    pub iv: String,
    /// The secret, encrypted.
    pub ciphertext: String,
    /// 16 bytes.
    pub tag: String,
}

/// Body of every error. `refusal` is our addition: the rule behind a policy refusal; stock clients skip it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorInformation {
    /// [`ERROR_TYPE_PREFIX`] and a variant name.
    #[serde(rename = "type")]
    pub kind: String,
    /// Text for people.
    pub detail: String,
    /// The rule, where one refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<crate::refusal::Refusal>,
}

/// Whether `path` is a resource path: three parts, each `[a-zA-Z0-9_-]+[a-zA-Z0-9_.-]*`.
#[must_use]
pub fn is_resource_path(path: &str) -> bool {
    let part_ok = |part: &str| {
        let first = part.bytes().next();
        part.len() <= 128
            && first.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    };
    path.split('/').count() == 3 && path.split('/').all(part_ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_resource_paths_of_three_plain_parts_only() {
        assert!(is_resource_path("desk/secret/api_token"));
        for bad in ["", "a/b", "a/b/c/d", "a//c", "../b/c", "a/b/.c", "a/b/c d", "a/b/\u{e9}", "/a/b"] {
            assert!(!is_resource_path(bad), "{bad}");
        }
    }

    #[test]
    fn receives_what_it_sends_and_builds_nothing_of_init_data() {
        let key = EcJwk::from_point(crate::jwk::ALG_ECDH, &[4; 65]).unwrap();
        let sent = Attestation {
            init_data: None,
            runtime_data: RuntimeData { nonce: "n".into(), tee_pubkey: key },
            tee_evidence: TeeEvidence {
                primary_evidence: serde_json::json!({"a": [1]}),
                additional_evidence: String::new(),
            },
        };
        let text = serde_json::to_string(&sent).unwrap();
        let received: ReceivedAttestation<'_> = serde_json::from_str(&text).unwrap();
        assert!(received.init_data.is_none());
        assert_eq!(received.runtime_data, sent.runtime_data);
        assert_eq!(received.tee_evidence.primary_evidence.get(), r#"{"a":[1]}"#);
        let with = text.replace(r#""init-data":null"#, r#""init-data":{"a":[[0]]}"#);
        assert!(serde_json::from_str::<ReceivedAttestation<'_>>(&with).unwrap().init_data.is_some());
        let without = text.replace(r#""init-data":null,"#, "");
        assert!(serde_json::from_str::<ReceivedAttestation<'_>>(&without).unwrap().init_data.is_none());
    }

    #[test]
    fn spells_messages_as_the_protocol_does() {
        let text = serde_json::to_string(&Request {
            version: RCAR_VERSION.into(),
            tee: "tdx".into(),
            extra_params: Value::String(String::new()),
        })
        .unwrap();
        assert_eq!(text, r#"{"version":"0.4.0","tee":"tdx","extra-params":""}"#);
    }
}
