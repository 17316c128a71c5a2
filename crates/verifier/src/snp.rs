//! Verification of SEV-SNP reports: from bytes to facts under a root, then the policy's expectations of them.

mod chain;
mod expectations;
mod report;
#[cfg(test)]
mod vector_tests;
mod vek;

pub use vek::SnpProduct;

pub(crate) use expectations::{claim_all, require_expectations};
pub(crate) use report::verify;
pub(crate) use vek::{TcbVersion, VekExtensions};
