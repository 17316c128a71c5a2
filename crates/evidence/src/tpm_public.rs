//! Public areas of TPM 2.0 attestation keys.
//!
//! Layout: TCG TPM 2.0 Library, Part 2 (Structures): `TPMT_PUBLIC` (section 12.2.4), `TPM2B_PUBLIC` (12.2.5),
//! `TPMS_RSA_PARMS` (12.2.3.5), `TPMS_ECC_PARMS` (12.2.3.6), `TPMA_OBJECT` (8.3). Only keys that sign are read: no
//! symmetric algorithm, and a scheme that is RSASSA, RSAPSS, ECDSA or left open.

use crate::tpm::{
    ALG_ECDSA, ALG_RSAPSS, ALG_RSASSA, TPM_DIGEST_BYTES_MAX, TPM_ECC_BYTES_MAX, TPM_RSA_BYTES_MAX, TpmError,
    TpmHash, require_length,
};
use crate::tpm_wire::Wire;

/// Largest `TPMT_PUBLIC` of a signing key in bytes: RSA with 4096 bits and a policy of 64 bytes.
pub const TPM_PUBLIC_BYTES_MAX: usize = 2 + 2 + 4 + 66 + 2 + 4 + 2 + 4 + 2 + TPM_RSA_BYTES_MAX;

/// `TPM_ALG_RSA` (section 6.3).
const ALG_RSA: u16 = 0x0001;
/// `TPM_ALG_ECC`.
const ALG_ECC: u16 = 0x0023;
/// `TPM_ALG_NULL`.
const ALG_NULL: u16 = 0x0010;
/// `TPM_ECC_NIST_P256` (section 6.4).
const CURVE_P256: u16 = 0x0003;
/// `TPM_ECC_NIST_P384`.
const CURVE_P384: u16 = 0x0004;
/// What exponent 0 stands for (section 12.2.3.5).
const RSA_EXPONENT_DEFAULT: u32 = 65_537;

/// A public area taken apart. Everything borrows from the bytes given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TpmPublic<'a> {
    /// The `TPMT_PUBLIC`: what the key's name is a digest of.
    pub area: &'a [u8],
    /// Hash of the key's name.
    pub name_hash: TpmHash,
    /// What the TPM does with the key.
    pub attributes: TpmAttributes,
    /// How it signs, or nothing where whoever uses it says so.
    pub scheme: Option<TpmScheme>,
    /// The key.
    pub key: TpmKey<'a>,
}

/// A signature scheme of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TpmScheme {
    /// RSASSA-PKCS1-v1_5.
    RsaSsa(TpmHash),
    /// RSASSA-PSS.
    RsaPss(TpmHash),
    /// ECDSA.
    Ecdsa(TpmHash),
}

/// A public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TpmKey<'a> {
    /// RSA.
    Rsa {
        /// Modulus, big-endian, as long as the key's bits say.
        modulus: &'a [u8],
        /// Exponent.
        exponent: u32,
    },
    /// NIST P-256: coordinates, big-endian.
    P256 {
        /// x.
        x: &'a [u8; 32],
        /// y.
        y: &'a [u8; 32],
    },
    /// NIST P-384: coordinates, big-endian.
    P384 {
        /// x.
        x: &'a [u8; 48],
        /// y.
        y: &'a [u8; 48],
    },
}

/// `TPMA_OBJECT` bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TpmAttributes(pub u32);

impl TpmAttributes {
    /// Bits that a key must have to vouch for quotes: fixedTPM (1), fixedParent (4), sensitiveDataOrigin (5),
    /// restricted (16), sign (18). Only a restricted key refuses to sign data of others that look like a quote.
    pub const ATTESTATION: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18;
    /// Bit that it must not have: decrypt (17).
    pub const DECRYPT: u32 = 1 << 17;

    /// Whether these are the attributes of a key that signs only what its TPM made, and never left it.
    #[must_use]
    pub const fn is_attestation_key(self) -> bool {
        self.0 & Self::ATTESTATION == Self::ATTESTATION && self.0 & Self::DECRYPT == 0
    }
}

/// Takes a `TPMT_PUBLIC` of a signing key apart.
///
/// # Errors
/// [`TpmError`].
pub fn parse_tpm_public(bytes: &[u8]) -> Result<TpmPublic<'_>, TpmError> {
    const PART: &str = "public area";
    require_length(bytes, PART, TPM_PUBLIC_BYTES_MAX)?;
    let mut wire = Wire::new(bytes, PART);
    let key_type = wire.u16()?;
    if !matches!(key_type, ALG_RSA | ALG_ECC) {
        return Err(TpmError::KeyType { found: key_type });
    }
    let name_hash = TpmHash::read(&mut wire, "nameAlg")?;
    let attributes = TpmAttributes(wire.u32()?);
    wire.sized("authPolicy", TPM_DIGEST_BYTES_MAX)?;
    let symmetric = wire.u16()?;
    if symmetric != ALG_NULL {
        return Err(TpmError::Scheme { field: "symmetric algorithm", found: symmetric });
    }
    let (scheme, key) = if key_type == ALG_RSA { read_rsa(&mut wire)? } else { read_ecc(&mut wire)? };
    wire.end()?;
    Ok(TpmPublic { area: bytes, name_hash, attributes, scheme, key })
}

/// Takes a `TPM2B_PUBLIC` of a signing key apart: a 16-bit size, and a `TPMT_PUBLIC` of that size.
///
/// # Errors
/// [`TpmError`].
pub fn parse_tpm2b_public(bytes: &[u8]) -> Result<TpmPublic<'_>, TpmError> {
    let mut wire = Wire::new(bytes, "sized public area");
    let area = wire.sized("public area", TPM_PUBLIC_BYTES_MAX)?;
    wire.end()?;
    parse_tpm_public(area)
}

fn read_rsa<'a>(wire: &mut Wire<'a>) -> Result<(Option<TpmScheme>, TpmKey<'a>), TpmError> {
    let scheme = match wire.u16()? {
        ALG_NULL => None,
        ALG_RSASSA => Some(TpmScheme::RsaSsa(TpmHash::read(wire, "scheme")?)),
        ALG_RSAPSS => Some(TpmScheme::RsaPss(TpmHash::read(wire, "scheme")?)),
        found => return Err(TpmError::Scheme { field: "scheme", found }),
    };
    let bits = usize::from(wire.u16()?);
    let exponent = match wire.u32()? {
        0 => RSA_EXPONENT_DEFAULT,
        exponent => exponent,
    };
    let modulus = wire.sized("modulus", TPM_RSA_BYTES_MAX)?;
    let expected = bits.div_ceil(8);
    if modulus.len() != expected {
        return Err(TpmError::KeyLength { field: "modulus", expected, found: modulus.len() });
    }
    Ok((scheme, TpmKey::Rsa { modulus, exponent }))
}

fn read_ecc<'a>(wire: &mut Wire<'a>) -> Result<(Option<TpmScheme>, TpmKey<'a>), TpmError> {
    let scheme = match wire.u16()? {
        ALG_NULL => None,
        ALG_ECDSA => Some(TpmScheme::Ecdsa(TpmHash::read(wire, "scheme")?)),
        found => return Err(TpmError::Scheme { field: "scheme", found }),
    };
    let curve = wire.u16()?;
    if !matches!(curve, CURVE_P256 | CURVE_P384) {
        return Err(TpmError::Curve { found: curve });
    }
    let kdf = wire.u16()?;
    if kdf != ALG_NULL {
        return Err(TpmError::Scheme { field: "key derivation", found: kdf });
    }
    let x = wire.sized("coordinate x", TPM_ECC_BYTES_MAX)?;
    let y = wire.sized("coordinate y", TPM_ECC_BYTES_MAX)?;
    let key = if curve == CURVE_P256 {
        TpmKey::P256 { x: coordinate("coordinate x", x)?, y: coordinate("coordinate y", y)? }
    } else {
        TpmKey::P384 { x: coordinate("coordinate x", x)?, y: coordinate("coordinate y", y)? }
    };
    Ok((scheme, key))
}

/// TPMs pad coordinates to the length of the curve (Part 1, section C.8); a shorter one is not padded here.
fn coordinate<'a, const N: usize>(field: &'static str, bytes: &'a [u8]) -> Result<&'a [u8; N], TpmError> {
    bytes.try_into().map_err(|_| TpmError::KeyLength { field, expected: N, found: bytes.len() })
}

#[cfg(test)]
#[path = "tpm_public_tests.rs"]
mod tests;
