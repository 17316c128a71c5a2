//! `dcap-qvl` with `ring`, its fastest configuration.

use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::verify::QuoteVerifier;

/// What it says: the TCB status and its advisories, or why it refuses.
pub type Verdict = Result<(String, Vec<String>), String>;

/// Verifies under Intel's production root, as its users do.
///
/// # Errors
/// Why it refuses.
pub fn verify(quote: &[u8], collateral: &QuoteCollateralV3, now: u64) -> Verdict {
    tell(dcap_qvl::verify::ring::verify(quote, collateral, now))
}

/// Verifies under another root (DER).
///
/// # Errors
/// Why it refuses.
pub fn verify_under(root: &[u8], quote: &[u8], collateral: &QuoteCollateralV3, now: u64) -> Verdict {
    tell(QuoteVerifier::new(root.to_vec()).verify(quote, collateral, now))
}

fn tell<E: std::fmt::Display>(result: Result<dcap_qvl::verify::VerifiedReport, E>) -> Verdict {
    result
        .map(|report| (report.status, report.advisory_ids))
        // With the causes, outermost first.
        .map_err(|error| format!("{error:#}"))
}
