//! What AMD certified of one chip or cloud: the extensions of a VCEK or VLEK certificate.
//!
//! Layout: AMD Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification (57230), tables 8 to
//! 11 (VCEK) and the VLEK tables of its later revisions. Every value is compared as the exact DER it must be.

use casemate_evidence::SigningKey;
use der::asn1::ObjectIdentifier;

use super::product::{SnpProduct, TcbVersion};
use crate::asn1::Fields;
use crate::x509::Certificate;

const STRUCT_VERSION: Named = named("1.3.6.1.4.1.3704.1.1", "structVersion");
const PRODUCT_NAME: Named = named("1.3.6.1.4.1.3704.1.2", "productName");
const SPL_BOOTLOADER: Named = named("1.3.6.1.4.1.3704.1.3.1", "blSPL");
const SPL_TEE: Named = named("1.3.6.1.4.1.3704.1.3.2", "teeSPL");
const SPL_SNP: Named = named("1.3.6.1.4.1.3704.1.3.3", "snpSPL");
const SPL_MICROCODE: Named = named("1.3.6.1.4.1.3704.1.3.8", "ucodeSPL");
const SPL_FMC: Named = named("1.3.6.1.4.1.3704.1.3.9", "fmcSPL");
const HWID: Named = named("1.3.6.1.4.1.3704.1.4", "hwID");
const CSP_ID: Named = named("1.3.6.1.4.1.3704.1.5", "cspID");
/// Components of the TCB without a meaning: zero wherever they are given.
const SPL_RESERVED: [Named; 4] = [
    named("1.3.6.1.4.1.3704.1.3.4", "spl4"),
    named("1.3.6.1.4.1.3704.1.3.5", "spl5"),
    named("1.3.6.1.4.1.3704.1.3.6", "spl6"),
    named("1.3.6.1.4.1.3704.1.3.7", "spl7"),
];

/// Longest name of a cloud, in bytes: its DER has a length of one byte.
const CLOUD_BYTES_MAX: usize = 127;

#[derive(Clone, Copy)]
struct Named {
    oid: ObjectIdentifier,
    name: &'static str,
}

const fn named(oid: &'static str, name: &'static str) -> Named {
    Named { oid: ObjectIdentifier::new_unwrap(oid), name }
}

/// Why a certificate is not one of a VCEK or VLEK.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum VekError {
    #[error("extension {extension} is missing")]
    Missing { extension: &'static str },
    #[error("extension {extension} is not the exact DER of {expected}")]
    Encoding { extension: &'static str, expected: &'static str },
    #[error("structVersion {found} where {expected} is expected of {product}")]
    StructVersion { product: SnpProduct, expected: u64, found: u64 },
    #[error("extension {extension} is {found} where 0 is expected")]
    Reserved { extension: &'static str, found: u8 },
    #[error("extension {extension} does not belong to {product}")]
    Foreign { extension: &'static str, product: SnpProduct },
    #[error("both hwID, which makes a VCEK, and cspID, which makes a VLEK")]
    BothIdentities,
}

/// Which chip or cloud a key belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VekIdentity {
    /// VCEK: the chip's identity, as it stands in a report.
    Chip([u8; 64]),
    /// VLEK: the cloud that the key was lent to.
    Cloud(String),
}

impl VekIdentity {
    /// Which kind of key it makes.
    pub(crate) const fn kind(&self) -> SigningKey {
        match self {
            Self::Chip(_) => SigningKey::Vcek,
            Self::Cloud(_) => SigningKey::Vlek,
        }
    }
}

/// The extensions of a VCEK or VLEK certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VekExtensions {
    pub(crate) product: SnpProduct,
    pub(crate) tcb: TcbVersion,
    pub(crate) identity: VekIdentity,
}

impl VekExtensions {
    /// Reads them. Each is looked up by its whole identifier, and read in one way only.
    pub(crate) fn read(certificate: &Certificate<'_>) -> Result<Self, VekError> {
        let product = product(certificate)?;
        let found = unsigned(certificate, &STRUCT_VERSION)?;
        let expected = if product == SnpProduct::Turin { 1 } else { 0 };
        if found != expected {
            return Err(VekError::StructVersion { product, expected, found });
        }
        let fmc = match product {
            SnpProduct::Turin => spl(certificate, &SPL_FMC)?,
            SnpProduct::Milan | SnpProduct::Genoa => {
                if content(certificate, &SPL_FMC).is_ok() {
                    return Err(VekError::Foreign { extension: SPL_FMC.name, product });
                }
                0
            }
        };
        for reserved in &SPL_RESERVED {
            if content(certificate, reserved).is_ok() {
                match spl(certificate, reserved)? {
                    0 => {}
                    found => return Err(VekError::Reserved { extension: reserved.name, found }),
                }
            }
        }
        Ok(Self {
            product,
            tcb: TcbVersion {
                fmc,
                bootloader: spl(certificate, &SPL_BOOTLOADER)?,
                tee: spl(certificate, &SPL_TEE)?,
                snp: spl(certificate, &SPL_SNP)?,
                microcode: spl(certificate, &SPL_MICROCODE)?,
            },
            identity: identity(certificate, product)?,
        })
    }
}

/// "Milan-B0", "Genoa", "Turin": the product, and for some VCEKs a dash and its stepping.
fn product(certificate: &Certificate<'_>) -> Result<SnpProduct, VekError> {
    let error =
        VekError::Encoding { extension: PRODUCT_NAME.name, expected: "an IA5String with a known product" };
    let text = ia5_string(content(certificate, &PRODUCT_NAME)?).ok_or_else(|| error.clone())?;
    let (name, stepping) = text.split_once('-').map_or((text, None), |(name, rest)| (name, Some(rest)));
    let stepping_known = stepping.is_none_or(|stepping| {
        stepping.len() == 2 && stepping.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    });
    SnpProduct::from_name(name).filter(|_| stepping_known).ok_or(error)
}

/// A VCEK has a HWID, a VLEK has a CSP_ID, and none has both.
fn identity(certificate: &Certificate<'_>, product: SnpProduct) -> Result<VekIdentity, VekError> {
    match (content(certificate, &HWID), content(certificate, &CSP_ID)) {
        (Ok(hwid), Err(_)) => chip(hwid, product).map(VekIdentity::Chip).ok_or(VekError::Encoding {
            extension: HWID.name,
            expected: "64 bytes, or 8 on Turin, bare or in one OCTET STRING",
        }),
        (Err(_), Ok(cloud)) => {
            let cloud = ia5_string(cloud).filter(|cloud| !cloud.is_empty());
            cloud.map(|cloud| VekIdentity::Cloud(cloud.to_owned())).ok_or(VekError::Encoding {
                extension: CSP_ID.name,
                expected: "an IA5String of printable characters",
            })
        }
        (Ok(_), Ok(_)) => Err(VekError::BothIdentities),
        (Err(_), Err(_)) => Err(VekError::Missing { extension: "hwID (VCEK) or cspID (VLEK)" }),
    }
}

/// 64 bytes, or on Turin 8, which a report pads with zeros: bare, or as exactly one OCTET STRING, as some
/// certificates have it. The two forms differ in length, so that neither can be read as the other.
fn chip(hwid: &[u8], product: SnpProduct) -> Option<[u8; 64]> {
    let bare = match (product, hwid) {
        (SnpProduct::Turin, [0x04, 0x08, bare @ ..]) if bare.len() == 8 => bare,
        (SnpProduct::Turin, bare) if bare.len() == 8 => bare,
        (SnpProduct::Milan | SnpProduct::Genoa, [0x04, 0x40, bare @ ..]) if bare.len() == 64 => bare,
        (SnpProduct::Milan | SnpProduct::Genoa, bare) if bare.len() == 64 => bare,
        _ => return None,
    };
    let mut chip = [0; 64];
    for (to, from) in chip.iter_mut().zip(bare) {
        *to = *from;
    }
    // A chip without identity would be every masked one.
    (chip != [0; 64]).then_some(chip)
}

/// The text of exactly one IA5String of printable characters, at most [`CLOUD_BYTES_MAX`] of them.
fn ia5_string(der: &[u8]) -> Option<&str> {
    let [0x16, length, text @ ..] = der else { return None };
    let exact = usize::from(*length) == text.len() && text.len() <= CLOUD_BYTES_MAX;
    let printable = text.iter().all(|byte| (0x20..0x7f).contains(byte));
    std::str::from_utf8(text).ok().filter(|_| exact && printable)
}

fn spl(certificate: &Certificate<'_>, extension: &Named) -> Result<u8, VekError> {
    let value = unsigned(certificate, extension)?;
    u8::try_from(value)
        .map_err(|_| VekError::Encoding { extension: extension.name, expected: "an INTEGER from 0 to 255" })
}

fn unsigned(certificate: &Certificate<'_>, extension: &Named) -> Result<u64, VekError> {
    let content = content(certificate, extension)?;
    let read = || {
        let mut fields = Fields::of(content);
        let value = fields.unsigned(extension.name)?;
        fields.end(extension.name).map(|()| value)
    };
    read().map_err(|_| VekError::Encoding { extension: extension.name, expected: "a non-negative INTEGER" })
}

fn content<'a>(certificate: &Certificate<'a>, extension: &Named) -> Result<&'a [u8], VekError> {
    certificate.extensions.get(&extension.oid).ok_or(VekError::Missing { extension: extension.name })
}
