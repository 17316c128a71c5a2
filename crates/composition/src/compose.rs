//! A Compose file as a typed model, read in the strict mode of the Compose specification.
//!
//! Every key is honoured, refused with a reason, or warned about ([`crate::keys`]); all problems are reported at
//! once, each with its place. What it is not: resolved. Images are references until [`Compose::resolve`].

mod mounts;
mod reach;
mod read;
mod run;
mod service;

use std::collections::{BTreeMap, BTreeSet};

use crate::keys;
use crate::load::{self, NoFiles, Request};
use crate::lock::{AGENTS_MAX, AgentName, Condition, Mount};
use crate::problem::{At, Findings, Place, Problem, Problems, printable};
use crate::source::Sources;
use crate::yaml::{Member, Node, Value};

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
    pub(crate) volumes: BTreeSet<AgentName>,
    /// Key at the top level, and the name at the broker.
    pub(crate) secrets: BTreeMap<String, String>,
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

impl Compose {
    /// The project's name.
    #[must_use]
    pub const fn project(&self) -> &AgentName {
        &self.project
    }

    /// The agents' names.
    pub fn agents(&self) -> impl Iterator<Item = &AgentName> {
        self.services.keys()
    }

    /// The image references as written.
    #[must_use]
    pub fn images(&self) -> BTreeSet<&str> {
        self.services
            .values()
            .filter_map(|service| service.image.as_ref())
            .map(|at| at.value.as_str())
            .collect()
    }
}

/// The model of a merged tree. What is wrong is noted; none where too much is.
pub(crate) fn model(
    root: &Node,
    environment: &BTreeMap<String, String>,
    f: &mut Findings<'_>,
) -> Option<Compose> {
    let Value::Map(_) = root.value else {
        let what = format!("file is {}, not a mapping", root.kind());
        f.problem(root.place, what, "write a composition: `name:`, `services:` and what they need");
        return None;
    };
    let mut name = None;
    let mut services = None;
    let (mut volumes, mut secrets) = (BTreeSet::new(), BTreeMap::new());
    read::walk(&keys::TOP, root, f, |f, key, member| match key {
        "name" => name = Some(project(member, f)),
        "services" => services = Some(all_services(member, environment, f)),
        "volumes" => volumes = top_volumes(&member.node, f),
        _ => secrets = top_secrets(&member.node, f),
    });
    let project = match name {
        Some(project) => project,
        None => project_from(environment, f),
    };
    let Some(services) = services else {
        f.problem(Place::START, "file has no `services`", "write services: and at least one service");
        return None;
    };
    let compose = Compose {
        warnings: Vec::new(),
        sources: f.sources().clone(),
        project: project?,
        services,
        volumes,
        secrets,
    };
    cross_check(&compose, f);
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

fn top_volumes(node: &Node, f: &mut Findings<'_>) -> BTreeSet<AgentName> {
    let mut volumes = BTreeSet::new();
    for member in read::mapping(node, "volumes", f) {
        if !member.node.is_null() {
            read::walk(&keys::VOLUME, &member.node, f, |_, _, _| {});
        }
        match member.key.parse() {
            Ok(name) => drop(volumes.insert(name)),
            Err(_) => {
                let what =
                    format!("volume name `{}` is not made of a-z, 0-9, `-` and `_`", printable(&member.key));
                f.problem(member.key_place, what, "rename the volume");
            }
        }
    }
    volumes
}

fn top_secrets(node: &Node, f: &mut Findings<'_>) -> BTreeMap<String, String> {
    let mut secrets = BTreeMap::new();
    for member in read::mapping(node, "secrets", f) {
        let (mut external, mut name, mut other) = (None, None, false);
        if !member.node.is_null() {
            read::walk(&keys::SECRET, &member.node, f, |f, key, member| match key {
                "external" => external = read::truth(&member.node, key, f),
                _ => name = read::text(&member.node, key, f),
            });
            other = read::mapping(&member.node, "secret", f)
                .iter()
                .any(|member| matches!(member.key.as_str(), "file" | "environment"));
        }
        // A secret from a file or a variable already has its problem.
        if external != Some(true) && !other {
            let what = format!("secret `{}` is not external", printable(&member.key));
            f.problem(member.key_place, what, "write external: true: secrets come from the broker");
        }
        let name = name.unwrap_or_else(|| member.key.clone());
        if !is_plain_name(&name) {
            let what = format!(
                "secret name `{}` is not 1 to 64 of a-z, A-Z, 0-9, `_`, `-` and `.`",
                printable(&name)
            );
            f.problem(member.key_place, what, "rename the secret");
        }
        secrets.insert(member.key.clone(), name);
    }
    secrets
}

/// What only the whole file can tell.
fn cross_check(compose: &Compose, f: &mut Findings<'_>) {
    for (name, service) in &compose.services {
        check_edges(compose, name, service, f);
        check_egress(compose, service, f);
        check_ports(name, service, f);
        check_dependencies(compose, name, service, f);
        for mount in &service.mounts {
            let Mount::Volume { name, .. } = &mount.value else { continue };
            if !compose.volumes.contains(name) {
                let guess = f.guess(name.as_str(), compose.volumes.iter().map(AgentName::as_str));
                let what = format!("volume `{name}` is not declared{guess}");
                f.problem(mount.place, what, format!("write volumes: {{ {name}: }} at the top level"));
            }
        }
        for secret in &service.secrets {
            let source = &secret.value.source;
            if !compose.secrets.contains_key(source) {
                let guess = f.guess(source, compose.secrets.keys().map(String::as_str));
                let shown = printable(source);
                let what = format!("secret `{shown}` is not declared{guess}");
                f.problem(
                    secret.place,
                    what,
                    format!("write secrets: {{ {shown}: {{ external: true }} }} at the top level"),
                );
            }
        }
    }
    check_sharing(compose, f);
    check_cycle(compose, f);
}

/// A volume of two agents is a channel between them that no edge declares.
fn check_sharing(compose: &Compose, f: &mut Findings<'_>) {
    let mut first_user: BTreeMap<&AgentName, &AgentName> = BTreeMap::new();
    for (agent, service) in &compose.services {
        for mount in &service.mounts {
            let Mount::Volume { name, .. } = &mount.value else { continue };
            let first = *first_user.entry(name).or_insert(agent);
            if first != agent {
                let what =
                    format!("volume `{name}` is shared by `{first}` and `{agent}`: a channel between them");
                f.warning(mount.place, what, "give each its own volume, or keep it if that is the purpose");
            }
        }
    }
}

fn check_edges(compose: &Compose, name: &AgentName, service: &Service, f: &mut Findings<'_>) {
    for edge in &service.extension.talks_to {
        let (to, port) = (&edge.value.to, edge.value.port);
        match compose.services.get(to) {
            _ if to == name => {
                f.problem(
                    edge.place,
                    format!("`{to}` talks to itself"),
                    "remove it: 127.0.0.1 is always open",
                );
            }
            None => {
                let guess = f.guess(to.as_str(), compose.services.keys().map(AgentName::as_str));
                let what = format!("`talks-to` names `{to}`, which is no service of this file{guess}");
                f.problem(edge.place, what, "name a service; outside hosts go under `egress`");
            }
            Some(target) if !target.expose.contains(&port) => {
                let what = format!("`talks-to` names `{to}:{port}`, which `{to}` does not expose");
                f.problem(
                    edge.place,
                    what,
                    format!("write expose: [\"{port}\"] in service `{to}`, or another port"),
                );
            }
            Some(_) => {}
        }
    }
}

fn check_egress(compose: &Compose, service: &Service, f: &mut Findings<'_>) {
    for At { place, value: (host, _) } in &service.extension.egress {
        if host.as_str().parse().is_ok_and(|name: AgentName| compose.services.contains_key(&name)) {
            let what = format!("egress host `{host}` is also a service");
            f.problem(*place, what, "use `talks-to` for the service, or another name for the host");
        } else if host.is_localhost() && !service.extra_hosts.contains_key(host) {
            let what = format!("egress host `{host}` means the box itself");
            f.problem(*place, what, "name another host, and its address under `extra_hosts`");
        }
    }
}

/// An agent's own servers and the listeners that stand for whom it calls share one network namespace, and a server
/// on all addresses of a port shuts out a listener on one address of it.
fn check_ports(name: &AgentName, service: &Service, f: &mut Findings<'_>) {
    let others = service.extension.talks_to.iter().filter(|at| at.value.to != *name);
    let calls = others.map(|at| (at.place, at.value.port));
    let outside = service.extension.egress.iter().map(|at| (at.place, at.value.1));
    for (place, port) in calls.chain(outside).filter(|(_, port)| service.expose.contains(port)) {
        let what =
            format!("`{name}` listens on port {port} and calls port {port} of another: not supported yet");
        f.problem(place, what, "give one of the two another port");
    }
}

fn check_dependencies(compose: &Compose, name: &AgentName, service: &Service, f: &mut Findings<'_>) {
    for (to, At { place, value: condition }) in &service.depends_on {
        match compose.services.get(to) {
            _ if to == name => f.problem(*place, format!("`{to}` depends on itself"), "remove it"),
            None => {
                let guess = f.guess(to.as_str(), compose.services.keys().map(AgentName::as_str));
                f.problem(
                    *place,
                    format!("`depends_on` names `{to}`, which is no service{guess}"),
                    "name a service",
                );
            }
            Some(target) if *condition == Condition::ServiceHealthy && target.health.is_none() => {
                let what = format!("`depends_on` waits for `{to}` to be healthy, which has no health check");
                f.problem(
                    *place,
                    what,
                    format!("write healthcheck: in service `{to}`, or wait for service_started"),
                );
            }
            Some(_) => {}
        }
    }
}

/// Notes one circle of `depends_on`, where there is one: take away what depends on nothing until nothing changes.
fn check_cycle(compose: &Compose, f: &mut Findings<'_>) {
    let mut left: BTreeSet<&AgentName> = compose.services.keys().collect();
    loop {
        let free: Vec<_> = left
            .iter()
            .filter(|name| {
                compose.services.get(**name).is_none_or(|service| {
                    service.depends_on.keys().all(|to| !left.contains(to) || to == **name)
                })
            })
            .copied()
            .collect();
        if free.is_empty() {
            break;
        }
        for name in free {
            left.remove(name);
        }
    }
    let Some(start) = left.first().copied() else { return };
    let mut path = vec![start];
    let mut here = start;
    while let Some(next) = compose
        .services
        .get(here)
        .and_then(|service| service.depends_on.keys().find(|to| left.contains(to) && *to != here))
    {
        let seen = path.iter().position(|name| *name == next);
        path.push(next);
        if let Some(seen) = seen {
            let circle: Vec<_> = path.iter().skip(seen).map(|name| name.as_str()).collect();
            let place = compose.services.get(next).map_or(Place::START, |service| service.place);
            f.problem(
                place,
                format!("`depends_on` goes in a circle: {}", circle.join(" -> ")),
                "break the circle",
            );
            return;
        }
        here = next;
    }
}
