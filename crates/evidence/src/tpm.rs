//! TPM 2.0 quotes and the signatures over them.
//!
//! Layout: TCG TPM 2.0 Library, Part 2 (Structures): `TPMS_ATTEST` (section 10.12.12), `TPMS_QUOTE_INFO` (10.12.4),
//! `TPMS_CLOCK_INFO` (10.11.1), `TPML_PCR_SELECTION` (10.9.7), `TPMT_SIGNATURE` (11.3.4). Integers are big-endian.
//! A structure must fill its bytes exactly.

use alloc::vec::Vec;

use crate::tpm_wire::Wire;

/// Most selections of a quote: the library's limit for banks (`HASH_COUNT`) is below it everywhere.
pub const TPM_SELECTIONS_MAX: usize = 16;
/// Most bytes of a selection's bitmap: PCR 0 to 31.
pub const TPM_SELECT_BYTES_MAX: usize = 4;
/// Longest digest in bytes (SHA-512).
pub const TPM_DIGEST_BYTES_MAX: usize = 64;
/// Longest `TPM2B_DATA` and `TPM2B_NAME` in bytes: `TPMT_HA` with SHA-512.
pub const TPM_DATA_BYTES_MAX: usize = 66;
/// Longest RSA signature or modulus in bytes (4096 bits).
pub const TPM_RSA_BYTES_MAX: usize = 512;
/// Longest coordinate or signature component on a curve in bytes (P-521).
pub const TPM_ECC_BYTES_MAX: usize = 66;
/// Largest `TPMS_ATTEST` of a quote in bytes: every field at its largest.
pub const TPM_QUOTE_BYTES_MAX: usize = 6 + 68 + 68 + 17 + 8 + 4 + TPM_SELECTIONS_MAX * 7 + 66;
/// Largest `TPMT_SIGNATURE` in bytes.
pub const TPM_SIGNATURE_BYTES_MAX: usize = 6 + TPM_RSA_BYTES_MAX;

/// `TPM_GENERATED_VALUE` (section 6.2): what a restricted key signs only where the TPM itself made the structure.
const TPM_GENERATED: u32 = 0xff54_4347;
/// `TPM_ST_ATTEST_QUOTE` (section 6.9).
const ATTEST_QUOTE: u16 = 0x8018;

/// `TPM_ALG_RSASSA` (section 6.3), likewise below.
pub(crate) const ALG_RSASSA: u16 = 0x0014;
/// `TPM_ALG_RSAPSS`.
pub(crate) const ALG_RSAPSS: u16 = 0x0016;
/// `TPM_ALG_ECDSA`.
pub(crate) const ALG_ECDSA: u16 = 0x0018;

/// Why bytes are not the TPM structure that they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TpmError {
    /// Larger than the structure can be.
    #[error("{part} of {found} bytes, at most {max} allowed")]
    TooLong {
        /// The structure.
        part: &'static str,
        /// Its largest size.
        max: usize,
        /// Its size.
        found: usize,
    },
    /// The bytes end within a field.
    #[error("{part} ends after {found} bytes")]
    Truncated {
        /// The structure.
        part: &'static str,
        /// Its length.
        found: usize,
    },
    /// Bytes after the last field.
    #[error("{part} has {found} bytes after its last field")]
    Trailing {
        /// The structure.
        part: &'static str,
        /// How many.
        found: usize,
    },
    /// A sized field is larger than its type allows.
    #[error("{field} of {found} bytes, at most {max} allowed")]
    Size {
        /// The field.
        field: &'static str,
        /// Its largest size.
        max: usize,
        /// Its size.
        found: usize,
    },
    /// The TPM did not make this structure.
    #[error("magic {found:#010x} is not 0xff544347 (made by a TPM)")]
    Magic {
        /// The magic.
        found: u32,
    },
    /// Another kind of attestation.
    #[error("attestation type {found:#06x} is not 0x8018 (quote)")]
    AttestType {
        /// The type.
        found: u16,
    },
    /// A yes or no that is neither.
    #[error("flag `safe` is {found}, neither 0 nor 1")]
    YesNo {
        /// The value.
        found: u8,
    },
    /// More selections than there can be banks.
    #[error("{found} PCR selections, at most {TPM_SELECTIONS_MAX} allowed")]
    Selections {
        /// How many.
        found: u32,
    },
    /// A bitmap that is empty or covers more than 32 registers.
    #[error("PCR bitmap of {found} bytes is not of 1 to {TPM_SELECT_BYTES_MAX} bytes")]
    SelectBytes {
        /// Its size.
        found: u8,
    },
    /// A hash algorithm that is not known here.
    #[error("hash algorithm {found:#06x} of {field} is not known")]
    HashAlgorithm {
        /// Where it stands.
        field: &'static str,
        /// The algorithm.
        found: u16,
    },
    /// A signature algorithm that is not read here.
    #[error("signature algorithm {found:#06x} is not RSASSA, RSAPSS or ECDSA")]
    SignatureAlgorithm {
        /// The algorithm.
        found: u16,
    },
    /// A key of another type.
    #[error("key type {found:#06x} is not RSA or ECC")]
    KeyType {
        /// The type.
        found: u16,
    },
    /// A curve that is not read here.
    #[error("curve {found:#06x} is not P-256 or P-384")]
    Curve {
        /// The curve.
        found: u16,
    },
    /// A scheme or symmetric algorithm that a signing key does not have.
    #[error("{field} {found:#06x} is not that of an attestation key")]
    Scheme {
        /// Which.
        field: &'static str,
        /// The algorithm.
        found: u16,
    },
    /// A key, coordinate or modulus whose length is not that of its kind.
    #[error("{field} of {found} bytes where {expected} are expected")]
    KeyLength {
        /// Which.
        field: &'static str,
        /// Length of this kind.
        expected: usize,
        /// Length given.
        found: usize,
    },
}

/// A hash algorithm, by `TPM_ALG_ID` (section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TpmHash {
    /// `TPM_ALG_SHA1`.
    Sha1,
    /// `TPM_ALG_SHA256`.
    Sha256,
    /// `TPM_ALG_SHA384`.
    Sha384,
    /// `TPM_ALG_SHA512`.
    Sha512,
    /// `TPM_ALG_SM3_256`.
    Sm3,
    /// `TPM_ALG_SHA3_256`.
    Sha3_256,
    /// `TPM_ALG_SHA3_384`.
    Sha3_384,
    /// `TPM_ALG_SHA3_512`.
    Sha3_512,
}

impl TpmHash {
    /// All that are known here.
    pub const ALL: [Self; 8] = [
        Self::Sha1,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
        Self::Sm3,
        Self::Sha3_256,
        Self::Sha3_384,
        Self::Sha3_512,
    ];

    /// Its `TPM_ALG_ID`.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
            Self::Sm3 => 0x0012,
            Self::Sha3_256 => 0x0027,
            Self::Sha3_384 => 0x0028,
            Self::Sha3_512 => 0x0029,
        }
    }

    /// Length of its digests in bytes.
    #[must_use]
    pub const fn digest_bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sm3 | Self::Sha3_256 => 32,
            Self::Sha384 | Self::Sha3_384 => 48,
            Self::Sha512 | Self::Sha3_512 => 64,
        }
    }

    /// Its name as a PCR bank.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
            Self::Sm3 => "sm3_256",
            Self::Sha3_256 => "sha3_256",
            Self::Sha3_384 => "sha3_384",
            Self::Sha3_512 => "sha3_512",
        }
    }

    /// The algorithm with this `TPM_ALG_ID`.
    #[must_use]
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.id() == id)
    }

    pub(crate) fn read(wire: &mut Wire<'_>, field: &'static str) -> Result<Self, TpmError> {
        let found = wire.u16()?;
        Self::from_id(found).ok_or(TpmError::HashAlgorithm { field, found })
    }
}

/// A quote taken apart. Everything borrows from the bytes given.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TpmQuote<'a> {
    /// The bytes that are signed: all of them.
    pub signed: &'a [u8],
    /// Qualified name of the key that signed, at most [`TPM_DATA_BYTES_MAX`].
    pub qualified_signer: &'a [u8],
    /// What the caller had bound in, at most [`TPM_DATA_BYTES_MAX`].
    pub extra_data: &'a [u8],
    /// The TPM's clock and counters.
    pub clock: TpmClock,
    /// Version of the TPM's firmware, as its vendor counts.
    pub firmware_version: u64,
    /// Which registers were quoted, in this order; at most [`TPM_SELECTIONS_MAX`].
    pub selections: Vec<PcrSelection>,
    /// Digest over their values, with the hash algorithm of the signature.
    pub pcr_digest: &'a [u8],
}

/// `TPMS_CLOCK_INFO`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TpmClock {
    /// Milliseconds that the TPM had power since its last clear.
    pub clock_ms: u64,
    /// Resets since the last clear.
    pub reset_count: u32,
    /// Restarts and resumes since the last reset.
    pub restart_count: u32,
    /// Whether no greater clock value was given before.
    pub safe: TpmClockSafe,
}

/// `safe` of `TPMS_CLOCK_INFO`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TpmClockSafe {
    /// The clock did not go back.
    Yes,
    /// It may have gone back, after an unorderly shutdown.
    No,
}

/// One bank's registers in a quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcrSelection {
    /// The bank.
    pub bank: TpmHash,
    /// Bit n stands for PCR n.
    pub registers: u32,
}

impl PcrSelection {
    /// Indices of the registers, ascending.
    pub fn indices(self) -> impl Iterator<Item = u8> {
        (0..32).filter(move |index| (self.registers >> index) & 1 == 1)
    }
}

/// A signature taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TpmSignature<'a> {
    /// `TPM_ALG_RSASSA`: RSASSA-PKCS1-v1_5.
    RsaSsa {
        /// Hash of the message.
        hash: TpmHash,
        /// Signature, at most [`TPM_RSA_BYTES_MAX`].
        signature: &'a [u8],
    },
    /// `TPM_ALG_RSAPSS`: RSASSA-PSS.
    RsaPss {
        /// Hash of the message and of MGF1.
        hash: TpmHash,
        /// Signature, at most [`TPM_RSA_BYTES_MAX`].
        signature: &'a [u8],
    },
    /// `TPM_ALG_ECDSA`.
    Ecdsa {
        /// Hash of the message.
        hash: TpmHash,
        /// Component r, at most [`TPM_ECC_BYTES_MAX`].
        r: &'a [u8],
        /// Component s, at most [`TPM_ECC_BYTES_MAX`].
        s: &'a [u8],
    },
}

/// Takes a `TPMS_ATTEST` of type quote apart.
///
/// # Errors
/// [`TpmError`].
pub fn parse_tpm_quote(bytes: &[u8]) -> Result<TpmQuote<'_>, TpmError> {
    const PART: &str = "quote";
    require_length(bytes, PART, TPM_QUOTE_BYTES_MAX)?;
    let mut wire = Wire::new(bytes, PART);
    let magic = wire.u32()?;
    if magic != TPM_GENERATED {
        return Err(TpmError::Magic { found: magic });
    }
    let attest_type = wire.u16()?;
    if attest_type != ATTEST_QUOTE {
        return Err(TpmError::AttestType { found: attest_type });
    }
    let qualified_signer = wire.sized("qualifiedSigner", TPM_DATA_BYTES_MAX)?;
    let extra_data = wire.sized("extraData", TPM_DATA_BYTES_MAX)?;
    let clock = TpmClock {
        clock_ms: wire.u64()?,
        reset_count: wire.u32()?,
        restart_count: wire.u32()?,
        safe: match wire.u8()? {
            0 => TpmClockSafe::No,
            1 => TpmClockSafe::Yes,
            found => return Err(TpmError::YesNo { found }),
        },
    };
    let firmware_version = wire.u64()?;
    let selections = read_selections(&mut wire)?;
    let pcr_digest = wire.sized("pcrDigest", TPM_DIGEST_BYTES_MAX)?;
    wire.end()?;
    Ok(TpmQuote {
        signed: bytes,
        qualified_signer,
        extra_data,
        clock,
        firmware_version,
        selections,
        pcr_digest,
    })
}

fn read_selections(wire: &mut Wire<'_>) -> Result<Vec<PcrSelection>, TpmError> {
    let found = wire.u32()?;
    let count = usize::try_from(found).ok().filter(|count| *count <= TPM_SELECTIONS_MAX);
    let count = count.ok_or(TpmError::Selections { found })?;
    let mut selections = Vec::with_capacity(count);
    for _ in 0..count {
        let bank = TpmHash::read(wire, "pcrSelect")?;
        let length = wire.u8()?;
        if !(1..=TPM_SELECT_BYTES_MAX).contains(&usize::from(length)) {
            return Err(TpmError::SelectBytes { found: length });
        }
        let mut bitmap = [0; TPM_SELECT_BYTES_MAX];
        for (to, from) in bitmap.iter_mut().zip(wire.slice(usize::from(length))?) {
            *to = *from;
        }
        selections.push(PcrSelection { bank, registers: u32::from_le_bytes(bitmap) });
    }
    Ok(selections)
}

/// Takes a `TPMT_SIGNATURE` apart.
///
/// # Errors
/// [`TpmError`].
pub fn parse_tpm_signature(bytes: &[u8]) -> Result<TpmSignature<'_>, TpmError> {
    const PART: &str = "signature";
    require_length(bytes, PART, TPM_SIGNATURE_BYTES_MAX)?;
    let mut wire = Wire::new(bytes, PART);
    let algorithm = wire.u16()?;
    if !matches!(algorithm, ALG_RSASSA | ALG_RSAPSS | ALG_ECDSA) {
        return Err(TpmError::SignatureAlgorithm { found: algorithm });
    }
    let hash = TpmHash::read(&mut wire, PART)?;
    let read = match algorithm {
        ALG_RSASSA => {
            TpmSignature::RsaSsa { hash, signature: wire.sized("RSA signature", TPM_RSA_BYTES_MAX)? }
        }
        ALG_RSAPSS => {
            TpmSignature::RsaPss { hash, signature: wire.sized("RSA signature", TPM_RSA_BYTES_MAX)? }
        }
        _ => TpmSignature::Ecdsa {
            hash,
            r: wire.sized("signature component r", TPM_ECC_BYTES_MAX)?,
            s: wire.sized("signature component s", TPM_ECC_BYTES_MAX)?,
        },
    };
    wire.end()?;
    Ok(read)
}

pub(crate) const fn require_length(bytes: &[u8], part: &'static str, max: usize) -> Result<(), TpmError> {
    if bytes.len() > max {
        return Err(TpmError::TooLong { part, max, found: bytes.len() });
    }
    Ok(())
}

#[cfg(test)]
#[path = "tpm_tests.rs"]
mod tests;
