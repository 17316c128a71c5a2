//! Verification of TDX quotes: from bytes to facts under a root, then the policy's expectations of them.
//!
//! The steps are those of Intel's quote verification library, with what it leaves out: both ends of every
//! validity, all 64 bytes of the QE's report data, PCEID, and roll-back by age of collateral.

mod attestation_key;
mod attributes;
mod chains;
mod check;
mod endorsed;
mod expectations;
mod pck;
mod pck_chain;
mod quote;
mod tcb;
mod tcb_info;
#[cfg(test)]
pub(crate) mod vector_tests;

pub use attributes::TdAttributes;
pub use tcb_info::TcbStatus;

pub(crate) use chains::{require_root_key, require_self_signed};
pub(crate) use endorsed::Endorsed;
pub(crate) use expectations::{claim_all, require_expectations, weakness};
pub(crate) use pck::SgxExtension;
pub(crate) use quote::verify;
