//! A Compose file as a typed model, read in the strict mode of the Compose specification.
//!
//! Every key is honoured, refused with a reason, or warned about ([`crate::keys`]); all problems are reported at
//! once, each with its place. What it is not: resolved. Images are references until [`Compose::resolve`].

mod blkio;
mod hooks;
mod limits;
mod logging;
mod mounts;
mod ports;
mod reach;
mod read;
mod replicas;
mod run;
mod service;
mod sockets;
mod top;
mod traffic;
mod whole;

use std::collections::{BTreeMap, BTreeSet};

use crate::interpolate::Interpolator;
use crate::keys;
use crate::load::{self, NoFiles, Request};
use crate::lock::{AGENTS_MAX, AgentName};
use crate::problem::{Findings, Place, Problem, Problems, printable};
use crate::source::Sources;
use crate::yaml::{self, Member, Node, Value};

pub(crate) use mounts::{TMPFS_BYTES_DEFAULT, TMPFS_MODE_DEFAULT, is_plain_name, target_of};
pub(crate) use read::{absolute_path, is_old_truth, other_type};
pub(crate) use service::Service;

/// A Compose file, read.
#[derive(Debug, Clone)]
pub struct Compose {
    /// What has no effect or deserves a second look.
    pub warnings: Vec<Problem>,
    /// The files, so that problems found later show their lines.
    pub(crate) sources: Sources,
    pub(crate) project: AgentName,
    pub(crate) services: BTreeMap<AgentName, Service>,
    /// Key at the top level, and the volume's name.
    pub(crate) volumes: BTreeMap<AgentName, top::WrittenVolume>,
    /// Key at the top level, and the content; none where it already has its problem.
    pub(crate) configs: BTreeMap<String, Option<String>>,
    /// Key at the top level, and the name at the broker.
    pub(crate) secrets: BTreeMap<String, String>,
    pub(crate) relying_party: RelyingParty,
    /// Digest of gVisor's program, where it is known.
    pub(crate) runsc: Option<casemate_canon::Sha256>,
}

/// What the top-level `x-casemate` says to whoever verifies. Not in the lock: it concerns the relying party.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelyingParty {
    /// Path of the policy file, relative to the Compose file's folder or absolute.
    pub policy: Option<String>,
    /// Largest age of collateral in days.
    pub collateral_days_max: Option<u32>,
}

/// Reads the Compose file `text` alone, without profiles. `file_name` is used in messages, `environment` for `${VAR}`.
/// [`crate::load`] reads compositions of several files.
///
/// # Errors
/// [`Problems`]: everything that is wrong, each with line and column.
pub fn parse(
    file_name: &str,
    text: &str,
    environment: &BTreeMap<String, String>,
) -> Result<Compose, Problems> {
    let request = Request::of(file_name, text, environment.clone());
    let loaded = load::load(&request, &mut NoFiles)?;
    loaded.into_compose().ok_or_else(|| Problems::of_nothing(file_name))
}

/// What the top-level `x-casemate` of the Compose file `text` says to whoever verifies: the rest of the file is not read.
///
/// # Errors
/// [`Problems`]: the file is not YAML, or this part of it is wrong.
pub fn relying_party(
    file_name: &str,
    text: &str,
    environment: &BTreeMap<String, String>,
) -> Result<RelyingParty, Problems> {
    let mut findings = Findings::default();
    let id = findings.add(file_name, text);
    let read = yaml::parse(id, &mut findings).map(|mut root| {
        let Value::Map(members) = &mut root.value else { return RelyingParty::default() };
        let Some(member) = members.iter_mut().find(|member| member.key == "x-casemate") else {
            return RelyingParty::default();
        };
        let mut interpolator = Interpolator::new();
        interpolator.tree(&mut member.node, environment);
        interpolator.faults.report(&member.node, &mut findings);
        top::relying_party(&member.node, &mut findings)
    });
    Ok(findings.finish(read)?.0)
}

/// When an image is got from its registry (`pull_policy`), from the rarest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PullPolicy {
    /// Not at all.
    Never,
    /// Where it is not in the store.
    Missing,
    /// Every time, so that a tag is looked up again.
    Always,
}

impl Compose {
    /// The project's name.
    #[must_use]
    pub const fn project(&self) -> &AgentName {
        &self.project
    }

    /// What it says to whoever verifies.
    #[must_use]
    pub const fn relying_party(&self) -> &RelyingParty {
        &self.relying_party
    }

    /// The agents' names.
    pub fn agents(&self) -> impl Iterator<Item = &AgentName> {
        self.services.keys()
    }

    /// The images, and when `casemate image pull` gets each. Of two services that differ about one, the one that pulls
    /// more often counts; without `pull_policy` it is always.
    #[must_use]
    pub fn pull_policies(&self) -> BTreeMap<&str, PullPolicy> {
        let mut policies = BTreeMap::new();
        for service in self.services.values().filter(|service| service.replicas() > 0) {
            let Some(image) = &service.image else { continue };
            let own = service.pull_policy.unwrap_or(PullPolicy::Always);
            let policy = policies.entry(image.value.as_str()).or_insert(own);
            *policy = own.max(*policy);
        }
        policies
    }

    /// The image references as written.
    #[must_use]
    pub fn images(&self) -> BTreeSet<&str> {
        self.services
            .values()
            .filter(|service| service.replicas() > 0)
            .filter_map(|service| service.image.as_ref())
            .map(|at| at.value.as_str())
            .collect()
    }
}

/// The model of a merged tree. What is wrong is noted; none where too much is.
pub(crate) fn model(
    root: &Node,
    environment: &BTreeMap<String, String>,
    scale: &BTreeMap<AgentName, u32>,
    f: &mut Findings<'_>,
) -> Option<Compose> {
    let Value::Map(_) = root.value else {
        let what = format!("file is {}, not a mapping", root.kind());
        f.problem(root.place, what, "write a composition: `name:`, `services:` and what they need");
        return None;
    };
    let mut name = None;
    let mut services = None;
    let (mut volumes, mut configs, mut secrets) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut relying_party = RelyingParty::default();
    read::walk(&keys::TOP, root, f, |f, key, member| match key {
        "name" => name = Some(project(member, f)),
        "services" => services = Some(all_services(member, environment, f)),
        "volumes" => volumes = top::volumes(&member.node, f),
        "configs" => configs = top::configs(&member.node, environment, f),
        "secrets" => secrets = top::secrets(&member.node, f),
        _ => relying_party = top::relying_party(&member.node, f),
    });
    let project = match name {
        Some(project) => project,
        None => project_from(environment, f),
    };
    let Some(mut services) = services else {
        f.problem(Place::START, "file has no `services`", "write services: and at least one service");
        return None;
    };
    replicas::scale(&mut services, scale, f);
    let compose = Compose {
        warnings: Vec::new(),
        sources: f.sources().clone(),
        project: project?,
        services,
        volumes,
        configs,
        secrets,
        relying_party,
        runsc: None,
    };
    whole::cross_check(&compose, f);
    Some(compose)
}

fn project(member: &Member, f: &mut Findings<'_>) -> Option<AgentName> {
    read::parsed(&member.node, "name", "1 to 63 of a-z, 0-9, `-` and `_`", f, |text| text.parse().ok())
        .map(|at| at.value)
}

/// `COMPOSE_PROJECT_NAME`. The directory's name is not used: the lock must be the same wherever the file lies.
fn project_from(environment: &BTreeMap<String, String>, f: &mut Findings<'_>) -> Option<AgentName> {
    let name = environment.get("COMPOSE_PROJECT_NAME").and_then(|name| name.parse().ok());
    if name.is_none() {
        f.problem(Place::START, "project has no name", "write name: my-project at the top level");
    }
    name
}

fn all_services(
    member: &Member,
    environment: &BTreeMap<String, String>,
    f: &mut Findings<'_>,
) -> BTreeMap<AgentName, Service> {
    let mut services = BTreeMap::new();
    let Value::Map(members) = &member.node.value else {
        read::mapping(&member.node, "`services`", f);
        return services;
    };
    if members.is_empty() || members.len() > AGENTS_MAX {
        let what = format!("file has {} services, 1 to {AGENTS_MAX} are possible", members.len());
        f.problem(member.key_place, what, "write at least one service, or split the composition");
        return services;
    }
    for member in members {
        let service = service::service(member, environment, f);
        match member.key.parse() {
            Ok(name) => drop(services.insert(name, service)),
            Err(_) => {
                let what = format!(
                    "service name `{}` is not 1 to 63 of a-z, 0-9, `-` and `_`",
                    printable(&member.key)
                );
                f.problem(
                    member.key_place,
                    what,
                    "rename the service: its name is a host name for its peers",
                );
            }
        }
    }
    services
}
