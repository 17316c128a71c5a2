//! A bundle's signature: whoever made the file signs all of it, so that a user may say whose bundles are used.
//!
//! What it is: JWS (RFC 7515 section 7.2.2, flattened JSON) with ES256 over the bytes of an unsigned bundle, the signer's
//! key in the protected header. What it is not: a reason to believe what the bundle holds: that is for the verifier.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use casemate_canon::Sha256;
use casemate_jose::{JoseError, SigningKey};
use casemate_protocol::jwk::{ALG_ES256, EcJwk, JwkError};
use casemate_verifier::UnixTime;
use serde::{Deserialize, Serialize};

/// `typ` of the protected header.
const TYPE: &str = "casemate-bundle";
/// DER of SubjectPublicKeyInfo of a P-256 key, up to its point (RFC 5480 section 2).
const SPKI_P256: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";

/// Who signed a bundle, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleSignature {
    /// SHA-256 over SubjectPublicKeyInfo (DER) of the signer's key.
    pub signer: Sha256,
    /// When, as the signer says.
    pub signed_at: UnixTime,
}

/// Why a bundle's signature does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Not a flattened JWS of exactly `payload`, `protected` and `signature`.
    #[error("not a JWS of payload, protected and signature: {reason}")]
    Form {
        /// What the parser said.
        reason: String,
    },
    /// A member is not base64url without padding.
    #[error("member `{member}` is not unpadded base64url")]
    Base64 {
        /// Which.
        member: &'static str,
    },
    /// The protected header is not one of a bundle.
    #[error("protected header is not one of a bundle: {reason}")]
    Header {
        /// What the parser said.
        reason: String,
    },
    /// `typ` or `alg` are others.
    #[error(
        "protected header has type `{typ}` and algorithm `{alg}` where `{TYPE}` and `{ALG_ES256}` are expected"
    )]
    Kind {
        /// `typ`.
        typ: String,
        /// `alg`.
        alg: String,
    },
    /// The key in the header is none for ES256.
    #[error("key of the signer: {0}")]
    Key(#[from] JwkError),
    /// The key in the header did not sign these bytes.
    #[error("not made by the key that it names")]
    Mismatch,
}

/// Signs the bytes of an unsigned bundle. `now` is what the signature says about when.
///
/// # Errors
/// [`JoseError::Library`].
pub fn sign(unsigned: &[u8], key: &SigningKey, now: UnixTime) -> Result<Vec<u8>, JoseError> {
    let header = Header { typ: TYPE.into(), alg: ALG_ES256.into(), iat: now.0, jwk: key.jwk() };
    let header = serde_json::to_vec(&header).map_err(|_| JoseError::Claims)?;
    let (protected, payload) = (URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(unsigned));
    let signature = key.sign(format!("{protected}.{payload}").as_bytes())?;
    let file = Flattened { protected, signature: URL_SAFE_NO_PAD.encode(signature), payload };
    let mut bytes = serde_json::to_vec_pretty(&file).map_err(|_| JoseError::Claims)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// How a policy names the holder of this key: SHA-256 over SubjectPublicKeyInfo.
///
/// # Errors
/// [`JwkError`], never for a key of this type.
pub fn signer_id(key: &SigningKey) -> Result<Sha256, JwkError> {
    Ok(spki_digest(&key.jwk().to_point(ALG_ES256)?))
}

/// The payload of a signed bundle whose signature holds.
pub(crate) fn verify(bytes: &[u8]) -> Result<(Vec<u8>, BundleSignature), SignatureError> {
    let file: Flattened =
        serde_json::from_slice(bytes).map_err(|error| SignatureError::Form { reason: error.to_string() })?;
    let decode =
        |member, text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| SignatureError::Base64 { member });
    let header: Header = serde_json::from_slice(&decode("protected", &file.protected)?)
        .map_err(|error| SignatureError::Header { reason: error.to_string() })?;
    if header.typ != TYPE || header.alg != ALG_ES256 {
        return Err(SignatureError::Kind { typ: header.typ, alg: header.alg });
    }
    let point = header.jwk.to_point(ALG_ES256)?;
    let signature = decode("signature", &file.signature)?;
    // RFC 7515 section 5.2: over the two members as received, with the dot between them.
    let signed = [file.protected.as_bytes(), b".", file.payload.as_bytes()].concat();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(&signed, &signature)
        .map_err(|_| SignatureError::Mismatch)?;
    let payload = decode("payload", &file.payload)?;
    Ok((payload, BundleSignature { signer: spki_digest(&point), signed_at: UnixTime(header.iat) }))
}

pub(crate) fn spki_digest(point: &[u8; 65]) -> Sha256 {
    Sha256::of(&[SPKI_P256, point].concat())
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flattened {
    protected: String,
    signature: String,
    payload: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    typ: String,
    alg: String,
    iat: u64,
    jwk: EcJwk,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resigned(key: &SigningKey, header: &serde_json::Value) -> Result<(), SignatureError> {
        let protected = URL_SAFE_NO_PAD.encode(serde_json::to_vec(header).unwrap());
        let payload = URL_SAFE_NO_PAD.encode(b"{}");
        let signature = key.sign(format!("{protected}.{payload}").as_bytes()).unwrap();
        let file = Flattened { protected, signature: URL_SAFE_NO_PAD.encode(signature), payload };
        verify(&serde_json::to_vec(&file).unwrap()).map(drop)
    }

    #[test]
    fn takes_exactly_the_header_of_a_bundle() {
        let key = SigningKey::generate().unwrap();
        let good = serde_json::json!({"typ": TYPE, "alg": "ES256", "iat": 1, "jwk": key.jwk()});
        assert_eq!(resigned(&key, &good), Ok(()));
        let change = |member: &str, value: serde_json::Value| {
            let mut header = good.clone();
            header[member] = value;
            resigned(&key, &header).unwrap_err()
        };
        assert!(matches!(change("crit", serde_json::json!([])), SignatureError::Header { .. }));
        assert!(matches!(change("iat", serde_json::json!(-1)), SignatureError::Header { .. }));
        assert!(matches!(change("alg", serde_json::json!("none")), SignatureError::Kind { .. }));
        assert!(matches!(change("typ", serde_json::json!("JWT")), SignatureError::Kind { .. }));
        let other = SigningKey::generate().unwrap();
        assert_eq!(change("jwk", serde_json::json!(other.jwk())), SignatureError::Mismatch);
        let mut jwk = serde_json::json!(key.jwk());
        jwk["alg"] = "ES384".into();
        assert!(matches!(change("jwk", jwk), SignatureError::Key(_)));
    }

    #[test]
    fn refuses_a_signature_of_another_length_and_padded_base64() {
        let key = SigningKey::generate().unwrap();
        let file: serde_json::Value =
            serde_json::from_slice(&sign(b"{}", &key, UnixTime(1)).unwrap()).unwrap();
        let change = |member: &str, text: String| {
            let mut file = file.clone();
            file[member] = text.into();
            verify(&serde_json::to_vec(&file).unwrap()).unwrap_err()
        };
        let whole = file["signature"].as_str().unwrap();
        assert_eq!(change("signature", String::new()), SignatureError::Mismatch);
        assert_eq!(change("signature", URL_SAFE_NO_PAD.encode([0; 65])), SignatureError::Mismatch);
        assert_eq!(change("signature", format!("{whole}==")), SignatureError::Base64 { member: "signature" });
        assert_eq!(change("payload", "e30=".into()), SignatureError::Mismatch);
    }

    #[test]
    fn a_signer_is_named_as_a_root_is_by_its_public_key() {
        // SubjectPublicKeyInfo of the key of RFC 7515 appendix A.3.1: 91 bytes.
        let point = EcJwk {
            kty: "EC".into(),
            crv: "P-256".into(),
            alg: ALG_ES256.into(),
            x: "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU".into(),
            y: "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0".into(),
        }
        .to_point(ALG_ES256)
        .unwrap();
        assert_eq!(SPKI_P256.len() + point.len(), 91);
        assert_eq!(
            spki_digest(&point).to_string(),
            "sha256:2bd1bb0c44a897c30a7aa0991cde38d8062fe441de50da0f46825344f602e827"
        );
    }
}
