//! Verification of TPM quotes: whose key signed, over which registers, and what they hold.
//!
//! A quote is worth what speaks for its key. Azure's is in the report data of an SNP report or TDX quote, which is
//! verified as any other; Google's has a certificate; of a plain TPM the owner names the key or its issuer.

mod appraise;
#[cfg(test)]
mod appraise_tests;
mod azure;
#[cfg(test)]
mod boot_log_tests;
mod certificates;
mod expectations;
mod key;
#[cfg(test)]
mod key_tests;
mod quote;
#[cfg(test)]
mod synthetic;
#[cfg(test)]
mod vector_tests;

pub(crate) use appraise::appraise;
