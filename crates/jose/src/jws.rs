//! Tokens: compact JWS signed ES256 (RFC 7515, RFC 7518 section 3.4).
//!
//! What it is: a P-256 signing key that never leaves this type except as PKCS #8 for a private file.
//! What it is not: a verifier. Who trusts it: the warden (box and agent tokens), the broker (result tokens).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use casemate_protocol::jwk::{ALG_ES256, EcJwk};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::JoseError;

/// Largest payload of a token in bytes of JSON.
pub const JWS_PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// A P-256 key that signs. Its memory is cleared by AWS-LC when it is dropped.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    jwk: EcJwk,
}

impl SigningKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`JoseError::Library`].
    pub fn generate() -> Result<Self, JoseError> {
        let pair =
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| JoseError::Library)?;
        Self::of(pair)
    }

    /// A key that [`SigningKey::to_pkcs8`] gave.
    ///
    /// # Errors
    /// [`JoseError::StoredKey`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, JoseError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
            .map_err(|_| JoseError::StoredKey)?;
        Self::of(pair)
    }

    /// The private key as PKCS #8 (DER), for a file that only its owner reads.
    ///
    /// # Errors
    /// [`JoseError::Library`].
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, JoseError> {
        let document = self.pair.to_pkcs8v1().map_err(|_| JoseError::Library)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// The public key, for `ES256`.
    #[must_use]
    pub fn jwk(&self) -> EcJwk {
        self.jwk.clone()
    }

    /// A key from a private JWK (RFC 7518 section 6.2.2): `kty`, `crv`, `x`, `y`, `d`, and `alg` where it is `ES256`. Other
    /// members, which say how a key may be used or what it is called, are not read. x and y must belong to d.
    ///
    /// # Errors
    /// [`JoseError::StoredJwk`].
    pub fn from_jwk(json: &[u8]) -> Result<Self, JoseError> {
        let mut jwk: PrivateJwk = serde_json::from_slice(json).map_err(|_| JoseError::StoredJwk)?;
        let digits = Zeroizing::new(std::mem::take(&mut jwk.d));
        if jwk.alg.as_deref().is_some_and(|alg| alg != ALG_ES256) {
            return Err(JoseError::StoredJwk);
        }
        let public = EcJwk { kty: jwk.kty, crv: jwk.crv, alg: ALG_ES256.into(), x: jwk.x, y: jwk.y };
        let point = public.to_point(ALG_ES256).map_err(|_| JoseError::StoredJwk)?;
        let d = URL_SAFE_NO_PAD.decode(digits.as_bytes()).map(Zeroizing::new);
        let d = d.map_err(|_| JoseError::StoredJwk)?;
        let pair =
            EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, &d, &point)
                .map_err(|_| JoseError::StoredJwk)?;
        Self::of(pair)
    }

    /// Signs these bytes: r and s, 32 bytes each, big-endian (RFC 7518 section 3.4).
    ///
    /// # Errors
    /// [`JoseError::Library`].
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], JoseError> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| JoseError::Library)?;
        signature.as_ref().try_into().map_err(|_| JoseError::Library)
    }

    /// Signs `claims` as a compact JWS with the header `{"typ":typ,"alg":"ES256"}`, members in this order.
    /// The signature is r and s, 32 bytes each.
    ///
    /// # Errors
    /// [`JoseError::Claims`], [`JoseError::TooLong`] or [`JoseError::Library`].
    pub fn sign_jwt(&self, typ: &str, claims: &(impl Serialize + ?Sized)) -> Result<String, JoseError> {
        let payload = serde_json::to_vec(claims).map_err(|_| JoseError::Claims)?;
        self.sign_payload(typ, &payload)
    }

    /// As [`SigningKey::sign_jwt`], over payload bytes that the caller serialised.
    ///
    /// # Errors
    /// As [`SigningKey::sign_jwt`].
    pub fn sign_payload(&self, typ: &str, payload: &[u8]) -> Result<String, JoseError> {
        if payload.len() > JWS_PAYLOAD_BYTES_MAX {
            return Err(JoseError::TooLong { found: payload.len(), max: JWS_PAYLOAD_BYTES_MAX });
        }
        let header = serde_json::to_vec(&Header { typ, alg: ALG_ES256 }).map_err(|_| JoseError::Claims)?;
        let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature =
            self.pair.sign(&SystemRandom::new(), token.as_bytes()).map_err(|_| JoseError::Library)?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature.as_ref()));
        Ok(token)
    }

    fn of(pair: EcdsaKeyPair) -> Result<Self, JoseError> {
        let jwk = EcJwk::from_point(ALG_ES256, pair.public_key().as_ref()).map_err(|_| JoseError::Library)?;
        Ok(Self { pair, jwk })
    }
}

/// A private JWK, as far as it is read. No `Debug`: it holds a key.
#[derive(Deserialize)]
struct PrivateJwk {
    kty: String,
    crv: String,
    alg: Option<String>,
    x: String,
    y: String,
    d: String,
}

/// The protected header, serialised in the order of its members.
#[derive(Serialize)]
struct Header<'a> {
    typ: &'a str,
    alg: &'a str,
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use serde_json::json;

    use super::*;

    fn parts(token: &str) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let decoded: Vec<Vec<u8>> = token.split('.').map(|p| URL_SAFE_NO_PAD.decode(p).unwrap()).collect();
        let [header, payload, signature] = decoded.as_slice() else { panic!("three parts") };
        (header.clone(), payload.clone(), signature.clone())
    }

    #[test]
    fn signs_a_token_that_the_public_key_verifies() {
        let key = SigningKey::generate().unwrap();
        let token = key.sign_jwt("eat+jwt", &json!({"a": 1})).unwrap();
        let (header, payload, signature) = parts(&token);
        assert_eq!(header, br#"{"typ":"eat+jwt","alg":"ES256"}"#);
        assert_eq!(payload, br#"{"a":1}"#);
        assert_eq!(signature.len(), 64);
        let signed = token.rsplit_once('.').unwrap().0;
        let point = key.jwk().to_point(ALG_ES256).unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(signed.as_bytes(), &signature)
            .unwrap();
    }

    #[test]
    fn is_the_same_key_after_storage() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
        assert_eq!(again.jwk(), key.jwk());
        assert_eq!(SigningKey::from_pkcs8(b"no").err(), Some(JoseError::StoredKey));
    }

    #[test]
    fn takes_a_private_jwk_whose_parts_belong_together() {
        // RFC 7515 appendix A.3.1.
        let good = json!({
            "kty": "EC", "crv": "P-256", "kid": "any",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
        });
        let read = |jwk: &serde_json::Value| SigningKey::from_jwk(&serde_json::to_vec(jwk).unwrap());
        let key = read(&good).unwrap();
        let point = key.jwk().to_point(ALG_ES256).unwrap();
        let signature = key.sign(b"message").unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(b"message", &signature).unwrap();
        let other = SigningKey::generate().unwrap().jwk();
        for (member, value) in [
            ("kty", json!("OKP")),
            ("crv", json!("P-384")),
            ("alg", json!("ES384")),
            ("x", json!(other.x)),
            ("d", json!("AA")),
            ("d", json!("")),
        ] {
            let mut jwk = good.clone();
            jwk[member] = value;
            assert_eq!(read(&jwk).err(), Some(JoseError::StoredJwk), "{member}");
        }
        assert_eq!(SigningKey::from_jwk(b"no").err(), Some(JoseError::StoredJwk));
    }

    #[test]
    fn refuses_a_payload_over_the_limit() {
        let key = SigningKey::generate().unwrap();
        let found = JWS_PAYLOAD_BYTES_MAX + 1;
        assert_eq!(
            key.sign_payload("JWT", &vec![b' '; found]),
            Err(JoseError::TooLong { found, max: JWS_PAYLOAD_BYTES_MAX })
        );
    }

    #[test]
    fn escapes_a_type_that_tries_to_add_members() {
        let token = SigningKey::generate().unwrap().sign_jwt(r#"a","alg":"none"#, &json!({})).unwrap();
        assert_eq!(parts(&token).0, br#"{"typ":"a\",\"alg\":\"none","alg":"ES256"}"#);
    }
}
