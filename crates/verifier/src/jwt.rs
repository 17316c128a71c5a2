//! Compact JWS (RFC 7515) with ES256 and a header of exactly two members.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use casemate_protocol::Refusal;
use casemate_protocol::jwk::{ALG_ES256, EcJwk};
use serde::{Deserialize, Serialize};

use crate::json::from_slice_exact;

/// Longest token in bytes.
pub const JWT_BYTES_MAX: usize = 256 << 10;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Header {
    typ: String,
    alg: String,
}

/// Verifies a compact JWS signed ES256 over the bytes received, with this `typ`, and returns its payload.
///
/// The header must have exactly the members `typ` and `alg`: any other one, `crit` and `jwk` among them, is refused.
///
/// # Errors
/// A [`Refusal`] by rule `jwt.form`, `jwt.header`, `jwt.key` or `jwt.signature`.
pub fn verify_jwt(token: &[u8], typ: &str, key: &EcJwk) -> Result<Vec<u8>, Refusal> {
    let form = |found: &str| Refusal::new("jwt.form", "three parts of unpadded base64url", found);
    if token.len() > JWT_BYTES_MAX {
        return Err(form(&format!("{} bytes, at most {JWT_BYTES_MAX} allowed", token.len())));
    }
    let mut parts = token.split(|byte| *byte == b'.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(form("another number of parts"));
    };
    let decode = |part: &[u8], name: &str| {
        URL_SAFE_NO_PAD.decode(part).map_err(|error| form(&format!("{name}: {error}")))
    };
    let header_json = decode(header, "header")?;
    require_header(&header_json, typ)?;
    let signature = decode(signature, "signature")?;
    let point = key
        .to_point(ALG_ES256)
        .map_err(|error| Refusal::new("jwt.key", "a P-256 public key for ES256", error))?;
    // RFC 7515 section 5.2: over the parts as received, with the dot between them.
    let signed_length = header.len().saturating_add(1).saturating_add(payload.len());
    let signed = token.get(..signed_length).unwrap_or_default();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(signed, &signature)
        .map_err(|_| Refusal::new("jwt.signature", "a signature by the given key", "another signature"))?;
    decode(payload, "payload")
}

fn require_header(json: &[u8], typ: &str) -> Result<(), Refusal> {
    let expected = format!(r#"{{"typ":"{typ}","alg":"{ALG_ES256}"}}"#);
    let refused = |found: &dyn std::fmt::Display| Refusal::new("jwt.header", &expected, found);
    let header: Header = from_slice_exact(json).map_err(|error| refused(&error))?;
    if header.alg != ALG_ES256 || header.typ != typ {
        return Err(refused(&String::from_utf8_lossy(json)));
    }
    Ok(())
}
