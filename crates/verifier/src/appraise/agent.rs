//! The agent: its token, its place in the composition, its configuration and its compartment.

use std::collections::BTreeSet;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use casemate_canon::{from_slice_exact, to_canonical_json};
use casemate_composition::lock::{Agent, Backend};
use casemate_composition::merkle::agent_leaf;
use casemate_protocol::Nonce;
use casemate_protocol::agent_token::{
    AGENT_TOKEN_PROFILE, AGENT_TOKEN_TYP, AgentToken, Control, ControlStatus,
};
use casemate_protocol::box_claims::BoxClaims;
use casemate_protocol::controls::Need;
use casemate_protocol::jwk::ALG_ECDH;

use super::log::LoggedTaint;
use crate::jwt::verify_jwt;
use crate::ledger::{Failed, Ledger};
use crate::platform::PlatformView;
use crate::policy::{AddedEdges, AgentExpectations, CompositionExpectations, Taint};

/// Largest agent configuration in bytes, as of a whole lock.
const CONFIG_BYTES_MAX: usize = casemate_composition::lock::LOCK_BYTES_MAX;

/// Most edges that a rule names.
const ADDED_EDGES_SHOWN_MAX: usize = 8;

/// The claims of a token that the box key signed. None where they cannot be trusted to be the box's.
pub(super) fn open_token(
    ledger: &mut Ledger,
    token: &[u8],
    claims: &BoxClaims,
    nonce: &Nonce,
) -> Option<AgentToken> {
    const RULE: &str = "agent.token";
    let payload = match verify_jwt(token, AGENT_TOKEN_TYP, &claims.box_key) {
        Ok(payload) => payload,
        Err(refusal) => {
            let found = format!("{}: {}", refusal.rule, refusal.found);
            let expected = format!("a token signed by the box key: {}", refusal.expected);
            let _recorded = ledger.fail(RULE, expected, found);
            return None;
        }
    };
    let expected = "claims of an agent token, each once";
    let token: AgentToken = ledger.accept(RULE, expected, from_slice_exact(&payload)).ok()?;
    let results = [
        ledger.require(
            RULE,
            true,
            "a token signed by the box key",
            "a signature by the key in the box claims",
        ),
        ledger.require(
            "agent.profile",
            token.eat_profile == AGENT_TOKEN_PROFILE,
            AGENT_TOKEN_PROFILE,
            &token.eat_profile,
        ),
        ledger.equal("nonce", nonce, &token.eat_nonce),
    ];
    let _recorded: Result<(), Failed> = results.into_iter().collect();
    Some(token)
}

/// Compares the token with composition, configuration and policy; the expectations of this agent where there are any.
pub(super) fn appraise<'a>(
    ledger: &mut Ledger,
    token: &AgentToken,
    config: &[u8],
    claims: &BoxClaims,
    policy: &'a CompositionExpectations,
    platform: &PlatformView,
) -> Option<&'a AgentExpectations> {
    claim_all(ledger, token, platform);
    let root = token.proof.root(&agent_leaf(&token.sub, &token.measurement));
    let found =
        root.map_or_else(|| "a proof of another shape".to_owned(), |root| format!("a proof for {root}"));
    let results = [
        ledger.require(
            "agent.membership",
            root == Some(claims.composition),
            format_args!("a proof that {} belongs to {}", token.sub, claims.composition),
            found,
        ),
        require_config(ledger, token, config, platform),
        require_key(ledger, token),
    ];
    let _recorded: Result<(), Failed> = results.into_iter().collect();
    let Some(expected) = policy.agents.get(&token.sub) else {
        let names: Vec<&str> = policy.agents.keys().map(|name| name.as_str()).collect();
        let _recorded = ledger.fail("agent.name", names.join(" or "), &token.sub);
        return None;
    };
    let _recorded = ledger.equal("agent.measurement", &expected.measurement, &token.measurement);
    let accepted: Vec<&str> = expected.backends.iter().map(|kind| kind.name()).collect();
    let kind = token.backend.kind();
    let _recorded =
        ledger.require("agent.backend", expected.backends.contains(&kind), accepted.join(" or "), kind);
    // What cannot be read has failed already, and asks for nothing more.
    let asks: Option<Agent> = serde_json::from_slice(config).ok();
    let _recorded = require_controls(ledger, token, expected, asks.as_ref());
    Some(expected)
}

/// That nothing foreign ran in the compartment, by token and by log.
pub(super) fn require_untainted(
    ledger: &mut Ledger,
    token: &AgentToken,
    logged: LoggedTaint,
    expected: &AgentExpectations,
    platform: &PlatformView,
) {
    let tainted = token.tainted || logged == LoggedTaint::Tainted;
    ledger.claim("agent", "tainted", tainted, platform.standing.runtime());
    let found = match (token.tainted, logged) {
        (false, LoggedTaint::Clean) => "not tainted, neither by token nor by log",
        (true, LoggedTaint::Clean) => "tainted, as the token says and the log does not",
        (true, LoggedTaint::Tainted) => "tainted, as token and log say",
        (false, LoggedTaint::Tainted) => "tainted, as the log says and the token does not",
    };
    // A token that hides what the log shows is never accepted.
    let hidden = !token.tainted && logged == LoggedTaint::Tainted;
    let holds = !tainted || (expected.taint == Taint::Allowed && !hidden);
    let text = match expected.taint {
        Taint::Allowed => "tainted or not, and no taint in the log that the token hides",
        Taint::Refused => "not tainted, neither by token nor by log",
    };
    let _recorded = ledger.require("agent.taint", holds, text, found);
}

/// That nobody opened an edge of the agent that the composition does not declare.
pub(super) fn require_declared_edges(
    ledger: &mut Ledger,
    logged: &BTreeSet<String>,
    expected: &AgentExpectations,
    platform: &PlatformView,
) {
    let added: Vec<&str> = logged.iter().map(String::as_str).take(ADDED_EDGES_SHOWN_MAX).collect();
    let more = if logged.len() > added.len() {
        format!(" and {} more", logged.len() - added.len())
    } else {
        String::new()
    };
    let found = match added.as_slice() {
        [] => "no other edge since its last launch".to_owned(),
        added => format!("{}{more}", added.join(", ")),
    };
    ledger.claim("agent", "added-edges", &found, platform.standing.runtime());
    let (holds, text) = match expected.added_edges {
        AddedEdges::Allowed => (true, "edges that the composition declares, or others"),
        AddedEdges::Refused => (logged.is_empty(), "no edge but those that the composition declares"),
    };
    let _recorded = ledger.require("agent.edges", holds, text, found);
}

fn claim_all(ledger: &mut Ledger, token: &AgentToken, platform: &PlatformView) {
    let voucher = platform.standing.runtime();
    let mut claim = |name: &str, value: &dyn std::fmt::Display| ledger.claim("agent", name, value, voucher);
    claim("name", &token.sub);
    claim("instance", &token.instance);
    claim("measurement", &token.measurement);
    claim("backend", &token.backend.kind());
    if let Backend::Gvisor { runsc } = &token.backend {
        claim("backend.runsc", runsc);
    }
    for (control, status) in &token.controls {
        claim(&format!("control.{}", control.name()), &name_of(status));
    }
    // The box has no clock but the host's.
    ledger.claim("agent", "iat", token.iat, crate::ledger::Voucher::HostClaimed);
}

/// The name that a plain enum has in JSON.
fn name_of<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => "unknown".to_owned(),
    }
}

/// The readable configuration is what was measured.
fn require_config(
    ledger: &mut Ledger,
    token: &AgentToken,
    config: &[u8],
    platform: &PlatformView,
) -> Result<(), Failed> {
    const RULE: &str = "agent.config";
    const EXPECTED: &str = "the agent's lock entry in RFC 8785 form";
    if config.len() > CONFIG_BYTES_MAX {
        let found = format!("{} bytes, at most {CONFIG_BYTES_MAX} allowed", config.len());
        return Err(ledger.fail(RULE, EXPECTED, found));
    }
    let agent: Agent = ledger.accept(RULE, EXPECTED, serde_json::from_slice(config))?;
    let canonical = ledger.accept(RULE, EXPECTED, to_canonical_json(&agent))?;
    if canonical != config {
        return Err(ledger.fail(RULE, EXPECTED, "the entry in another form"));
    }
    let measurement = ledger.accept(RULE, EXPECTED, agent.measurement())?;
    if let Some(group) = &agent.share {
        ledger.claim("agent", "share", group, platform.standing.runtime());
    }
    ledger.require(
        RULE,
        measurement == token.measurement && agent.backend == token.backend,
        format_args!("a lock entry with measurement {} and the token's backend", token.measurement),
        measurement,
    )
}

/// Secrets will be sealed to this key: it must be a point of the curve.
fn require_key(ledger: &mut Ledger, token: &AgentToken) -> Result<(), Failed> {
    const RULE: &str = "agent.key";
    const EXPECTED: &str = "a P-256 public key for ECDH-ES+A256KW";
    let point = ledger.accept(RULE, EXPECTED, token.cnf.jwk.to_point(ALG_ECDH))?;
    let on_curve = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).is_ok();
    let found = if on_curve { "a point of the curve P-256" } else { "a point that is not on the curve" };
    ledger.require(RULE, on_curve, EXPECTED, found)
}

/// Every control is told, and in force as far as the token's backend promises it (without gaps, but for the controls
/// that [`Control::promised_by`] names), unless the policy lets this one be weaker. Those that not every
/// machine has, or not every agent asks for, must be in force where policy or lock entry asks for them. One that the
/// policy asks for by name is without gaps, whatever the backend promises.
fn require_controls(
    ledger: &mut Ledger,
    token: &AgentToken,
    expected: &AgentExpectations,
    asks: Option<&Agent>,
) -> Result<(), Failed> {
    let required = |control: Control| {
        control.need() == Need::Always
            || expected.require_controls.contains(&control)
            || asks.is_some_and(|agent| control.is_required_of(agent))
    };
    let kind = token.backend.kind();
    let least = |control: Control| match asks {
        _ if expected.require_controls.contains(&control) => ControlStatus::Enforced,
        Some(agent) => control.least_of(agent, kind),
        None => control.promised_by(kind),
    };
    let mut weaker = Vec::new();
    let mut accepted = Vec::new();
    for control in Control::ALL {
        let found = match token.controls.get(&control) {
            Some(status) if status.meets(least(control)) => continue,
            Some(_) if !required(control) => continue,
            Some(status) => name_of(status),
            None => "missing".to_owned(),
        };
        let list = if expected.allow_weaker.contains(&control) { &mut accepted } else { &mut weaker };
        list.push(format!("{} {found}", control.name()));
    }
    let promised = match token.backend {
        Backend::Native => "enforced".to_owned(),
        other => format!("enforced as far as {} promises or `require-controls` asks", other.kind()),
    };
    let allowed: Vec<&str> = expected.allow_weaker.iter().map(|control| control.name()).collect();
    let text = if allowed.is_empty() {
        format!("every control {promised}")
    } else {
        format!("every control but {} {promised}", allowed.join(", "))
    };
    let found = match (weaker.as_slice(), accepted.as_slice()) {
        ([], []) => format!("every control {promised}"),
        ([], accepted) => format!("every other control {promised}; accepted: {}", accepted.join(", ")),
        (weaker, _) => weaker.join(", "),
    };
    ledger.require("agent.controls", weaker.is_empty(), text, found)
}
