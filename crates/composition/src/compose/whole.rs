//! What only the whole file can tell: names that must exist, edges that must be exposed, circles.

use std::collections::{BTreeMap, BTreeSet};

use crate::lock::{AgentName, Condition, Mount, Port};
use crate::problem::{At, Findings, Place, printable};

use super::reach::Extension;
use super::{Compose, Service, replicas, sockets};

/// What only the whole file can tell.
pub(super) fn cross_check(compose: &Compose, f: &mut Findings<'_>) {
    for (name, service) in &compose.services {
        check_edges(compose, name, service, f);
        check_egress(compose, service, f);
        check_ports(name, service, f);
        check_dependencies(compose, name, service, f);
        for mount in &service.mounts {
            let Mount::Volume { name, .. } = &mount.value else { continue };
            if !compose.volumes.contains_key(name) {
                let guess = f.guess(name.as_str(), compose.volumes.keys().map(AgentName::as_str));
                let what = format!("volume `{name}` is not declared{guess}");
                f.problem(mount.place, what, format!("write volumes: {{ {name}: }} at the top level"));
            }
        }
        for config in &service.configs {
            let source = &config.value.source;
            if !compose.configs.contains_key(source) {
                let guess = f.guess(source, compose.configs.keys().map(String::as_str));
                let shown = printable(source);
                let what = format!("config `{shown}` is not declared{guess}");
                let todo = format!("write configs: {{ {shown}: {{ content: \"...\" }} }} at the top level");
                f.problem(config.place, what, todo);
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
    check_shared_volumes(compose, f);
    check_shared_roots(compose, f);
    check_reach(compose, f);
    check_aliases(compose, f);
    check_published(compose, f);
    check_cycle(compose, f);
    replicas::cross_check(compose, f);
    sockets::cross_check(compose, f);
}

/// Files of container engines join all services by networks. Read here, their agents would wait for each other and
/// then not find each other: whoever has declared no edge at all is told once.
fn check_reach(compose: &Compose, f: &mut Findings<'_>) {
    let calls = |extension: &Extension| !extension.talks_to.is_empty() || !extension.socket_edges.is_empty();
    if compose.services.values().any(|service| calls(&service.extension)) {
        return;
    }
    let waits = compose.services.iter().find_map(|(name, service)| {
        let mut needs = service.depends_on.iter();
        let (to, at) = needs.find(|(_, at)| at.value.condition != Condition::ServiceCompletedSuccessfully)?;
        Some((name, to, at.place))
    });
    if let Some((name, to, place)) = waits {
        let what = format!("`{name}` waits for `{to}` and may not call it: no service declares an edge");
        let todo = format!(
            "write x-casemate: {{ talks-to: [\"{to}:PORT\"] }} in `{name}`, and expose: [\"PORT\"] in `{to}`"
        );
        f.warning(place, what, todo);
    }
}

/// A name means one agent: its own name and its aliases are nobody else's, nor an outside host's.
fn check_aliases(compose: &Compose, f: &mut Findings<'_>) {
    let mut owners: BTreeMap<&AgentName, &AgentName> = BTreeMap::new();
    let hosts: BTreeSet<&str> = compose
        .services
        .values()
        .flat_map(|service| &service.extension.egress)
        .map(|at| at.value.0.as_str())
        .collect();
    for (agent, service) in &compose.services {
        for (alias, place) in &service.aliases {
            let what = if alias != agent && compose.services.contains_key(alias) {
                format!("alias `{alias}` of `{agent}` is the name of another service")
            } else if let Some(other) = owners.insert(alias, agent) {
                format!("alias `{alias}` names both `{other}` and `{agent}`")
            } else if hosts.contains(alias.as_str()) {
                format!("alias `{alias}` of `{agent}` is also an egress host")
            } else {
                continue;
            };
            f.problem(*place, what, "give it another name: a name means one agent");
        }
    }
    // The host name stands for the agent itself: what it calls by that name would be itself.
    for (agent, service) in &compose.services {
        let Some(At { place, value }) = &service.hostname else { continue };
        let other = |name: &AgentName| name != agent && name.as_str().eq_ignore_ascii_case(value);
        let taken = compose.services.keys().any(other)
            || owners
                .iter()
                .any(|(alias, owner)| *owner != agent && alias.as_str().eq_ignore_ascii_case(value))
            || hosts.contains(value.to_ascii_lowercase().as_str());
        if taken {
            let what = format!("host name `{value}` of `{agent}` is the name of another agent or host");
            f.problem(*place, what, "give it another name: what is called by a name must not be the caller");
        }
    }
}

/// A volume of two agents is a channel between them that no edge declares.
fn check_shared_volumes(compose: &Compose, f: &mut Findings<'_>) {
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

/// A group shares the images that its agents have in common: who has none in common shares nothing. What they share
/// leaks between them, so they must be of one trust group.
fn check_shared_roots(compose: &Compose, f: &mut Findings<'_>) {
    let sharing = || {
        compose.services.values().filter_map(|service| {
            let extension = &service.extension;
            let image = service.image.as_ref()?.value.as_str();
            Some((extension.share.as_ref()?, &extension.trust, image, service.replicas()))
        })
    };
    let (mut members, mut users) = (BTreeMap::new(), BTreeMap::new());
    for (At { value: group, .. }, trust, image, replicas) in sharing() {
        let (count, first) = members.entry(group).or_insert((0_u32, trust));
        *count = count.saturating_add(replicas);
        if trust.is_none() || trust != *first {
            *first = &None;
        }
        let users = users.entry((group, image)).or_insert(0_u32);
        *users = users.saturating_add(replicas);
    }
    for (At { place, value: group }, _, image, _) in sharing() {
        match members.get(group) {
            Some((1, _)) => {
                let what = format!("nobody else is in the group `{group}` of `share`");
                let todo =
                    format!("write `x-casemate: {{ share: {group} }}` in the others too, or remove it");
                f.problem(*place, what, todo);
            }
            Some((_, None)) => {
                let what = format!("agents of the group `{group}` of `share` are not of one trust group");
                f.problem(*place, what, "write the same `trust` in all of them, or remove `share`");
            }
            _ if users.get(&(group, image)) == Some(&1) => {
                let what = format!("nobody else in the group `{group}` has this image: nothing is shared");
                f.warning(*place, what, "give two of the group the same image, or remove `share`");
            }
            _ => {}
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
    let serves =
        |port: u16| service.expose.contains(&port) || service.ports.iter().any(|at| at.value.target == port);
    for (place, port) in calls.chain(outside).filter(|(_, port)| serves(*port)) {
        let what =
            format!("`{name}` listens on port {port} and calls port {port} of another: not supported yet");
        f.problem(place, what, "give one of the two another port");
    }
}

/// A port of the box leads to one agent.
fn check_published(compose: &Compose, f: &mut Findings<'_>) {
    let mut taken: Vec<(&AgentName, Port)> = Vec::new();
    for (name, service) in &compose.services {
        for At { place, value: port } in &service.ports {
            match taken.iter().find(|(other, known)| *other != name && known.excludes(port)) {
                Some((other, _)) => {
                    let what = format!("`{name}` and `{other}` both want port {} of the box", port.port);
                    f.problem(*place, what, "give one of the two another port of the box");
                }
                None => taken.push((name, *port)),
            }
        }
    }
}

fn check_dependencies(compose: &Compose, name: &AgentName, service: &Service, f: &mut Findings<'_>) {
    for (to, At { place, value: dependency }) in &service.depends_on {
        match compose.services.get(to) {
            _ if to == name => f.problem(*place, format!("`{to}` depends on itself"), "remove it"),
            None if !dependency.required => {
                let what =
                    format!("`depends_on` names `{to}`, which is no service here, and it is not required");
                f.warning(*place, what, "remove it, or add the service");
            }
            None => {
                let guess = f.guess(to.as_str(), compose.services.keys().map(AgentName::as_str));
                f.problem(
                    *place,
                    format!("`depends_on` names `{to}`, which is no service{guess}"),
                    "name a service",
                );
            }
            Some(target) if dependency.condition == Condition::ServiceHealthy && target.health.is_none() => {
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
