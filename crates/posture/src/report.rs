//! The posture report: what separates agents, what evidence covers, what the host can still do, what agents share.
//!
//! What it is: facts that the caller collected in one run, put under the four headings of the field beside tables of what
//! the platforms and this code do. What it is not: a judge, and no verdict is here that was not seen in that run: what was
//! not seen says so with its reason. Who trusts it: who reads `casemate posture`, as far as he trusts the box it ran in.
//! docs/posture.md describes the JSON.

mod compare;
mod components;
mod html;
mod layers;
mod local;
mod pairs;
mod reach;
mod text;
mod trusted_lines;

use std::collections::{BTreeMap, BTreeSet};

use casemate_protocol::agent_token::{Control, ControlStatus};
use casemate_protocol::posture::ProbeSeen;
use serde::Serialize;

use crate::doctor::{Finding, Heading, Vantage, Verdict};
use crate::sharing::{Ledger, NotRun};

pub use compare::{Choice, Comparison, Figure, compare};
pub use components::{Component, sources as component_sources};
pub use html::html;
pub use layers::{Cover, Layer};
pub use local::{Local, SharedPart};
pub use pairs::PairView;
pub use reach::SecretReach;
pub use text::{comparison, text};

/// Tag of the report.
pub const REPORT_TAG: &str = "casemate posture report 1";

/// An agent, as the composition says and the box shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AgentView {
    /// What builds its compartment.
    pub backend: &'static str,
    /// Its trust group.
    pub trust: String,
    /// Group of agents that it shares its root with.
    pub share: Option<String>,
    /// Whether it has processes.
    pub runs: bool,
    /// Whether anything ran in it that the composition does not name.
    pub tainted: bool,
    /// Its controls, as the box saw them; none where it does not run.
    pub controls: BTreeMap<Control, ControlStatus>,
    /// Agents of other trust groups that run on a core of this one.
    pub cores_with: Vec<String>,
    /// Paths of its secrets at the broker.
    pub secrets: BTreeSet<String>,
    /// Names of its volumes.
    pub volumes: BTreeSet<String>,
    /// Ports of the box that lead to it.
    pub ports: Vec<String>,
    /// Time that root and compartment took at its last start, in milliseconds; none where the box tells nothing of it.
    pub build_ms: Option<u64>,
}

/// An edge that stands open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct EdgeView {
    /// Who calls.
    pub from: String,
    /// Who is called: an agent, or a host outside.
    pub to: String,
    /// Its port, or the path of its Unix socket.
    pub port: End,
    /// Whether it leads outside of the box.
    pub outside: bool,
    /// Whether it was opened by hand: the composition does not declare it.
    pub added: bool,
}

/// At what an edge ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum End {
    /// A TCP port.
    Port(u16),
    /// The path of a Unix socket.
    Socket(String),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port(port) => write!(f, "{port}"),
            Self::Socket(path) => f.write_str(path),
        }
    }
}

/// A battery of the probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProbeView {
    /// Beside whom the attacker was.
    pub attacker: String,
    /// Beside whom the victim was.
    pub victim: String,
    /// What it came to.
    pub seen: ProbeSeen,
}

/// System calls that a filter lets through, counted from the rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// Whose filter: a backend.
    pub backend: &'static str,
    /// Whose calls it answers.
    pub of: &'static str,
    /// Agents behind it.
    pub agents: BTreeSet<String>,
    /// Made by the kernel whatever their arguments.
    pub allowed: BTreeSet<&'static str>,
    /// Made by the kernel with some arguments.
    pub conditional: BTreeSet<&'static str>,
    /// Answered with success, and never made.
    pub pretended: BTreeSet<&'static str>,
    /// Answered with an error of their own, and never made.
    pub refused: BTreeSet<&'static str>,
    /// All others that this program knows a name of: answered as if the kernel had none (ENOSYS).
    pub unnamed: usize,
}

impl Calls {
    /// Those of which some form reaches the kernel.
    #[must_use]
    pub fn reachable(&self) -> usize {
        self.allowed.len().saturating_add(self.conditional.len())
    }
}

/// Where evidence comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Platform {
    /// `tdx`, `snp` or `vtpm`, by the evidence that the box made in this run; none where it made none.
    pub kind: Option<&'static str>,
    /// Whether an emulator stands in for the hardware: nothing of what it signs proves anything.
    pub simulated: bool,
    /// Why there is no evidence, where there is none.
    pub reason: Option<String>,
}

/// What the caller collected.
#[derive(Debug, Clone)]
pub struct Input {
    /// Name of the project.
    pub project: String,
    /// Now, seconds since 1970, by the clock of the box.
    pub now: u64,
    /// The same as a date and a time of day.
    pub date: String,
    /// The composition digest, as the box says it.
    pub composition: String,
    /// SHA-256 of the composition digest, in hexadecimal digits: what HOST_DATA must be.
    pub host_data: String,
    /// Where evidence comes from.
    pub platform: Platform,
    /// A TDX quote or SNP report that the box made in this run.
    pub report: Option<Vec<u8>>,
    /// The agents.
    pub agents: BTreeMap<String, AgentView>,
    /// Edges that stand open.
    pub edges: Vec<EdgeView>,
    /// Last batteries of the probe.
    pub probes: Vec<ProbeView>,
    /// Filters.
    pub calls: Vec<Calls>,
    /// Checks of doctor.
    pub findings: Vec<Finding>,
    /// What agents share.
    pub ledger: Ledger,
    /// What could not be collected.
    pub not_seen: Vec<NotRun>,
}

/// What is said under a heading besides its own part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Section<T> {
    /// What is not protected, and stands first.
    pub not_protected: Vec<String>,
    /// The part.
    #[serde(flatten)]
    pub part: T,
    /// Checks of doctor that belong here, as seen in this run.
    pub checks: Vec<Finding>,
}

/// What separates agents.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Separation {
    /// Each two agents.
    pub pairs: Vec<PairView>,
}

/// What evidence covers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scope {
    /// From the hardware to an agent's memory.
    pub layers: Vec<Layer>,
}

/// What the host can still do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Surface {
    /// Each part of what the host controls.
    pub components: Vec<Component>,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// [`REPORT_TAG`].
    pub casemate: &'static str,
    /// Name of the project.
    pub project: String,
    /// When it was made, seconds since 1970, by the clock of the box (host-claimed).
    pub made: u64,
    /// The same as a date and a time of day.
    pub date: String,
    /// The composition digest.
    pub composition: String,
    /// Where evidence comes from.
    pub platform: Platform,
    /// The agents.
    pub agents: BTreeMap<String, AgentView>,
    /// Edges that stand open.
    pub edges: Vec<EdgeView>,
    /// What each secret can reach.
    pub secrets: Vec<SecretReach>,
    /// What separates agents.
    pub separation: Section<Separation>,
    /// What evidence covers.
    pub attestation: Section<Scope>,
    /// What the host can still do.
    pub hypervisor: Section<Surface>,
    /// What agents share.
    pub local: Section<Local>,
    /// What was not seen, and why.
    pub not_seen: Vec<NotRun>,
}

impl Report {
    /// Puts it together.
    #[must_use]
    pub fn new(mut input: Input) -> Self {
        if input.platform.simulated {
            disbelieve(&mut input.findings);
        }
        let layers = layers::layers(&input);
        let uncovered = layers.iter().filter(|layer| layer.cover == Cover::NotCovered);
        let mut not_covered: Vec<String> =
            uncovered.map(|layer| format!("{}: {}", layer.layer, layer.measured)).collect();
        if input.platform.simulated {
            not_covered.insert(0, layers::SIMULATED.to_owned());
        }
        let seen = of(&input, Heading::HypervisorSurface);
        let separation = Section {
            not_protected: pairs::not_protected(&input),
            part: pairs::pairs(&input),
            checks: of(&input, Heading::Separation),
        };
        let local = Section {
            not_protected: local::not_protected(&input),
            part: local::local(&input),
            checks: of(&input, Heading::LocalSurface),
        };
        Self {
            casemate: REPORT_TAG,
            secrets: reach::secrets(&input),
            separation,
            attestation: Section {
                not_protected: not_covered,
                part: Scope { layers },
                checks: of(&input, Heading::AttestationScope),
            },
            hypervisor: Section {
                not_protected: components::not_protected(),
                part: Surface { components: components::components(&input) },
                checks: seen,
            },
            local,
            project: input.project,
            made: input.now,
            date: input.date,
            composition: input.composition,
            platform: input.platform,
            agents: input.agents,
            edges: input.edges,
            not_seen: input.not_seen,
        }
    }
}

/// A field of the emulator's report is no measurement of any hardware: of what such a field says, nothing is known.
fn disbelieve(findings: &mut [Finding]) {
    let of_a_report = |finding: &&mut Finding| {
        finding.vantage == Vantage::HardwareSigned && finding.verdict != Verdict::NotApplicable
    };
    for finding in findings.iter_mut().filter(of_a_report) {
        finding.verdict = Verdict::Unknown;
        layers::FROM_THE_EMULATOR.clone_into(&mut finding.observed);
    }
}

fn of(input: &Input, heading: Heading) -> Vec<Finding> {
    input.findings.iter().filter(|finding| finding.heading == heading).cloned().collect()
}

#[cfg(test)]
mod sample;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn names(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                // Under these are names of agents and controls, and what other documents describe.
                for (name, value) in members {
                    into.insert(name.clone());
                    let has_own_names =
                        ["controls", "weak_controls", "enforced", "shared", "seen", "checks", "agents"];
                    if !has_own_names.contains(&name.as_str()) {
                        names(value, into);
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| names(item, into)),
            _ => {}
        }
    }

    #[test]
    fn the_documentation_names_each_member_of_the_report() {
        let text = include_str!("../../../docs/posture.md");
        let report = serde_json::to_value(Report::new(sample::input())).unwrap();
        let mut found = BTreeSet::new();
        names(&report, &mut found);
        names(&report["agents"]["alpha"], &mut found);
        // Of batteries, the evidence's document says the rest.
        found.extend(["attacker", "victim", "seen"].map(str::to_owned));
        let missing: Vec<_> = found.iter().filter(|name| !text.contains(&format!("`{name}`"))).collect();
        assert_eq!(missing, Vec::<&String>::new());
    }

    #[test]
    fn what_an_emulator_says_of_hardware_passes_no_check() {
        for simulated in [true, false] {
            let mut input = sample::input();
            input.platform.simulated = simulated;
            let signed = sample::finding("D05.debug", Heading::HypervisorSurface, Verdict::Pass);
            input.findings.push(Finding { vantage: Vantage::HardwareSigned, ..signed });
            let report = Report::new(input);
            let found = report.hypervisor.checks.iter().find(|finding| finding.id == "D05.debug").unwrap();
            assert_eq!(found.verdict, if simulated { Verdict::Unknown } else { Verdict::Pass });
        }
    }

    #[test]
    fn what_is_not_protected_is_said_under_each_heading() {
        let report = Report::new(sample::input());
        for list in [
            &report.separation.not_protected,
            &report.attestation.not_protected,
            &report.hypervisor.not_protected,
            &report.local.not_protected,
        ] {
            assert!(!list.is_empty());
        }
        assert_eq!(report.attestation.not_protected[0], layers::SIMULATED);
    }
}
