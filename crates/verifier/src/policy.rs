//! The appraisal policy: what a relying party expects, complete and typed. Nothing in it defaults to "any".

mod file;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use casemate_canon::Sha384;
use casemate_composition::lock::AgentName;
use casemate_protocol::agent_token::Control;

use crate::roots::Roots;
use crate::snp::SnpProduct;
use crate::tdx::TcbStatus;

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

/// Everything a policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyValues {
    /// Roots that platform evidence must lead to.
    pub roots: Roots,
    /// Oldest endorsements of Intel accepted, counted from when they were issued. AMD's CRL has
    /// [`SnpExpectations::crl_age_max_days`].
    pub collateral_age_max_days: u32,
    /// Expectations of a TDX box; none where TDX is not accepted.
    pub tdx: Option<TdxExpectations>,
    /// Expectations of an SEV-SNP box; none where SEV-SNP is not accepted.
    pub snp: Option<SnpExpectations>,
    /// Composition digest.
    pub composition: Sha384,
    /// Agents by name.
    pub agents: BTreeMap<AgentName, AgentExpectations>,
}

/// A measurement of 48 bytes, written as 96 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Measurement(pub [u8; 48]);

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Expectations of a TDX box. Each list names every value that is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdxExpectations {
    /// TCB status; never [`TcbStatus::Revoked`].
    pub tcb_status: Vec<TcbStatus>,
    /// Whether the attribute SEPT_VE_DISABLE must be set.
    pub sept_ve_disable: SeptVeDisable,
    /// Measurement of the initial contents.
    pub mrtd: Vec<Measurement>,
    /// Run-time measurement registers 0, 1 and 2.
    pub rtmr: [Vec<Measurement>; 3],
}

/// Whether a trust domain must have SEPT_VE_DISABLE: without it, the host can raise a virtualization exception at any
/// access of the guest to its own memory, by taking the page away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeptVeDisable {
    /// It must be set.
    Required,
    /// It may be clear, for guests whose kernel handles such an exception safely.
    NotRequired,
}

/// Expectations of an SEV-SNP box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpExpectations {
    /// Launch measurement: every value that is accepted.
    pub measurement: Vec<Measurement>,
    /// Privilege level that asked for the report.
    pub vmpl: u32,
    /// Processors that are accepted.
    pub products: Vec<SnpProduct>,
    /// Lowest security versions, each by itself.
    pub tcb_min: SnpTcbMin,
    /// Whether simultaneous multithreading may be on.
    pub smt: Smt,
    /// Oldest CRL of AMD accepted, counted from when it was issued.
    pub crl_age_max_days: u32,
}

/// Lowest security versions of an SEV-SNP platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnpTcbMin {
    /// Boot loader of the security processor.
    pub bootloader: u8,
    /// Its operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

/// Whether simultaneous multithreading may be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Smt {
    /// It may be.
    Allowed,
    /// The guest policy must forbid it.
    Refused,
}

/// Whether an agent may have been tainted by `exec` or `attach`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taint {
    /// It may.
    Allowed,
    /// It may not.
    Refused,
}

/// Expectations of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentExpectations {
    /// Agent measurement.
    pub measurement: Sha384,
    /// Resource paths that it may receive.
    pub secrets: BTreeSet<String>,
    /// Controls that need not be fully in force: every other one must be `enforced`, without gaps.
    pub allow_weaker: BTreeSet<Control>,
    /// Whether it may be tainted.
    pub taint: Taint,
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

    /// The same policy with the vendors' production roots, whatever the file names.
    #[must_use]
    pub fn with_production_roots(mut self) -> Self {
        self.values.roots = Roots::Production;
        self
    }
}
