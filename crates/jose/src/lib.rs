//! Signs tokens (JWS, ES256) and seals secrets (JWE, ECDH-ES+A256KW with A256GCM).
//!
//! What it is: the private-key half of JOSE, with one algorithm for each purpose, over AWS-LC. It makes keys and
//! uses randomness. What it is not: a JOSE library, nor a verifier of tokens (that is `casemate-verifier`).
//! Who trusts it: the warden (agent and box keys, opening of secrets) and the broker (result tokens, sealing).
//! Implements RFC 7515, RFC 7516, RFC 7518 (sections 3.4, 4.6 and 5.3) and RFC 3394, as far as named above.

mod concat_kdf;
mod jwe;
mod jws;

pub use jwe::{CIPHERTEXT_BYTES_MAX, RecipientKey, protected_header, seal};
pub use jws::{JWS_PAYLOAD_BYTES_MAX, SigningKey};

use casemate_protocol::jwk::JwkError;

/// Why a token was not signed or a secret not sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoseError {
    /// The recipient's key is not a P-256 key for ECDH-ES+A256KW.
    #[error("recipient key: {0}")]
    Recipient(#[from] JwkError),
    /// A public key is not a point of the curve.
    #[error("public key is not a point of P-256")]
    NotOnCurve,
    /// Not a resource path.
    #[error("not a resource path")]
    Resource,
    /// The protected header is not the one that belongs to the sender's point and the resource asked for.
    #[error(
        "protected header is not the one of ECDH-ES+A256KW, A256GCM, the sender's point and this resource"
    )]
    ProtectedHeader,
    /// The content key does not unwrap: wrong recipient, or an altered message.
    #[error("content key does not unwrap under this recipient's key")]
    ContentKey,
    /// The content does not authenticate: an altered message.
    #[error("content does not authenticate")]
    Content,
    /// Plaintext, ciphertext or claims are longer than the limit.
    #[error("{found} bytes, at most {max} allowed")]
    TooLong {
        /// Length found, in bytes.
        found: usize,
        /// Longest length, in bytes.
        max: usize,
    },
    /// Claims have no JSON form.
    #[error("claims have no JSON form")]
    Claims,
    /// Stored key bytes are not a P-256 private key in PKCS #8.
    #[error("not a P-256 private key in PKCS #8")]
    StoredKey,
    /// Not a private P-256 key as JWK, or one whose parts do not belong together.
    #[error("not a private P-256 key for ES256 as JWK")]
    StoredJwk,
    /// The cryptographic library failed (no memory, no randomness).
    #[error("cryptographic library failed")]
    Library,
}
