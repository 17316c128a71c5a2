//! Verification of SEV-SNP reports: from bytes to facts under a root, then the policy's expectations of them.

mod claims;
mod endorsed;
mod expectations;
mod product;
mod report;
#[cfg(test)]
mod report_tests;
#[cfg(test)]
mod vector_tests;
mod vek;

pub use product::SnpProduct;

pub(crate) use claims::{claim_all, known};
pub(crate) use endorsed::Endorsed;
pub(crate) use expectations::require_expectations;
pub(crate) use product::TcbVersion;
pub(crate) use report::verify;
pub(crate) use vek::VekExtensions;
