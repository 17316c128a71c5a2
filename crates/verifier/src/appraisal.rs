//! The verdict: an appraisal with its result and its grants, or a refusal with its rules.

use std::collections::BTreeSet;

use casemate_composition::lock::AgentName;
use casemate_protocol::agent_token::AgentToken;
use casemate_protocol::ear::Ear;
use casemate_protocol::jwk::EcJwk;
use casemate_protocol::{Nonce, Refusal};

use crate::boot_log::BootLogRow;
use crate::ear::{self, Challenge, Frame};
use crate::ledger::{Claim, RuleResult};
use crate::platform::Standing;
use crate::policy::Policy;
use crate::record::Record;
use crate::time::UnixTime;

/// What an appraisal is made of when no rule failed.
pub(crate) struct Passed {
    pub(crate) token: AgentToken,
    pub(crate) secrets: BTreeSet<String>,
    pub(crate) standing: Standing,
}

/// Evidence that passed every rule of a policy.
#[derive(Debug, Clone)]
pub struct Appraisal {
    agent: AgentName,
    agent_key: EcJwk,
    secrets: BTreeSet<String>,
    claims: Vec<Claim>,
    rules: Vec<RuleResult>,
    ear: Ear,
}

impl Appraisal {
    pub(crate) fn new(
        passed: Passed,
        claims: Vec<Claim>,
        rules: Vec<RuleResult>,
        policy: &Policy,
        nonce: &Nonce,
        now: UnixTime,
    ) -> Self {
        let frame = Frame { policy, challenge: Challenge::Nonce(nonce), now };
        let ear = ear::build(&passed, &claims, frame);
        Self {
            agent: passed.token.sub,
            agent_key: passed.token.cnf.jwk,
            secrets: passed.secrets,
            claims,
            rules,
            ear,
        }
    }

    /// Which agent it is about.
    #[must_use]
    pub const fn agent(&self) -> &AgentName {
        &self.agent
    }

    /// The agent's key, to which secrets are sealed.
    #[must_use]
    pub const fn agent_key(&self) -> &EcJwk {
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
    pub const fn ear(&self) -> &Ear {
        &self.ear
    }

    /// Whether the policy gives this agent this resource.
    ///
    /// # Errors
    /// A [`Refusal`] by rule `agent.secrets`.
    pub fn grant(&self, resource: &str) -> Result<Grant, Refusal> {
        if self.secrets.contains(resource) {
            return Ok(Grant {
                resource: resource.to_owned(),
                agent: self.agent.clone(),
                key: self.agent_key.clone(),
            });
        }
        let names: Vec<&str> = self.secrets.iter().map(String::as_str).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(" or ") };
        Err(Refusal::new("agent.secrets", format_args!("a secret of {}: {names}", self.agent), resource))
    }
}

/// A hardware statement that passed every rule of a policy. It grants nothing: no agent stands behind it.
#[derive(Debug, Clone)]
pub struct PlatformAppraisal {
    pub(crate) standing: Standing,
    pub(crate) record: Record,
    pub(crate) boot_log: Vec<BootLogRow>,
}

impl PlatformAppraisal {
    /// Every claim, made into texts at each call.
    #[must_use]
    pub fn claims(&self) -> Vec<Claim> {
        self.record.claims()
    }

    /// Every rule, made into texts at each call.
    #[must_use]
    pub fn rules(&self) -> Vec<RuleResult> {
        self.record.rules()
    }

    /// The event log of firmware, one row an event; empty where there was none.
    #[must_use]
    pub fn boot_log(&self) -> &[BootLogRow] {
        &self.boot_log
    }

    /// The result as EAR claims, for the policy, challenge and time of the appraisal.
    #[must_use]
    pub fn ear(&self, policy: &Policy, challenge: Challenge<'_>, now: UnixTime) -> Ear {
        ear::build_platform(self.standing, &self.claims(), Frame { policy, challenge, now })
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
    /// The event log of firmware, one row an event; empty where there was none, or nothing was verified that it could
    /// be compared with.
    pub boot_log: Vec<BootLogRow>,
    /// What stands behind the platform's statement by itself.
    pub(crate) standing: Standing,
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
