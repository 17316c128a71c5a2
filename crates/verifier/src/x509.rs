//! X.509 certificates (RFC 5280) as borrowed views, and the checks of one certificate against its issuer.
//!
//! What it is: the part of X.509 that Intel's and AMD's attestation chains use: three levels, P-256, P-384 and
//! RSA keys, ECDSA with SHA-256 and RSASSA-PSS with SHA-384; and, read apart, what chains of TPM keys use.
//! What it is not: a path builder; who must have issued what is known beforehand.

use std::sync::OnceLock;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_ASN1, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PSS_2048_8192_SHA384, UnparsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use casemate_canon::Sha256;
use der::asn1::ObjectIdentifier;
use der::{DateTime, Tag, TagNumber};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use crate::asn1::{Asn1Error, Fields, Tlv, bit_string};
use crate::crl::{CRL_BYTES_MAX, Serial};
use crate::known_signatures;
use crate::time::{UnixTime, Window};

/// Largest certificate in bytes.
pub(crate) const CERTIFICATE_BYTES_MAX: usize = 16 << 10;
/// Most certificates of a PEM chain.
pub(crate) const CHAIN_CERTIFICATES_MAX: usize = 4;

/// Attribute type id-at-commonName, 2.5.4.3, without tag and length.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// Most extensions of a certificate or a CRL. Real certificates have up to 10.
pub(crate) const EXTENSIONS_MAX: usize = 32;

const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const SUBJECT_ALTERNATIVE_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");

/// AlgorithmIdentifier of ecdsa-with-SHA256 (RFC 5758 section 3.2).
const ECDSA_SHA256: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// AlgorithmIdentifier of RSASSA-PSS (RFC 4055 section 3.1): SHA-384, MGF1 with SHA-384, salt of 48 bytes. AMD's
/// older certificates spell the default trailer field out, against DER; the newer ones do not.
const PSS_SHA384: [&[u8]; 2] = [
    b"\x30\x46\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x39\xa0\x0f\x30\x0d\x06\x09\x60\x86\x48\x01\x65\
      \x03\x04\x02\x02\x05\x00\xa1\x1c\x30\x1a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08\x30\x0d\x06\x09\x60\
      \x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\xa2\x03\x02\x01\x30\xa3\x03\x02\x01\x01",
    b"\x30\x41\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x34\xa0\x0f\x30\x0d\x06\x09\x60\x86\x48\x01\x65\
      \x03\x04\x02\x02\x05\x00\xa1\x1c\x30\x1a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08\x30\x0d\x06\x09\x60\
      \x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\xa2\x03\x02\x01\x30",
];
/// AlgorithmIdentifier of ecdsa-with-SHA384 (RFC 5758 section 3.2).
const ECDSA_SHA384: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
/// AlgorithmIdentifier of sha256WithRSAEncryption (RFC 4055 section 5).
const RSA_SHA256: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00";
/// AlgorithmIdentifier of sha384WithRSAEncryption (RFC 4055 section 5).
const RSA_SHA384: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c\x05\x00";
/// AlgorithmIdentifier of an EC key on P-256 (RFC 5480 section 2.1.1).
const KEY_P256: &[u8] =
    b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
/// AlgorithmIdentifier of an EC key on P-384.
const KEY_P384: &[u8] = b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";
/// AlgorithmIdentifier of an RSA key (RFC 3279 section 2.3.1).
const KEY_RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

/// Why bytes are not a certificate or CRL that is read here, or do not stand where they are put.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum X509Error {
    #[error(transparent)]
    Asn1(#[from] Asn1Error),
    #[error("certificate of {found} bytes, at most {CERTIFICATE_BYTES_MAX} allowed")]
    TooLong { found: usize },
    #[error("CRL of {found} bytes, at most {CRL_BYTES_MAX} allowed")]
    CrlTooLong { found: usize },
    #[error("not PEM certificates: {reason}")]
    Pem { reason: &'static str },
    #[error("chain of {found} certificates where {expected} are expected")]
    ChainLength { expected: usize, found: usize },
    #[error("signature algorithm is not one that chains of this kind use")]
    SignatureAlgorithm,
    #[error("inner and outer signature algorithms differ")]
    SignatureAlgorithms,
    #[error("public key is not on P-256 or P-384 nor RSA")]
    PublicKey,
    #[error("critical extension {found} is not known")]
    CriticalExtension { found: ObjectIdentifier },
    #[error("extension {found} is given twice")]
    RepeatedExtension { found: ObjectIdentifier },
    #[error("more than {EXTENSIONS_MAX} extensions")]
    TooManyExtensions,
    #[error("extension {missing} is missing")]
    MissingExtension { missing: &'static str },
    #[error("signature of `{subject}` is not by `{issuer}`")]
    Signature { subject: String, issuer: String },
    #[error("`{subject}` names an issuer other than `{issuer}`")]
    Issuer { subject: String, issuer: String },
    #[error("`{found}` where `{expected}` is expected")]
    CommonName { expected: String, found: String },
    #[error("`{subject}` is valid {window}, not at {now}")]
    Validity { subject: String, window: Window, now: UnixTime },
    #[error("`{subject}` may not be used as {role}")]
    Usage { subject: String, role: &'static str },
    #[error("CRL of `{issuer}` revokes serial number {serial}")]
    Revoked { issuer: String, serial: String },
    #[error("serial number of {found} bytes, at most 21 allowed")]
    Serial { found: usize },
    #[error("CRL has no nextUpdate")]
    NoNextUpdate,
}

/// A certificate's or issuer's public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublicKey<'a> {
    /// Uncompressed point, 65 bytes.
    P256(&'a [u8]),
    /// Uncompressed point, 97 bytes.
    P384(&'a [u8]),
    /// RSAPublicKey (RFC 8017 appendix A.1.1).
    Rsa(&'a [u8]),
}

impl<'a> PublicKey<'a> {
    /// The key's bytes, in the form of its kind.
    pub(crate) const fn bytes(&self) -> &'a [u8] {
        match self {
            Self::P256(bytes) | Self::P384(bytes) | Self::Rsa(bytes) => bytes,
        }
    }

    /// What such a key signs with in the chains of Intel and AMD, where no issuer is on P-384.
    const fn vendor_algorithm(&self) -> Option<SignatureAlgorithm> {
        match self {
            Self::P256(_) => Some(SignatureAlgorithm::EcdsaSha256),
            Self::Rsa(_) => Some(SignatureAlgorithm::PssSha384),
            Self::P384(_) => None,
        }
    }
}

/// An issuer whose own certificate was verified, kept for later: what checking its signatures takes.
#[derive(Debug, Clone)]
pub(crate) struct IssuerFacts {
    pub(crate) subject: Vec<u8>,
    pub(crate) common_name: String,
    pub(crate) window: Window,
    pub(crate) serial: Serial,
    pub(crate) key: Vec<u8>,
    pub(crate) key_digest: Sha256,
    algorithm: SignatureAlgorithm,
    x509_key: MadeKey,
    fixed_key: MadeKey,
}

/// A public key as the library wants it. Making one takes as long as a part of a signature check, so it is made where it
/// is first used, and used again. None where the bytes are no key.
#[derive(Debug, Clone, Default)]
struct MadeKey(OnceLock<Option<ParsedPublicKey>>);

impl MadeKey {
    /// Whether the key with these bytes made the signature. The algorithm is the same at each call.
    fn signed(
        &self,
        algorithm: &'static dyn VerificationAlgorithm,
        key: &[u8],
        bytes: &[u8],
        signature: &[u8],
    ) -> bool {
        self.made(algorithm, key).is_some_and(|made| made.verify_sig(bytes, signature).is_ok())
    }

    fn made(&self, algorithm: &'static dyn VerificationAlgorithm, key: &[u8]) -> Option<&ParsedPublicKey> {
        self.0.get_or_init(|| ParsedPublicKey::new(algorithm, key).ok()).as_ref()
    }
}

impl IssuerFacts {
    pub(crate) fn of(certificate: &Certificate<'_>) -> Result<Self, X509Error> {
        let algorithm = certificate.key.vendor_algorithm().ok_or(X509Error::PublicKey)?;
        let made = certificate.made_key.made(algorithm.verification(), certificate.key.bytes());
        made.ok_or(X509Error::PublicKey)?;
        Ok(Self {
            subject: certificate.subject.to_vec(),
            common_name: certificate.common_name.clone(),
            window: certificate.window,
            serial: Serial::of(certificate.serial)?,
            key: certificate.key.bytes().to_vec(),
            key_digest: certificate.key_digest(),
            algorithm,
            x509_key: certificate.made_key.clone(),
            fixed_key: MadeKey::default(),
        })
    }

    /// That `now` lies in its validity.
    pub(crate) fn require_valid_at(&self, now: UnixTime) -> Result<(), X509Error> {
        if self.window.holds_at(now) {
            return Ok(());
        }
        Err(X509Error::Validity { subject: self.common_name.clone(), window: self.window, now })
    }

    /// Whether it signed these bytes with ECDSA on P-256: r and s, big-endian.
    pub(crate) fn signed_fixed(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        self.algorithm == SignatureAlgorithm::EcdsaSha256
            && self.fixed_key.signed(&ECDSA_P256_SHA256_FIXED, &self.key, bytes, signature)
    }
}

/// Something signed in the X.509 way: a certificate or a CRL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed<'a> {
    /// The bytes that are signed, as received.
    pub(crate) tbs: &'a [u8],
    algorithm: SignatureAlgorithm,
    algorithm_bytes: &'a [u8],
    signature: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SignatureAlgorithm {
    EcdsaSha256,
    EcdsaSha384,
    PssSha384,
    RsaSha256,
    RsaSha384,
}

impl SignatureAlgorithm {
    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::EcdsaSha256 => &ECDSA_P256_SHA256_ASN1,
            Self::EcdsaSha384 => &ECDSA_P384_SHA384_ASN1,
            Self::PssSha384 => &RSA_PSS_2048_8192_SHA384,
            Self::RsaSha256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::RsaSha384 => &RSA_PKCS1_2048_8192_SHA384,
        }
    }

    /// Whether a key of this kind makes such signatures.
    const fn is_of(self, key: PublicKey<'_>) -> bool {
        match self {
            Self::EcdsaSha256 => matches!(key, PublicKey::P256(_)),
            Self::EcdsaSha384 => matches!(key, PublicKey::P384(_)),
            Self::PssSha384 | Self::RsaSha256 | Self::RsaSha384 => matches!(key, PublicKey::Rsa(_)),
        }
    }
}

/// Which chains are read: algorithms and critical extensions that the others do not use stay refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Profile {
    /// Intel's and AMD's.
    Vendor,
    /// Those of TPM keys (TCG EK Credential Profile; Google's).
    Tpm,
}

impl Profile {
    fn algorithm(self, identifier: &[u8]) -> Option<SignatureAlgorithm> {
        match (self, identifier) {
            (_, ECDSA_SHA256) => Some(SignatureAlgorithm::EcdsaSha256),
            (Self::Vendor, pss) if PSS_SHA384.contains(&pss) => Some(SignatureAlgorithm::PssSha384),
            (Self::Tpm, ECDSA_SHA384) => Some(SignatureAlgorithm::EcdsaSha384),
            (Self::Tpm, RSA_SHA256) => Some(SignatureAlgorithm::RsaSha256),
            (Self::Tpm, RSA_SHA384) => Some(SignatureAlgorithm::RsaSha384),
            _ => None,
        }
    }

    const fn critical_extensions(self) -> &'static [ObjectIdentifier] {
        match self {
            Self::Vendor => &[BASIC_CONSTRAINTS, KEY_USAGE],
            // The alternative name says which TPM it is, the extended usage that it is one: neither widens anything.
            Self::Tpm => &[BASIC_CONSTRAINTS, KEY_USAGE, SUBJECT_ALTERNATIVE_NAME, EXTENDED_KEY_USAGE],
        }
    }
}

/// A certificate taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Certificate<'a> {
    pub(crate) der: &'a [u8],
    signed: Signed<'a>,
    pub(crate) serial: &'a [u8],
    pub(crate) issuer: &'a [u8],
    pub(crate) subject: &'a [u8],
    pub(crate) common_name: String,
    pub(crate) window: Window,
    key_digest: Sha256,
    pub(crate) key: PublicKey<'a>,
    made_key: MadeKey,
    pub(crate) extensions: Extensions<'a>,
}

/// Extensions by identifier, each once.
#[derive(Debug, Clone)]
pub(crate) struct Extensions<'a>(Vec<(ObjectIdentifier, &'a [u8])>);

impl<'a> Extensions<'a> {
    /// Content of the extension's OCTET STRING.
    pub(crate) fn get(&self, oid: &ObjectIdentifier) -> Option<&'a [u8]> {
        self.0.iter().find(|(known, _)| known == oid).map(|(_, value)| *value)
    }

    /// Reads a SEQUENCE OF Extension; refuses critical ones that are not in `known`.
    pub(crate) fn read(
        bytes: Option<Tlv<'a>>,
        known: &[ObjectIdentifier],
        part: &'static str,
    ) -> Result<Self, X509Error> {
        let mut read: Vec<(ObjectIdentifier, &[u8])> = Vec::new();
        let Some(explicit) = bytes else { return Ok(Self(read)) };
        let mut extensions = Fields::of_sequence(explicit.value, part)?;
        while !extensions.is_finished() {
            // Each is compared with every other one.
            if read.len() >= EXTENSIONS_MAX {
                return Err(X509Error::TooManyExtensions);
            }
            let (oid, value) = next_extension(&mut extensions, known, part)?;
            if read.iter().any(|(other, _)| *other == oid) {
                return Err(X509Error::RepeatedExtension { found: oid });
            }
            read.push((oid, value));
        }
        Ok(Self(read))
    }
}

/// The next Extension; refuses a critical one that is not in `known`.
pub(crate) fn next_extension<'a>(
    extensions: &mut Fields<'a>,
    known: &[ObjectIdentifier],
    part: &'static str,
) -> Result<(ObjectIdentifier, &'a [u8]), X509Error> {
    let mut extension = extensions.sequence(part)?;
    let oid = extension.tagged(Tag::ObjectIdentifier, part)?;
    let oid = ObjectIdentifier::from_bytes(oid.value).map_err(|_| Asn1Error { part })?;
    let critical = match extension.optional(Tag::Boolean, part)? {
        None => false,
        Some(flag) if flag.value == [0xff] => true,
        Some(_) => return Err(Asn1Error { part }.into()),
    };
    let value = extension.tagged(Tag::OctetString, part)?.value;
    extension.end(part)?;
    if critical && !known.contains(&oid) {
        return Err(X509Error::CriticalExtension { found: oid });
    }
    Ok((oid, value))
}

impl<'a> Signed<'a> {
    /// Takes `SEQUENCE { tbs, algorithm, signature }` apart.
    pub(crate) fn read(der: &'a [u8], part: &'static str) -> Result<Self, X509Error> {
        Self::read_of(der, part, Profile::Vendor)
    }

    fn read_of(der: &'a [u8], part: &'static str, profile: Profile) -> Result<Self, X509Error> {
        let mut fields = Fields::of_sequence(der, part)?;
        let tbs = fields.tagged(Tag::Sequence, part)?.whole;
        let algorithm_bytes = fields.tagged(Tag::Sequence, part)?.whole;
        let signature = bit_string(&fields.next(part)?, part)?;
        fields.end(part)?;
        let algorithm = profile.algorithm(algorithm_bytes).ok_or(X509Error::SignatureAlgorithm)?;
        Ok(Self { tbs, algorithm, algorithm_bytes, signature })
    }

    /// RFC 5280 section 4.1.2.3: the algorithm inside must be the one outside.
    pub(crate) fn require_inner_algorithm(&self, inner: &Tlv<'_>) -> Result<(), X509Error> {
        if inner.whole == self.algorithm_bytes { Ok(()) } else { Err(X509Error::SignatureAlgorithms) }
    }

    fn is_signed_by(&self, issuer: &Certificate<'_>) -> bool {
        let key = issuer.key;
        if !self.algorithm.is_of(key) {
            return false;
        }
        let (algorithm, key_bytes) = (self.algorithm.verification(), key.bytes());
        if key.vendor_algorithm() == Some(self.algorithm) {
            return issuer.made_key.signed(algorithm, key_bytes, self.tbs, self.signature);
        }
        UnparsedPublicKey::new(algorithm, key_bytes).verify(self.tbs, self.signature).is_ok()
    }

    /// That `issuer`'s key signed this, which is about `subject`.
    pub(crate) fn require_signed_by(&self, issuer: &Certificate<'_>, subject: &str) -> Result<(), X509Error> {
        if self.is_signed_by(issuer) {
            return Ok(());
        }
        Err(X509Error::Signature { subject: subject.to_owned(), issuer: issuer.common_name.clone() })
    }
}

impl<'a> Certificate<'a> {
    /// Takes a certificate of Intel's or AMD's chains apart.
    pub(crate) fn read(der: &'a [u8]) -> Result<Self, X509Error> {
        Self::read_of(der, Profile::Vendor)
    }

    /// Takes a certificate of a TPM key's chain apart.
    pub(crate) fn read_tpm(der: &'a [u8]) -> Result<Self, X509Error> {
        Self::read_of(der, Profile::Tpm)
    }

    fn read_of(der: &'a [u8], profile: Profile) -> Result<Self, X509Error> {
        const PART: &str = "certificate";
        if der.len() > CERTIFICATE_BYTES_MAX {
            return Err(X509Error::TooLong { found: der.len() });
        }
        let signed = Signed::read_of(der, PART, profile)?;
        let mut tbs = Fields::of_sequence(signed.tbs, PART)?;
        let mut version = Fields::of(tbs.tagged(context(0), "certificate version")?.value);
        if version.unsigned("certificate version")? != 2 {
            return Err(Asn1Error { part: "certificate version" }.into());
        }
        version.end("certificate version")?;
        let serial = tbs.tagged(Tag::Integer, "certificate serial number")?.value;
        signed.require_inner_algorithm(&tbs.tagged(Tag::Sequence, PART)?)?;
        let issuer = tbs.tagged(Tag::Sequence, "certificate issuer")?.whole;
        let mut validity = tbs.sequence("certificate validity")?;
        let window = Window { from: time(&mut validity)?, until: time(&mut validity)? };
        validity.end("certificate validity")?;
        let subject = tbs.tagged(Tag::Sequence, "certificate subject")?.whole;
        let spki = tbs.tagged(Tag::Sequence, "certificate public key")?.whole;
        let extensions = tbs.optional(context(3), "certificate extensions")?;
        tbs.end(PART)?;
        Ok(Self {
            der,
            signed,
            serial,
            issuer,
            subject,
            common_name: common_name(subject),
            window,
            key_digest: Sha256::of(spki),
            key: public_key(spki)?,
            made_key: MadeKey::default(),
            extensions: Extensions::read(
                extensions,
                profile.critical_extensions(),
                "certificate extensions",
            )?,
        })
    }

    /// SHA-256 over SubjectPublicKeyInfo.
    pub(crate) const fn key_digest(&self) -> Sha256 {
        self.key_digest
    }

    /// That `issuer` issued this certificate, by name and by signature.
    pub(crate) fn require_issued_by(&self, issuer: &Self) -> Result<(), X509Error> {
        if self.issuer != issuer.subject {
            return Err(X509Error::Issuer {
                subject: self.common_name.clone(),
                issuer: issuer.common_name.clone(),
            });
        }
        if known_signatures::is_known(self.der, &issuer.key_digest) {
            return Ok(());
        }
        self.signed.require_signed_by(issuer, &self.common_name)
    }

    /// Whether `issuer`'s key signed it; always checked.
    #[cfg(test)]
    pub(crate) fn is_signature_by(&self, issuer: &Self) -> bool {
        self.signed.is_signed_by(issuer)
    }

    /// That the issuer known by these facts issued this certificate, by name and by signature.
    pub(crate) fn require_issued_by_facts(&self, issuer: &IssuerFacts) -> Result<(), X509Error> {
        let (subject, name) = (&self.common_name, &issuer.common_name);
        if self.issuer != issuer.subject {
            return Err(X509Error::Issuer { subject: subject.clone(), issuer: name.clone() });
        }
        let Signed { tbs, algorithm, signature, .. } = self.signed;
        if algorithm == issuer.algorithm
            && issuer.x509_key.signed(algorithm.verification(), &issuer.key, tbs, signature)
        {
            return Ok(());
        }
        Err(X509Error::Signature { subject: subject.clone(), issuer: name.clone() })
    }

    /// That its common name is one of these.
    pub(crate) fn require_name(&self, expected: &[&str]) -> Result<(), X509Error> {
        if expected.contains(&self.common_name.as_str()) {
            return Ok(());
        }
        Err(X509Error::CommonName { expected: expected.join("` or `"), found: self.common_name.clone() })
    }

    /// That `now` lies in its validity.
    pub(crate) fn require_valid_at(&self, now: UnixTime) -> Result<(), X509Error> {
        if self.window.holds_at(now) {
            return Ok(());
        }
        Err(X509Error::Validity { subject: self.common_name.clone(), window: self.window, now })
    }

    /// That it may issue certificates with at most `issuers_below` issuers between it and a leaf.
    pub(crate) fn require_issuer_role(&self, issuers_below: u8) -> Result<(), X509Error> {
        let refused = || X509Error::Usage { subject: self.common_name.clone(), role: "an issuer" };
        let constraints = self.basic_constraints()?.ok_or_else(refused)?;
        let long_enough = constraints.path_len_constraint.is_none_or(|length| length >= issuers_below);
        let usage = self.key_usage()?.ok_or_else(refused)?;
        if constraints.ca && long_enough && usage.key_cert_sign() { Ok(()) } else { Err(refused()) }
    }

    /// That it may sign CRLs. AMD's roots and Intel's CAs all say so.
    pub(crate) fn require_crl_role(&self) -> Result<(), X509Error> {
        let refused = || X509Error::Usage { subject: self.common_name.clone(), role: "an issuer of CRLs" };
        if self.key_usage()?.ok_or_else(refused)?.crl_sign() { Ok(()) } else { Err(refused()) }
    }

    /// That it is a leaf which may sign data. AMD's leaves have neither extension, which says the same.
    pub(crate) fn require_leaf_role(&self) -> Result<(), X509Error> {
        let issuer = self.basic_constraints()?.is_some_and(|constraints| constraints.ca);
        let signs = self.key_usage()?.is_none_or(|usage| usage.digital_signature() && !usage.key_cert_sign());
        if !issuer && signs {
            return Ok(());
        }
        Err(X509Error::Usage { subject: self.common_name.clone(), role: "a leaf" })
    }

    /// That it is a leaf which says of itself that it may sign data: a key for encryption only is none.
    pub(crate) fn require_signing_leaf(&self) -> Result<(), X509Error> {
        if self.key_usage()?.is_none() {
            let subject = self.common_name.clone();
            return Err(X509Error::Usage { subject, role: "a leaf that signs data" });
        }
        self.require_leaf_role()
    }

    /// Whether its extended key usage names this purpose (RFC 5280 section 4.2.1.12). Without the extension it names none,
    /// and anyExtendedKeyUsage stands for no other.
    pub(crate) fn is_for(&self, purpose: &ObjectIdentifier) -> Result<bool, X509Error> {
        const PART: &str = "extended key usage";
        let Some(content) = self.extensions.get(&EXTENDED_KEY_USAGE) else { return Ok(false) };
        let mut purposes = Fields::of_sequence(content, PART)?;
        let mut named = false;
        while !purposes.is_finished() {
            named |= purposes.tagged(Tag::ObjectIdentifier, PART)?.value == purpose.as_bytes();
        }
        Ok(named)
    }

    fn basic_constraints(&self) -> Result<Option<BasicConstraints>, X509Error> {
        self.extension(&BASIC_CONSTRAINTS, "basic constraints")
    }

    fn key_usage(&self) -> Result<Option<KeyUsage>, X509Error> {
        self.extension(&KEY_USAGE, "key usage")
    }

    fn extension<T: der::DecodeOwned>(
        &self,
        oid: &ObjectIdentifier,
        part: &'static str,
    ) -> Result<Option<T>, X509Error> {
        let Some(content) = self.extensions.get(oid) else { return Ok(None) };
        T::from_der(content).map(Some).map_err(|_| Asn1Error { part }.into())
    }
}

/// The DER of each certificate in PEM text, at most [`CHAIN_CERTIFICATES_MAX`]. Zero bytes at its end are left out.
pub(crate) fn read_pem_chain(pem: &[u8]) -> Result<Vec<Vec<u8>>, X509Error> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let error = |reason| X509Error::Pem { reason };
    if pem.len() > CERTIFICATE_BYTES_MAX.saturating_mul(CHAIN_CERTIFICATES_MAX).saturating_mul(2) {
        return Err(X509Error::TooLong { found: pem.len() });
    }
    let text = std::str::from_utf8(pem).map_err(|_| error("not text"))?;
    let mut rest = text.trim_end_matches('\0').trim_matches(is_space);
    let mut chain = Vec::new();
    while !rest.is_empty() {
        let (body, after) = rest
            .strip_prefix(BEGIN)
            .and_then(|after| after.split_once(END))
            .ok_or_else(|| error("text that is not a certificate"))?;
        if chain.len() >= CHAIN_CERTIFICATES_MAX {
            return Err(error("too many certificates"));
        }
        let mut digits = String::with_capacity(body.len());
        digits.extend(body.split_ascii_whitespace());
        chain.push(STANDARD.decode(digits).map_err(|_| error("not base64"))?);
        rest = after.trim_start_matches(is_space);
    }
    if chain.is_empty() {
        return Err(error("no certificate"));
    }
    Ok(chain)
}

/// White space that may stand around PEM text.
const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// The tag `[number]`, constructed.
pub(crate) const fn context(number: u32) -> Tag {
    Tag::ContextSpecific { constructed: true, number: TagNumber(number) }
}

/// A UTCTime or GeneralizedTime in the forms of RFC 5280 section 4.1.2.5: to the second, in UTC.
pub(crate) fn time(fields: &mut Fields<'_>) -> Result<UnixTime, Asn1Error> {
    const PART: &str = "time";
    let tlv = fields.next(PART)?;
    let read = match tlv.tag {
        Tag::UtcTime => two_digits(tlv.value).and_then(|(year, rest)| {
            let year = u16::from(year);
            Some((if year >= 50 { year.checked_add(1900)? } else { year.checked_add(2000)? }, rest))
        }),
        Tag::GeneralizedTime => two_digits(tlv.value).and_then(|(century, rest)| {
            let (year, rest) = two_digits(rest)?;
            Some((u16::from(century).checked_mul(100)?.checked_add(u16::from(year))?, rest))
        }),
        _ => None,
    };
    read.and_then(|(year, rest)| {
        let (month, rest) = two_digits(rest)?;
        let (day, rest) = two_digits(rest)?;
        let (hour, rest) = two_digits(rest)?;
        let (minute, rest) = two_digits(rest)?;
        let (second, rest) = two_digits(rest)?;
        let date = DateTime::new(year, month, day, hour, minute, second).ok()?;
        (rest == b"Z").then_some(UnixTime(date.unix_duration().as_secs()))
    })
    .ok_or(Asn1Error { part: PART })
}

fn two_digits(text: &[u8]) -> Option<(u8, &[u8])> {
    match text {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..] => {
            let number = (tens & 0xf).checked_mul(10)?.checked_add(ones & 0xf)?;
            Some((number, rest))
        }
        _ => None,
    }
}

/// The common name of a Name, or nothing where it has none, or more than one.
pub(crate) fn common_name(name: &[u8]) -> String {
    read_common_name(name).ok().flatten().unwrap_or_default()
}

fn read_common_name(name: &[u8]) -> Result<Option<String>, Asn1Error> {
    const PART: &str = "name";
    let mut found = None;
    let mut sets = Fields::of_sequence(name, PART)?;
    while !sets.is_finished() {
        let mut attributes = Fields::of(sets.tagged(Tag::Set, PART)?.value);
        while !attributes.is_finished() {
            let mut attribute = attributes.sequence(PART)?;
            let kind = attribute.tagged(Tag::ObjectIdentifier, PART)?.value;
            let text = attribute.next(PART)?;
            attribute.end(PART)?;
            if kind != COMMON_NAME {
                continue;
            }
            let one_byte = matches!(text.tag, Tag::Utf8String | Tag::PrintableString | Tag::Ia5String);
            let text = std::str::from_utf8(text.value).ok().filter(|_| one_byte);
            let text = text.ok_or(Asn1Error { part: PART })?;
            if found.replace(text.to_owned()).is_some() {
                return Err(Asn1Error { part: PART });
            }
        }
    }
    Ok(found)
}

/// The key in a SubjectPublicKeyInfo (RFC 5280 section 4.1).
pub(crate) fn public_key(spki: &[u8]) -> Result<PublicKey<'_>, X509Error> {
    const PART: &str = "public key";
    let mut fields = Fields::of_sequence(spki, PART)?;
    let algorithm = fields.tagged(Tag::Sequence, PART)?.whole;
    let key = bit_string(&fields.next(PART)?, PART)?;
    fields.end(PART)?;
    match (algorithm, key) {
        (KEY_P256, [4, xy @ ..]) if xy.len() == 64 => Ok(PublicKey::P256(key)),
        (KEY_P384, [4, xy @ ..]) if xy.len() == 96 => Ok(PublicKey::P384(key)),
        (KEY_RSA, _) => Ok(PublicKey::Rsa(key)),
        _ => Err(X509Error::PublicKey),
    }
}

#[cfg(test)]
#[path = "x509_tests.rs"]
mod tests;
