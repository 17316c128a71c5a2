//! The relying party's nonce, as text (RFC 9711 section 4.1: 8 to 88 bytes).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A nonce: 8 to 88 printable ASCII characters without space, quote or backslash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce(String);

/// The text is not a nonce.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nonce is not 8 to 88 printable ASCII characters without space, quote or backslash")]
pub struct NonceError;

impl Nonce {
    /// Fewest characters.
    pub const BYTES_MIN: usize = 8;
    /// Most characters.
    pub const BYTES_MAX: usize = 88;

    /// The nonce as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Nonce {
    type Err = NonceError;

    fn from_str(text: &str) -> Result<Self, NonceError> {
        let plain = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
        if (Self::BYTES_MIN..=Self::BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NonceError)
        }
    }
}

impl TryFrom<String> for Nonce {
    type Error = NonceError;

    fn try_from(text: String) -> Result<Self, NonceError> {
        text.parse()
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        nonce.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
