//! Keys in the forms in which people have them: PEM, DER, JWK.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use casemate_jose::{JoseError, SigningKey};
use casemate_protocol::jwk::{ALG_ES256, EcJwk};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

/// Largest key file in bytes.
pub const KEY_BYTES_MAX: usize = 16 << 10;
/// Characters of a line of PEM (RFC 7468 section 2).
const PEM_LINE: usize = 64;
/// DER of SubjectPublicKeyInfo up to the point (RFC 5480 section 2): P-256, then P-384.
const SPKI_P256: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
const SPKI_P384: &[u8] =
    b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00";

/// Why a file is not a key that is read here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Larger than [`KEY_BYTES_MAX`].
    #[error("{found} bytes, at most {KEY_BYTES_MAX} allowed")]
    TooLong {
        /// Its size.
        found: usize,
    },
    /// Neither PKCS #8 in PEM or DER, nor a private JWK.
    #[error("not a private P-256 key as PKCS #8 (PEM or DER) or JWK")]
    Private,
    /// Neither SubjectPublicKeyInfo in PEM or DER, nor a JWK.
    #[error("not a public P-256 or P-384 key (PEM or DER), nor a P-256 key as JWK")]
    Public,
}

/// A public key that signatures are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    pub(crate) point: Point,
}

/// Uncompressed point (SEC 1 section 2.3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Point {
    P256(Vec<u8>),
    P384(Vec<u8>),
}

/// A private key for ES256: PKCS #8 in PEM or DER, or a JWK.
///
/// # Errors
/// [`KeyError`].
pub fn read_signing_key(bytes: &[u8]) -> Result<SigningKey, KeyError> {
    require_short(bytes)?;
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        return SigningKey::from_jwk(bytes).map_err(|_| KeyError::Private);
    }
    let key = match PrivatePkcs8KeyDer::from_pem_slice(bytes) {
        Ok(key) => SigningKey::from_pkcs8(key.secret_pkcs8_der()),
        Err(_) => SigningKey::from_pkcs8(bytes),
    };
    key.map_err(|_| KeyError::Private)
}

/// The key as PKCS #8 in PEM, for a file that only its owner reads.
///
/// # Errors
/// [`JoseError::Library`].
pub fn signing_key_pem(key: &SigningKey) -> Result<String, JoseError> {
    let digits = STANDARD.encode(key.to_pkcs8()?.as_slice());
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for line in digits.as_bytes().chunks(PEM_LINE) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    Ok(pem)
}

/// A public key: SubjectPublicKeyInfo in PEM or DER (P-256, P-384), or a JWK (P-256).
///
/// # Errors
/// [`KeyError`].
pub fn read_public_key(bytes: &[u8]) -> Result<PublicKey, KeyError> {
    require_short(bytes)?;
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        let mut jwk: PublicJwk = serde_json::from_slice(bytes).map_err(|_| KeyError::Public)?;
        let alg = jwk.alg.take().unwrap_or_else(|| ALG_ES256.into());
        let jwk = EcJwk { kty: jwk.kty, crv: jwk.crv, alg, x: jwk.x, y: jwk.y };
        let point = jwk.to_point(ALG_ES256).map_err(|_| KeyError::Public)?;
        return Ok(PublicKey { point: Point::P256(point.to_vec()) });
    }
    let from_pem = SubjectPublicKeyInfoDer::from_pem_slice(bytes);
    let spki = from_pem.as_ref().map_or(bytes, |spki| spki.as_ref());
    let point = match (spki.strip_prefix(SPKI_P256), spki.strip_prefix(SPKI_P384)) {
        (Some(point @ [4, ..]), _) if point.len() == 65 => Point::P256(point.to_vec()),
        (_, Some(point @ [4, ..])) if point.len() == 97 => Point::P384(point.to_vec()),
        _ => return Err(KeyError::Public),
    };
    Ok(PublicKey { point })
}

/// A public JWK, as far as it is read.
#[derive(serde::Deserialize)]
struct PublicJwk {
    kty: String,
    crv: String,
    alg: Option<String>,
    x: String,
    y: String,
}

fn require_short(bytes: &[u8]) -> Result<(), KeyError> {
    if bytes.len() > KEY_BYTES_MAX {
        return Err(KeyError::TooLong { found: bytes.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_written_is_read_again_in_each_form() {
        let key = SigningKey::generate().unwrap();
        let pem = signing_key_pem(&key).unwrap();
        assert!(pem.lines().all(|line| line.len() <= PEM_LINE), "{}", pem.lines().count());
        assert_eq!(read_signing_key(pem.as_bytes()).unwrap().jwk(), key.jwk());
        assert_eq!(read_signing_key(&key.to_pkcs8().unwrap()).unwrap().jwk(), key.jwk());
        // RFC 7515 appendix A.3.1.
        let jwk = br#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}"#;
        assert!(read_signing_key(jwk).is_ok());
        for bad in
            [&b""[..], b"{}", b"no", b"-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n"]
        {
            assert_eq!(read_signing_key(bad).err(), Some(KeyError::Private));
        }
        assert_eq!(
            read_signing_key(&[b' '; KEY_BYTES_MAX + 1]).err(),
            Some(KeyError::TooLong { found: KEY_BYTES_MAX + 1 })
        );
    }

    #[test]
    fn a_public_key_is_the_same_in_each_form() {
        let key = SigningKey::generate().unwrap();
        let point = key.jwk().to_point(ALG_ES256).unwrap();
        let expected = Ok(PublicKey { point: Point::P256(point.to_vec()) });
        let spki = [SPKI_P256, &point].concat();
        let pem =
            format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&spki));
        assert_eq!(read_public_key(&spki), expected);
        assert_eq!(read_public_key(pem.as_bytes()), expected);
        assert_eq!(read_public_key(&serde_json::to_vec(&key.jwk()).unwrap()), expected);
        let p384 = [SPKI_P384, &[4; 97]].concat();
        assert_eq!(read_public_key(&p384), Ok(PublicKey { point: Point::P384(vec![4; 97]) }));
        for bad in [&spki[..90], &[&spki[..], &[0]].concat(), &p384[..119], b"", b"{}"] {
            assert_eq!(read_public_key(bad), Err(KeyError::Public));
        }
    }
}
