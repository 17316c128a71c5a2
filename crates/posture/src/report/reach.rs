//! What each secret can reach: who holds it, and whom holders could pass it on to over open edges and common volumes.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Input;

/// A secret, and where its holders could carry it. Nobody watches contents: an edge passes bytes both ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretReach {
    /// Path at the broker.
    pub secret: String,
    /// Agents that get it.
    pub holders: BTreeSet<String>,
    /// Agents with an open edge to or from a holder, or a volume in common with one.
    pub next: BTreeSet<String>,
    /// Agents that take more than one such step.
    pub further: BTreeSet<String>,
    /// Hosts outside that one of all these agents may call, and ports of the box that lead to one.
    pub outside: BTreeSet<String>,
}

/// Each secret of the composition.
pub(super) fn secrets(input: &Input) -> Vec<SecretReach> {
    let all: BTreeSet<&String> = input.agents.values().flat_map(|agent| &agent.secrets).collect();
    all.into_iter().map(|secret| reach(input, secret)).collect()
}

fn reach(input: &Input, secret: &str) -> SecretReach {
    let has = |agent: &super::AgentView| agent.secrets.contains(secret);
    let holders: BTreeSet<String> =
        input.agents.iter().filter(|(_, agent)| has(agent)).map(|(name, _)| name.clone()).collect();
    let next: BTreeSet<String> = neighbours(input, &holders).difference(&holders).cloned().collect();
    let mut known: BTreeSet<String> = holders.union(&next).cloned().collect();
    loop {
        let more = neighbours(input, &known);
        let before = known.len();
        known.extend(more);
        if known.len() == before {
            break;
        }
    }
    let further = known.iter().filter(|name| !holders.contains(*name) && !next.contains(*name)).cloned();
    let calls = input.edges.iter().filter(|edge| edge.outside && known.contains(&edge.from));
    let called = known.iter().filter_map(|name| input.agents.get(name)).flat_map(|agent| &agent.ports);
    let mut outside: BTreeSet<String> = calls.map(|edge| format!("{}:{}", edge.to, edge.port)).collect();
    outside.extend(called.map(|port| format!("whoever calls {port}")));
    SecretReach { secret: secret.to_owned(), further: further.collect(), holders, next, outside }
}

/// Agents that exchange bytes with one of these.
fn neighbours(input: &Input, of: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for edge in input.edges.iter().filter(|edge| !edge.outside) {
        if of.contains(&edge.from) {
            found.insert(edge.to.clone());
        }
        if of.contains(&edge.to) && input.agents.contains_key(&edge.from) {
            found.insert(edge.from.clone());
        }
    }
    let volumes: BTreeSet<&String> =
        of.iter().filter_map(|name| input.agents.get(name)).flat_map(|agent| &agent.volumes).collect();
    let mounts = input.agents.iter().filter(|(_, agent)| agent.volumes.iter().any(|v| volumes.contains(v)));
    found.extend(mounts.map(|(name, _)| name.clone()));
    found
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_secret_reaches_whom_its_holders_can_pass_it_to() {
        let found = secrets(&sample::input());
        let [secret] = found.as_slice() else { panic!("{found:?}") };
        let names = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(names(&secret.holders), "alpha");
        assert_eq!(names(&secret.next), "beta");
        assert_eq!(names(&secret.further), "gamma");
        assert_eq!(names(&secret.outside), "api.example.com:443 whoever calls 127.0.0.1:8080");
    }

    #[test]
    fn a_common_volume_carries_a_secret_as_an_edge_does() {
        let mut input = sample::input();
        input.edges.clear();
        for name in ["alpha", "gamma"] {
            input.agents.get_mut(name).unwrap().volumes.insert("data".into());
        }
        let found = secrets(&input);
        assert_eq!(found[0].next, BTreeSet::from(["gamma".to_owned()]));
    }
}
