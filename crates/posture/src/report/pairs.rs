//! Separation granularity: what stands between each two agents.

use std::collections::BTreeMap;

use casemate_protocol::agent_token::ControlStatus;
use serde::Serialize;

use super::{Input, ProbeView, Separation};
use crate::sharing::Pair;

/// Two agents, and what stands between them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairView {
    /// The agents.
    pub agents: [String; 2],
    /// What the boundary is, in words.
    pub boundary: String,
    /// Controls that are not fully in force, by agent: name and status. Empty where all are.
    pub weak_controls: BTreeMap<String, BTreeMap<&'static str, &'static str>>,
    /// How many controls of each are `enforced`.
    pub enforced: BTreeMap<String, usize>,
    /// The trust group that both are of; none where they are of two.
    pub trust: Option<String>,
    /// Open edges between them: `a -> b:80`.
    pub edges: Vec<String>,
    /// What the ledger counted; none where one of them does not run.
    pub shared: Option<Pair>,
    /// Last batteries between them, both ways; none where nobody probed.
    pub probes: Vec<ProbeView>,
    /// What was not seen, with the reason.
    pub not_seen: Vec<String>,
}

/// What is not protected.
pub(super) fn not_protected(input: &Input) -> Vec<String> {
    let backends = |wanted: &str| input.agents.values().filter(|agent| agent.backend == wanted).count();
    let mut out = Vec::new();
    if backends("native") > 0 {
        out.push(format!(
            "one guest kernel serves {} native agents and the box's own programs: who breaks it from one agent has all of them",
            backends("native")
        ));
    }
    if backends("gvisor") > 0 {
        out.push(format!(
            "{} agents in gVisor sandboxes: who breaks gVisor's kernel is in a filtered process, and needs a bug of the guest's kernel besides",
            backends("gvisor")
        ));
    }
    out.push(
        "no agent has a VM of its own: nothing that hardware enforces stands between two agents".to_owned(),
    );
    let shared: Vec<String> = input
        .agents
        .iter()
        .filter(|(_, agent)| !agent.cores_with.is_empty())
        .map(|(name, agent)| format!("{name} with {}", agent.cores_with.join(", ")))
        .collect();
    if !shared.is_empty() {
        out.push(format!("agents of different trust groups run on common cores: {}", shared.join("; ")));
    }
    out
}

/// Each two agents.
pub(super) fn pairs(input: &Input) -> Separation {
    let names: Vec<&String> = input.agents.keys().collect();
    let each = names
        .iter()
        .enumerate()
        .flat_map(|(place, a)| names.iter().skip(place.saturating_add(1)).filter_map(|b| pair(input, a, b)));
    Separation { pairs: each.collect() }
}

fn pair(input: &Input, a: &str, b: &str) -> Option<PairView> {
    let (one, other) = (input.agents.get(a)?, input.agents.get(b)?);
    let both = |x: &str, y: &str| (x == a && y == b) || (x == b && y == a);
    let edges = input.edges.iter().filter(|edge| !edge.outside && both(&edge.from, &edge.to)).map(|edge| {
        let added = if edge.added { " (opened by hand)" } else { "" };
        format!("{} -> {}:{}{added}", edge.from, edge.to, edge.port)
    });
    let shared = input.ledger.pairs.iter().find(|pair| both(&pair.agents[0], &pair.agents[1])).cloned();
    let probes: Vec<ProbeView> =
        input.probes.iter().filter(|probe| both(&probe.attacker, &probe.victim)).cloned().collect();
    let mut not_seen = Vec::new();
    for (attacker, victim) in [(a, b), (b, a)] {
        if !probes.iter().any(|probe| probe.attacker == attacker) {
            not_seen.push(format!(
                "attacks of {attacker} on {victim}: not probed; `casemate probe {attacker} {victim}`"
            ));
        }
    }
    let mut weak_controls = BTreeMap::new();
    let mut enforced = BTreeMap::new();
    for (name, agent) in [(a, one), (b, other)] {
        if !agent.runs {
            not_seen.push(format!("controls and common objects of {name}: it does not run"));
            continue;
        }
        let weak = |status: &ControlStatus| *status != ControlStatus::Enforced;
        let list: BTreeMap<_, _> = agent
            .controls
            .iter()
            .filter(|(_, status)| weak(status))
            .map(|(control, status)| (control.name(), status.name()))
            .collect();
        enforced.insert(name.to_owned(), agent.controls.len().saturating_sub(list.len()));
        weak_controls.insert(name.to_owned(), list);
    }
    if shared.is_none() && one.runs && other.runs {
        not_seen.push("common objects: the ledger has no such pair".to_owned());
    }
    Some(PairView {
        agents: [a.to_owned(), b.to_owned()],
        boundary: boundary(one.backend, other.backend).to_owned(),
        weak_controls,
        enforced,
        trust: (one.trust == other.trust).then(|| one.trust.clone()),
        edges: edges.collect(),
        shared,
        probes,
        not_seen,
    })
}

fn boundary(one: &str, other: &str) -> &'static str {
    match (one, other) {
        ("native", "native") => "native | native: namespaces, filter and Landlock of one kernel",
        ("gvisor", "gvisor") => {
            "gvisor | gvisor: a kernel in user space for each, and below both the guest's kernel behind a filter"
        }
        _ => "native | gvisor: a kernel in user space for one; the guest's kernel behind a filter for both",
    }
}

/// How long ago, in words.
pub(super) fn age(now: u64, then: u64) -> String {
    let seconds = now.saturating_sub(then);
    match seconds {
        0..=119 => format!("{seconds} s ago"),
        120..=7199 => format!("{} min ago", seconds / 60),
        7200..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// What a battery came to, in words. The age is by the box's clock.
pub(super) fn battery(now: u64, probe: &ProbeView) -> String {
    let seen = &probe.seen;
    let named = |count: usize, word: &str, names: &std::collections::BTreeSet<String>| match count {
        0 => format!("0 {word}"),
        _ => format!("{count} {word} ({})", names.iter().cloned().collect::<Vec<_>>().join(", ")),
    };
    let length = match seen.battery {
        casemate_protocol::posture::Battery::Short => "short battery",
        casemate_protocol::posture::Battery::Whole => "whole battery",
    };
    format!(
        "{} on {}: {} blocked, {}, {}, {}; {length}, {}",
        probe.attacker,
        probe.victim,
        seen.blocked.len(),
        named(seen.leaks.len(), "leaks", &seen.leaks),
        named(seen.allowed.len(), "allowed", &seen.allowed),
        named(seen.inconclusive.len(), "inconclusive", &seen.inconclusive),
        age(now, seen.ended)
    )
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn what_nobody_probed_is_said_with_the_command_that_does() {
        let found = pairs(&sample::input()).pairs;
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].probes.len(), 1);
        assert_eq!(found[0].not_seen, ["attacks of beta on alpha: not probed; `casemate probe beta alpha`"]);
        assert!(found[1].not_seen.iter().any(|text| text.contains("gamma: it does not run")));
    }

    #[test]
    fn ages_are_told_in_their_unit() {
        for (seconds, text) in [
            (0, "0 s ago"),
            (119, "119 s ago"),
            (120, "2 min ago"),
            (7200, "2 h ago"),
            (200_000, "2 days ago"),
        ] {
            assert_eq!(age(1_000_000, 1_000_000 - seconds), text);
        }
    }
}
