//! Appraisal of evidence: pure, offline; time, nonce and expectations are arguments and mandatory.
//!
//! STUB OF THE PUBLIC INTERFACE, being replaced.

use casemate_canon::Sha384;
use casemate_composition::lock::AgentName;
use casemate_protocol::cmw::Evidence;
use casemate_protocol::ear::Ear;
use casemate_protocol::jwk::EcJwk;
use casemate_protocol::{Nonce, Refusal};

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixTime(pub u64);

/// Endorsements as bytes: untrusted until verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collateral {
    /// For TDX.
    pub tdx: Option<TdxCollateral>,
    /// For SEV-SNP.
    pub snp: Option<SnpCollateral>,
}

/// Intel's endorsements for one platform family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdxCollateral {
    /// DER, issued by the root.
    pub root_ca_crl: Vec<u8>,
    /// DER, issued by the PCK CA.
    pub pck_crl: Vec<u8>,
    /// PEM chain of the PCK CRL's issuer.
    pub pck_crl_chain: Vec<u8>,
    /// JSON as served: `{"tcbInfo":{..},"signature":".."}`.
    pub tcb_info: Vec<u8>,
    /// PEM chain.
    pub tcb_info_chain: Vec<u8>,
    /// JSON as served: `{"enclaveIdentity":{..},"signature":".."}`.
    pub qe_identity: Vec<u8>,
    /// PEM chain.
    pub qe_identity_chain: Vec<u8>,
}

/// AMD's endorsements for one product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpCollateral {
    /// ARK, DER.
    pub ark: Vec<u8>,
    /// ASK or ASVK, DER.
    pub ask: Vec<u8>,
    /// CRL issued by the ARK, DER.
    pub crl: Vec<u8>,
    /// VCEK or VLEK, DER, where the evidence does not carry it.
    pub vek: Option<Vec<u8>>,
}

/// Who vouches for a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voucher {
    /// The hardware's signed statement.
    Hardware,
    /// The measured warden, by the box key.
    MeasuredRuntime,
    /// The host said so.
    HostClaimed,
    /// A development root: worth nothing outside development.
    Simulated,
}

/// A statement taken from evidence, and who vouches for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Which part: `platform`, `box`, `agent`.
    pub part: &'static str,
    /// Name.
    pub name: String,
    /// Value as text.
    pub value: String,
    /// Who vouches.
    pub voucher: Voucher,
}

/// How one rule came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleResult {
    /// Whether it holds.
    pub passed: bool,
    /// Rule, expected, found.
    pub detail: Refusal,
}

/// The appraisal policy: a typed `policy.toml`.
#[derive(Debug, Clone)]
pub struct Policy {
    id: Sha384,
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

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        Ok(Self { id: Sha384::of(text.as_bytes()) })
    }

    /// Digest of the file.
    #[must_use]
    pub fn id(&self) -> &Sha384 {
        &self.id
    }

    /// The same policy with the vendors' production roots, whatever the file names.
    #[must_use]
    pub fn with_production_roots(self) -> Self {
        self
    }
}

/// Evidence that passed every rule of a policy.
#[derive(Debug, Clone)]
pub struct Appraisal {
    agent: AgentName,
    agent_key: EcJwk,
    claims: Vec<Claim>,
    rules: Vec<RuleResult>,
    ear: Ear,
}

impl Appraisal {
    /// Which agent it is about.
    #[must_use]
    pub fn agent(&self) -> &AgentName {
        &self.agent
    }
    /// The agent's key, to which secrets are sealed.
    #[must_use]
    pub fn agent_key(&self) -> &EcJwk {
        &self.agent_key
    }
    /// Every claim.
    #[must_use]
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }
    /// Every rule.
    #[must_use]
    pub fn rules(&self) -> &[RuleResult] {
        &self.rules
    }
    /// The result as EAR claims; `iat` is the time of appraisal, `exp` 300 s later.
    #[must_use]
    pub fn ear(&self) -> &Ear {
        &self.ear
    }
    /// Whether the policy gives this agent this resource.
    ///
    /// # Errors
    /// A [`Refusal`] by rule `agent.secrets`.
    pub fn grant(&self, resource: &str) -> Result<Grant, Refusal> {
        Err(Refusal::new("agent.secrets", "", resource))
    }
}

/// Permission to release one resource to one agent key. Releasing consumes it.
#[derive(Debug)]
pub struct Grant {
    resource: String,
    agent: AgentName,
    key: EcJwk,
}

impl Grant {
    /// Resource path, agent and key; ends the grant.
    #[must_use]
    pub fn into_parts(self) -> (String, AgentName, EcJwk) {
        (self.resource, self.agent, self.key)
    }
}

/// Evidence that failed. At least one rule in `rules` did not pass.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Claims as far as they were read.
    pub claims: Vec<Claim>,
    /// Rules as far as they were tried.
    pub rules: Vec<RuleResult>,
}

impl Refused {
    /// The first rule that did not pass.
    #[must_use]
    pub fn first(&self) -> Refusal {
        self.rules
            .iter()
            .find(|rule| !rule.passed)
            .map_or_else(|| Refusal::new("appraisal", "a rule", "none"), |rule| rule.detail.clone())
    }
}

/// Appraises evidence against a policy.
///
/// # Errors
/// [`Refused`], with every rule that was tried.
pub fn appraise(
    _evidence: &Evidence,
    nonce: &Nonce,
    _policy: &Policy,
    _collateral: &Collateral,
    _now: UnixTime,
) -> Result<Appraisal, Refused> {
    Err(Refused {
        claims: vec![],
        rules: vec![RuleResult { passed: false, detail: Refusal::new("stub", "verifier", nonce) }],
    })
}

/// Verifies a compact JWS signed ES256 over the bytes received, with this `typ`, and returns its payload.
///
/// # Errors
/// A [`Refusal`] by rule `jwt.*`.
pub fn verify_jwt(_token: &[u8], typ: &str, _key: &EcJwk) -> Result<Vec<u8>, Refusal> {
    Err(Refusal::new("stub", typ, ""))
}
