//! The posture of an agent: what the box saw of itself and of what the agent has in common with others, at one moment.
//!
//! What it is: the document whose digest is in the agent token, so that a relying party can ask for what it says. What it
//! is not: a proof. The box looked with its own, measured programs; what it was told by the host is marked so, and what it
//! could not see is `unknown`. Who trusts it: the verifier, as far as it trusts the box's software.

use std::collections::{BTreeMap, BTreeSet};

use casemate_canon::{CanonicalError, Sha384, to_canonical_json};
use casemate_composition::lock::AgentName;
use serde::{Deserialize, Serialize};

/// Tag of the document.
pub const POSTURE_TAG: &str = "casemate posture 1";
/// Largest document in bytes.
pub const POSTURE_BYTES_MAX: usize = 1 << 20;
/// Most characters of what a check observed.
pub const OBSERVED_CHARS_MAX: usize = 200;

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posture {
    /// [`POSTURE_TAG`].
    pub casemate: String,
    /// Whose.
    pub agent: AgentName,
    /// When the checks were made, seconds since 1970, by the box's own clock (host-claimed).
    pub checked: u64,
    /// Each check of `casemate doctor`, by its id.
    pub checks: BTreeMap<String, CheckSeen>,
    /// For each other agent whose compartment stood: own mount points whose file system that agent has, too. An inode that
    /// both can reach lies in one of them; without one there is none.
    pub mounts_with: BTreeMap<AgentName, BTreeSet<String>>,
    /// The last battery of the peer probe from a compartment like that agent's against one like this one.
    pub probes: BTreeMap<AgentName, ProbeSeen>,
}

/// What one check saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckSeen {
    /// What it says.
    pub verdict: Verdict,
    /// Who vouches for it.
    pub vantage: Vantage,
    /// What was there, cut to [`OBSERVED_CHARS_MAX`] characters.
    pub observed: String,
}

/// What one battery came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeSeen {
    /// When it ended, seconds since 1970, by the box's own clock (host-claimed).
    pub ended: u64,
    /// Which attacks it was made of.
    pub battery: Battery,
    /// Attacks that a control stopped, and that worked in the positive control of the same run.
    pub blocked: BTreeSet<String>,
    /// Attacks that had an effect which the composition allows.
    pub allowed: BTreeSet<String>,
    /// Attacks that had an effect which nothing allows.
    pub leaks: BTreeSet<String>,
    /// Attacks of which nothing can be said.
    pub inconclusive: BTreeSet<String>,
}

/// A battery, and between whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeBetween {
    /// Beside whom the attacker was.
    pub attacker: AgentName,
    /// Beside whom the victim was.
    pub victim: AgentName,
    /// What it came to.
    pub seen: ProbeSeen,
}

/// Which attacks a battery is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Battery {
    /// Those that take less than a second each.
    Short,
    /// All.
    Whole,
}

/// What a check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Seen as expected.
    Pass,
    /// Seen, and weaker than it could be.
    Warn,
    /// Seen, and an attack stands open that the check names.
    Fail,
    /// Not seen: absent, unreadable, or not understood.
    Unknown,
    /// It does not concern this machine or this composition.
    NotApplicable,
}

impl Verdict {
    /// Each of them, in the order of a summary.
    pub const ALL: [Self; 5] = [Self::Pass, Self::Warn, Self::Fail, Self::Unknown, Self::NotApplicable];

    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
            Self::NotApplicable => "not-applicable",
        }
    }
}

/// Who vouches for what a check observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vantage {
    /// The guest's own kernel: true as far as that kernel is what was measured.
    GuestObserved,
    /// The host says so, and can say anything.
    HostClaimed,
    /// A field of a hardware report. Its signature is checked by `casemate verify`, not here.
    HardwareSigned,
}

impl Vantage {
    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GuestObserved => "guest-observed",
            Self::HostClaimed => "host-claimed",
            Self::HardwareSigned => "hardware-signed",
        }
    }
}

/// Whether a text can be the id of a check: `D14.smt`.
#[must_use]
pub fn is_check_id(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    !text.is_empty() && text.len() <= 64 && text.chars().all(plain)
}

impl Posture {
    /// RFC 8785 JSON, and its digest.
    ///
    /// # Errors
    /// [`CanonicalError`] where it cannot be written.
    pub fn canonical(&self) -> Result<(Vec<u8>, Sha384), CanonicalError> {
        let json = to_canonical_json(self)?;
        let digest = Sha384::of(&json);
        Ok((json, digest))
    }
}
