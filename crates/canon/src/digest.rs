//! Digests as values: fixed length, one spelling, compared as bytes.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// What is wrong with the spelling of a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("digest is not `{prefix}` and {hex_digits} lower-case hexadecimal digits")]
pub struct DigestParseError {
    prefix: &'static str,
    hex_digits: usize,
}

macro_rules! digest_type {
    ($name:ident, $len:literal, $prefix:literal, $hasher:ty) => {
        #[doc = concat!("A digest of ", stringify!($len), " bytes, written `", $prefix, "<hex>`.")]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;
            /// All bytes zero: a value like any other, never a wildcard.
            pub const ZERO: Self = Self([0; $len]);

            /// The digest of `bytes`.
            #[must_use]
            pub fn of(bytes: &[u8]) -> Self {
                Self(<$hasher>::digest(bytes).into())
            }

            /// The digest of the concatenation of `parts`.
            #[must_use]
            pub fn of_parts(parts: &[&[u8]]) -> Self {
                let mut hasher = <$hasher>::new();
                for part in parts {
                    hasher.update(part);
                }
                Self(hasher.finalize().into())
            }

            /// The hexadecimal digits alone.
            #[must_use]
            pub fn to_hex(&self) -> String {
                hex::encode(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut digits = [[0; 2]; $len];
                hex::encode_to_slice(self.0, digits.as_flattened_mut()).map_err(|_| fmt::Error)?;
                f.write_str($prefix)?;
                f.write_str(core::str::from_utf8(digits.as_flattened()).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = DigestParseError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let error = DigestParseError { prefix: $prefix, hex_digits: $len * 2 };
                let digits = text.strip_prefix($prefix).ok_or_else(|| error.clone())?;
                if digits.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(error);
                }
                let mut out = [0; $len];
                hex::decode_to_slice(digits, &mut out).map_err(|_| error)?;
                Ok(Self(out))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest_type!(Sha256, 32, "sha256:", sha2::Sha256);
digest_type!(Sha384, 48, "sha384:", sha2::Sha384);
digest_type!(Sha512, 64, "sha512:", sha2::Sha512);

impl Sha384 {
    /// What a measurement register holds after `digest` was extended into it: SHA-384 of the old
    /// value and the digest (Intel TDX module ABI 348551, TDG.MR.RTMR.EXTEND).
    #[must_use]
    pub fn extend(&self, digest: &Self) -> Self {
        Self::of_parts(&[&self.0, &digest.0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_and_reads_back_a_digest() {
        let digest = Sha256::of(b"abc");
        assert_eq!(
            digest.to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn refuses_other_spellings() {
        let good = Sha256::of(b"abc").to_string();
        for bad in [
            good.to_uppercase(),
            good.replace("sha256:", "sha384:"),
            good.replace("sha256:", ""),
            good[..good.len() - 1].to_string(),
            format!("{good}0"),
            good.replace('a', "A"),
            String::new(),
        ] {
            assert!(bad.parse::<Sha256>().is_err(), "{bad}");
        }
    }

    #[test]
    fn extends_like_a_register() {
        let event = Sha384::of(b"event");
        let mut both = [0; 96];
        both[48..].copy_from_slice(&event.0);
        assert_eq!(Sha384::ZERO.extend(&event), Sha384::of(&both));
    }
}
