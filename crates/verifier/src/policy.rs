//! The appraisal policy: what a relying party expects, complete and typed. Nothing in it defaults to "any".

mod agents;
mod boot_log;
mod file;
mod place;
mod posture;
mod snp;
mod tdx;
mod text;
mod vtpm;

use std::fmt;

use casemate_canon::{Sha256, Sha384};

pub use agents::{AddedEdges, AgentExpectations, CompositionExpectations, Taint};
pub use boot_log::{BootLogExpectations, BootLogPresence, DataMismatch, ExpectedEvents};
pub use posture::{Apart, PostureExpectations};
pub use snp::{
    Smt, SnpAllowance, SnpAllowances, SnpChip, SnpExpectations, SnpFirmware, SnpRequirements, SnpTcbMin,
};
pub use tdx::{PlatformProperty, SeptVeDisable, TdxExpectations};
pub(crate) use vtpm::{AZURE_SNP, AZURE_TDX, GOOGLE, OWNER};
pub use vtpm::{GoogleExpectations, KeyUsage, OwnerExpectations, PcrBank, VtpmExpectations};

use crate::roots::Roots;

/// Largest policy file in bytes.
pub const POLICY_BYTES_MAX: usize = 1 << 20;

/// The appraisal policy: a typed `policy.toml`.
#[derive(Debug, Clone)]
pub struct Policy {
    id: Sha384,
    values: PolicyValues,
}

/// What is wrong with a policy file: line, column, what, and what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {what}")]
pub struct PolicyError {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub todo: String,
}

/// An age that would weaken a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{found} days are more than the {expected} of the policy")]
pub struct WiderAge {
    /// What was asked for, in days.
    pub found: u32,
    /// The most that the policy accepts, in days.
    pub expected: u32,
}

/// Everything a policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyValues {
    /// Roots that platform evidence must lead to.
    pub roots: Roots,
    /// Oldest endorsements of Intel accepted, counted from when they were issued. AMD's CRL has
    /// [`SnpExpectations::crl_age_max_days`].
    pub collateral_age_max_days: u32,
    /// Who may have signed the file of endorsements, by SHA-256 of the key's SubjectPublicKeyInfo; empty where anybody may
    /// have made it. An appraisal gets endorsements and no file: whoever reads the file asks this.
    pub bundle_signers: Vec<Sha256>,
    /// Expectations of a TDX box; none where TDX is not accepted.
    pub tdx: Option<TdxExpectations>,
    /// Expectations of an SEV-SNP box; none where SEV-SNP is not accepted.
    pub snp: Option<SnpExpectations>,
    /// Expectations of a TPM; none where no TPM's statement is accepted.
    pub vtpm: Option<VtpmExpectations>,
    /// Expectations of the event log of firmware; none where none is asked for.
    pub boot_log: Option<BootLogExpectations>,
    /// Composition and agents; none in a policy that appraises platforms alone.
    pub composition: Option<CompositionExpectations>,
}

/// A measurement of 48 bytes, written as 96 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Measurement(pub [u8; 48]);

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&crate::hex_text::Hex(self.0), f)
    }
}

impl fmt::Debug for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PolicyValues {
    /// Names of the kinds of statement that are accepted.
    pub(crate) fn tee_names(&self) -> Vec<&'static str> {
        let tee = [("tdx", self.tdx.is_some()), ("snp", self.snp.is_some()), ("vtpm", self.vtpm.is_some())];
        tee.into_iter().filter(|(_, accepted)| *accepted).map(|(name, _)| name).collect()
    }
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        Ok(Self { id: Sha384::of(text.as_bytes()), values: file::parse(text)? })
    }

    /// The file for these values, with short comments. [`Policy::parse`] reads the same values from it.
    #[must_use]
    pub fn render(values: &PolicyValues) -> String {
        text::render(values)
    }

    /// Digest of the file.
    #[must_use]
    pub const fn id(&self) -> &Sha384 {
        &self.id
    }

    /// What it says.
    #[must_use]
    pub const fn values(&self) -> &PolicyValues {
        &self.values
    }

    /// The same policy, asking for endorsements of at most this many days: Intel's, and AMD's CRL.
    ///
    /// # Errors
    /// [`WiderAge`] where the policy asks for younger ones already.
    pub fn with_collateral_age_max(mut self, days: u32) -> Result<Self, WiderAge> {
        let values = &mut self.values;
        let azure = values.vtpm.as_ref();
        let of_intel = values.tdx.is_some() || azure.is_some_and(|vtpm| vtpm.azure_tdx.is_some());
        let intel = of_intel.then_some(values.collateral_age_max_days);
        let of_azure = azure.and_then(|vtpm| vtpm.azure_snp.as_ref());
        let amd = values.snp.iter().chain(of_azure).map(|snp| snp.crl_age_max_days);
        if let Some(expected) = intel.into_iter().chain(amd).min().filter(|max| days > *max) {
            return Err(WiderAge { found: days, expected });
        }
        values.collateral_age_max_days = values.collateral_age_max_days.min(days);
        let of_azure = values.vtpm.as_mut().and_then(|vtpm| vtpm.azure_snp.as_mut());
        for snp in values.snp.iter_mut().chain(of_azure) {
            snp.crl_age_max_days = snp.crl_age_max_days.min(days);
        }
        Ok(self)
    }

    /// The same policy with the vendors' production roots, whatever the file names.
    #[must_use]
    pub fn with_production_roots(mut self) -> Self {
        self.values.roots = Roots::Production;
        self
    }
}
