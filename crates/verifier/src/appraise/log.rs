//! The event log: recomputed from its content, and tied to box, token and hardware.

use std::collections::BTreeSet;

use casemate_canon::{Sha384, to_canonical_json};
use casemate_composition::lock::AgentName;
use casemate_protocol::agent_token::AgentToken;
use casemate_protocol::box_claims::BoxClaims;
use casemate_protocol::event::{EVENTS_MAX, EdgeChange, Event, LogHead};

use crate::hex_text::Hex;
use crate::ledger::{Failed, Ledger};
use crate::platform::{PlatformView, RuntimeBinding};

/// What the log says of the agent that is appraised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Logged {
    pub(super) taint: LoggedTaint,
    /// Edges from it or to it that the composition does not declare and that were open since its last launch.
    pub(super) added_edges: BTreeSet<String>,
}

/// What the log says of the agent's compartment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoggedTaint {
    /// Nothing ran there that the composition does not name.
    Clean,
    /// Something did.
    Tainted,
}

/// Replays the log. Rules that do not hold are in the ledger. Of one of several replicas, `service` is their service.
pub(super) fn appraise(
    ledger: &mut Ledger,
    bytes: &[u8],
    claims: &BoxClaims,
    token: &AgentToken,
    service: Option<&AgentName>,
    platform: &PlatformView,
) -> Option<Logged> {
    let log = replay(ledger, bytes, &claims.log_head).ok()?;
    let results = [
        require_box_head(ledger, &log, claims),
        require_register(ledger, claims, platform),
        ledger.require(
            "log.head",
            log.end == LogHead { head: token.log_head, count: token.log_count },
            format_args!("{} after {} events, as the agent token says", token.log_head, token.log_count),
            format_args!("{} after {} events", log.end.head, log.end.count),
        ),
        require_composition(ledger, &log, claims),
        require_launched(ledger, &log, token),
    ];
    let _recorded: Result<(), Failed> = results.into_iter().collect();
    ledger.claim("box", "log-count", log.end.count, platform.standing.runtime());
    let added_edges = added_edges(&log.events, &token.sub, service);
    Some(Logged { taint: taint(&log, token), added_edges })
}

struct Log {
    events: Vec<Event>,
    end: LogHead,
    /// Number of events up to the head that the box claims name.
    box_count: Option<u64>,
}

fn replay(ledger: &mut Ledger, bytes: &[u8], box_head: &Sha384) -> Result<Log, Failed> {
    const RULE: &str = "log.chain";
    const EXPECTED: &str = "events in RFC 8785 form, one a line";
    let mut log = Log { events: Vec::new(), end: LogHead::EMPTY, box_count: None };
    let lines = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let lines = if lines.is_empty() { None } else { Some(lines.split(|byte| *byte == b'\n')) };
    for line in lines.into_iter().flatten() {
        let number = log.events.len().saturating_add(1);
        if log.events.len() >= EVENTS_MAX {
            return Err(ledger.fail(RULE, format_args!("at most {EVENTS_MAX} events"), "more"));
        }
        let at_line = |error: &dyn std::fmt::Display| format!("line {number}: {error}");
        let event: Event =
            serde_json::from_slice(line).map_err(|error| ledger.fail(RULE, EXPECTED, at_line(&error)))?;
        let canonical =
            to_canonical_json(&event).map_err(|error| ledger.fail(RULE, EXPECTED, at_line(&error)))?;
        if canonical != line {
            return Err(ledger.fail(RULE, EXPECTED, at_line(&"not in RFC 8785 form")));
        }
        log.end = log.end.extended(&Sha384::of(line));
        if log.end.head == *box_head {
            log.box_count = Some(log.end.count);
        }
        log.events.push(event);
    }
    ledger.require(RULE, true, EXPECTED, format_args!("{} events", log.events.len()))?;
    Ok(log)
}

/// The head in the box claims is that of a beginning of the log which has its first event at least.
fn require_box_head(ledger: &mut Ledger, log: &Log, claims: &BoxClaims) -> Result<(), Failed> {
    let found = match log.box_count {
        Some(count) => format!("the head after {count} events"),
        None => format!("no such beginning; the whole log has head {}", log.end.head),
    };
    let expected = format!("a beginning of the log with head {}", claims.log_head);
    ledger.require("log.box-head", log.box_count.is_some(), expected, found)
}

/// TDX keeps the head in RTMR3, which only extends. SEV-SNP has nothing of the kind, and no rule pretends so.
fn require_register(ledger: &mut Ledger, claims: &BoxClaims, platform: &PlatformView) -> Result<(), Failed> {
    match platform.runtime {
        RuntimeBinding::Rtmr3(found) => ledger.equal("log.rtmr3", &Hex(claims.log_head.0), &Hex(found)),
        RuntimeBinding::ReportDataOnly => Ok(()),
    }
}

fn require_composition(ledger: &mut Ledger, log: &Log, claims: &BoxClaims) -> Result<(), Failed> {
    let first = match log.events.first() {
        Some(Event::CompositionLoaded { composition, .. }) => composition.to_string(),
        Some(_) => "another first event".to_owned(),
        None => "no event".to_owned(),
    };
    let is_loading = |event: &&Event| matches!(event, Event::CompositionLoaded { .. });
    let count = log.events.iter().filter(is_loading).count();
    ledger.require(
        "log.composition",
        first == claims.composition.to_string() && count == 1,
        format_args!("{} loaded by the first event and by no other", claims.composition),
        format_args!("{first}, and {count} such events"),
    )
}

/// The last launch of the agent is the instance that the token is about, with the same measurement and controls, and
/// it has not ended.
fn require_launched(ledger: &mut Ledger, log: &Log, token: &AgentToken) -> Result<(), Failed> {
    const RULE: &str = "log.agent-launched";
    let expected = format!("{} launched last as instance {}, as the token says", token.sub, token.instance);
    let launch = log.events.iter().rev().find_map(|event| match event {
        Event::AgentLaunched { agent, instance, measurement, controls } if *agent == token.sub => {
            Some((*instance, *measurement, controls))
        }
        _ => None,
    });
    let Some((instance, measurement, controls)) = launch else {
        return Err(ledger.fail(RULE, expected, "never launched"));
    };
    let ended = log.events.iter().any(|event| {
        matches!(event, Event::AgentExited { agent, instance, .. }
            if *agent == token.sub && *instance == token.instance)
    });
    let found = if instance != token.instance {
        format!("instance {instance}")
    } else if measurement != token.measurement {
        format!("measurement {measurement} where the token has {}", token.measurement)
    } else if *controls != token.controls {
        "other controls than the token has".to_owned()
    } else if ended {
        "that instance has ended".to_owned()
    } else {
        return ledger.require(
            RULE,
            true,
            expected,
            format_args!("{} launched last as instance {instance}", token.sub),
        );
    };
    Err(ledger.fail(RULE, expected, found))
}

/// Whether the compartment was tainted since the agent's last launch.
fn taint(log: &Log, token: &AgentToken) -> LoggedTaint {
    for event in log.events.iter().rev() {
        match event {
            Event::AgentTainted { agent, .. } if *agent == token.sub => return LoggedTaint::Tainted,
            Event::AgentLaunched { agent, .. } if *agent == token.sub => return LoggedTaint::Clean,
            _ => {}
        }
    }
    LoggedTaint::Clean
}

/// Edges of `name`, or to all replicas of its service, that were opened by hand: those that were open when it was
/// launched last, and those since.
fn added_edges(events: &[Event], name: &AgentName, service: Option<&AgentName>) -> BTreeSet<String> {
    let is_name = |called: &str| called == name.as_str() || service.is_some_and(|own| called == own.as_str());
    let mut open = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for event in events {
        match event {
            Event::PolicyChanged { agent, to, change } => {
                let is_called = to.rsplit_once(':').is_some_and(|(called, _)| is_name(called));
                if agent != name && !is_called {
                    continue;
                }
                let edge = format!("{agent} to {to}");
                match change {
                    EdgeChange::Added => {
                        seen.insert(edge.clone());
                        open.insert(edge);
                    }
                    EdgeChange::Denied => drop(open.remove(&edge)),
                    EdgeChange::Restored => {}
                }
            }
            Event::AgentLaunched { agent, .. } if agent == name => seen.clone_from(&open),
            _ => {}
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_to_a_service_that_was_opened_by_hand_is_one_to_each_of_its_replicas() {
        let name = |text: &str| -> AgentName { text.parse().unwrap() };
        let opened = |to: &str| {
            [Event::PolicyChanged { agent: name("client"), to: to.into(), change: EdgeChange::Added }]
        };
        let of_replica = |to: &str| added_edges(&opened(to), &name("web-1"), Some(&name("web")));
        assert_eq!(of_replica("web:80"), ["client to web:80".to_owned()].into());
        assert_eq!(of_replica("web-1:80").len(), 1);
        for other in ["web-2:80", "client:80", "webs:80"] {
            assert!(of_replica(other).is_empty(), "{other}");
        }
        assert!(added_edges(&opened("web:80"), &name("web-1"), None).is_empty());
    }
}
