//! Views over hardware evidence: Intel TDX quotes, AMD SEV-SNP reports and their certificate tables.
//!
//! What it is: parsers from bytes to borrowed views that check framing and nothing else; every field of a view is
//! an allegation. What it is not: verification; no cryptography, no policy, no clock.
//! Who trusts it: the verifier, for the exact place and extent of every field and of the signed bytes.

#![no_std]

extern crate alloc;

mod cursor;
pub mod snp;
pub mod snp_table;
pub mod tdx;
pub mod tdx_body;

pub use snp::{SNP_REPORT_BYTES, SigningKey, SnpReport, SnpReportError, parse_snp_report};
pub use snp_table::{CertificateKind, CertificateTableError, TableEntry, parse_certificate_table};
pub use tdx::{QUOTE_BYTES_MAX, TdxQuote, TdxQuoteError, parse_tdx_quote};
pub use tdx_body::{QeReport, TdReport};
