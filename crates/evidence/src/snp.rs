//! SEV-SNP attestation reports, versions 2 to 5 (and later ones as far as their fields are known here).
//!
//! Layout: AMD SEV Secure Nested Paging Firmware ABI Specification (56860), table "ATTESTATION_REPORT Structure":
//! 1184 bytes, integers little-endian. The signature covers bytes 0 to 0x29F as received.

use crate::cursor::{Cursor, Truncated};
use crate::snp_bits::{GuestPolicy, PlatformInfo};

/// Bytes of a report.
pub const SNP_REPORT_BYTES: usize = 1184;
/// Bytes of a report that its signature covers.
pub const SNP_SIGNED_BYTES: usize = 0x2a0;
/// `SIGNATURE_ALGO` of ECDSA P-384 with SHA-384.
const SIGNATURE_ECDSA_P384_SHA384: u32 = 1;
/// KEY_INFO bits (56860, table "ATTESTATION_REPORT Structure"); bits 4:2 are SIGNING_KEY, the rest is reserved.
const KEY_INFO_AUTHOR_KEY_EN: u32 = 1;
const KEY_INFO_MASK_CHIP_KEY: u32 = 1 << 1;
/// Reserved bytes of KEY_INFO: its first byte is checked bit by bit.
const KEY_INFO_RESERVED: u8 = 0xe0;
/// First version with the CPUID fields.
pub const SNP_VERSION_CPUID: u32 = 3;
/// First version with the mitigation vectors.
pub const SNP_VERSION_MITIGATIONS: u32 = 5;
/// Last version whose layout is known here.
pub const SNP_VERSION_KNOWN_MAX: u32 = 5;

/// Why bytes are not an SNP report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnpReportError {
    /// Not [`SNP_REPORT_BYTES`] long.
    #[error("report of {found} bytes is not {SNP_REPORT_BYTES} bytes long")]
    Length {
        /// Its length.
        found: usize,
    },
    /// Older than version 2.
    #[error("report version {found} is older than 2")]
    Version {
        /// The version.
        found: u32,
    },
    /// Another signature algorithm.
    #[error("signature algorithm {found} is not 1 (ECDSA P-384 with SHA-384)")]
    SignatureAlgorithm {
        /// The algorithm.
        found: u32,
    },
    /// A signature component is not below 2^384.
    #[error("signature component {component} has more than 384 bits")]
    SignatureRange {
        /// `r` or `s`.
        component: &'static str,
    },
    /// Bytes after the signature that are not zero. They are not signed.
    #[error("reserved bytes of the signature are not zero")]
    SignatureReserved,
    /// A signing key number without a meaning.
    #[error("signing key {found} is not 0 (VCEK), 1 (VLEK) or 7 (none)")]
    SigningKey {
        /// The number.
        found: u32,
    },
}

impl From<Truncated> for SnpReportError {
    fn from(Truncated { found }: Truncated) -> Self {
        Self::Length { found }
    }
}

/// Which kind of key signed a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningKey {
    /// Versioned chip endorsement key.
    Vcek,
    /// Versioned loaded endorsement key.
    Vlek,
    /// The report is not signed.
    None,
}

/// A report taken apart. Everything borrows from the bytes given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnpReport<'a> {
    /// The bytes that are signed.
    pub signed: &'a [u8],
    /// Version of the structure.
    pub version: u32,
    /// Security version that the guest's owner gave.
    pub guest_svn: u32,
    /// Guest policy.
    pub policy: GuestPolicy,
    /// Family that the guest's owner gave.
    pub family_id: &'a [u8; 16],
    /// Image that the guest's owner gave.
    pub image_id: &'a [u8; 16],
    /// Privilege level that asked for the report.
    pub vmpl: u32,
    /// Platform's current security versions, as bytes.
    pub current_tcb: &'a [u8; 8],
    /// Platform information bits.
    pub platform_info: PlatformInfo,
    /// Whether the digest of an author key is in `author_key_digest` (AUTHOR_KEY_EN).
    pub author_key_enabled: bool,
    /// Whether the host's configuration keeps the VCEK from signing reports (MASK_CHIP_KEY).
    pub chip_key_masked: bool,
    /// Which kind of key signed, from `key_info`.
    pub signing_key: SigningKey,
    /// What the guest had bound in.
    pub report_data: &'a [u8; 64],
    /// Launch measurement.
    pub measurement: &'a [u8; 48],
    /// What the host had bound in at launch.
    pub host_data: &'a [u8; 32],
    /// Digest of the key that signed the identity block.
    pub id_key_digest: &'a [u8; 48],
    /// Digest of the key that certified the identity key.
    pub author_key_digest: &'a [u8; 48],
    /// Identity of the guest.
    pub report_id: &'a [u8; 32],
    /// Identity of its migration agent.
    pub report_id_ma: &'a [u8; 32],
    /// Security versions that the signing key was derived from, as bytes.
    pub reported_tcb: &'a [u8; 8],
    /// CPUID family, model and stepping; from version 3 on.
    pub cpuid: Option<Cpuid>,
    /// Identity of the chip, or zeros where it is masked.
    pub chip_id: &'a [u8; 64],
    /// Security versions below which the platform cannot go back, as bytes.
    pub committed_tcb: &'a [u8; 8],
    /// Current firmware version: build, minor, major.
    pub current_version: [u8; 3],
    /// Committed firmware version: build, minor, major.
    pub committed_version: [u8; 3],
    /// Security versions at launch, as bytes.
    pub launch_tcb: &'a [u8; 8],
    /// Mitigation vectors; from version 5 on.
    pub mitigations: Option<Mitigations>,
    /// Offset of the first byte that is reserved in this version and not zero. Versions above
    /// [`SNP_VERSION_KNOWN_MAX`] may have given such bytes a meaning, so that nothing is said of theirs.
    pub reserved_set: Option<usize>,
    /// Signature: r and s, big-endian, 48 bytes each.
    pub signature: [u8; 96],
}

/// Firmware mitigations, one bit each (56860, table "ATTESTATION_REPORT Structure", from version 5 on).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mitigations {
    /// Verified at launch (LAUNCH_MIT_VECTOR).
    pub launch: u64,
    /// In force now (CURRENT_MIT_VECTOR).
    pub current: u64,
}

/// CPUID leaf 1 values of the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpuid {
    /// Family.
    pub family: u8,
    /// Model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

/// Takes a report apart.
///
/// # Errors
/// [`SnpReportError`].
pub fn parse_snp_report(bytes: &[u8]) -> Result<SnpReport<'_>, SnpReportError> {
    let exact: &[u8; SNP_REPORT_BYTES] =
        bytes.try_into().map_err(|_| SnpReportError::Length { found: bytes.len() })?;
    let mut at = Cursor::new(exact);
    let signed = Cursor::new(exact).slice(SNP_SIGNED_BYTES)?;
    let version = at.u32()?;
    if version < 2 {
        return Err(SnpReportError::Version { found: version });
    }
    let guest_svn = at.u32()?;
    let policy = at.u64()?;
    let family_id = at.array()?;
    let image_id = at.array()?;
    let vmpl = at.u32()?;
    let algorithm = at.u32()?;
    if algorithm != SIGNATURE_ECDSA_P384_SHA384 {
        return Err(SnpReportError::SignatureAlgorithm { found: algorithm });
    }
    let current_tcb = at.array()?;
    let platform_info = at.u64()?;
    let key_info = at.u32()?;
    at.array::<4>()?;
    let report_data = at.array()?;
    let measurement = at.array()?;
    let host_data = at.array()?;
    let id_key_digest = at.array()?;
    let author_key_digest = at.array()?;
    let report_id = at.array()?;
    let report_id_ma = at.array()?;
    let reported_tcb = at.array()?;
    let cpuid = Cpuid { family: at.u8()?, model: at.u8()?, stepping: at.u8()? };
    at.array::<21>()?;
    let chip_id = at.array()?;
    let committed_tcb = at.array()?;
    let current_version = *at.array::<3>()?;
    at.array::<1>()?;
    let committed_version = *at.array::<3>()?;
    at.array::<1>()?;
    let launch_tcb = at.array()?;
    let mitigations = Mitigations { launch: at.u64()?, current: at.u64()? };
    Ok(SnpReport {
        signed,
        version,
        guest_svn,
        policy: GuestPolicy(policy),
        family_id,
        image_id,
        vmpl,
        current_tcb,
        platform_info: PlatformInfo(platform_info),
        author_key_enabled: key_info & KEY_INFO_AUTHOR_KEY_EN != 0,
        chip_key_masked: key_info & KEY_INFO_MASK_CHIP_KEY != 0,
        signing_key: signing_key(key_info)?,
        report_data,
        measurement,
        host_data,
        id_key_digest,
        author_key_digest,
        report_id,
        report_id_ma,
        reported_tcb,
        cpuid: (version >= SNP_VERSION_CPUID).then_some(cpuid),
        chip_id,
        committed_tcb,
        current_version,
        committed_version,
        launch_tcb,
        mitigations: (version >= SNP_VERSION_MITIGATIONS).then_some(mitigations),
        reserved_set: first_reserved_set(exact, version),
        signature: read_signature(exact)?,
    })
}

/// Reserved bytes of the signed part, by version: between KEY_INFO and REPORT_DATA, before CHIP_ID, after both firmware
/// versions, and before the signature.
fn first_reserved_set(report: &[u8; SNP_REPORT_BYTES], version: u32) -> Option<usize> {
    if version > SNP_VERSION_KNOWN_MAX {
        return None;
    }
    let processor = if version >= SNP_VERSION_CPUID { 0x18b } else { 0x188 };
    let tail = if version >= SNP_VERSION_MITIGATIONS { 0x208 } else { 0x1f8 };
    let reserved = [0x49..0x50, processor..0x1a0, 0x1eb..0x1ec, 0x1ef..0x1f0, tail..SNP_SIGNED_BYTES];
    let is_set = |offset: &usize| report.get(*offset).is_some_and(|byte| *byte != 0);
    let key_info = report.get(0x48).filter(|byte| **byte & KEY_INFO_RESERVED != 0).map(|_| 0x48);
    key_info.or_else(|| reserved.into_iter().flatten().find(is_set))
}

fn signing_key(key_info: u32) -> Result<SigningKey, SnpReportError> {
    match (key_info >> 2) & 7 {
        0 => Ok(SigningKey::Vcek),
        1 => Ok(SigningKey::Vlek),
        7 => Ok(SigningKey::None),
        found => Err(SnpReportError::SigningKey { found }),
    }
}

/// r and s are little-endian in 72 bytes each, of which 48 may be used; the rest of the field is reserved.
fn read_signature(report: &[u8; SNP_REPORT_BYTES]) -> Result<[u8; 96], SnpReportError> {
    let mut at = Cursor::new(report);
    at.slice(SNP_SIGNED_BYTES)?;
    let mut signature = [0; 96];
    for (component, slot) in ["r", "s"].into_iter().zip(signature.chunks_exact_mut(48)) {
        let value: &[u8; 48] = at.array()?;
        if *at.array::<24>()? != [0; 24] {
            return Err(SnpReportError::SignatureRange { component });
        }
        for (to, from) in slot.iter_mut().zip(value.iter().rev()) {
            *to = *from;
        }
    }
    if at.rest().iter().any(|byte| *byte != 0) {
        return Err(SnpReportError::SignatureReserved);
    }
    Ok(signature)
}

#[cfg(test)]
#[path = "snp_tests.rs"]
mod tests;
