//! What a policy would say of a composition before there is evidence: its rules about composition and agents, by the names
//! that they have in an appraisal.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::path::Path;

use casemate_composition::lock::AgentName;
use casemate_composition::{Lock, Plan};
use casemate_protocol::Refusal;
use casemate_verifier::PolicyValues;
use serde::Serialize;

/// Rules that only evidence can answer.
const NOT_JUDGED: [&str; 10] = [
    "platform and its endorsements",
    "nonce",
    "boot-log",
    "composition.launch-binding",
    "agent.controls",
    "agent.taint",
    "agent.edges",
    "agent.posture",
    "posture",
    "log",
];

/// What a policy would say.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Foresight {
    /// The policy's file.
    file: String,
    /// Whether no rule that can be judged refuses.
    admits: bool,
    refusals: Vec<Refused>,
    /// Agents that the policy names and the composition does not have.
    absent: Vec<AgentName>,
    not_judged: [&'static str; 10],
}

/// One refusal.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Refused {
    /// Whom it concerns; none for the composition.
    agent: Option<AgentName>,
    refusal: Refusal,
}

impl Foresight {
    /// Asks the rules that a lock alone can answer.
    pub(super) fn new(file: &Path, values: &PolicyValues, lock: &Lock, plan: &Plan) -> Self {
        let mut refusals = Vec::new();
        let mut refuse = |agent: Option<&AgentName>, refusal: Refusal| {
            refusals.push(Refused { agent: agent.cloned(), refusal });
        };
        let expected = values.composition.as_ref();
        match expected {
            None => {
                let expected = "a policy that names a composition and its agents";
                refuse(None, Refusal::new("composition.digest", expected, "a policy for platforms alone"));
            }
            Some(expected) if expected.digest != plan.new => {
                refuse(None, Refusal::new("composition.digest", expected.digest, plan.new));
            }
            Some(_) => {}
        }
        for (name, agent) in lock.agents.iter().filter(|_| expected.is_some()) {
            let known = expected.map(|expected| &expected.agents);
            let Some(of_agent) = known.and_then(|agents| agents.get(name)) else {
                let names: Vec<&str> =
                    known.into_iter().flat_map(|agents| agents.keys()).map(AgentName::as_str).collect();
                refuse(Some(name), Refusal::new("agent.name", names.join(" or "), name));
                continue;
            };
            let measurement = plan.agents.get(name).and_then(|agent| agent.new);
            if let Some(found) = measurement.filter(|found| *found != of_agent.measurement) {
                refuse(Some(name), Refusal::new("agent.measurement", of_agent.measurement, found));
            }
            if !of_agent.backends.contains(&agent.backend.kind()) {
                let names: Vec<&str> = of_agent.backends.iter().map(|kind| kind.name()).collect();
                refuse(Some(name), Refusal::new("agent.backend", names.join(" or "), agent.backend.kind()));
            }
            let wanted: BTreeSet<&str> =
                agent.secrets.iter().map(|secret| secret.resource.as_str()).collect();
            for resource in wanted.into_iter().filter(|resource| !of_agent.secrets.contains(*resource)) {
                let names: Vec<&str> = of_agent.secrets.iter().map(String::as_str).collect();
                let names = if names.is_empty() { "none".to_owned() } else { names.join(" or ") };
                refuse(
                    Some(name),
                    Refusal::new("agent.secrets", format_args!("a secret of {name}: {names}"), resource),
                );
            }
        }
        let absent = expected.into_iter().flat_map(|expected| expected.agents.keys());
        Self {
            file: file.display().to_string(),
            admits: refusals.is_empty(),
            refusals,
            absent: absent.filter(|name| !lock.agents.contains_key(*name)).cloned().collect(),
            not_judged: NOT_JUDGED,
        }
    }

    /// The first refusal, and whom it concerns.
    pub(super) fn into_refusal(self) -> Option<(String, Refusal)> {
        let Refused { agent, refusal } = self.refusals.into_iter().next()?;
        Some((whom(agent.as_ref()), refusal))
    }
}

fn whom(agent: Option<&AgentName>) -> String {
    agent.map_or_else(|| "the composition".to_owned(), |name| format!("agent {name}"))
}

impl Display for Foresight {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let word = if self.admits { "admits, as far as a lock can tell" } else { "would refuse" };
        writeln!(f, "policy {} {word}", self.file)?;
        for Refused { agent, refusal } in &self.refusals {
            let whom = whom(agent.as_ref());
            writeln!(f, "  refused  {whom} by rule {}", refusal.rule)?;
            writeln!(f, "    expected  {}", refusal.expected)?;
            writeln!(f, "    found     {}", refusal.found)?;
        }
        for agent in &self.absent {
            writeln!(f, "  absent   agent {agent}, which the policy names")?;
        }
        writeln!(f, "  not judged before there is evidence: {}", self.not_judged.join(", "))?;
        if !self.admits {
            writeln!(
                f,
                "  to do    where the change is meant, write the policy again with `casemate policy write --force`"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use casemate_canon::Sha256;
    use casemate_composition::lock::{ImagePin, User};
    use casemate_composition::{ImageFacts, compose};
    use casemate_verifier::{
        AddedEdges, AgentExpectations, CompositionExpectations, PostureExpectations, Roots, Taint,
    };

    use casemate_composition::lock::BackendKind;

    use super::*;

    fn lock(more: &str) -> Lock {
        let text = format!(
            "name: t\nservices:\n  a:\n    image: i\n{more}  b:\n    image: i\nsecrets:\n  s: {{ external: true }}\n"
        );
        let facts = ImageFacts {
            pin: ImagePin { manifest: Sha256::ZERO, config: Sha256::ZERO, rootfs: Sha256::ZERO },
            entrypoint: Vec::new(),
            command: vec!["x".into()],
            environment: BTreeMap::new(),
            working_dir: String::new(),
            user: User { uid: 0, gid: 0 },
        };
        let compose = compose::parse("c", &text, &BTreeMap::new()).unwrap();
        compose.resolve(&[("i".to_owned(), facts)].into()).unwrap()
    }

    fn policy(composition: Option<CompositionExpectations>) -> PolicyValues {
        PolicyValues {
            roots: Roots::Production,
            collateral_age_max_days: 1,
            bundle_signers: Vec::new(),
            tdx: None,
            snp: None,
            vtpm: None,
            boot_log: None,
            composition,
        }
    }

    fn expecting(lock: &Lock) -> CompositionExpectations {
        let of_agent = |agent: &casemate_composition::lock::Agent| AgentExpectations {
            measurement: agent.measurement().unwrap(),
            backends: [agent.backend.kind()].into(),
            secrets: agent.secrets.iter().map(|secret| secret.resource.clone()).collect(),
            allow_weaker: BTreeSet::new(),
            require_controls: BTreeSet::new(),
            posture: PostureExpectations::default(),
            taint: Taint::Refused,
            added_edges: AddedEdges::Refused,
        };
        CompositionExpectations {
            digest: lock.digest().unwrap(),
            agents: lock.agents.iter().map(|(name, agent)| (name.clone(), of_agent(agent))).collect(),
        }
    }

    fn foresee(values: &PolicyValues, lock: &Lock) -> Foresight {
        Foresight::new(Path::new("p.toml"), values, lock, &Plan::new(None, lock, &BTreeMap::new()).unwrap())
    }

    fn rules(foresight: &Foresight) -> Vec<(String, String)> {
        let whom = |agent: &Option<AgentName>| agent.as_ref().map(ToString::to_string).unwrap_or_default();
        foresight.refusals.iter().map(|r| (whom(&r.agent), r.refusal.rule.clone())).collect()
    }

    fn pair(agent: &str, rule: &str) -> (String, String) {
        (agent.to_owned(), rule.to_owned())
    }

    #[test]
    fn a_policy_for_this_lock_admits_it_and_says_what_is_left_open() {
        let lock = lock("");
        let foresight = foresee(&policy(Some(expecting(&lock))), &lock);
        assert!(foresight.admits);
        assert_eq!(
            foresight.to_string(),
            "policy p.toml admits, as far as a lock can tell\n  \
               not judged before there is evidence: platform and its endorsements, nonce, boot-log, \
             composition.launch-binding, agent.controls, agent.taint, agent.edges, agent.posture, posture, log\n"
        );
    }

    #[test]
    fn each_rule_refuses_with_what_was_expected_and_found() {
        let (old, new) = (lock(""), lock("    secrets: [s]\n"));
        let mut expected = expecting(&old);
        expected.agents.insert("gone".parse().unwrap(), expected.agents.values().next().unwrap().clone());
        expected.agents.remove(&"b".parse::<AgentName>().unwrap());
        for agent in expected.agents.values_mut() {
            agent.backends = [BackendKind::Gvisor].into();
        }
        let foresight = foresee(&policy(Some(expected.clone())), &new);
        assert_eq!(
            rules(&foresight),
            [
                pair("", "composition.digest"),
                pair("a", "agent.measurement"),
                pair("a", "agent.backend"),
                pair("a", "agent.secrets"),
                pair("b", "agent.name")
            ]
        );
        assert_eq!(foresight.absent, ["gone".parse::<AgentName>().unwrap()]);
        let a: AgentName = "a".parse().unwrap();
        let (was, is) = (old.agents[&a].measurement().unwrap(), new.agents[&a].measurement().unwrap());
        assert_eq!(
            foresight.to_string(),
            format!(
                "policy p.toml would refuse\n  \
                   refused  the composition by rule composition.digest\n    \
                     expected  {}\n    \
                     found     {}\n  \
                   refused  agent a by rule agent.measurement\n    \
                     expected  {was}\n    \
                     found     {is}\n  \
                   refused  agent a by rule agent.backend\n    \
                     expected  gvisor\n    \
                     found     native\n  \
                   refused  agent a by rule agent.secrets\n    \
                     expected  a secret of a: none\n    \
                     found     t/secret/s\n  \
                   refused  agent b by rule agent.name\n    \
                     expected  a or gone\n    \
                     found     b\n  \
                   absent   agent gone, which the policy names\n  \
                   not judged before there is evidence: {}\n  \
                   to do    where the change is meant, write the policy again with `casemate policy write --force`\n",
                expected.digest,
                new.digest().unwrap(),
                NOT_JUDGED.join(", ")
            )
        );
    }

    #[test]
    fn a_policy_for_platforms_alone_releases_nothing_to_an_agent() {
        let foresight = foresee(&policy(None), &lock(""));
        assert_eq!(rules(&foresight), [pair("", "composition.digest")]);
        assert!(!foresight.admits);
        let (whom, refusal) = foresight.into_refusal().unwrap();
        assert_eq!((whom.as_str(), refusal.rule.as_str()), ("the composition", "composition.digest"));
    }
}
