//! What AMD certified of one chip: the extensions of its VCEK or VLEK certificate.
//!
//! Layout: AMD Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification (57230), table 8,
//! and the layouts of TCB_VERSION in the SNP firmware ABI specification (56860).

use std::fmt;

use casemate_evidence::snp::Cpuid;
use der::asn1::ObjectIdentifier;

use crate::asn1::Fields;
use crate::roots::VendorRoot;
use crate::x509::{Certificate, X509Error};

const STRUCT_VERSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.1");
const PRODUCT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.2");
const SPL_BOOTLOADER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.1");
const SPL_TEE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.2");
const SPL_SNP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.3");
const SPL_MICROCODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.8");
const SPL_FMC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.9");
const HWID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4");
const CSP_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.5");

/// A processor product with a root key of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnpProduct {
    /// Zen 3 servers.
    Milan,
    /// Zen 4 servers; Bergamo and Siena count as Genoa.
    Genoa,
    /// Zen 5 servers.
    Turin,
}

impl SnpProduct {
    /// AMD's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// The product of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Milan, Self::Genoa, Self::Turin].into_iter().find(|product| product.name() == name)
    }

    pub(crate) const fn root(self) -> VendorRoot {
        match self {
            Self::Milan => VendorRoot::AmdMilan,
            Self::Genoa => VendorRoot::AmdGenoa,
            Self::Turin => VendorRoot::AmdTurin,
        }
    }

    /// The product with this processor, by family and model as CPUID gives them.
    pub(crate) const fn from_cpuid(cpuid: Cpuid) -> Option<Self> {
        match (cpuid.family, cpuid.model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x11) => Some(Self::Turin),
            _ => None,
        }
    }
}

impl fmt::Display for SnpProduct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Security versions of a platform, each by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TcbVersion {
    /// Turin only; zero elsewhere.
    pub(crate) fmc: u8,
    pub(crate) bootloader: u8,
    pub(crate) tee: u8,
    pub(crate) snp: u8,
    pub(crate) microcode: u8,
}

impl TcbVersion {
    /// From the bytes of a report; none where reserved bytes are set.
    pub(crate) const fn read(bytes: [u8; 8], product: SnpProduct) -> Option<Self> {
        match (product, bytes) {
            (SnpProduct::Milan | SnpProduct::Genoa, [bootloader, tee, 0, 0, 0, 0, snp, microcode]) => {
                Some(Self { fmc: 0, bootloader, tee, snp, microcode })
            }
            (SnpProduct::Turin, [fmc, bootloader, tee, snp, 0, 0, 0, microcode]) => {
                Some(Self { fmc, bootloader, tee, snp, microcode })
            }
            _ => None,
        }
    }

    /// Whether each component is at least that of `other`.
    pub(crate) const fn reaches(&self, other: &Self) -> bool {
        self.fmc >= other.fmc
            && self.bootloader >= other.bootloader
            && self.tee >= other.tee
            && self.snp >= other.snp
            && self.microcode >= other.microcode
    }
}

impl fmt::Display for TcbVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fmc, bootloader, tee, snp, microcode } = self;
        write!(f, "fmc {fmc} bootloader {bootloader} tee {tee} snp {snp} microcode {microcode}")
    }
}

/// Which chip or cloud a key belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VekIdentity {
    /// VCEK: the chip's identity, as it stands in a report.
    Chip([u8; 64]),
    /// VLEK: the cloud that the key was lent to.
    Cloud(String),
}

/// The extensions of a VCEK or VLEK certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VekExtensions {
    pub(crate) product: SnpProduct,
    pub(crate) tcb: TcbVersion,
    pub(crate) identity: VekIdentity,
}

impl VekExtensions {
    pub(crate) fn read(certificate: &Certificate<'_>) -> Result<Self, X509Error> {
        let version = unsigned(certificate, &STRUCT_VERSION, "structVersion")?;
        if version > 1 {
            return Err(X509Error::MissingExtension { missing: "structVersion 0 or 1" });
        }
        let product = product(certificate)?;
        let fmc = match product {
            SnpProduct::Turin => spl(certificate, &SPL_FMC, "fmcSPL")?,
            SnpProduct::Milan | SnpProduct::Genoa => 0,
        };
        Ok(Self {
            product,
            tcb: TcbVersion {
                fmc,
                bootloader: spl(certificate, &SPL_BOOTLOADER, "blSPL")?,
                tee: spl(certificate, &SPL_TEE, "teeSPL")?,
                snp: spl(certificate, &SPL_SNP, "snpSPL")?,
                microcode: spl(certificate, &SPL_MICROCODE, "ucodeSPL")?,
            },
            identity: identity(certificate, product)?,
        })
    }
}

/// "Milan-B0", "Genoa", "Turin": the name before a dash.
fn product(certificate: &Certificate<'_>) -> Result<SnpProduct, X509Error> {
    let missing = X509Error::MissingExtension { missing: "productName of a known product" };
    let Some([0x16, length, name @ ..]) = certificate.extensions.get(&PRODUCT_NAME) else {
        return Err(missing);
    };
    if usize::from(*length) != name.len() {
        return Err(missing);
    }
    let name = std::str::from_utf8(name).ok();
    let name = name.map(|name| name.split_once('-').map_or(name, |(product, _stepping)| product));
    name.and_then(SnpProduct::from_name).ok_or(missing)
}

/// A VCEK has a HWID, a VLEK has a CSP_ID, and none has both.
fn identity(certificate: &Certificate<'_>, product: SnpProduct) -> Result<VekIdentity, X509Error> {
    let missing = X509Error::MissingExtension { missing: "HWID (VCEK) or CSP_ID (VLEK)" };
    match (certificate.extensions.get(&HWID), certificate.extensions.get(&CSP_ID)) {
        (Some(hwid), None) => chip(hwid, product).map(VekIdentity::Chip).ok_or(missing),
        (None, Some([0x16, length, name @ ..])) if usize::from(*length) == name.len() => {
            let name = std::str::from_utf8(name).map_err(|_| missing)?;
            Ok(VekIdentity::Cloud(name.to_owned()))
        }
        _ => Err(missing),
    }
}

/// 64 bare bytes, or on Turin 8, which a report pads with zeros. Some old certificates wrap them once more.
fn chip(hwid: &[u8], product: SnpProduct) -> Option<[u8; 64]> {
    let bare = match (product, hwid) {
        (SnpProduct::Turin, [0x04, 0x08, bare @ ..]) if bare.len() == 8 => bare,
        (SnpProduct::Milan | SnpProduct::Genoa, [0x04, 0x40, bare @ ..]) if bare.len() == 64 => bare,
        (SnpProduct::Turin, bare) if bare.len() == 8 => bare,
        (SnpProduct::Milan | SnpProduct::Genoa, bare) if bare.len() == 64 => bare,
        _ => return None,
    };
    let mut chip = [0; 64];
    for (to, from) in chip.iter_mut().zip(bare) {
        *to = *from;
    }
    Some(chip)
}

fn spl(
    certificate: &Certificate<'_>,
    oid: &ObjectIdentifier,
    missing: &'static str,
) -> Result<u8, X509Error> {
    let value = unsigned(certificate, oid, missing)?;
    u8::try_from(value).map_err(|_| X509Error::MissingExtension { missing })
}

fn unsigned(
    certificate: &Certificate<'_>,
    oid: &ObjectIdentifier,
    missing: &'static str,
) -> Result<u64, X509Error> {
    let content = certificate.extensions.get(oid).ok_or(X509Error::MissingExtension { missing })?;
    let mut fields = Fields::of(content);
    let value = fields.unsigned(missing)?;
    fields.end(missing)?;
    Ok(value)
}
