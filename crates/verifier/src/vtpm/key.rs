//! Attestation keys: RSA and NIST curves, from a TPM's public area, SubjectPublicKeyInfo, a certificate or a JWK.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    UnparsedPublicKey, VerificationAlgorithm,
};
use casemate_canon::Sha256;
use casemate_evidence::tpm_public::{TpmKey, TpmScheme};
use casemate_evidence::{TpmHash, TpmPublic, TpmSignature, parse_tpm_public, parse_tpm2b_public};
use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, UintRef};
use der::{Decode as _, Encode as _, Sequence};

use crate::hex_text::HexSlice;
use crate::ledger::{Failed, Ledger};
use crate::policy::OwnerExpectations;
use crate::x509::{PublicKey, X509Error, public_key};

/// The only exponent of an attestation key that is accepted: TPMs make no other one.
const RSA_EXPONENT: u32 = 65_537;
/// Shortest RSA key accepted, in bits.
const RSA_BITS_MIN: usize = 2048;
/// Longest RSA key accepted, in bits.
const RSA_BITS_MAX: usize = 4096;

/// Why a key cannot be an attestation key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum KeyError {
    #[error(transparent)]
    Tpm(#[from] casemate_evidence::TpmError),
    #[error(transparent)]
    X509(#[from] X509Error),
    #[error("not a TPM2B_PUBLIC, TPMT_PUBLIC or SubjectPublicKeyInfo")]
    Form,
    #[error("not an RSA public key")]
    Rsa,
    #[error("RSA key of {found} bits is not of {RSA_BITS_MIN} to {RSA_BITS_MAX} bits")]
    RsaBits { found: usize },
    #[error("RSA exponent is not {RSA_EXPONENT}")]
    RsaExponent,
    #[error("attributes {found:#010x} are not those of a restricted signing key that never left its TPM")]
    Attributes { found: u32 },
}

/// RSAPublicKey (RFC 8017 appendix A.1.1).
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// AlgorithmIdentifier and SubjectPublicKeyInfo (RFC 5280 section 4.1).
#[derive(Sequence)]
struct Algorithm<'a> {
    oid: ObjectIdentifier,
    parameters: AnyRef<'a>,
}

#[derive(Sequence)]
struct Spki<'a> {
    algorithm: Algorithm<'a>,
    key: BitStringRef<'a>,
}

/// An attestation key that this crate can check signatures of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttestationKey {
    kind: Kind,
    /// RSAPublicKey, or an uncompressed point.
    bytes: Vec<u8>,
    /// How it signs, where its public area says so.
    scheme: Option<TpmScheme>,
    /// SHA-256 over its public area, where the evidence has one.
    area_digest: Option<Sha256>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
}

impl AttestationKey {
    /// From evidence that is nothing but a key. A public area must be that of an attestation key.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, KeyError> {
        match bytes {
            // SEQUENCE; a TPM2B_PUBLIC cannot have more than 700 bytes, so its size never begins so.
            [0x30, ..] => Self::of_spki(bytes),
            // TPM_ALG_RSA and TPM_ALG_ECC; as a size, neither would cover a whole public area.
            [0x00, 0x01 | 0x23, ..] => Self::of_public(&parse_tpm_public(bytes)?),
            [0x00..=0x02, ..] => Self::of_public(&parse_tpm2b_public(bytes)?),
            _ => Err(KeyError::Form),
        }
    }

    /// From SubjectPublicKeyInfo.
    pub(crate) fn of_spki(spki: &[u8]) -> Result<Self, KeyError> {
        Self::of_key(public_key(spki)?)
    }

    /// From a certificate's key.
    pub(crate) fn of_key(key: PublicKey<'_>) -> Result<Self, KeyError> {
        let (kind, bytes) = match key {
            PublicKey::P256(point) => (Kind::P256, point),
            PublicKey::P384(point) => (Kind::P384, point),
            PublicKey::Rsa(key) => {
                let parts = RsaPublicKey::from_der(key).map_err(|_| KeyError::Rsa)?;
                let exponent = parts.exponent.as_bytes();
                return Self::of_rsa(parts.modulus.as_bytes(), exponent);
            }
        };
        Ok(Self { kind, bytes: bytes.to_vec(), scheme: None, area_digest: None })
    }

    /// From modulus and exponent, big-endian, without zeros before them.
    pub(crate) fn of_rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let first = modulus.first().ok_or(KeyError::Rsa)?;
        let unused = usize::try_from(first.leading_zeros()).map_err(|_| KeyError::Rsa)?;
        let bits = modulus.len().saturating_mul(8).saturating_sub(unused);
        if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) || *first == 0 {
            return Err(KeyError::RsaBits { found: bits });
        }
        if exponent != [0x01, 0x00, 0x01] {
            return Err(KeyError::RsaExponent);
        }
        let uint = |bytes| UintRef::new(bytes).map_err(|_| KeyError::Rsa);
        let key = RsaPublicKey { modulus: uint(modulus)?, exponent: uint(exponent)? };
        let bytes = key.to_der().map_err(|_| KeyError::Rsa)?;
        Ok(Self { kind: Kind::Rsa, bytes, scheme: None, area_digest: None })
    }

    fn of_public(public: &TpmPublic<'_>) -> Result<Self, KeyError> {
        if !public.attributes.is_attestation_key() {
            return Err(KeyError::Attributes { found: public.attributes.0 });
        }
        let point = |x: &[u8], y: &[u8]| [&[0x04], x, y].concat();
        let key = match public.key {
            TpmKey::Rsa { modulus, exponent: RSA_EXPONENT } => Self::of_rsa(modulus, &[0x01, 0x00, 0x01])?,
            TpmKey::Rsa { .. } => return Err(KeyError::RsaExponent),
            TpmKey::P256 { x, y } => Self::of_key(PublicKey::P256(&point(x, y)))?,
            TpmKey::P384 { x, y } => Self::of_key(PublicKey::P384(&point(x, y)))?,
            _ => return Err(KeyError::Form),
        };
        Ok(Self { scheme: public.scheme, area_digest: Some(Sha256::of(public.area)), ..key })
    }

    /// Whether this key made the signature over `message`, with an algorithm that is the key's own.
    pub(crate) fn signed(&self, message: &[u8], signature: &TpmSignature<'_>) -> bool {
        let used = match *signature {
            TpmSignature::RsaSsa { hash, .. } => TpmScheme::RsaSsa(hash),
            TpmSignature::RsaPss { hash, .. } => TpmScheme::RsaPss(hash),
            TpmSignature::Ecdsa { hash, .. } => TpmScheme::Ecdsa(hash),
            _ => return false,
        };
        if self.scheme.is_some_and(|scheme| scheme != used) {
            return false;
        }
        let Some(algorithm) = algorithm(self.kind, used) else { return false };
        let fixed = match *signature {
            TpmSignature::Ecdsa { r, s, .. } => join(r, s, if self.kind == Kind::P256 { 32 } else { 48 }),
            TpmSignature::RsaSsa { signature, .. } | TpmSignature::RsaPss { signature, .. } => {
                Some(signature.to_vec())
            }
            _ => None,
        };
        let key = UnparsedPublicKey::new(algorithm, &self.bytes);
        fixed.is_some_and(|fixed| key.verify(message, &fixed).is_ok())
    }

    /// SHA-256 over its SubjectPublicKeyInfo.
    pub(crate) fn digest(&self) -> Option<Sha256> {
        self.spki().ok().map(|spki| Sha256::of(&spki))
    }

    /// What it is, in words.
    pub(crate) const fn name(&self) -> &'static str {
        match self.kind {
            Kind::Rsa => "RSA",
            Kind::P256 => "P-256",
            Kind::P384 => "P-384",
        }
    }

    pub(super) fn spki(&self) -> Result<Vec<u8>, der::Error> {
        // RFC 3279 section 2.3.1; RFC 5480 section 2.1.1.
        const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
        const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
        const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
        const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
        let (oid, parameters) = match self.kind {
            Kind::Rsa => (RSA, AnyRef::NULL),
            Kind::P256 => (EC, AnyRef::from(&P256)),
            Kind::P384 => (EC, AnyRef::from(&P384)),
        };
        Spki { algorithm: Algorithm { oid, parameters }, key: BitStringRef::from_bytes(&self.bytes)? }
            .to_der()
    }
}

/// SHA-1 is never accepted. On a curve the hash is the one of the curve's strength. The salt of RSASSA-PSS must be as long
/// as the digest: TPMs that follow FIPS 186-4 make no longer one (Part 1, section B.7).
fn algorithm(kind: Kind, scheme: TpmScheme) -> Option<&'static dyn VerificationAlgorithm> {
    match (kind, scheme) {
        (Kind::Rsa, TpmScheme::RsaSsa(TpmHash::Sha256)) => Some(&RSA_PKCS1_2048_8192_SHA256),
        (Kind::Rsa, TpmScheme::RsaSsa(TpmHash::Sha384)) => Some(&RSA_PKCS1_2048_8192_SHA384),
        (Kind::Rsa, TpmScheme::RsaSsa(TpmHash::Sha512)) => Some(&RSA_PKCS1_2048_8192_SHA512),
        (Kind::Rsa, TpmScheme::RsaPss(TpmHash::Sha256)) => Some(&RSA_PSS_2048_8192_SHA256),
        (Kind::Rsa, TpmScheme::RsaPss(TpmHash::Sha384)) => Some(&RSA_PSS_2048_8192_SHA384),
        (Kind::Rsa, TpmScheme::RsaPss(TpmHash::Sha512)) => Some(&RSA_PSS_2048_8192_SHA512),
        (Kind::P256, TpmScheme::Ecdsa(TpmHash::Sha256)) => Some(&ECDSA_P256_SHA256_FIXED),
        (Kind::P384, TpmScheme::Ecdsa(TpmHash::Sha384)) => Some(&ECDSA_P384_SHA384_FIXED),
        _ => None,
    }
}

/// r and s as numbers of the curve's length: a TPM may leave out zeros before them.
fn join(r: &[u8], s: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut joined = Vec::with_capacity(length.saturating_mul(2));
    for number in [r, s] {
        joined.resize(joined.len().saturating_add(length.checked_sub(number.len())?), 0);
        joined.extend_from_slice(number);
    }
    Some(joined)
}

/// That the owner named this key, by its public area or by itself.
pub(crate) fn require_owner_key(
    ledger: &mut Ledger,
    bytes: &[u8],
    expected: &OwnerExpectations,
) -> Result<AttestationKey, Failed> {
    let kinds = "an RSA, P-256 or P-384 attestation key";
    let key = ledger.accept("vtpm.key", kinds, AttestationKey::read(bytes))?;
    let by_area = key.area_digest.is_some_and(|digest| expected.areas.contains(&digest));
    let digest = key.digest();
    let by_key = digest.is_some_and(|digest| expected.keys.contains(&digest));
    let found = match (digest, key.area_digest) {
        (Some(digest), Some(area)) => format!("key {digest} with public area {area}"),
        (Some(digest), None) => format!("key {digest}"),
        (None, _) => format!("key {}", HexSlice(&key.bytes)),
    };
    ledger.require("vtpm.key-trust", by_area || by_key, expected.describe_keys(), found)?;
    Ok(key)
}
