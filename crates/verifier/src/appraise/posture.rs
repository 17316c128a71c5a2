//! The posture: that the document is the one in the token, and that it shows what the policy asks for.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use casemate_canon::{Sha384, from_slice_exact, to_canonical_json};
use casemate_composition::lock::AgentName;
use casemate_protocol::agent_token::AgentToken;
use casemate_protocol::posture::{Battery, POSTURE_BYTES_MAX, POSTURE_TAG, Posture, Verdict};

use crate::ledger::{Failed, Ledger, Voucher};
use crate::platform::PlatformView;
use crate::policy::{Apart, PostureExpectations};

/// Most names in what a rule found.
const NAMES_SHOWN_MAX: usize = 8;
/// Oldest checks: the box makes them every ten seconds.
const CHECKS_AGE_MAX_SECONDS: u64 = 120;

/// Opens the document; none where it is not the token's.
pub(super) fn open(
    ledger: &mut Ledger,
    bytes: &[u8],
    token: &AgentToken,
    platform: &PlatformView,
) -> Option<Posture> {
    let posture = read(ledger, bytes, token).ok()?;
    let voucher = platform.standing.runtime();
    // The box has no clock but the host's.
    ledger.claim("agent", "posture.checked", posture.checked, Voucher::HostClaimed);
    for verdict in Verdict::ALL {
        let of_it = posture.checks.values().filter(|check| check.verdict == verdict).count();
        ledger.claim("agent", &format!("posture.{}", verdict.name()), of_it, voucher);
    }
    let sharing = posture.mounts_with.iter().filter(|(_, mounts)| !mounts.is_empty()).map(|(name, _)| name);
    let sharing: Vec<&str> = sharing.map(AgentName::as_str).collect();
    ledger.claim("agent", "posture.shares-with", shown(&sharing), voucher);
    Some(posture)
}

fn read(ledger: &mut Ledger, bytes: &[u8], token: &AgentToken) -> Result<Posture, Failed> {
    const RULE: &str = "agent.posture";
    const EXPECTED: &str = "a posture in RFC 8785 form";
    if bytes.len() > POSTURE_BYTES_MAX {
        let found = format!("{} bytes, at most {POSTURE_BYTES_MAX} allowed", bytes.len());
        return Err(ledger.fail(RULE, EXPECTED, found));
    }
    let digest = Sha384::of(bytes);
    if digest != token.posture {
        return Err(ledger.fail(RULE, format_args!("the posture {} of the token", token.posture), digest));
    }
    let posture: Posture = ledger.accept(RULE, EXPECTED, from_slice_exact(bytes))?;
    let canonical = ledger.accept(RULE, EXPECTED, to_canonical_json(&posture))?;
    if canonical != bytes {
        return Err(ledger.fail(RULE, EXPECTED, "a posture in another form"));
    }
    let tag = format!("`{POSTURE_TAG}` of {}", token.sub);
    let found = format!("`{}` of {}", posture.casemate, posture.agent);
    ledger.require(RULE, tag == found, &tag, &found)?;
    Ok(posture)
}

/// What the policy asks for; `others` are the other agents of the composition that the policy knows.
pub(super) fn require(
    ledger: &mut Ledger,
    posture: Option<&Posture>,
    token: &AgentToken,
    expected: &PostureExpectations,
    others: &BTreeSet<&AgentName>,
) {
    // A document that is not the token's has failed already.
    let Some(posture) = posture else { return };
    // Those that the policy names, and those that the box knows of: a policy may leave agents out.
    let others: &BTreeSet<&AgentName> = &others.iter().copied().chain(posture.mounts_with.keys()).collect();
    // The proof says how many agents the composition has; one of its leaves is no agent.
    let other_agents = token.proof.size.saturating_sub(2);
    let missing = (other_agents as usize).saturating_sub(posture.mounts_with.len());
    let whole = expected.probe_age_max_seconds.is_some()
        || matches!(expected.no_shared_inode_with, Apart::FromEveryOther);
    if whole {
        let _recorded = ledger.require(
            "posture.compared",
            missing == 0,
            format_args!("a comparison with each of {other_agents} other agents"),
            format_args!("{missing} not compared"),
        );
    }
    let apart: Option<BTreeSet<&AgentName>> = match &expected.no_shared_inode_with {
        Apart::NotAsked => None,
        Apart::FromEveryOther => Some(others.clone()),
        Apart::From(names) => Some(names.iter().collect()),
    };
    if let Some(apart) = apart {
        require_apart(ledger, posture, &apart);
    }
    if !expected.checks.is_empty() {
        require_fresh(ledger, posture.checked, token.iat);
    }
    for id in &expected.checks {
        let found = posture.checks.get(id);
        let text = found.map_or_else(
            || "no such check".to_owned(),
            |check| format!("{}: {} ({})", check.verdict.name(), check.observed, check.vantage.name()),
        );
        let holds = found.is_some_and(|check| check.verdict == Verdict::Pass);
        let _recorded =
            ledger.require("posture.check", holds, format_args!("{id} pass"), format_args!("{id} {text}"));
    }
    if let Some(seconds) = expected.probe_age_max_seconds {
        require_probes(ledger, posture, token.iat, seconds, expected, others);
    }
}

/// Checks that were made long before the token say nothing of the machine that it is about.
fn require_fresh(ledger: &mut Ledger, checked: u64, now: u64) {
    let age = now.checked_sub(checked);
    let found = age.map_or_else(|| "checks made after the token".to_owned(), |age| format!("{age} s"));
    let holds = age.is_some_and(|age| age <= CHECKS_AGE_MAX_SECONDS);
    let expected = format!("checks at most {CHECKS_AGE_MAX_SECONDS} s older than the token");
    let _recorded = ledger.require("posture.check", holds, expected, found);
}

fn require_apart(ledger: &mut Ledger, posture: &Posture, apart: &BTreeSet<&AgentName>) {
    let mut problems = Vec::new();
    for name in apart {
        match posture.mounts_with.get(*name) {
            None => problems.push(format!("{name} was not compared")),
            Some(mounts) if mounts.is_empty() => {}
            Some(mounts) => {
                let mounts: Vec<&str> = mounts.iter().map(String::as_str).collect();
                problems.push(format!("{name} has {}, too", shown(&mounts)));
            }
        }
    }
    let names: Vec<&str> = apart.iter().map(|name| name.as_str()).collect();
    let found = if problems.is_empty() {
        "none in common".to_owned()
    } else {
        shown(&problems.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let expected = format!("no file system in common with {}", shown(&names));
    let _recorded = ledger.require("posture.inode", problems.is_empty(), expected, found);
}

fn require_probes(
    ledger: &mut Ledger,
    posture: &Posture,
    now: u64,
    seconds: u64,
    asked: &PostureExpectations,
    others: &BTreeSet<&AgentName>,
) {
    let mut problems = Vec::new();
    let from: BTreeSet<&AgentName> = others.iter().copied().chain(posture.probes.keys()).collect();
    for name in &from {
        let Some(probe) = posture.probes.get(*name) else {
            problems.push(format!("none from {name}"));
            continue;
        };
        // A probe from the future shows a clock that was set back: its age is not known.
        match now.checked_sub(probe.ended) {
            Some(age) if age <= seconds => {}
            Some(age) => problems.push(format!("the one from {name} is {age} s old")),
            None => problems.push(format!("the one from {name} ended after the token was made")),
        }
        if asked.whole_battery && probe.battery != Battery::Whole {
            problems.push(format!("the one from {name} is the short battery"));
        }
        for (attacks, what) in [(&probe.leaks, "leak by"), (&probe.inconclusive, "nothing said of")] {
            let attacks: Vec<&str> = attacks.difference(&asked.allow_attacks).map(String::as_str).collect();
            if !attacks.is_empty() {
                problems.push(format!("from {name}: {what} {}", shown(&attacks)));
            }
        }
        if probe.blocked.is_empty() {
            problems.push(format!("the one from {name} saw nothing blocked"));
        }
    }
    let found = if problems.is_empty() {
        format!("{} such", from.len())
    } else {
        shown(&problems.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let expected = format!(
        "a peer probe from each other agent, at most {seconds} s old, without a leak and with a verdict on each attack"
    );
    let _recorded = ledger.require("posture.probe", problems.is_empty(), expected, found);
}

/// Some names, and how many more.
fn shown(names: &[&str]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let mut text = names.iter().take(NAMES_SHOWN_MAX).copied().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(NAMES_SHOWN_MAX);
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text
}
