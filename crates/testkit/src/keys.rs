//! Development signing keys: P-256 for the TDX side, P-384 and RSA-4096 for the SNP side.
//!
//! What it is: PKCS#8 in memory and the three signature encodings the vendors use. What it is not: a key store for
//! anything of worth; these keys lie in a directory in clear.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RSA_PSS_SHA384,
};

use crate::PkiError;
use crate::der_out::{bit_string, null, oid, sequence};

/// Kind of key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    P256,
    P384,
    Rsa4096,
}

/// A private key as PKCS#8. No `Debug`: it would print the key.
#[derive(Clone)]
pub(crate) struct SigningKey {
    kind: KeyKind,
    pkcs8: Vec<u8>,
    /// RSAPublicKey, or the uncompressed point.
    public: Vec<u8>,
}

impl SigningKey {
    pub(crate) fn generate(kind: KeyKind) -> Result<Self, PkiError> {
        let failed = PkiError::Crypto { doing: "generate a key" };
        let pkcs8 = match kind {
            KeyKind::P256 | KeyKind::P384 => {
                EcdsaKeyPair::generate_pkcs8(asn1_algorithm(kind), &SystemRandom::new())
                    .map_err(|_| failed)?
                    .as_ref()
                    .to_vec()
            }
            KeyKind::Rsa4096 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa4096).map_err(|_| failed.clone())?;
                AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(|_| failed)?.as_ref().to_vec()
            }
        };
        Self::from_pkcs8(kind, pkcs8)
    }

    pub(crate) fn from_pkcs8(kind: KeyKind, pkcs8: Vec<u8>) -> Result<Self, PkiError> {
        let failed = PkiError::Crypto { doing: "read a private key" };
        let public = match kind {
            KeyKind::P256 | KeyKind::P384 => EcdsaKeyPair::from_pkcs8(asn1_algorithm(kind), &pkcs8)
                .map_err(|_| failed)?
                .public_key()
                .as_ref()
                .to_vec(),
            KeyKind::Rsa4096 => {
                RsaKeyPair::from_pkcs8(&pkcs8).map_err(|_| failed)?.public_key().as_ref().to_vec()
            }
        };
        Ok(Self { kind, pkcs8, public })
    }

    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// X and Y of an elliptic-curve key, without the leading 0x04.
    pub(crate) fn public_xy(&self) -> &[u8] {
        self.public.get(1..).unwrap_or_default()
    }

    /// SubjectPublicKeyInfo, DER.
    pub(crate) fn spki(&self) -> Vec<u8> {
        let algorithm = match self.kind {
            KeyKind::P256 => vec![oid(&[1, 2, 840, 10045, 2, 1]), oid(&[1, 2, 840, 10045, 3, 1, 7])],
            KeyKind::P384 => vec![oid(&[1, 2, 840, 10045, 2, 1]), oid(&[1, 3, 132, 0, 34])],
            KeyKind::Rsa4096 => vec![oid(&[1, 2, 840, 113_549, 1, 1, 1]), null()],
        };
        sequence(&[sequence(&algorithm), bit_string(&self.public)])
    }

    /// The signature as X.509 carries it: ECDSA-Sig-Value, or RSASSA-PSS (SHA-384, salt of 48 bytes).
    pub(crate) fn sign_x509(&self, message: &[u8]) -> Result<Vec<u8>, PkiError> {
        let failed = PkiError::Crypto { doing: "sign" };
        match self.kind {
            KeyKind::P256 | KeyKind::P384 => self.sign_ecdsa(asn1_algorithm(self.kind), message),
            KeyKind::Rsa4096 => {
                let pair = RsaKeyPair::from_pkcs8(&self.pkcs8).map_err(|_| failed.clone())?;
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PSS_SHA384, &SystemRandom::new(), message, &mut signature)
                    .map_err(|_| failed)?;
                Ok(signature)
            }
        }
    }

    /// `r` and `s` big-endian, each as long as the field, one after the other.
    pub(crate) fn sign_fixed(&self, message: &[u8]) -> Result<Vec<u8>, PkiError> {
        match self.kind {
            KeyKind::P256 => self.sign_ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, message),
            KeyKind::P384 => self.sign_ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, message),
            KeyKind::Rsa4096 => Err(PkiError::Crypto { doing: "sign with RSA where ECDSA is due" }),
        }
    }

    fn sign_ecdsa(
        &self,
        algorithm: &'static EcdsaSigningAlgorithm,
        message: &[u8],
    ) -> Result<Vec<u8>, PkiError> {
        let failed = PkiError::Crypto { doing: "sign" };
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &self.pkcs8).map_err(|_| failed.clone())?;
        Ok(pair.sign(&SystemRandom::new(), message).map_err(|_| failed)?.as_ref().to_vec())
    }
}

fn asn1_algorithm(kind: KeyKind) -> &'static EcdsaSigningAlgorithm {
    if kind == KeyKind::P384 { &ECDSA_P384_SHA384_ASN1_SIGNING } else { &ECDSA_P256_SHA256_ASN1_SIGNING }
}
