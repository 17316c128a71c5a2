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
/// Largest runtime data of an attestation in bytes: a nonce and a key.
pub const RUNTIME_DATA_BYTES_MAX: usize = 4096;
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
#[derive(Debug)]
pub struct ReceivedAttestation<'a> {
    /// `None` where it is absent or `null`.
    pub init_data: Option<IgnoredAny>,
    /// What the evidence claims to be bound to.
    pub runtime_data: RuntimeData,
    /// The evidence.
    pub tee_evidence: ReceivedTeeEvidence<'a>,
}

/// Why a body is not an attestation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttestationError {
    /// The body, or a part of it, is something else than an object.
    #[error("{part} is not a JSON object")]
    NotAnObject {
        /// Which part.
        part: &'static str,
    },
    /// Runtime data larger than [`RUNTIME_DATA_BYTES_MAX`].
    #[error("runtime-data of {found} bytes, at most {RUNTIME_DATA_BYTES_MAX} allowed")]
    RuntimeData {
        /// Their size.
        found: usize,
    },
    /// Not JSON, or a member that is missing, repeated or of another type.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// The body with its members still text. The parser quotes a value of the wrong type in its error, at six bytes for one
/// that is not printable; so no value of unbounded length is given a type.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Members<'a> {
    #[serde(default)]
    init_data: Option<IgnoredAny>,
    #[serde(borrow)]
    runtime_data: &'a RawValue,
    #[serde(borrow)]
    tee_evidence: &'a RawValue,
}

impl<'a> ReceivedAttestation<'a> {
    /// Takes a body apart.
    ///
    /// # Errors
    /// [`AttestationError`].
    pub fn from_json_bytes(body: &'a [u8]) -> Result<Self, AttestationError> {
        require_object("body", body)?;
        let members: Members<'a> = serde_json::from_slice(body)?;
        let runtime_data = members.runtime_data.get();
        if runtime_data.len() > RUNTIME_DATA_BYTES_MAX {
            return Err(AttestationError::RuntimeData { found: runtime_data.len() });
        }
        require_object("tee-evidence", members.tee_evidence.get().as_bytes())?;
        Ok(Self {
            init_data: members.init_data,
            runtime_data: serde_json::from_str(runtime_data)?,
            tee_evidence: serde_json::from_str(members.tee_evidence.get())?,
        })
    }
}

fn require_object(part: &'static str, json: &[u8]) -> Result<(), AttestationError> {
    if json.trim_ascii_start().first() == Some(&b'{') {
        return Ok(());
    }
    Err(AttestationError::NotAnObject { part })
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
        let received = ReceivedAttestation::from_json_bytes(text.as_bytes()).unwrap();
        assert!(received.init_data.is_none());
        assert_eq!(received.runtime_data, sent.runtime_data);
        assert_eq!(received.tee_evidence.primary_evidence.get(), r#"{"a":[1]}"#);
        let with = text.replace(r#""init-data":null"#, r#""init-data":{"a":[[0]]}"#);
        assert!(ReceivedAttestation::from_json_bytes(with.as_bytes()).unwrap().init_data.is_some());
        let without = text.replace(r#""init-data":null,"#, "");
        assert!(ReceivedAttestation::from_json_bytes(without.as_bytes()).unwrap().init_data.is_none());
    }

    #[test]
    fn what_is_wrong_is_told_without_quoting_what_was_sent() {
        let long = "\u{7f}".repeat(100_000);
        let key = r#"{"kty":"EC"}"#;
        for body in [
            format!(r#""{long}""#),
            format!(r#"{{"runtime-data":"{long}","tee-evidence":{{}}}}"#),
            format!(r#"{{"runtime-data":{{"nonce":"{long}","tee-pubkey":{key}}},"tee-evidence":{{}}}}"#),
            format!(r#"{{"runtime-data":{{}},"tee-evidence":"{long}"}}"#),
            format!(r#"{{"{long}":1}}"#),
            format!(r#"{{"runtime-data":{{}},"tee-evidence":{{"{long}":1}}}}"#),
        ] {
            let error = ReceivedAttestation::from_json_bytes(body.as_bytes()).unwrap_err();
            assert!(error.to_string().len() < 200, "{}", error.to_string().len());
        }
        let size = |length: usize| {
            let body = format!(r#"{{"runtime-data":"{}","tee-evidence":{{}}}}"#, "x".repeat(length - 2));
            matches!(
                ReceivedAttestation::from_json_bytes(body.as_bytes()),
                Err(AttestationError::RuntimeData { found }) if found == length
            )
        };
        assert!(!size(RUNTIME_DATA_BYTES_MAX));
        assert!(size(RUNTIME_DATA_BYTES_MAX + 1));
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
