//! Connections that a composition implies: names of other services and URLs in variables and command lines.
//!
//! What it is not: complete. A program may know a name from a file of its image; whoever reads the result adds it.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::HostName;
use crate::units;
use crate::yaml::{Member, Node, Value};

use super::patch::{Patch, quoted};
use super::{items, members, text};

/// Ports of images that everybody knows by name.
const PORTS: [(&str, u16); 10] = [
    ("postgres", 5432),
    ("redis", 6379),
    ("valkey", 6379),
    ("mysql", 3306),
    ("mariadb", 3306),
    ("mongo", 27017),
    ("rabbitmq", 5672),
    ("memcached", 11211),
    ("nginx", 80),
    ("qdrant", 6333),
];
/// Ports of URLs that name none.
const SCHEMES: [(&str, u16); 12] = [
    ("http", 80),
    ("ws", 80),
    ("https", 443),
    ("wss", 443),
    ("postgres", 5432),
    ("postgresql", 5432),
    ("redis", 6379),
    ("mysql", 3306),
    ("mariadb", 3306),
    ("mongodb", 27017),
    ("amqp", 5672),
    ("grpc", 443),
];
/// Parts of variable names whose value is a host.
const HOST_WORDS: [&str; 5] = ["HOST", "SERVER", "ADDR", "ENDPOINT", "URL"];

/// What one service seems to call.
#[derive(Default)]
struct Calls {
    /// Services, with the port where it is known.
    services: BTreeSet<(String, Option<u16>)>,
    /// Hosts outside.
    hosts: BTreeSet<(String, u16)>,
}

/// Writes `talks-to`, `egress` and `expose` for what the services of `root` seem to call.
pub(super) fn declare(root: &Node, patch: &mut Patch) {
    let services: BTreeMap<&str, &Node> =
        members(root.get("services")).iter().map(|member| (member.key.as_str(), &member.node)).collect();
    let mut wanted: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for (name, node) in &services {
        let calls = calls(name, node, &services);
        let written = |key: &str| -> Vec<&str> {
            let own = node.get("x-casemate").and_then(|own| own.get(key));
            items(own).iter().filter_map(text).collect()
        };
        let has = |key: &str, endpoint: &String| written(key).contains(&endpoint.as_str());
        let mut edges = Vec::new();
        for (to, port) in calls.services {
            let port = port.or_else(|| services.get(to.as_str()).and_then(|node| usual_port(node)));
            match port {
                Some(port) => {
                    wanted.entry(to.clone()).or_default().insert(port);
                    edges.push(format!("{to}:{port}"));
                }
                None if written("talks-to").iter().any(|edge| edge.starts_with(&format!("{to}:"))) => {}
                None => {
                    let say = format!(
                        "it seems to call `{to}`: then add \"{to}:PORT\" to talks-to here, and expose: [\"PORT\"] to `{to}`"
                    );
                    patch.comment(&["services", name, "x-casemate"], &say);
                }
            }
        }
        edges.retain(|edge| !has("talks-to", edge));
        edges.sort();
        edges.dedup();
        let hosts: Vec<String> = calls.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        let hosts: Vec<String> = hosts.into_iter().filter(|host| !has("egress", host)).collect();
        for (key, endpoints) in [("talks-to", edges), ("egress", hosts)] {
            if !endpoints.is_empty() {
                let all: Vec<String> = endpoints.iter().map(|endpoint| quoted(endpoint)).collect();
                patch.put(&["services", name, "x-casemate", key], &format!("[{}]", all.join(", ")), None);
            }
        }
    }
    for (name, ports) in wanted {
        let exposed = services.get(name.as_str()).map(|node| exposed(node)).unwrap_or_default();
        let missing: Vec<String> = ports.difference(&exposed).map(|port| format!("\"{port}\"")).collect();
        if !missing.is_empty() {
            patch.put(&["services", &name, "expose"], &format!("[{}]", missing.join(", ")), None);
        }
    }
}

fn calls(name: &str, node: &Node, services: &BTreeMap<&str, &Node>) -> Calls {
    let mut calls = Calls::default();
    let others = || services.keys().filter(|other| **other != name);
    for (key, value) in words(node) {
        for other in others() {
            for port in ports_named(&value, other) {
                calls.services.insert(((*other).to_owned(), port));
            }
            let is_host = HOST_WORDS.iter().any(|word| key.to_ascii_uppercase().contains(word));
            if is_host && value == **other {
                calls.services.insert(((*other).to_owned(), None));
            }
        }
        for (host, port) in urls(&value) {
            if !services.contains_key(host.as_str()) {
                calls.hosts.insert((host, port));
            }
        }
    }
    for link in items(node.get("links")).iter().filter_map(text) {
        let other = link.split(':').next().unwrap_or_default();
        if services.contains_key(other) {
            calls.services.insert((other.to_owned(), None));
        }
    }
    // A port that is known says more than none.
    let known: BTreeSet<String> =
        calls.services.iter().filter(|(_, port)| port.is_some()).map(|(to, _)| to.clone()).collect();
    calls.services.retain(|(to, port)| port.is_some() || !known.contains(to));
    calls
}

/// Values of variables with their names, and words of command lines without.
fn words(node: &Node) -> Vec<(String, String)> {
    let mut words: Vec<(String, String)> = Vec::new();
    for Member { key, node, .. } in members(node.get("environment")) {
        words.extend(text(node).map(|value| (key.clone(), value.to_owned())));
    }
    for item in items(node.get("environment")).iter().filter_map(text) {
        words.extend(item.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
    for key in ["command", "entrypoint"] {
        let line = node.get(key);
        let all = line.and_then(text).into_iter().chain(items(line).iter().filter_map(text));
        words.extend(all.map(|word| (String::new(), word.to_owned())));
    }
    words
}

/// The ports with which `name` stands in `text`: after `name:`, or that of the URL whose host it is.
fn ports_named(text: &str, name: &str) -> Vec<Option<u16>> {
    let mut ports = Vec::new();
    for (at, _) in text.match_indices(name) {
        let (before, after) = (text.get(..at).unwrap_or_default(), text.get(at..).unwrap_or_default());
        let after = after.strip_prefix(name).unwrap_or_default();
        let inside_word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
        if before.ends_with(inside_word) || after.starts_with(inside_word) {
            continue;
        }
        let port = after.strip_prefix(':').and_then(leading_port);
        if port.is_some() && !before.ends_with('/') || before.ends_with("//") || before.ends_with('@') {
            let scheme = before.rsplit_once("://").map(|(scheme, _)| scheme);
            ports.push(port.or_else(|| scheme_port(scheme?)));
        }
    }
    ports
}

/// Hosts of the URLs in `text` that could be named under `egress`, with their ports.
fn urls(text: &str) -> Vec<(String, u16)> {
    let mut hosts = Vec::new();
    for (at, _) in text.match_indices("://") {
        let (before, rest) = (text.get(..at).unwrap_or_default(), text.get(at..).unwrap_or_default());
        let rest = rest.trim_start_matches("://");
        let end = rest.find(['/', '?', '#', ',', ' ', '"', '\'', ')', '}']).unwrap_or(rest.len());
        let authority = rest.get(..end).unwrap_or_default();
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, leading_port(port)),
            None => (authority, scheme_port(before)),
        };
        let is_outside =
            host.contains('.') && host.parse::<HostName>().is_ok_and(|host| !host.is_localhost());
        if let (true, Some(port)) = (is_outside, port) {
            hosts.push((host.to_owned(), port));
        }
    }
    hosts
}

/// The port of the scheme that `before` ends with.
fn scheme_port(before: &str) -> Option<u16> {
    let scheme = before.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '+').next().unwrap_or_default();
    let scheme = scheme.split('+').next().unwrap_or_default();
    SCHEMES.iter().find(|(name, _)| *name == scheme).map(|(_, port)| *port)
}

fn leading_port(text: &str) -> Option<u16> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    units::port(text.get(..end)?)
}

/// The one port that a service exposes or publishes, or the port that its image is known for.
fn usual_port(node: &Node) -> Option<u16> {
    let mut all = exposed(node);
    all.extend(items(node.get("ports")).iter().filter_map(published));
    let mut ports = all.into_iter();
    if let (Some(port), None) = (ports.next(), ports.next()) {
        return Some(port);
    }
    let image = node.get("image").and_then(text)?;
    let name = image.rsplit('/').next()?.split([':', '@']).next()?;
    PORTS.iter().find(|(known, _)| *known == name).map(|(_, port)| *port)
}

fn exposed(node: &Node) -> BTreeSet<u16> {
    let port = |text: &str| units::port(text.strip_suffix("/tcp").unwrap_or(text));
    items(node.get("expose")).iter().filter_map(|item| text(item).and_then(port)).collect()
}

/// The container's port of an item of `ports`.
fn published(item: &Node) -> Option<u16> {
    let target = match &item.value {
        Value::Map(_) => item.get("target").and_then(text)?,
        _ => text(item)?.rsplit(':').next()?,
    };
    units::port(target.strip_suffix("/tcp").unwrap_or(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_names_of_services_where_they_are_hosts() {
        for (text, ports) in [
            ("db:5432", vec![Some(5432)]),
            ("postgres://u:p@db:5433/x", vec![Some(5433)]),
            ("postgres://u:p@db/x", vec![Some(5432)]),
            ("http://db", vec![Some(80)]),
            ("postgresql+asyncpg://db/x", vec![Some(5432)]),
            ("a=http://db:8101,b=http://db:8102", vec![Some(8101), Some(8102)]),
            ("unknown://db/", vec![None]),
            ("/var/lib/db:/data", vec![]),
            ("mydb:5432 db2:1 db.example.com:1 db-x:1", vec![]),
            ("the db worker", vec![]),
        ] {
            assert_eq!(ports_named(text, "db"), ports, "{text}");
        }
    }

    #[test]
    fn finds_hosts_outside_in_urls_only() {
        for (text, hosts) in [
            ("https://api.example.com/v1", vec![("api.example.com", 443)]),
            ("http://u:p@api.example.com:8080?x", vec![("api.example.com", 8080)]),
            ("https://a.example,https://b.example", vec![("a.example", 443), ("b.example", 443)]),
            ("api.example.com:443", vec![]),
            ("http://localhost:80 http://127.0.0.1/ http://Upper.example/ s3://bucket.name/", vec![]),
        ] {
            let found = urls(text);
            let found: Vec<(&str, u16)> = found.iter().map(|(host, port)| (host.as_str(), *port)).collect();
            assert_eq!(found, hosts, "{text}");
        }
    }
}
