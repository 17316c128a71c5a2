//! Azure's HCL report: what the paravisor of a confidential VM leaves in its vTPM (NV index 0x01400001).
//!
//! Layout: Microsoft's OpenHCL, `IGVM_ATTEST` request of version 1: a header (32 bytes), a hardware report area (1184
//! bytes: an SNP report, or a TDREPORT and zeros), request data (20 bytes) and variable data in JSON. Integers are
//! little-endian. Nothing but the hardware report is signed; its report data holds a digest of the variable data.
//! The TDREPORT: Intel TDX Module ABI specification (348551), `TDREPORT_STRUCT`.

use crate::cursor::{Cursor, Truncated};
use crate::snp::SNP_REPORT_BYTES;

/// Bytes of the header.
pub const HCL_HEADER_BYTES: usize = 32;
/// Bytes of the hardware report area.
pub const HCL_HARDWARE_BYTES: usize = SNP_REPORT_BYTES;
/// Bytes of the request data before the variable data.
pub const HCL_REQUEST_BYTES: usize = 20;
/// Most bytes of variable data. Real ones have about 1200.
pub const HCL_VARIABLE_BYTES_MAX: usize = 16 << 10;
/// Largest report in bytes. The NV index has 2600.
pub const HCL_BYTES_MAX: usize = 32 << 10;
/// Bytes of a `TDREPORT_STRUCT`.
pub const TDREPORT_BYTES: usize = 1024;

/// `HCLA`.
const SIGNATURE: &[u8; 4] = b"HCLA";
/// Kind of request that a report in the vTPM is (`AK_CERT`).
const REQUEST_AK_CERTIFICATE: u32 = 2;
/// Version of the request data.
const REQUEST_VERSION: u32 = 1;
/// Report type SNP.
const REPORT_SNP: u32 = 2;
/// Report type TDX.
const REPORT_TDX: u32 = 4;
/// Hash of the variable data: SHA-256.
const HASH_SHA256: u32 = 1;

/// Why bytes are not an HCL report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HclError {
    /// Larger than [`HCL_BYTES_MAX`].
    #[error("HCL report of {found} bytes, at most {HCL_BYTES_MAX} allowed")]
    TooLong {
        /// Its size.
        found: usize,
    },
    /// The bytes end within a part.
    #[error("{part} of the HCL report ends after {found} bytes")]
    Truncated {
        /// The part.
        part: &'static str,
        /// Length of the report.
        found: usize,
    },
    /// Another signature.
    #[error("HCL report does not begin with HCLA")]
    Signature,
    /// A number that must be another one.
    #[error("{field} of the HCL report is {found}, not {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: u32,
    },
    /// A length that disagrees with what it covers.
    #[error("{field} of the HCL report is {found} where {expected} are covered")]
    Length {
        /// The field.
        field: &'static str,
        /// Bytes covered.
        expected: usize,
        /// Bytes said.
        found: u32,
    },
    /// More variable data than [`HCL_VARIABLE_BYTES_MAX`].
    #[error("variable data of {found} bytes, at most {HCL_VARIABLE_BYTES_MAX} allowed")]
    VariableData {
        /// Bytes said.
        found: u32,
    },
    /// Reserved bytes or padding that are not zero.
    #[error("{part} of the HCL report is not zero")]
    NotZero {
        /// Which.
        part: &'static str,
    },
    /// The hardware report is not a TDREPORT of a trust domain.
    #[error("TDREPORT is of type {found:#04x}, not 0x81 (TDX)")]
    TdReportType {
        /// The type.
        found: u8,
    },
}

impl From<Truncated> for HclError {
    fn from(Truncated { found }: Truncated) -> Self {
        Self::Truncated { part: "hardware report", found }
    }
}

/// A report taken apart. Everything borrows from the bytes given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HclReport<'a> {
    /// Version of the header: 1 or 2.
    pub version: u32,
    /// The hardware's report.
    pub hardware: HclHardware<'a>,
    /// JSON, whose SHA-256 is in the hardware's report data.
    pub variable_data: &'a [u8],
}

/// The hardware's report in an HCL report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HclHardware<'a> {
    /// An SNP report, not taken apart.
    Snp(&'a [u8; SNP_REPORT_BYTES]),
    /// A TDREPORT. It is authenticated to its own machine only: without a quote beside it, it says nothing.
    Tdx(TdReportStruct<'a>),
}

/// The fields of a `TDREPORT_STRUCT` that a quote holds as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TdReportStruct<'a> {
    /// What the caller had bound in.
    pub report_data: &'a [u8; 64],
    /// Security versions of the TDX module and platform.
    pub tee_tcb_svn: &'a [u8; 16],
    /// Measurement of the TDX module.
    pub mr_seam: &'a [u8; 48],
    /// Signer of the TDX module.
    pub mr_signer_seam: &'a [u8; 48],
    /// Attributes of the TDX module.
    pub seam_attributes: &'a [u8; 8],
    /// Attributes of the trust domain.
    pub td_attributes: &'a [u8; 8],
    /// Extended features that it may use.
    pub xfam: &'a [u8; 8],
    /// Measurement of its initial contents.
    pub mr_td: &'a [u8; 48],
    /// Identity of its configuration.
    pub mr_config_id: &'a [u8; 48],
    /// Identity of its owner.
    pub mr_owner: &'a [u8; 48],
    /// Identity of its owner's configuration.
    pub mr_owner_config: &'a [u8; 48],
    /// Run-time measurement registers.
    pub rtmr: [&'a [u8; 48]; 4],
}

/// Takes an HCL report apart. Zero padding after it, which the NV index has, is left out.
///
/// # Errors
/// [`HclError`].
pub fn parse_hcl_report(bytes: &[u8]) -> Result<HclReport<'_>, HclError> {
    if bytes.len() > HCL_BYTES_MAX {
        return Err(HclError::TooLong { found: bytes.len() });
    }
    let mut at = Cursor::new(bytes);
    let header = at.array::<HCL_HEADER_BYTES>().map_err(within("header"))?;
    let header = read_header(header)?;
    let hardware = at.array::<HCL_HARDWARE_BYTES>().map_err(within("hardware report"))?;
    let request = at.array::<HCL_REQUEST_BYTES>().map_err(within("request data"))?;
    let request = read_request(request)?;
    let variable_data = at.slice(request.variable_bytes).map_err(within("variable data"))?;
    let covered = [HCL_HEADER_BYTES, HCL_HARDWARE_BYTES, HCL_REQUEST_BYTES, variable_data.len()]
        .into_iter()
        .fold(0_usize, usize::saturating_add);
    require_length("report size", covered, header.report_bytes)?;
    if at.rest().iter().any(|byte| *byte != 0) {
        return Err(HclError::NotZero { part: "padding" });
    }
    let hardware = match request.report_type {
        REPORT_SNP => HclHardware::Snp(hardware),
        _ => HclHardware::Tdx(read_tdreport(hardware)?),
    };
    Ok(HclReport { version: header.version, hardware, variable_data })
}

struct Header {
    version: u32,
    report_bytes: u32,
}

fn read_header(bytes: &[u8; HCL_HEADER_BYTES]) -> Result<Header, HclError> {
    let mut at = Cursor::new(bytes);
    if at.array::<4>()? != SIGNATURE {
        return Err(HclError::Signature);
    }
    let version = at.u32()?;
    require("version", "1 or 2", version, matches!(version, 1 | 2))?;
    let report_bytes = at.u32()?;
    let kind = at.u32()?;
    require("request type", "2 (AK certificate)", kind, kind == REQUEST_AK_CERTIFICATE)?;
    let status = at.u32()?;
    require("status", "0", status, status == 0)?;
    require_zero("reserved part of the header", at.rest())?;
    Ok(Header { version, report_bytes })
}

struct Request {
    report_type: u32,
    variable_bytes: usize,
}

fn read_request(bytes: &[u8; HCL_REQUEST_BYTES]) -> Result<Request, HclError> {
    let mut at = Cursor::new(bytes);
    let data_bytes = at.u32()?;
    let version = at.u32()?;
    require("version of the request data", "1", version, version == REQUEST_VERSION)?;
    let report_type = at.u32()?;
    let known = matches!(report_type, REPORT_SNP | REPORT_TDX);
    require("report type", "2 (SNP) or 4 (TDX)", report_type, known)?;
    let hash = at.u32()?;
    require("hash of the variable data", "1 (SHA-256)", hash, hash == HASH_SHA256)?;
    let found = at.u32()?;
    let variable_bytes = usize::try_from(found).ok().filter(|length| *length <= HCL_VARIABLE_BYTES_MAX);
    let variable_bytes = variable_bytes.ok_or(HclError::VariableData { found })?;
    require_length("size of the request data", HCL_REQUEST_BYTES.saturating_add(variable_bytes), data_bytes)?;
    Ok(Request { report_type, variable_bytes })
}

/// `REPORTMACSTRUCT` (256 bytes), `TEE_TCB_INFO` (239), reserved (17), `TDINFO_STRUCT` (512), then zeros.
fn read_tdreport(area: &[u8; HCL_HARDWARE_BYTES]) -> Result<TdReportStruct<'_>, HclError> {
    const TYPE_TDX: u8 = 0x81;
    let mut at = Cursor::new(area);
    let report_type = at.u8()?;
    if report_type != TYPE_TDX {
        return Err(HclError::TdReportType { found: report_type });
    }
    // Subtype, version, reserved, CPUSVN, and the digests of the two parts below.
    at.array::<127>()?;
    let report_data = at.array()?;
    // Reserved, and the code that only its own machine can check.
    at.array::<64>()?;
    // Which of the fields below are valid.
    at.array::<8>()?;
    let tee_tcb_svn = at.array()?;
    let mr_seam = at.array()?;
    let mr_signer_seam = at.array()?;
    let seam_attributes = at.array()?;
    at.array::<128>()?;
    let read = TdReportStruct {
        report_data,
        tee_tcb_svn,
        mr_seam,
        mr_signer_seam,
        seam_attributes,
        td_attributes: at.array()?,
        xfam: at.array()?,
        mr_td: at.array()?,
        mr_config_id: at.array()?,
        mr_owner: at.array()?,
        mr_owner_config: at.array()?,
        rtmr: [at.array()?, at.array()?, at.array()?, at.array()?],
    };
    // SERVTD_HASH, which a version 4 quote does not hold, and reserved bytes.
    at.array::<112>()?;
    require_zero("space after the TDREPORT", at.rest())?;
    Ok(read)
}

const fn require(
    field: &'static str,
    expected: &'static str,
    found: u32,
    holds: bool,
) -> Result<(), HclError> {
    if holds { Ok(()) } else { Err(HclError::Field { field, expected, found }) }
}

fn require_length(field: &'static str, expected: usize, found: u32) -> Result<(), HclError> {
    if usize::try_from(found) == Ok(expected) {
        return Ok(());
    }
    Err(HclError::Length { field, expected, found })
}

fn require_zero(part: &'static str, bytes: &[u8]) -> Result<(), HclError> {
    if bytes.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(HclError::NotZero { part }) }
}

const fn within(part: &'static str) -> impl Fn(Truncated) -> HclError {
    move |Truncated { found }| HclError::Truncated { part, found }
}

#[cfg(test)]
#[path = "hcl_tests.rs"]
mod tests;
