//! TDX quotes, versions 4 and 5, as the kernel's configfs-tsm or a quote service gives them.
//!
//! Layout: Intel TDX DCAP quoting library API, "Quote Format" (version 4 and 5). Everything after the body is
//! framing that no signature covers, so every length must agree exactly. Only attestation keys of type 2 (ECDSA
//! with P-256) and the nested certification data of types 6 and 5 (a PCK chain in PEM) are read.

use crate::cursor::{Cursor, Truncated};
use crate::tdx_body::{
    QE_REPORT_BYTES, QeReport, TD_REPORT_10_BYTES, TD_REPORT_15_BYTES, TD_REPORT_15_EX_BYTES, TdReport,
};

/// Largest quote in bytes; configfs-tsm gives at most 32 KiB, real quotes have 5 to 8 KB.
pub const QUOTE_BYTES_MAX: usize = 32 << 10;
/// `att_key_type` of ECDSA-256 with P-256.
const ATT_KEY_TYPE_ECDSA_P256: u16 = 2;
/// `tee_type` of TDX.
const TEE_TYPE_TDX: u32 = 0x81;
/// Vendor of Intel's quoting enclaves.
const QE_VENDOR_INTEL: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
/// Certification data that nests the quoting enclave's report.
const CERTIFICATION_QE_REPORT: u16 = 6;
/// Certification data that is a PCK certificate chain in PEM.
const CERTIFICATION_PCK_CHAIN: u16 = 5;
const HEADER_BYTES: usize = 48;

/// Why bytes are not a TDX quote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TdxQuoteError {
    /// Larger than [`QUOTE_BYTES_MAX`].
    #[error("quote of {found} bytes, at most {QUOTE_BYTES_MAX} allowed")]
    TooLong {
        /// Its size.
        found: usize,
    },
    /// The bytes end within a field.
    #[error("{part} ends after {found} bytes")]
    Truncated {
        /// The part that ends too early.
        part: &'static str,
        /// Its length.
        found: usize,
    },
    /// Neither version 4 nor version 5.
    #[error("quote version {found} is not 4 or 5")]
    Version {
        /// The version.
        found: u16,
    },
    /// Another kind of attestation key.
    #[error("attestation key type {found} is not 2 (ECDSA with P-256)")]
    AttestationKeyType {
        /// The type.
        found: u16,
    },
    /// Not a quote of a trust domain.
    #[error("tee type {found:#x} is not 0x81 (TDX)")]
    TeeType {
        /// The type.
        found: u32,
    },
    /// Not Intel's quoting enclave.
    #[error("quoting enclave's vendor is not Intel")]
    QeVendor,
    /// A version 5 body of a type that is not read here.
    #[error("body type {found} is not 2 (TD report 1.0), 3 (TD report 1.5) or 4 (TD report 1.5 extended)")]
    BodyType {
        /// The type.
        found: u16,
    },
    /// A version 5 body whose size is not that of its type.
    #[error("body of {found} bytes where its type has {expected}")]
    BodySize {
        /// Size of this type.
        expected: usize,
        /// Size given.
        found: u32,
    },
    /// Certification data of another type.
    #[error("certification data of type {found} where {expected} is expected")]
    CertificationType {
        /// The type expected in this place.
        expected: u16,
        /// The type.
        found: u16,
    },
    /// Bytes after the last field of a part.
    #[error("{part} has {found} bytes after its last field")]
    Trailing {
        /// The part.
        part: &'static str,
        /// How many.
        found: usize,
    },
}

/// A quote taken apart. Everything borrows from the bytes given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TdxQuote<'a> {
    /// 4 or 5.
    pub version: u16,
    /// The quote without padding.
    pub trimmed: &'a [u8],
    /// The bytes that the attestation key signed: header and body.
    pub signed: &'a [u8],
    /// User data of the header; by convention the first 16 bytes identify the platform.
    pub user_data: &'a [u8; 20],
    /// The TD report.
    pub body: TdReport<'a>,
    /// Signature over `signed`: r and s, big-endian.
    pub signature: &'a [u8; 64],
    /// The attestation key: x and y, big-endian.
    pub attestation_key: &'a [u8; 64],
    /// The report that binds the attestation key.
    pub qe_report: QeReport<'a>,
    /// Signature over the QE report by the PCK key: r and s, big-endian.
    pub qe_report_signature: &'a [u8; 64],
    /// Data that the quoting enclave hashed with the attestation key.
    pub qe_auth_data: &'a [u8],
    /// PCK certificate chain: PEM, leaf first, sometimes with one zero byte at its end.
    pub pck_chain: &'a [u8],
}

/// Takes a quote apart. Zero padding after it, which clouds add, is left out; any other byte there is refused.
///
/// # Errors
/// [`TdxQuoteError`].
pub fn parse_tdx_quote(bytes: &[u8]) -> Result<TdxQuote<'_>, TdxQuoteError> {
    if bytes.len() > QUOTE_BYTES_MAX {
        return Err(TdxQuoteError::TooLong { found: bytes.len() });
    }
    let mut at = Cursor::new(bytes);
    let header = read_header(&mut at).map_err(in_part("quote header"))??;
    let body = match header.version {
        4 => at.slice(TD_REPORT_10_BYTES).map_err(in_part("quote body"))?,
        _ => read_v5_body(&mut at)?,
    };
    let signed = consumed(bytes, &at);
    let body = TdReport::read(body).map_err(in_part("quote body"))?;
    let signature_data = at.sized_u32().map_err(in_part("quote signature data"))?;
    let trimmed = consumed(bytes, &at);
    if at.rest().iter().any(|byte| *byte != 0) {
        return Err(TdxQuoteError::Trailing { part: "quote", found: at.rest().len() });
    }
    let signature_data = read_signature_data(signature_data)?;
    Ok(TdxQuote {
        version: header.version,
        trimmed,
        signed,
        user_data: header.user_data,
        body,
        signature: signature_data.signature,
        attestation_key: signature_data.attestation_key,
        qe_report: signature_data.qe_report,
        qe_report_signature: signature_data.qe_report_signature,
        qe_auth_data: signature_data.qe_auth_data,
        pck_chain: signature_data.pck_chain,
    })
}

struct Header<'a> {
    version: u16,
    user_data: &'a [u8; 20],
}

/// The outer error is a truncation, the inner one anything else.
fn read_header<'a>(at: &mut Cursor<'a>) -> Result<Result<Header<'a>, TdxQuoteError>, Truncated> {
    let mut header = Cursor::new(at.array::<HEADER_BYTES>()?);
    let version = header.u16()?;
    let key_type = header.u16()?;
    let tee_type = header.u32()?;
    header.array::<4>()?;
    let vendor: &[u8; 16] = header.array()?;
    let user_data = header.array()?;
    Ok(if !matches!(version, 4 | 5) {
        Err(TdxQuoteError::Version { found: version })
    } else if key_type != ATT_KEY_TYPE_ECDSA_P256 {
        Err(TdxQuoteError::AttestationKeyType { found: key_type })
    } else if tee_type != TEE_TYPE_TDX {
        Err(TdxQuoteError::TeeType { found: tee_type })
    } else if *vendor != QE_VENDOR_INTEL {
        Err(TdxQuoteError::QeVendor)
    } else {
        Ok(Header { version, user_data })
    })
}

fn read_v5_body<'a>(at: &mut Cursor<'a>) -> Result<&'a [u8], TdxQuoteError> {
    let part = in_part("quote body");
    let found_type = at.u16().map_err(&part)?;
    let found_size = at.u32().map_err(&part)?;
    let expected = match found_type {
        2 => TD_REPORT_10_BYTES,
        3 => TD_REPORT_15_BYTES,
        4 => TD_REPORT_15_EX_BYTES,
        found => return Err(TdxQuoteError::BodyType { found }),
    };
    if usize::try_from(found_size) != Ok(expected) {
        return Err(TdxQuoteError::BodySize { expected, found: found_size });
    }
    at.slice(expected).map_err(part)
}

struct SignatureData<'a> {
    signature: &'a [u8; 64],
    attestation_key: &'a [u8; 64],
    qe_report: QeReport<'a>,
    qe_report_signature: &'a [u8; 64],
    qe_auth_data: &'a [u8],
    pck_chain: &'a [u8],
}

fn read_signature_data(bytes: &[u8]) -> Result<SignatureData<'_>, TdxQuoteError> {
    let outer = "quote signature data";
    let mut at = Cursor::new(bytes);
    let signature = at.array().map_err(in_part(outer))?;
    let attestation_key = at.array().map_err(in_part(outer))?;
    let certification = read_certification(&mut at, outer, CERTIFICATION_QE_REPORT)?;

    let inner = "QE certification data";
    let mut at = Cursor::new(certification);
    let qe_report = at.array::<QE_REPORT_BYTES>().map_err(in_part(inner))?;
    let qe_report = QeReport::read(qe_report).map_err(in_part("QE report"))?;
    let qe_report_signature = at.array().map_err(in_part(inner))?;
    let auth_length = usize::from(at.u16().map_err(in_part(inner))?);
    let qe_auth_data = at.slice(auth_length).map_err(in_part("QE authentication data"))?;
    let pck_chain = read_certification(&mut at, inner, CERTIFICATION_PCK_CHAIN)?;
    Ok(SignatureData { signature, attestation_key, qe_report, qe_report_signature, qe_auth_data, pck_chain })
}

/// Certification data of type `expected` that must be the last field of `part`.
fn read_certification<'a>(
    at: &mut Cursor<'a>,
    part: &'static str,
    expected: u16,
) -> Result<&'a [u8], TdxQuoteError> {
    let found = at.u16().map_err(in_part(part))?;
    if found != expected {
        return Err(TdxQuoteError::CertificationType { expected, found });
    }
    let data = at.sized_u32().map_err(in_part(part))?;
    match at.rest().len() {
        0 => Ok(data),
        found => Err(TdxQuoteError::Trailing { part, found }),
    }
}

fn consumed<'a>(bytes: &'a [u8], at: &Cursor<'a>) -> &'a [u8] {
    let length = bytes.len().saturating_sub(at.rest().len());
    bytes.get(..length).unwrap_or(bytes)
}

fn in_part(part: &'static str) -> impl Fn(Truncated) -> TdxQuoteError {
    move |Truncated { found }| TdxQuoteError::Truncated { part, found }
}

#[cfg(test)]
#[path = "tdx_tests.rs"]
mod tests;
