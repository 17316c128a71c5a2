//! Sealed secrets: JWE with ECDH-ES+A256KW and A256GCM (RFC 7516, RFC 7518 sections 4.6 and 5.3).
//!
//! What it is: sealing to a public P-256 key, and opening with the private one. What it is not: a JWE parser.
//! [`RecipientKey::open`] reads no JSON and no base64: it takes the parts decoded, with exact lengths, builds the
//! only protected header that this point can have, and compares bytes. So the header's `epk` *is* the point that
//! was used, `alg` and `enc` are the only ones there are, `kid` is the path of the secret that was asked for, and
//! there is one spelling. The key-encryption key comes from that point, and the header is authenticated with the
//! content: a relay that alters any part, or answers with another secret of the same agent, gets an error.
//!
//! What sealing does not give: an origin. Anyone who knows the public key can seal to it. The recipient knows that
//! nobody else could read the content, not who wrote it; that the relay spoke to the right broker is the relay's
//! word (its TLS). Who trusts it: the warden (opening), the broker (sealing).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap as _};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use casemate_protocol::courier::Sealed;
use casemate_protocol::jwk::{ALG_ECDH, EcJwk};
use casemate_protocol::rcar::{Jwe, SECRET_BYTES_MAX, is_resource_path};
use zeroize::Zeroizing;

use crate::{JoseError, concat_kdf};

/// Longest ciphertext, and plaintext, in bytes.
pub const CIPHERTEXT_BYTES_MAX: usize = SECRET_BYTES_MAX;

/// A P-256 key that secrets are sealed to. Its memory is cleared by AWS-LC when it is dropped.
pub struct RecipientKey {
    private: PrivateKey,
    jwk: EcJwk,
}

impl RecipientKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`JoseError::Library`].
    pub fn generate() -> Result<Self, JoseError> {
        let (private, point) = generate()?;
        let jwk = EcJwk::from_point(ALG_ECDH, &point).map_err(|_| JoseError::Library)?;
        Ok(Self { private, jwk })
    }

    /// The public key, for `ECDH-ES+A256KW`.
    #[must_use]
    pub fn jwk(&self) -> EcJwk {
        self.jwk.clone()
    }

    /// Opens the secret that was sealed as the one at the path `resource`: at most [`CIPHERTEXT_BYTES_MAX`] bytes,
    /// zeroized when dropped.
    ///
    /// # Errors
    /// [`JoseError::TooLong`], [`JoseError::Resource`], [`JoseError::ProtectedHeader`], [`JoseError::NotOnCurve`],
    /// [`JoseError::ContentKey`] or [`JoseError::Content`].
    pub fn open(&self, sealed: &Sealed, resource: &str) -> Result<Zeroizing<Vec<u8>>, JoseError> {
        let mut plaintext = Zeroizing::new(vec![0; sealed.ciphertext.len().min(CIPHERTEXT_BYTES_MAX)]);
        self.open_into(sealed, resource, &mut plaintext)?;
        Ok(plaintext)
    }

    /// As [`Self::open`], into memory of the caller's, so that the secret is nowhere else. Gives its length.
    ///
    /// # Errors
    /// As [`Self::open`]; [`JoseError::TooLong`] also where `memory` is too small.
    pub fn open_into(&self, sealed: &Sealed, resource: &str, memory: &mut [u8]) -> Result<usize, JoseError> {
        let found = sealed.ciphertext.len();
        if found > CIPHERTEXT_BYTES_MAX {
            return Err(JoseError::TooLong { found, max: CIPHERTEXT_BYTES_MAX });
        }
        let expected = protected_header(&sealed.ephemeral_point, resource)?;
        if sealed.protected != expected.as_bytes() {
            return Err(JoseError::ProtectedHeader);
        }
        let kek = key_encryption_key(&self.private, &sealed.ephemeral_point)?;
        let mut content_key = Zeroizing::new([0; 32]);
        kek.unwrap(&sealed.encrypted_key, content_key.as_mut()).map_err(|_| JoseError::ContentKey)?;
        let max = memory.len();
        let plaintext = memory.get_mut(..found).ok_or(JoseError::TooLong { found, max })?;
        gcm(&content_key)?
            .open_separate_gather(
                Nonce::assume_unique_for_key(sealed.iv),
                Aad::from(&sealed.protected),
                &sealed.ciphertext,
                &sealed.tag,
                plaintext,
            )
            .map_err(|_| JoseError::Content)?;
        Ok(found)
    }
}

/// Seals `plaintext` (at most [`CIPHERTEXT_BYTES_MAX`] bytes), the secret at the path `resource`, to `recipient`, with
/// a fresh ephemeral key and a fresh content key.
///
/// # Errors
/// [`JoseError::Recipient`], [`JoseError::Resource`], [`JoseError::NotOnCurve`], [`JoseError::TooLong`] or
/// [`JoseError::Library`].
pub fn seal(recipient: &EcJwk, resource: &str, plaintext: &[u8]) -> Result<Jwe, JoseError> {
    if plaintext.len() > CIPHERTEXT_BYTES_MAX {
        return Err(JoseError::TooLong { found: plaintext.len(), max: CIPHERTEXT_BYTES_MAX });
    }
    let recipient_point = recipient.to_point(ALG_ECDH)?;
    let (ephemeral, ephemeral_point) = generate()?;
    let protected = protected_header(&ephemeral_point, resource)?;
    let kek = key_encryption_key(&ephemeral, &recipient_point)?;

    let mut content_key = Zeroizing::new([0; 32]);
    let mut iv = [0; 12];
    rand::fill(content_key.as_mut()).map_err(|_| JoseError::Library)?;
    rand::fill(&mut iv).map_err(|_| JoseError::Library)?;
    let mut encrypted_key = [0; 40];
    kek.wrap(content_key.as_ref(), &mut encrypted_key).map_err(|_| JoseError::Library)?;

    // Encrypted where the copy lies: the buffer holds ciphertext when this succeeds, and is cleared in any case.
    let mut buffer = Zeroizing::new(plaintext.to_vec());
    let tag = gcm(&content_key)?
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(iv),
            Aad::from(protected.as_bytes()),
            buffer.as_mut_slice(),
        )
        .map_err(|_| JoseError::Library)?;
    Ok(Jwe {
        protected,
        encrypted_key: URL_SAFE_NO_PAD.encode(encrypted_key),
        iv: URL_SAFE_NO_PAD.encode(iv),
        ciphertext: URL_SAFE_NO_PAD.encode(buffer.as_slice()),
        tag: URL_SAFE_NO_PAD.encode(tag.as_ref()),
    })
}

/// The protected header that belongs to a sender's ephemeral point and a resource path, as base64url text. Member
/// order is fixed (`alg`, `enc`, `epk` with `crv`, `kty`, `x`, `y`, then `kid`): stock clients authenticate their own
/// serialisation, which keeps members that they do not know after `epk`, in sorted order.
///
/// # Errors
/// [`JoseError::Resource`], or [`JoseError::NotOnCurve`] where the point is not in uncompressed form.
pub fn protected_header(point: &[u8; 65], resource: &str) -> Result<String, JoseError> {
    if !is_resource_path(resource) {
        return Err(JoseError::Resource);
    }
    let epk = EcJwk::from_point(ALG_ECDH, point).map_err(|_| JoseError::NotOnCurve)?;
    // Coordinates are base64url, and a path has letters, digits, `_`, `-`, `.`, `/`: nothing needs escaping.
    Ok(URL_SAFE_NO_PAD.encode(format!(
        r#"{{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}},"kid":"{resource}"}}"#,
        epk.x, epk.y
    )))
}

fn generate() -> Result<(PrivateKey, [u8; 65]), JoseError> {
    let private = PrivateKey::generate(&ECDH_P256).map_err(|_| JoseError::Library)?;
    let public = private.compute_public_key().map_err(|_| JoseError::Library)?;
    let point = public.as_ref().try_into().map_err(|_| JoseError::Library)?;
    Ok((private, point))
}

fn key_encryption_key(mine: &PrivateKey, theirs: &[u8; 65]) -> Result<AesKek, JoseError> {
    agreement::agree(mine, UnparsedPublicKey::new(&ECDH_P256, theirs), JoseError::NotOnCurve, |z| {
        let key = concat_kdf::derive::<32>(z, ALG_ECDH, b"", b"");
        AesKek::new(&AES_256, key.as_ref()).map_err(|_| JoseError::Library)
    })
}

fn gcm(key: &[u8; 32]) -> Result<LessSafeKey, JoseError> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| JoseError::Library)
}

#[cfg(test)]
mod tests {
    use casemate_protocol::jwk::JwkError;
    use serde_json::Value;

    use super::*;

    const RESOURCE: &str = "desk/secret/api_token";
    const MARKER: &[u8] = b"a secret of some length";

    /// What the courier does, without its checks.
    fn decode(jwe: &Jwe) -> Sealed {
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let header: Value = serde_json::from_slice(&bytes(&jwe.protected)).unwrap();
        let mut point = vec![4];
        point.extend(bytes(header["epk"]["x"].as_str().unwrap()));
        point.extend(bytes(header["epk"]["y"].as_str().unwrap()));
        Sealed {
            protected: jwe.protected.clone().into_bytes(),
            ephemeral_point: point.try_into().unwrap(),
            encrypted_key: bytes(&jwe.encrypted_key).try_into().unwrap(),
            iv: bytes(&jwe.iv).try_into().unwrap(),
            ciphertext: bytes(&jwe.ciphertext),
            tag: bytes(&jwe.tag).try_into().unwrap(),
        }
    }

    fn sealed_to(key: &RecipientKey, plaintext: &[u8]) -> Sealed {
        decode(&seal(&key.jwk(), RESOURCE, plaintext).unwrap())
    }

    #[test]
    fn opens_what_was_sealed_to_it() {
        let key = RecipientKey::generate().unwrap();
        for plaintext in [&b""[..], MARKER, &vec![7; CIPHERTEXT_BYTES_MAX]] {
            assert_eq!(key.open(&sealed_to(&key, plaintext), RESOURCE).unwrap().as_slice(), plaintext);
        }
    }

    #[test]
    fn writes_header_members_in_the_order_that_stock_clients_authenticate() {
        let key = RecipientKey::generate().unwrap();
        let jwe = seal(&key.jwk(), RESOURCE, MARKER).unwrap();
        let header = String::from_utf8(URL_SAFE_NO_PAD.decode(&jwe.protected).unwrap()).unwrap();
        let value: Value = serde_json::from_str(&header).unwrap();
        let (x, y) = (value["epk"]["x"].as_str().unwrap(), value["epk"]["y"].as_str().unwrap());
        assert_eq!(
            header,
            format!(
                "{{\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A256GCM\",\
                 \"epk\":{{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"{x}\",\"y\":\"{y}\"}},\"kid\":\"{RESOURCE}\"}}"
            )
        );
    }

    #[test]
    fn refuses_another_recipient() {
        let key = RecipientKey::generate().unwrap();
        let other = RecipientKey::generate().unwrap();
        assert_eq!(other.open(&sealed_to(&key, MARKER), RESOURCE), Err(JoseError::ContentKey));
    }

    #[test]
    fn refuses_every_altered_byte_of_every_part() {
        let key = RecipientKey::generate().unwrap();
        let whole = sealed_to(&key, MARKER);
        let opened = |alter: &dyn Fn(&mut Sealed)| {
            let mut sealed = whole.clone();
            alter(&mut sealed);
            key.open(&sealed, RESOURCE).map(|_| ())
        };
        for at in 0..whole.protected.len() {
            assert_eq!(opened(&|s| s.protected[at] ^= 1), Err(JoseError::ProtectedHeader), "{at}");
        }
        assert_eq!(opened(&|s| s.ephemeral_point[0] = 2), Err(JoseError::NotOnCurve));
        for at in 1..65 {
            assert_eq!(opened(&|s| s.ephemeral_point[at] ^= 1), Err(JoseError::ProtectedHeader), "{at}");
        }
        for at in 0..40 {
            assert_eq!(opened(&|s| s.encrypted_key[at] ^= 1), Err(JoseError::ContentKey), "{at}");
        }
        for at in 0..12 {
            assert_eq!(opened(&|s| s.iv[at] ^= 1), Err(JoseError::Content), "{at}");
        }
        for at in 0..whole.ciphertext.len() {
            assert_eq!(opened(&|s| s.ciphertext[at] ^= 1), Err(JoseError::Content), "{at}");
        }
        for at in 0..16 {
            assert_eq!(opened(&|s| s.tag[at] ^= 1), Err(JoseError::Content), "{at}");
        }
        assert_eq!(opened(&|s| s.ciphertext.truncate(3)), Err(JoseError::Content));
        assert_eq!(opened(&|s| s.ciphertext.push(0)), Err(JoseError::Content));
    }

    #[test]
    fn refuses_a_point_off_the_curve_with_a_header_that_agrees() {
        let key = RecipientKey::generate().unwrap();
        let mut sealed = sealed_to(&key, MARKER);
        sealed.ephemeral_point = [1; 65];
        sealed.ephemeral_point[0] = 4;
        sealed.protected = protected_header(&sealed.ephemeral_point, RESOURCE).unwrap().into_bytes();
        assert_eq!(key.open(&sealed, RESOURCE), Err(JoseError::NotOnCurve));
    }

    #[test]
    fn refuses_the_point_of_another_message_with_its_own_header() {
        let key = RecipientKey::generate().unwrap();
        let mut sealed = sealed_to(&key, MARKER);
        let other = sealed_to(&key, MARKER);
        sealed.ephemeral_point = other.ephemeral_point;
        sealed.protected = other.protected;
        assert_eq!(key.open(&sealed, RESOURCE), Err(JoseError::ContentKey));
    }

    #[test]
    fn refuses_another_secret_of_the_same_recipient() {
        let key = RecipientKey::generate().unwrap();
        let sealed = sealed_to(&key, MARKER);
        assert_eq!(key.open(&sealed, "desk/secret/signing_key"), Err(JoseError::ProtectedHeader));
        // Nor does a header that names what was asked for help: it is authenticated.
        let mut renamed = sealed;
        let header = protected_header(&renamed.ephemeral_point, "desk/secret/signing_key").unwrap();
        renamed.protected = header.into_bytes();
        assert_eq!(key.open(&renamed, "desk/secret/signing_key"), Err(JoseError::Content));
    }

    #[test]
    fn refuses_a_path_that_is_none() {
        let key = RecipientKey::generate().unwrap();
        for bad in ["", "a/b", "a/b/c\"", "a/b/c/d"] {
            assert_eq!(seal(&key.jwk(), bad, MARKER).unwrap_err(), JoseError::Resource);
            assert_eq!(key.open(&sealed_to(&key, MARKER), bad), Err(JoseError::Resource));
        }
    }

    #[test]
    fn the_header_of_the_longest_path_fits() {
        let part = "a".repeat(128);
        let path = format!("{part}/{part}/{part}");
        let header = protected_header(&[4; 65], &path).unwrap();
        assert!(header.len() <= casemate_protocol::courier::PROTECTED_BYTES_MAX, "{}", header.len());
        assert_eq!(protected_header(&[4; 65], &format!("{path}a")), Err(JoseError::Resource));
    }

    #[test]
    fn refuses_more_than_the_limit_on_both_sides() {
        let key = RecipientKey::generate().unwrap();
        let error = JoseError::TooLong { found: CIPHERTEXT_BYTES_MAX + 1, max: CIPHERTEXT_BYTES_MAX };
        assert_eq!(seal(&key.jwk(), RESOURCE, &vec![0; CIPHERTEXT_BYTES_MAX + 1]).unwrap_err(), error);
        let mut sealed = sealed_to(&key, MARKER);
        sealed.ciphertext = vec![0; CIPHERTEXT_BYTES_MAX + 1];
        assert_eq!(key.open(&sealed, RESOURCE), Err(error));
    }

    #[test]
    fn refuses_to_seal_to_a_key_that_is_not_for_it() {
        let jwk = crate::SigningKey::generate().unwrap().jwk();
        assert_eq!(
            seal(&jwk, RESOURCE, MARKER).unwrap_err(),
            JoseError::Recipient(JwkError::Member { member: "alg", expected: ALG_ECDH })
        );
        let mut off_curve = RecipientKey::generate().unwrap().jwk();
        off_curve.y = off_curve.x.clone();
        assert_eq!(seal(&off_curve, RESOURCE, MARKER).unwrap_err(), JoseError::NotOnCurve);
    }

    #[test]
    fn wraps_keys_as_rfc_3394_section_4_6() {
        let kek: Vec<u8> = (0u8..32).collect();
        let data = hex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F");
        let mut out = [0; 40];
        AesKek::new(&AES_256, &kek).unwrap().wrap(&data, &mut out).unwrap();
        assert_eq!(
            out.to_vec(),
            hex("28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21")
        );
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }
}
