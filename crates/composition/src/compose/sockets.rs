//! Unix sockets of services: those that a service offers, and the edges of others to them.

use std::collections::{BTreeMap, BTreeSet};

use crate::lock::{AgentName, BackendKind};
use crate::problem::{At, Findings, Place, printable};
use crate::sockets::{SOCKET_PATH_BYTES_MAX, SocketEdge, SocketPath, SocketPathError};
use crate::yaml::Node;

use super::read::{list, text};
use super::{Compose, Service};

/// Most sockets that one agent offers.
const SOCKETS_MAX: usize = 64;

/// `sockets` of `x-casemate`.
pub(super) fn sockets(node: &Node, f: &mut Findings<'_>) -> BTreeMap<SocketPath, Place> {
    let mut all = BTreeMap::new();
    for item in list(node, "sockets", f) {
        let Some(text) = text(item, "sockets", f) else { continue };
        let place = item.place;
        match text.parse::<SocketPath>() {
            Err(error) => {
                let what = format!("`sockets` has `{}`: {error}", printable(&text));
                f.problem(place, what, todo(error));
            }
            Ok(_) if all.len() >= SOCKETS_MAX => {
                f.problem(place, format!("more than {SOCKETS_MAX} sockets"), "offer fewer");
            }
            Ok(path) => {
                if all.insert(path, place).is_some() {
                    f.problem(
                        place,
                        format!("`{}` is written twice", printable(&text)),
                        "keep one of the two",
                    );
                }
            }
        }
    }
    all
}

/// What to write in place of a path that is refused.
pub(super) const fn todo(error: SocketPathError) -> &'static str {
    match error {
        SocketPathError::NotItsOwn(_) => "let its program make the socket below another folder",
        SocketPathError::TooLong => "let its program make the socket at a shorter path",
        _ => "write the path of a Unix socket, such as /run/postgresql/.s.PGSQL.5432",
    }
}

/// What only the whole file can tell of edges to sockets.
pub(super) fn cross_check(compose: &Compose, f: &mut Findings<'_>) {
    for (name, service) in &compose.services {
        if let Some((path, place)) = service.extension.sockets.iter().next().filter(|_| is_gvisor(service)) {
            let what =
                format!("`{name}` runs under gVisor and offers the socket `{path}`: not supported yet");
            f.problem(*place, what, "expose a port, or leave `backend: gvisor` out");
        }
        for edge in &service.extension.socket_edges {
            check_edge(compose, name, service, edge, f);
        }
        check_places(service, f);
    }
}

fn check_edge(
    compose: &Compose,
    name: &AgentName,
    service: &Service,
    At { place, value: edge }: &At<SocketEdge>,
    f: &mut Findings<'_>,
) {
    let to = &edge.to;
    let (what, todo) = match compose.services.get(to) {
        _ if to == name => {
            (format!("`{to}` talks to itself"), "remove it: its own sockets are always open to it".to_owned())
        }
        None => {
            let guess = f.guess(to.as_str(), compose.services.keys().map(AgentName::as_str));
            let what = format!("`talks-to` names `{to}`, which is no service of this file{guess}");
            (what, "name a service".to_owned())
        }
        Some(target) if !target.extension.sockets.contains_key(&edge.path) => (
            format!("`talks-to` names `{edge}`, which `{to}` does not offer"),
            format!(
                "write x-casemate: {{ sockets: [\"{}\"] }} in service `{to}`, or another path",
                edge.path
            ),
        ),
        Some(target) if target.replicas() > 1 => (
            format!("`talks-to` names a socket of `{to}`, which has replicas: not supported yet"),
            format!("run one replica of `{to}`, or call a port of it"),
        ),
        Some(target) if target.replicas() == 0 => {
            let what = format!("`{name}` calls `{to}`, of which there are 0 replicas: the edge is left out");
            f.warning(*place, what, format!("run a replica of `{to}`, or remove the edge"));
            return;
        }
        Some(_) if is_gvisor(service) => (
            format!("`{name}` runs under gVisor and calls a socket of `{to}`: not supported yet"),
            format!("call a port of `{to}`, or leave `backend: gvisor` out"),
        ),
        Some(_) if edge.callers_path().len() > SOCKET_PATH_BYTES_MAX => (
            format!("`{name}` would find it at {}, which no socket's path can be", edge.callers_path()),
            format!(
                "shorten the service's name or the path by {} bytes",
                edge.callers_path().len().saturating_sub(SOCKET_PATH_BYTES_MAX)
            ),
        ),
        Some(_) => return,
    };
    f.problem(*place, what, todo);
}

/// A socket cannot be a folder of another.
fn check_places(service: &Service, f: &mut Findings<'_>) {
    let edges = &service.extension.socket_edges;
    let places: BTreeSet<String> = edges.iter().map(|at| at.value.callers_path()).collect();
    for At { place, value: edge } in edges {
        let own = format!("{}/", edge.callers_path());
        if places.iter().any(|other| other.starts_with(&own)) {
            let what = format!("`{edge}` is a folder on the way to another socket of `{}`", edge.to);
            f.problem(*place, what, "call one of the two");
        }
    }
}

fn is_gvisor(service: &Service) -> bool {
    service.extension.backend.as_ref().is_some_and(|at| at.value == BackendKind::Gvisor)
}
