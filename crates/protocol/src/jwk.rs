//! A P-256 public key as JWK (RFC 7517, RFC 7518 section 6.2.1), with exactly the members we use.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// A P-256 public key. `alg` is `ES256` for signing keys, `ECDH-ES+A256KW` for keys that secrets are sealed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EcJwk {
    /// `EC`.
    pub kty: String,
    /// `P-256`.
    pub crv: String,
    /// Algorithm the key is for.
    pub alg: String,
    /// Big-endian x coordinate, 32 bytes, base64url without padding.
    pub x: String,
    /// Big-endian y coordinate, likewise.
    pub y: String,
}

/// Why a JWK is not a P-256 key that we take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwkError {
    /// A member has another value than the one expected.
    #[error("member `{member}` is not `{expected}`")]
    Member {
        /// Name of the member.
        member: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A coordinate is not 32 bytes of base64url.
    #[error("coordinate is not 32 bytes of unpadded base64url")]
    Coordinate,
    /// A point is not 65 bytes in uncompressed form.
    #[error("point is not in uncompressed form (SEC 1 section 2.3.3)")]
    Point,
}

/// Algorithm name of keys that sign.
pub const ALG_ES256: &str = "ES256";
/// Algorithm name of keys that secrets are sealed to.
pub const ALG_ECDH: &str = "ECDH-ES+A256KW";

impl EcJwk {
    /// From an uncompressed point (0x04, x, y: 65 bytes).
    ///
    /// # Errors
    /// [`JwkError::Point`].
    pub fn from_point(alg: &'static str, point: &[u8]) -> Result<Self, JwkError> {
        let [4, rest @ ..] = point else { return Err(JwkError::Point) };
        let (x, y) = rest.split_at_checked(32).ok_or(JwkError::Point)?;
        if y.len() != 32 {
            return Err(JwkError::Point);
        }
        Ok(Self {
            kty: "EC".into(),
            crv: "P-256".into(),
            alg: alg.into(),
            x: URL_SAFE_NO_PAD.encode(x),
            y: URL_SAFE_NO_PAD.encode(y),
        })
    }

    /// The uncompressed point, after checking every member. Whether it is on the curve is for the user of it to check.
    ///
    /// # Errors
    /// [`JwkError`].
    pub fn to_point(&self, alg: &'static str) -> Result<[u8; 65], JwkError> {
        for (member, found, expected) in
            [("kty", &self.kty, "EC"), ("crv", &self.crv, "P-256"), ("alg", &self.alg, alg)]
        {
            if found != expected {
                return Err(JwkError::Member { member, expected });
            }
        }
        let mut point = [4; 65];
        let coordinates = [&self.x, &self.y];
        for (slot, text) in point[1..].chunks_exact_mut(32).zip(coordinates) {
            let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| JwkError::Coordinate)?;
            if bytes.len() != 32 {
                return Err(JwkError::Coordinate);
            }
            slot.copy_from_slice(&bytes);
        }
        Ok(point)
    }
}
