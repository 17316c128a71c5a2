//! Endorsements with their signatures checked once, for as many appraisals as are wanted.

use crate::collateral::Collateral;
use crate::{snp, tdx};

/// Verified endorsements, and what was verified with them since.
///
/// Making one checks every signature among the endorsements. It does not fail: what does not hold is kept with its
/// reason, and refuses each appraisal that needs it. An appraisal looks at every date again, at its own time, and
/// remembers platforms and attestation keys that it verified (at most 1024 of each). Newer endorsements come in a new
/// handle; nothing that was remembered outlives the one it was verified with. A clone is for another thread.
#[derive(Clone)]
pub struct VerifiedCollateral {
    pub(crate) tdx: Option<tdx::Endorsed>,
    pub(crate) snp: Option<snp::Endorsed>,
}

impl VerifiedCollateral {
    /// Checks every signature.
    #[must_use]
    pub fn verify(collateral: &Collateral) -> Self {
        Self {
            tdx: collateral.tdx.as_ref().map(tdx::Endorsed::verify),
            snp: collateral.snp.as_ref().map(snp::Endorsed::verify),
        }
    }
}
