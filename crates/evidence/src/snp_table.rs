//! The certificate table that a host may pass with an SNP report (`auxblob` of configfs-tsm).
//!
//! Layout: AMD GHCB specification (56421), section 4.1.8.1: entries of a GUID (16 bytes in the order they are
//! written), an offset from the start of the table and a length (u32, little-endian), ended by an entry of zeros.

use alloc::vec::Vec;

use crate::cursor::Cursor;

/// Most entries of a table.
pub const TABLE_ENTRIES_MAX: usize = 32;
/// Largest table in bytes.
pub const TABLE_BYTES_MAX: usize = 256 << 10;

/// GUIDs of the GHCB specification, table 6.
const KINDS: [([u8; 16], CertificateKind); 5] = [
    (0x63da_758d_e664_4564_adc5_f4b9_3be8_accd_u128.to_be_bytes(), CertificateKind::Vcek),
    (0xa807_4bc2_a25a_483e_aae6_39c0_45a0_b8a1_u128.to_be_bytes(), CertificateKind::Vlek),
    (0x4ab7_b379_bbac_4fe4_a02f_05ae_f327_c782_u128.to_be_bytes(), CertificateKind::Ask),
    (0xc0b4_06a4_a803_4952_9743_3fb6_014c_d0ae_u128.to_be_bytes(), CertificateKind::Ark),
    (0x92f8_1bc3_5811_4d3d_97ff_d19f_88dc_67ea_u128.to_be_bytes(), CertificateKind::Crl),
];

/// What an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateKind {
    /// AMD root key.
    Ark,
    /// AMD SEV signing key (ASK or ASVK).
    Ask,
    /// Versioned chip endorsement key.
    Vcek,
    /// Versioned loaded endorsement key.
    Vlek,
    /// Certificate revocation list.
    Crl,
    /// A GUID that is not known here.
    Other([u8; 16]),
}

impl CertificateKind {
    /// The GUID as it stands in a table.
    #[must_use]
    pub fn guid(self) -> [u8; 16] {
        if let Self::Other(guid) = self {
            return guid;
        }
        KINDS.iter().find(|(_, kind)| *kind == self).map_or([0; 16], |(guid, _)| *guid)
    }

    fn from_guid(guid: [u8; 16]) -> Self {
        KINDS.iter().find(|(known, _)| *known == guid).map_or(Self::Other(guid), |(_, kind)| *kind)
    }
}

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableEntry<'a> {
    /// What it holds.
    pub kind: CertificateKind,
    /// Its content.
    pub content: &'a [u8],
}

/// Why bytes are not a certificate table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateTableError {
    /// Larger than [`TABLE_BYTES_MAX`].
    #[error("certificate table of {found} bytes, at most {TABLE_BYTES_MAX} allowed")]
    TooLong {
        /// Its size.
        found: usize,
    },
    /// The table ends without an entry of zeros.
    #[error("certificate table ends without its last entry")]
    Unterminated,
    /// More than [`TABLE_ENTRIES_MAX`] entries.
    #[error("certificate table has more than {TABLE_ENTRIES_MAX} entries")]
    TooMany,
    /// Content outside the table.
    #[error("content of certificate table entry {entry} lies outside the table")]
    Outside {
        /// Number of the entry, from 0.
        entry: usize,
    },
    /// Two entries of one known kind.
    #[error("certificate table has entry {entry} of a kind that it had before")]
    Repeated {
        /// Number of the entry, from 0.
        entry: usize,
    },
}

/// The entries of a certificate table; none for an empty one.
///
/// # Errors
/// [`CertificateTableError`].
pub fn parse_certificate_table(bytes: &[u8]) -> Result<Vec<TableEntry<'_>>, CertificateTableError> {
    if bytes.len() > TABLE_BYTES_MAX {
        return Err(CertificateTableError::TooLong { found: bytes.len() });
    }
    let mut entries: Vec<TableEntry<'_>> = Vec::new();
    if bytes.is_empty() {
        return Ok(entries);
    }
    let mut at = Cursor::new(bytes);
    loop {
        let unterminated = |_| CertificateTableError::Unterminated;
        let guid: [u8; 16] = *at.array().map_err(unterminated)?;
        let offset = at.u32().map_err(unterminated)?;
        let length = at.u32().map_err(unterminated)?;
        if guid == [0; 16] {
            return Ok(entries);
        }
        let entry = entries.len();
        if entry >= TABLE_ENTRIES_MAX {
            return Err(CertificateTableError::TooMany);
        }
        let kind = CertificateKind::from_guid(guid);
        if entries.iter().any(|other| other.kind == kind) {
            return Err(CertificateTableError::Repeated { entry });
        }
        let content = content(bytes, offset, length).ok_or(CertificateTableError::Outside { entry })?;
        entries.push(TableEntry { kind, content });
    }
}

fn content(bytes: &[u8], offset: u32, length: u32) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    bytes.get(start..end)
}

#[cfg(test)]
#[path = "snp_table_tests.rs"]
mod tests;
