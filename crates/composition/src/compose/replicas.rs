//! How many agents run a service: `scale`, `deploy.replicas`, and what the command line says of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::HostName;
use crate::lock::{AGENTS_MAX, AgentName, Mount};
use crate::problem::{At, Findings, Place};
use crate::replicas::{REPLICAS_MAX, replica};
use crate::units;
use crate::yaml::Node;

use super::read::parsed;
use super::{Compose, Service};

/// `scale`, and `replicas` of `deploy`. Both may say it; they must agree.
pub(super) fn count(node: &Node, key: &str, slot: &mut Option<At<u32>>, f: &mut Findings<'_>) {
    let read = parsed(node, key, "a number of agents from 0 to 100", f, |text| {
        u32::try_from(units::natural(text)?).ok().filter(|count| *count <= REPLICAS_MAX)
    });
    let Some(new) = read else { return };
    match slot {
        Some(old) if old.value != new.value => {
            f.problem(
                new.place,
                "`scale` and `replicas` of `deploy` say different things",
                "keep one of the two",
            );
        }
        _ => *slot = Some(new),
    }
}

/// What the command line says wins over the files.
pub(super) fn scale(
    services: &mut BTreeMap<AgentName, Service>,
    scale: &BTreeMap<AgentName, u32>,
    f: &mut Findings<'_>,
) {
    for (name, count) in scale {
        match services.get_mut(name) {
            Some(_) if *count > REPLICAS_MAX => {
                let what = format!("`--scale` asks for {count} replicas of `{name}`");
                f.problem(Place::START, what, format!("ask for 0 to {REPLICAS_MAX}"));
            }
            Some(service) => service.replicas = Some(At { place: service.place, value: *count }),
            None => {
                let guess = f.guess(name.as_str(), services.keys().map(AgentName::as_str));
                let what = format!("`--scale` names `{name}`, which is no service of this file{guess}");
                f.problem(Place::START, what, "name a service");
            }
        }
    }
}

/// What only the whole file can tell of replicas.
pub(super) fn cross_check(compose: &Compose, f: &mut Findings<'_>) {
    let all = compose.services.values().map(|service| usize::try_from(service.replicas()).unwrap_or(0));
    let all = all.fold(0, usize::saturating_add);
    if (all == 0 && !compose.services.is_empty()) || all > AGENTS_MAX {
        let what = format!("file has {all} agents, its replicas counted: 1 to {AGENTS_MAX} are possible");
        f.problem(Place::START, what, "change `scale` or `replicas`");
    }
    let taken = names(compose);
    for (name, service) in &compose.services {
        let Some(At { place, value: count }) = &service.replicas else { continue };
        if *count > 1 {
            check_several(name, service, f);
            check_names(name, *count, *place, &taken, f);
        } else if *count == 0 {
            check_callers(compose, name, f);
        }
    }
}

/// What only one agent can have.
fn check_several(name: &AgentName, service: &Service, f: &mut Findings<'_>) {
    if let Some(place) = service.container_name {
        let what = format!("`{name}` has replicas and a `container_name`, which only one can have");
        f.problem(place, what, "remove `container_name`: they are called by the service's name");
    }
    if let Some(port) = service.ports.first() {
        let what = format!(
            "`{name}` has replicas, and only one of them can have port {} of the box",
            port.value.port
        );
        let todo = "publish a service of one agent that calls the replicas: a proxy";
        f.problem(port.place, what, todo);
    }
    for mount in &service.mounts {
        if let Mount::Volume { name: volume, .. } = &mount.value {
            let what =
                format!("volume `{volume}` is shared by the replicas of `{name}`: a channel between them");
            f.warning(mount.place, what, "keep it if that is the purpose");
        }
    }
}

/// Names that mean something already: services, aliases, outside hosts and host names.
fn names(compose: &Compose) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (name, service) in &compose.services {
        all.insert(name.to_string());
        all.extend(service.aliases.keys().map(ToString::to_string));
        all.extend(service.extension.egress.iter().map(|at| HostName::as_str(&at.value.0).to_owned()));
        all.extend(service.hostname.iter().map(|at| at.value.to_ascii_lowercase()));
    }
    all
}

fn check_names(name: &AgentName, count: u32, place: Place, taken: &BTreeSet<String>, f: &mut Findings<'_>) {
    for number in 1..=count {
        let Some(replica) = replica(name, number) else {
            let what = format!("`{name}` is too long a name for {count} replicas");
            return f.problem(place, what, "give the service a shorter name");
        };
        if taken.contains(replica.as_str()) {
            let what = format!("replica {number} of `{name}` would be `{replica}`, a name that is taken");
            return f.problem(place, what, "rename the other: a name means one agent");
        }
    }
}

/// A service that no agent runs is called by nobody.
fn check_callers(compose: &Compose, name: &AgentName, f: &mut Findings<'_>) {
    for (caller, service) in &compose.services {
        for edge in service.extension.talks_to.iter().filter(|edge| edge.value.to == *name) {
            let what =
                format!("`{caller}` calls `{name}`, of which there are 0 replicas: the edge is left out");
            f.warning(edge.place, what, format!("run a replica of `{name}`, or remove the edge"));
        }
    }
}
