//! Takes a sealed secret apart, for a warden that parses neither JSON nor base64 from the network.
//!
//! What it is: decoding with exact lengths. What it is not: decryption, or a check of anything but shape.
//! Who trusts it: nobody; the warden compares the header with the point and the path that it asked for, and
//! authenticates the rest.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use casemate_protocol::courier::{PROTECTED_BYTES_MAX, Sealed};
use casemate_protocol::rcar::{Jwe, SECRET_BYTES_MAX, is_resource_path};
use serde::Deserialize;

/// Why a JWE is not a sealed secret of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JweError {
    /// A member is not unpadded base64url.
    #[error("member `{member}` is not unpadded base64url")]
    Encoding {
        /// Name of the member.
        member: &'static str,
    },
    /// A member has the wrong length.
    #[error("member `{member}` has {found} bytes, expected {expected}")]
    Length {
        /// Name of the member.
        member: &'static str,
        /// Its length in bytes.
        found: usize,
        /// The only, or the largest, length in bytes.
        expected: usize,
    },
    /// The protected header is not that of ECDH-ES+A256KW with A256GCM and a P-256 key, for a resource path.
    #[error("protected header is not that of ECDH-ES+A256KW with A256GCM over P-256, for a resource")]
    Header,
}

/// Decodes every member of a flattened JWE.
///
/// # Errors
/// [`JweError`].
pub fn decode_jwe(jwe: &Jwe) -> Result<Sealed, JweError> {
    let found = jwe.protected.len();
    if found > PROTECTED_BYTES_MAX {
        return Err(JweError::Length { member: "protected", found, expected: PROTECTED_BYTES_MAX });
    }
    let ciphertext = decode("ciphertext", &jwe.ciphertext)?;
    let found = ciphertext.len();
    if found > SECRET_BYTES_MAX {
        return Err(JweError::Length { member: "ciphertext", found, expected: SECRET_BYTES_MAX });
    }
    Ok(Sealed {
        ephemeral_point: ephemeral_point(&jwe.protected)?,
        protected: jwe.protected.clone().into_bytes(),
        encrypted_key: exact("encrypted_key", &jwe.encrypted_key)?,
        iv: exact("iv", &jwe.iv)?,
        ciphertext,
        tag: exact("tag", &jwe.tag)?,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    enc: String,
    epk: Epk,
    kid: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Epk {
    crv: String,
    kty: String,
    x: String,
    y: String,
}

fn ephemeral_point(protected: &str) -> Result<[u8; 65], JweError> {
    let header: Header =
        serde_json::from_slice(&decode("protected", protected)?).map_err(|_| JweError::Header)?;
    let names = [&header.alg, &header.enc, &header.epk.kty, &header.epk.crv];
    let known = names.map(String::as_str) == ["ECDH-ES+A256KW", "A256GCM", "EC", "P-256"];
    if !known || !is_resource_path(&header.kid) {
        return Err(JweError::Header);
    }
    let mut point = [4; 65];
    let (_, coordinates) = point.split_at_mut(1);
    let texts = [("epk.x", &header.epk.x), ("epk.y", &header.epk.y)];
    for (slot, (member, text)) in coordinates.chunks_exact_mut(32).zip(texts) {
        slot.copy_from_slice(&exact::<32>(member, text)?);
    }
    Ok(point)
}

fn decode(member: &'static str, text: &str) -> Result<Vec<u8>, JweError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| JweError::Encoding { member })
}

fn exact<const N: usize>(member: &'static str, text: &str) -> Result<[u8; N], JweError> {
    let bytes = decode(member, text)?;
    let found = bytes.len();
    bytes.try_into().map_err(|_| JweError::Length { member, found, expected: N })
}

#[cfg(test)]
mod tests {
    use casemate_jose::{RecipientKey, seal};

    use super::*;

    fn sealed() -> (RecipientKey, Jwe) {
        let key = RecipientKey::generate().unwrap();
        let jwe = seal(&key.jwk(), "a/b/c", b"secret").unwrap();
        (key, jwe)
    }

    fn with_header(header: &str) -> Result<Sealed, JweError> {
        let (_, mut jwe) = sealed();
        jwe.protected = URL_SAFE_NO_PAD.encode(header);
        decode_jwe(&jwe)
    }

    #[test]
    fn decodes_what_the_recipient_then_opens() {
        let (key, jwe) = sealed();
        let sealed = decode_jwe(&jwe).unwrap();
        assert_eq!(key.open(&sealed, "a/b/c").unwrap().as_slice(), b"secret");
    }

    #[test]
    fn refuses_members_of_another_length_or_alphabet() {
        let (_, whole) = sealed();
        let with = |alter: &dyn Fn(&mut Jwe)| {
            let mut jwe = whole.clone();
            alter(&mut jwe);
            decode_jwe(&jwe)
        };
        let short = URL_SAFE_NO_PAD.encode([0; 11]);
        assert_eq!(
            with(&|j| j.iv = short.clone()),
            Err(JweError::Length { member: "iv", found: 11, expected: 12 })
        );
        assert_eq!(
            with(&|j| j.tag = short.clone()),
            Err(JweError::Length { member: "tag", found: 11, expected: 16 })
        );
        assert_eq!(
            with(&|j| j.encrypted_key = short.clone()),
            Err(JweError::Length { member: "encrypted_key", found: 11, expected: 40 })
        );
        assert_eq!(with(&|j| j.tag = "a b".into()), Err(JweError::Encoding { member: "tag" }));
        assert_eq!(with(&|j| j.tag.push('=')), Err(JweError::Encoding { member: "tag" }));
        assert_eq!(
            with(&|j| j.ciphertext = URL_SAFE_NO_PAD.encode(vec![0; SECRET_BYTES_MAX + 1])),
            Err(JweError::Length {
                member: "ciphertext",
                found: SECRET_BYTES_MAX + 1,
                expected: SECRET_BYTES_MAX
            })
        );
        assert_eq!(
            with(&|j| j.protected = "a".repeat(PROTECTED_BYTES_MAX + 1)),
            Err(JweError::Length {
                member: "protected",
                found: PROTECTED_BYTES_MAX + 1,
                expected: PROTECTED_BYTES_MAX
            })
        );
    }

    #[test]
    fn refuses_other_algorithms_and_headers() {
        let coordinate = URL_SAFE_NO_PAD.encode([1; 32]);
        let header = |alg: &str, enc: &str, crv: &str, extra: &str| {
            format!(
                r#"{{"alg":"{alg}","enc":"{enc}","epk":{{"crv":"{crv}","kty":"EC","x":"{coordinate}","y":"{coordinate}"}},"kid":"a/b/c"{extra}}}"#
            )
        };
        let good = header("ECDH-ES+A256KW", "A256GCM", "P-256", "");
        assert!(with_header(&good).is_ok());
        for bad in [
            header("RSA-OAEP-256", "A256GCM", "P-256", ""),
            header("ECDH-ES+A256KW", "A128GCM", "P-256", ""),
            header("ECDH-ES+A256KW", "A256GCM", "P-521", ""),
            header("ECDH-ES+A256KW", "A256GCM", "P-256", r#","zip":"DEF""#),
            good.replace("a/b/c", "a/b"),
            good.replace("a/b/c", &format!("a/b/{}", "c".repeat(129))),
            good.replace(r#","kid":"a/b/c""#, ""),
            String::from("{}"),
            String::from("not json"),
        ] {
            assert_eq!(with_header(&bad), Err(JweError::Header), "{bad}");
        }
    }
}
