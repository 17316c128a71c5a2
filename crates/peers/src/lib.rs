//! Other verifiers of the same evidence, as oracles of differential tests and as the measure of `cargo xtask bench
//! verify`, with the real evidence that all of them read. Development only: nothing that ships depends on this.
//!
//! Peers: `dcap-qvl` for Intel TDX, `sev` for AMD SEV-SNP.

pub mod amd;
pub mod comparison;
pub mod differences;
pub mod intel;
pub mod ours;
pub mod report;
pub mod snp_cases;
pub mod tdx_cases;
pub mod vectors;
