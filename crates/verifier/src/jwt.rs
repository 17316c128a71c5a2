//! Compact JWS (RFC 7515) with ES256 and a header of exactly two members.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use casemate_canon::from_slice_exact;
use casemate_protocol::Refusal;
use casemate_protocol::jwk::{ALG_ES256, EcJwk};
use serde::{Deserialize, Serialize};

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

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

    use super::*;

    const HEADER: &str = r#"{"typ":"t","alg":"ES256"}"#;

    struct Signer(EcdsaKeyPair);

    impl Signer {
        fn new() -> Self {
            Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
        }

        fn key(&self) -> EcJwk {
            EcJwk::from_point(ALG_ES256, self.0.public_key().as_ref()).unwrap()
        }

        fn sign(&self, header: &str, payload: &[u8]) -> Vec<u8> {
            let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
            let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())).into_bytes()
        }

        fn rule(&self, token: &[u8]) -> String {
            verify_jwt(token, "t", &self.key()).unwrap_err().rule
        }
    }

    #[test]
    fn a_token_has_at_most_so_many_bytes() {
        let signer = Signer::new();
        // Three characters carry four bytes less of payload each; the rest of the token has a length of its own.
        let around = signer.sign(HEADER, b"").len();
        let payload = vec![7; (JWT_BYTES_MAX - around) / 4 * 3];
        let token = signer.sign(HEADER, &payload);
        assert!(token.len() <= JWT_BYTES_MAX && token.len() + 4 > JWT_BYTES_MAX);
        assert_eq!(verify_jwt(&token, "t", &signer.key()), Ok(payload));
        let long = vec![b'A'; JWT_BYTES_MAX + 1];
        let refusal = verify_jwt(&long, "t", &signer.key()).unwrap_err();
        assert_eq!(
            (refusal.rule.as_str(), refusal.found.as_str()),
            ("jwt.form", "262145 bytes, at most 262144 allowed")
        );
    }

    #[test]
    fn refuses_truncation_at_every_offset_and_every_byte_more() {
        let signer = Signer::new();
        let token = signer.sign(HEADER, b"{}");
        for length in 0..token.len() {
            let rule = signer.rule(&token[..length]);
            assert!(matches!(rule.as_str(), "jwt.form" | "jwt.signature"), "{length}: {rule}");
        }
        for more in 0..=u8::MAX {
            let rule = signer.rule(&[token.as_slice(), &[more]].concat());
            assert!(matches!(rule.as_str(), "jwt.form" | "jwt.signature"), "{more}: {rule}");
        }
        for (part, bad) in [(".", ".."), ("", "."), ("", "="), ("", " ")] {
            let text = String::from_utf8(token.clone()).unwrap();
            assert_eq!(
                signer.rule(text.replacen(part, &format!("{bad}{part}"), 1).as_bytes()),
                "jwt.form",
                "{bad}"
            );
        }
    }

    #[test]
    fn refuses_headers_with_other_repeated_or_nested_members() {
        let signer = Signer::new();
        for bad in [
            r#"{"typ":"t","alg":"none"}"#,
            r#"{"typ":"u","alg":"ES256"}"#,
            r#"{"typ":"t","alg":"ES256","crit":["b64"]}"#,
            r#"{"typ":"t","alg":"ES256","alg":"ES256"}"#,
            r#"["t","ES256"]"#,
            r#"{"typ":"t"}"#,
            "{}",
            "",
        ] {
            assert_eq!(signer.rule(&signer.sign(bad, b"{}")), "jwt.header", "{bad}");
        }
        let nested = format!(r#"{{"typ":"t","alg":"ES256","a":{}}}"#, "[".repeat(100_000));
        assert_eq!(signer.rule(&signer.sign(&nested, b"{}")), "jwt.header");
    }

    #[test]
    fn the_signature_has_64_bytes_and_stands_for_these_parts() {
        let signer = Signer::new();
        let token = String::from_utf8(signer.sign(HEADER, b"{}")).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        for bad in [&signature[..63], &[], &[signature.as_slice(), &[0]].concat(), &[0; 64], &[0xff; 64]] {
            let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bad));
            assert_eq!(signer.rule(token.as_bytes()), "jwt.signature", "{}", bad.len());
        }
        assert_eq!(Signer::new().rule(token.as_bytes()), "jwt.signature");
        let mut no_point = signer.key();
        no_point.alg = "none".into();
        assert_eq!(verify_jwt(token.as_bytes(), "t", &no_point).unwrap_err().rule, "jwt.key");
    }
}
