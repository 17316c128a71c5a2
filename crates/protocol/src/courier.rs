//! What warden and courier say to each other: `u32` length, then one message of [`casemate_frame`] fields.
//!
//! The courier stands in the network; all it sends is an allegation with small bounds, and the only thing that
//! the warden opens is [`FromCourier::Sealed`], a sealed blob of bounded length.

use casemate_frame::{FrameError, Reader, Writer};

use crate::rcar::{REQUEST_BYTES_MAX, SECRET_BYTES_MAX};
use crate::refusal::{REFUSAL_PART_BYTES_MAX, Refusal};

/// Largest body of a message to the courier in bytes: what the broker takes.
pub const TO_COURIER_BYTES_MAX: usize = REQUEST_BYTES_MAX;
/// Largest message from the courier in bytes.
pub const FROM_COURIER_BYTES_MAX: usize = SECRET_BYTES_MAX + 8192;
/// Largest protected header of a sealed secret in bytes (base64url text).
pub const PROTECTED_BYTES_MAX: usize = 1024;
/// Largest text of a failure in bytes.
pub const FAILURE_BYTES_MAX: usize = 1024;

/// From the warden. `session` numbers one agent's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToCourier {
    /// Open a session with the broker and bring its challenge.
    Begin {
        /// Session.
        session: u32,
        /// `tdx` or `snp`.
        tee: String,
    },
    /// Send this evidence (JSON of [`crate::rcar::Attestation`]).
    Evidence {
        /// Session.
        session: u32,
        /// Request body, passed on as is.
        body: Vec<u8>,
    },
    /// Bring this resource.
    Fetch {
        /// Session.
        session: u32,
        /// Resource path.
        resource: String,
    },
    /// The session is over.
    End {
        /// Session.
        session: u32,
    },
}

/// From the courier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromCourier {
    /// The broker's challenge.
    Challenge {
        /// Session.
        session: u32,
        /// Nonce text.
        nonce: String,
    },
    /// The broker appraised the evidence and affirmed it.
    Appraised {
        /// Session.
        session: u32,
    },
    /// A secret, sealed to the agent's key. `parts` as in [`Sealed`].
    Sealed {
        /// Session.
        session: u32,
        /// The sealed blob.
        sealed: Sealed,
    },
    /// The broker refused.
    Refused {
        /// Session.
        session: u32,
        /// Why.
        refusal: Refusal,
    },
    /// The broker could not be reached, or did not speak the protocol.
    Failed {
        /// Session.
        session: u32,
        /// What happened.
        what: String,
    },
}

/// A JWE with its parts decoded (RFC 7516), so that the warden parses neither JSON nor base64 from the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Protected header as received (base64url text): the additional authenticated data.
    pub protected: Vec<u8>,
    /// Ephemeral public key of the sender: uncompressed P-256 point.
    pub ephemeral_point: [u8; 65],
    /// Wrapped content key.
    pub encrypted_key: [u8; 40],
    /// Initialisation vector.
    pub iv: [u8; 12],
    /// The secret, encrypted.
    pub ciphertext: Vec<u8>,
    /// Authentication tag.
    pub tag: [u8; 16],
}

impl ToCourier {
    /// As bytes, without the outer length.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Self::Begin { session, tee } => w.u8(1).u32(*session).text(tee),
            Self::Evidence { session, body } => w.u8(2).u32(*session).bytes(body),
            Self::Fetch { session, resource } => w.u8(3).u32(*session).text(resource),
            Self::End { session } => w.u8(4).u32(*session),
        };
        w.finish()
    }

    /// From bytes, without the outer length.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn decode(message: &[u8]) -> Result<Self, FrameError> {
        let mut r = Reader::new(message);
        let tag = r.u8()?;
        let session = r.u32()?;
        let decoded = match tag {
            1 => Self::Begin { session, tee: r.text(32)? },
            2 => Self::Evidence { session, body: r.bytes(TO_COURIER_BYTES_MAX)?.to_vec() },
            3 => Self::Fetch { session, resource: r.text(512)? },
            4 => Self::End { session },
            found => return Err(FrameError::UnknownTag { found: found.into() }),
        };
        r.end()?;
        Ok(decoded)
    }
}

impl FromCourier {
    /// Which session it belongs to.
    #[must_use]
    pub const fn session(&self) -> u32 {
        match self {
            Self::Challenge { session, .. }
            | Self::Appraised { session }
            | Self::Sealed { session, .. }
            | Self::Refused { session, .. }
            | Self::Failed { session, .. } => *session,
        }
    }

    /// As bytes, without the outer length.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Self::Challenge { session, nonce } => w.u8(1).u32(*session).text(nonce),
            Self::Appraised { session } => w.u8(2).u32(*session),
            Self::Sealed { session, sealed } => w
                .u8(3)
                .u32(*session)
                .bytes(&sealed.protected)
                .bytes(&sealed.ephemeral_point)
                .bytes(&sealed.encrypted_key)
                .bytes(&sealed.iv)
                .bytes(&sealed.ciphertext)
                .bytes(&sealed.tag),
            Self::Refused { session, refusal } => {
                w.u8(4).u32(*session).text(&refusal.rule).text(&refusal.expected).text(&refusal.found)
            }
            Self::Failed { session, what } => w.u8(5).u32(*session).text(what),
        };
        w.finish()
    }

    /// From bytes, without the outer length. Text is made printable, lengths are exact.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn decode(message: &[u8]) -> Result<Self, FrameError> {
        let mut r = Reader::new(message);
        let tag = r.u8()?;
        let session = r.u32()?;
        let decoded = match tag {
            1 => Self::Challenge { session, nonce: r.text(crate::nonce::Nonce::BYTES_MAX)? },
            2 => Self::Appraised { session },
            3 => Self::Sealed {
                session,
                sealed: Sealed {
                    protected: r.bytes(PROTECTED_BYTES_MAX)?.to_vec(),
                    ephemeral_point: exact(r.bytes(65)?)?,
                    encrypted_key: exact(r.bytes(40)?)?,
                    iv: exact(r.bytes(12)?)?,
                    ciphertext: r.bytes(SECRET_BYTES_MAX)?.to_vec(),
                    tag: exact(r.bytes(16)?)?,
                },
            },
            4 => {
                // A cut part carries a mark of up to 3 bytes, and replaced characters grow: take twice the bound.
                let mut part = || r.text(2 * REFUSAL_PART_BYTES_MAX);
                let (rule, expected, found) = (part()?, part()?, part()?);
                Self::Refused { session, refusal: Refusal::new(&rule, expected, found) }
            }
            5 => {
                let what = r.text(FAILURE_BYTES_MAX)?;
                let what = what.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
                Self::Failed { session, what }
            }
            found => return Err(FrameError::UnknownTag { found: found.into() }),
        };
        r.end()?;
        Ok(decoded)
    }
}

fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], FrameError> {
    bytes.try_into().map_err(|_| FrameError::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> FromCourier {
        FromCourier::Sealed {
            session: 9,
            sealed: Sealed {
                protected: b"eyJ9".to_vec(),
                ephemeral_point: [4; 65],
                encrypted_key: [1; 40],
                iv: [2; 12],
                ciphertext: vec![3; 100],
                tag: [5; 16],
            },
        }
    }

    #[test]
    fn round_trips_every_message() {
        for message in [
            ToCourier::Begin { session: 1, tee: "tdx".into() },
            ToCourier::Evidence { session: 2, body: b"{}".to_vec() },
            ToCourier::Fetch { session: 3, resource: "a/b/c".into() },
            ToCourier::End { session: 4 },
        ] {
            assert_eq!(ToCourier::decode(&message.encode()), Ok(message));
        }
        for message in [
            FromCourier::Challenge { session: 1, nonce: "n".repeat(44) },
            FromCourier::Appraised { session: 2 },
            sealed(),
            FromCourier::Refused { session: 3, refusal: Refusal::new("r", "e".repeat(5000), "f") },
            FromCourier::Failed { session: 4, what: "connection refused".into() },
        ] {
            assert_eq!(FromCourier::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn refuses_truncation_at_every_offset_and_trailing_bytes() {
        let whole = sealed().encode();
        for end in 0..whole.len() {
            assert!(FromCourier::decode(&whole[..end]).is_err(), "cut at {end}");
        }
        let mut longer = whole;
        longer.push(0);
        assert_eq!(FromCourier::decode(&longer), Err(FrameError::Trailing { left: 1 }));
    }

    #[test]
    fn refuses_a_sealed_part_of_another_length() {
        let mut w = Writer::new();
        w.u8(3).u32(1).bytes(b"p").bytes(&[4; 64]);
        assert_eq!(FromCourier::decode(&w.finish()), Err(FrameError::Truncated));
    }

    #[test]
    fn refuses_a_ciphertext_over_the_bound() {
        let mut w = Writer::new();
        w.u8(3).u32(1).bytes(b"p").bytes(&[4; 65]).bytes(&[1; 40]).bytes(&[2; 12]);
        w.bytes(&vec![0; SECRET_BYTES_MAX + 1]);
        assert_eq!(
            FromCourier::decode(&w.finish()),
            Err(FrameError::TooLong { found: SECRET_BYTES_MAX + 1, max: SECRET_BYTES_MAX })
        );
    }
}
