//! `[composition]` and `[agents.NAME]`: what a policy expects of the furniture.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use casemate_canon::Sha384;
use casemate_composition::lock::{AgentName, BackendKind};
use casemate_protocol::agent_token::Control;
use casemate_protocol::rcar::is_resource_path;
use serde::Deserialize;
use toml::Spanned;

use super::PolicyError;
use super::place::{Place, list};
use super::posture::{self, PostureExpectations};

/// Expectations of a composition and its agents. A policy without them can appraise only a platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompositionExpectations {
    /// Composition digest.
    pub digest: Sha384,
    /// Agents by name.
    pub agents: BTreeMap<AgentName, AgentExpectations>,
}

/// Expectations of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentExpectations {
    /// Agent measurement.
    pub measurement: Sha384,
    /// Backends that may have built its compartment; at least one.
    pub backends: BTreeSet<BackendKind>,
    /// Resource paths that it may receive.
    pub secrets: BTreeSet<String>,
    /// Controls that need not be fully in force: every other one must be `enforced`, without gaps.
    pub allow_weaker: BTreeSet<Control>,
    /// Controls that must be in force although not every machine has them, or not every composition asks for them.
    pub require_controls: BTreeSet<Control>,
    /// What its posture must show.
    pub posture: PostureExpectations,
    /// Whether it may be tainted.
    pub taint: Taint,
    /// Whether it may have edges that its measurement does not name.
    pub added_edges: AddedEdges,
}

/// Whether an agent may have had edges, from it or to it, that were opened while the box ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddedEdges {
    /// It may.
    Allowed,
    /// It may not.
    Refused,
}

/// Whether an agent may have been tainted by `exec` or `attach`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taint {
    /// It may.
    Allowed,
    /// It may not.
    Refused,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Composition {
    digest: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Agent {
    measurement: Spanned<String>,
    backends: Spanned<Vec<Spanned<String>>>,
    secrets: Vec<Spanned<String>>,
    allow_weaker: Vec<Spanned<String>>,
    #[serde(default)]
    require_controls: Vec<Spanned<String>>,
    #[serde(default)]
    posture: posture::Asked,
    allow_tainted: bool,
    /// Left out, it is the strict answer.
    #[serde(default)]
    allow_added_edges: bool,
}

/// What both tables say: they stand together or not at all.
pub(super) fn read(
    place: &Place<'_>,
    composition: Option<Spanned<Composition>>,
    agents: Option<Spanned<BTreeMap<Spanned<String>, Agent>>>,
) -> Result<Option<CompositionExpectations>, PolicyError> {
    let (composition, agents) = match (composition, agents) {
        (Some(composition), Some(agents)) => (composition.into_inner(), agents.into_inner()),
        (None, None) => return Ok(None),
        (Some(alone), None) => {
            let what = "[composition] is given, and no [agents]";
            return Err(place.error(&alone.span(), what, "add [agents.NAME], or [agents] for none"));
        }
        (None, Some(alone)) => {
            let what = "[agents] is given, and no [composition]";
            return Err(place.error(&alone.span(), what, "add [composition], or remove the agents"));
        }
    };
    Ok(Some(CompositionExpectations {
        digest: place.digest(&composition.digest)?,
        agents: read_agents(place, agents)?,
    }))
}

fn read_agents(
    place: &Place<'_>,
    agents: BTreeMap<Spanned<String>, Agent>,
) -> Result<BTreeMap<AgentName, AgentExpectations>, PolicyError> {
    let mut read = BTreeMap::new();
    for (name, agent) in agents {
        let parsed: AgentName = name.get_ref().parse().map_err(|error| {
            let error: casemate_composition::lock::NameError = error;
            place.error(&name.span(), error.to_string(), "write the name of an agent of the composition")
        })?;
        read.insert(parsed, read_agent(place, &agent)?);
    }
    Ok(read)
}

fn read_agent(place: &Place<'_>, agent: &Agent) -> Result<AgentExpectations, PolicyError> {
    let secret = |text: &Spanned<String>| {
        if is_resource_path(text.get_ref()) {
            return Ok(text.get_ref().clone());
        }
        let what = format!("`{}` is not a resource path", text.get_ref());
        Err(place.error(&text.span(), what, "write <repository>/<type>/<tag>"))
    };
    let control = |text: &Spanned<String>| {
        Control::from_name(text.get_ref()).ok_or_else(|| {
            let names: Vec<&str> = Control::ALL.iter().map(|control| control.name()).collect();
            let what = format!("`{}` is not a control", text.get_ref());
            place.error(&text.span(), what, &format!("write one of {}", names.join(", ")))
        })
    };
    Ok(AgentExpectations {
        measurement: place.digest(&agent.measurement)?,
        backends: read_backends(place, &agent.backends)?,
        secrets: agent.secrets.iter().map(secret).collect::<Result<_, _>>()?,
        allow_weaker: agent.allow_weaker.iter().map(control).collect::<Result<_, _>>()?,
        require_controls: agent.require_controls.iter().map(control).collect::<Result<_, _>>()?,
        posture: posture::read(place, &agent.posture)?,
        taint: if agent.allow_tainted { Taint::Allowed } else { Taint::Refused },
        added_edges: if agent.allow_added_edges { AddedEdges::Allowed } else { AddedEdges::Refused },
    })
}

fn read_backends(
    place: &Place<'_>,
    backends: &Spanned<Vec<Spanned<String>>>,
) -> Result<BTreeSet<BackendKind>, PolicyError> {
    let names = || BackendKind::ALL.map(BackendKind::name).join(", ");
    if backends.get_ref().is_empty() {
        let todo = format!("write at least one of {}", names());
        return Err(place.error(&backends.span(), "no backend is accepted", &todo));
    }
    let kind = |text: &Spanned<String>| {
        BackendKind::from_name(text.get_ref()).ok_or_else(|| {
            let what = format!("`{}` is not a backend", text.get_ref());
            place.error(&text.span(), what, &format!("write one of {}", names()))
        })
    };
    backends.get_ref().iter().map(kind).collect()
}

/// Both tables for these values.
pub(super) fn write(out: &mut String, composition: &CompositionExpectations) -> std::fmt::Result {
    writeln!(out, "\n# The resolved Compose file.\n[composition]\ndigest = \"{}\"", composition.digest)?;
    if composition.agents.is_empty() {
        writeln!(out, "\n# No agent: nothing is released.\n[agents]")?;
    }
    for (name, agent) in &composition.agents {
        writeln!(out, "\n[agents.{name}]")?;
        writeln!(out, "measurement = \"{}\"", agent.measurement)?;
        writeln!(out, "backends = {}", list(agent.backends.iter().map(|kind| kind.name())))?;
        writeln!(out, "secrets = {}", list(&agent.secrets))?;
        writeln!(out, "allow-weaker = {}", list(agent.allow_weaker.iter().map(|control| control.name())))?;
        if !agent.require_controls.is_empty() {
            let names = agent.require_controls.iter().map(|control| control.name());
            writeln!(out, "require-controls = {}", list(names))?;
        }
        writeln!(out, "allow-tainted = {}", agent.taint == Taint::Allowed)?;
        if agent.added_edges == AddedEdges::Allowed {
            writeln!(out, "allow-added-edges = true")?;
        }
        posture::write(out, name, &agent.posture)?;
    }
    Ok(())
}
