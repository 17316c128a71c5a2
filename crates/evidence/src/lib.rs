//! Views over hardware evidence: Intel TDX quotes, AMD SEV-SNP reports and their certificate tables, TPM quotes and
//! keys, Azure's HCL reports, and the event logs of firmware.
//!
//! What it is: parsers from bytes to borrowed views that check framing and nothing else; every field of a view is
//! an allegation. What it is not: verification; no cryptography, no policy, no clock.
//! Who trusts it: the verifier, for the exact place and extent of every field and of the signed bytes.

#![no_std]

extern crate alloc;

pub mod boot_event;
pub mod boot_log;
mod cursor;
pub mod hcl;
pub mod snp;
pub mod snp_bits;
pub mod snp_table;
pub mod tdx;
pub mod tdx_body;
pub mod tpm;
pub mod tpm_public;
mod tpm_wire;

pub use boot_event::EventType;
pub use boot_log::{
    BOOT_LOG_BYTES_MAX, BOOT_LOG_EVENTS_MAX, Bank, BootEvent, BootLog, BootLogError, LogFormat,
    parse_boot_log,
};
pub use hcl::{HclError, HclHardware, HclReport, TdReportStruct, parse_hcl_report};
pub use snp::{SNP_REPORT_BYTES, SigningKey, SnpReport, SnpReportError, parse_snp_report};
pub use snp_bits::{GuestPolicy, PlatformBit, PlatformInfo, PolicyBit};
pub use snp_table::{CertificateKind, CertificateTableError, TableEntry, parse_certificate_table};
pub use tdx::{QUOTE_BYTES_MAX, TdxQuote, TdxQuoteError, parse_tdx_quote};
pub use tdx_body::{QeReport, TdReport};
pub use tpm::{TpmError, TpmHash, TpmQuote, TpmSignature, parse_tpm_quote, parse_tpm_signature};
pub use tpm_public::{TpmPublic, parse_tpm_public, parse_tpm2b_public};
