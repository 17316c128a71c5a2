//! Keys that say whom an agent may reach and who may reach it: nothing else is reachable.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use crate::host::{HostName, HostNameError};
use crate::keys::{self, NOT_YET};
use crate::lock::{AgentName, BackendKind, Edge, Exec, Memory, TrafficLimits};
use crate::problem::{At, Findings, Place, printable};
use crate::sockets::{SocketEdge, SocketPath};
use crate::units;
use crate::yaml::{Member, Node, Value};

use super::read::{self, list, parsed, scalar, text, texts, walk};
use super::sockets;
use super::traffic::{self, Written};

/// Most edges, egress endpoints, or exposed ports of one agent.
const ENDPOINTS_MAX: usize = 256;

/// Most names of one agent besides its own.
const ALIASES_MAX: usize = 16;

/// What `x-casemate` of a service says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extension {
    pub(crate) talks_to: Vec<At<Edge>>,
    pub(crate) socket_edges: Vec<At<SocketEdge>>,
    /// Unix sockets by which it may be reached.
    pub(crate) sockets: BTreeMap<SocketPath, Place>,
    pub(crate) egress: Vec<At<(HostName, u16)>>,
    /// Limits of single endpoints of both, by `name:port`.
    pub(crate) traffic: BTreeMap<String, TrafficLimits>,
    pub(crate) backend: Option<At<BackendKind>>,
    pub(crate) trust: Option<AgentName>,
    pub(crate) share: Option<At<AgentName>>,
    pub(crate) memory: Option<Memory>,
    pub(crate) exec: Option<Exec>,
}

/// `x-casemate` of a service.
pub(crate) fn extension(node: &Node, f: &mut Findings<'_>) -> Extension {
    let mut extension = Extension::default();
    walk(&keys::X_CASEMATE, node, f, |f, key, member| match key {
        "talks-to" => {
            for At { place, value } in endpoints(&member.node, key, call, &mut extension.traffic, f) {
                match value {
                    Call::Port(value) => extension.talks_to.push(At { place, value }),
                    Call::Socket(value) => extension.socket_edges.push(At { place, value }),
                }
            }
        }
        "egress" => extension.egress = endpoints(&member.node, key, egress, &mut extension.traffic, f),
        "sockets" => extension.sockets = sockets::sockets(&member.node, f),
        "share" => {
            let wanted = "the name of a group: 1 to 63 of a-z, 0-9, `-` and `_`";
            extension.share = parsed(&member.node, key, wanted, f, |name| name.parse().ok());
        }
        "trust" => {
            let wanted = "the name of a trust group: 1 to 63 of a-z, 0-9, `-` and `_`";
            extension.trust =
                parsed(&member.node, key, wanted, f, |name| name.parse().ok()).map(|at| at.value);
        }
        "backend" => {
            extension.backend = parsed(&member.node, key, "native or gvisor", f, BackendKind::from_name);
        }
        "memory" => {
            if choice(member, &MEMORY, f) {
                extension.memory = Some(Memory::DenyWriteExecute);
            }
        }
        "exec" => {
            let wanted = "allow (it taints the agent) or deny";
            let read = parsed(&member.node, key, wanted, f, |text| match text {
                "allow" => Some(Exec::Allow),
                "deny" => Some(Exec::Deny),
                _ => None,
            });
            extension.exec = read.map(|at| at.value);
        }
        "partition" => drop(choice(member, &PARTITIONS, f)),
        _ => drop(choice(member, &SECRETS, f)),
    });
    extension
}

/// The one value of a key that is supported, and why each of the others is refused.
struct Choice {
    supported: &'static str,
    refused: &'static [(&'static str, &'static str, &'static str)],
}

const PARTITIONS: Choice = Choice {
    supported: "compartment",
    refused: &[(
        "vm",
        "not supported yet, and today's confidential VMs cannot hold another",
        "run the agent in a box of its own, or write compartment",
    )],
};
const MEMORY: Choice = Choice { supported: "deny-write-execute", refused: &[] };
const SECRETS: Choice = Choice {
    supported: "file",
    refused: &[
        (
            "env",
            "what stands in the environment shows in /proc and is passed on to every child",
            "write file, and read the secret below /run/secrets",
        ),
        ("inject", NOT_YET, "write file, and read the secret below /run/secrets"),
    ],
};

/// Whether the member's value is the supported one.
fn choice(member: &Member, choice: &Choice, f: &mut Findings<'_>) -> bool {
    let (node, key) = (&member.node, printable(&member.key));
    let Some((value, _)) = scalar(node, &key, f) else { return false };
    if value == choice.supported {
        return true;
    }
    match choice.refused.iter().find(|(name, _, _)| *name == value) {
        Some((name, reason, instead)) => {
            f.problem(node.place, read::refusal(&format!("{key}: {name}"), reason), instead);
        }
        None => {
            let what = format!("`{key}` is `{}`", printable(value));
            f.problem(node.place, what, format!("write {}", choice.supported));
        }
    }
    false
}

fn endpoints<T: PartialEq>(
    node: &Node,
    key: &str,
    read: fn(&str, Place, &mut Findings<'_>) -> Option<T>,
    limits: &mut BTreeMap<String, TrafficLimits>,
    f: &mut Findings<'_>,
) -> Vec<At<T>> {
    let mut all: Vec<At<T>> = Vec::new();
    for item in list(node, key, f) {
        let Some(Written { endpoint, place, limits: written }) = traffic::endpoint(item, key, f) else {
            continue;
        };
        let Some(value) = read(&endpoint, place, f) else { continue };
        if all.iter().any(|other| other.value == value) {
            f.problem(place, format!("`{}` is written twice", printable(&endpoint)), "keep one of the two");
        } else if all.len() >= ENDPOINTS_MAX {
            f.problem(place, format!("more than {ENDPOINTS_MAX} endpoints"), "declare fewer");
        } else {
            limits.extend(written.map(|written| (endpoint, written)));
            all.push(At { place, value });
        }
    }
    all
}

fn split<'t>(
    text: &'t str,
    key: &str,
    like: &str,
    place: Place,
    f: &mut Findings<'_>,
) -> Option<(&'t str, u16)> {
    let parts = text.rsplit_once(':').and_then(|(name, port)| Some((name, units::port(port)?)));
    if parts.is_none() {
        let what = format!("`{key}` has `{}`, which names no port from 1 to 65535", printable(text));
        f.problem(place, what, format!("write \"{like}\""));
    }
    parts
}

/// Whom an endpoint of `talks-to` names.
#[derive(PartialEq)]
enum Call {
    Port(Edge),
    Socket(SocketEdge),
}

fn call(text: &str, place: Place, f: &mut Findings<'_>) -> Option<Call> {
    let Some((name, path)) = text.split_once(':').filter(|(_, path)| path.starts_with('/')) else {
        return edge(text, place, f).map(Call::Port);
    };
    let to = agent_name(name, place, f)?;
    match path.parse::<SocketPath>() {
        Ok(path) => Some(Call::Socket(SocketEdge { to, path })),
        Err(error) => {
            let what = format!("`talks-to` has the socket `{}`: {error}", printable(path));
            f.problem(place, what, sockets::todo(error));
            None
        }
    }
}

fn agent_name(name: &str, place: Place, f: &mut Findings<'_>) -> Option<AgentName> {
    let read = name.parse::<AgentName>().ok();
    if read.is_none() {
        let what = format!("`talks-to` has `{}`, which is no service name", printable(name));
        f.problem(place, what, "name a service of this file; outside hosts go under `egress`");
    }
    read
}

fn edge(text: &str, place: Place, f: &mut Findings<'_>) -> Option<Edge> {
    let (name, port) = split(text, "talks-to", "service:8080", place, f)?;
    Some(Edge { to: agent_name(name, place, f)?, port })
}

fn egress(text: &str, place: Place, f: &mut Findings<'_>) -> Option<(HostName, u16)> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':', '?', '#']).next().unwrap_or_default();
        let port = if scheme == "http" { 80 } else { 443 };
        let what = format!("`egress` has the URL `{}`: only host and port can be allowed", printable(text));
        f.problem(place, what, format!("write \"{}:{port}\"", printable(host)));
        return None;
    }
    let (name, port) = split(text, "egress", "api.example.com:443", place, f)?;
    match name.parse::<HostName>() {
        Ok(host) => Some((host, port)),
        Err(error) => {
            let todo = match error {
                HostNameError::Address => "give it a name, and the name its address under `extra_hosts`",
                HostNameError::Wildcard => "name each host",
                HostNameError::TrailingDot => "leave the last dot out",
                HostNameError::UpperCase => "write it in lower case",
                _ => "write \"api.example.com:443\"; international names in their xn-- form",
            };
            f.problem(place, format!("egress host `{}` is refused: {error}", printable(name)), todo);
            None
        }
    }
}

/// `expose`.
pub(crate) fn expose(node: &Node, f: &mut Findings<'_>) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    for item in list(node, "expose", f) {
        let Some((text, _)) = scalar(item, "expose", f) else { continue };
        let number = text.strip_suffix("/tcp").unwrap_or(text);
        let range = match number.split_once('-') {
            Some((first, last)) => units::port(first).zip(units::port(last)),
            None => units::port(number).map(|port| (port, port)),
        };
        match range {
            Some((first, last)) if first <= last && usize::from(last - first) < ENDPOINTS_MAX => {
                ports.extend(first..=last);
            }
            _ => {
                let what = format!("`expose` has `{}`", printable(text));
                f.problem(item.place, what, "write a TCP port from 1 to 65535, such as \"8080\"");
            }
        }
    }
    if ports.len() > ENDPOINTS_MAX {
        f.problem(node.place, format!("more than {ENDPOINTS_MAX} exposed ports"), "expose fewer");
    }
    ports
}

/// `extra_hosts`: which address a name of `egress` stands for.
pub(crate) fn extra_hosts(node: &Node, f: &mut Findings<'_>) -> BTreeMap<HostName, At<IpAddr>> {
    let mut hosts = BTreeMap::new();
    let mut put = |host: &str, address: &str, place: Place, f: &mut Findings<'_>| {
        let Ok(host) = host.parse::<HostName>() else {
            let what = format!("`extra_hosts` has `{}`, which is no host name", printable(host));
            return f.problem(place, what, "write \"name:address\"");
        };
        let Some(address) = address_of(address) else {
            let what = format!("address `{}` of `{host}` cannot be used", printable(address));
            return f.problem(place, what, "write one IPv4 or IPv6 address of a single machine");
        };
        if hosts.insert(host, At { place, value: address }).is_some() {
            f.problem(place, "host has two addresses", "keep one of the two");
        }
    };
    if let Value::Map(members) = &node.value {
        for member in members {
            let address = match &member.node.value {
                Value::List(items) if items.len() == 1 => items.first(),
                _ => Some(&member.node),
            };
            let address = address.and_then(|node| scalar(node, "extra_hosts", f));
            if let Some((address, _)) = address {
                put(&member.key, address, member.node.place, f);
            }
        }
        return hosts;
    }
    for item in list(node, "extra_hosts", f) {
        let Some(text) = text(item, "extra_hosts", f) else { continue };
        match text.split_once('=').or_else(|| text.split_once(':')) {
            Some((host, address)) => put(host, address, item.place, f),
            None => {
                let what = format!("`extra_hosts` has `{}`, which names no address", printable(&text));
                f.problem(item.place, what, "write \"name:address\"");
            }
        }
    }
    hosts
}

/// The address of one machine: not unspecified, multicast or broadcast.
fn address_of(text: &str) -> Option<IpAddr> {
    let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address: IpAddr = text.parse().ok()?;
    let unusable = address.is_unspecified()
        || address.is_multicast()
        || matches!(address, IpAddr::V4(Ipv4Addr::BROADCAST))
        || matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    (!unusable).then_some(address)
}

/// `networks` of a service: joins nobody, and gives names by which its callers may call it.
pub(crate) fn networks(node: &Node, aliases: &mut BTreeMap<AgentName, Place>, f: &mut Findings<'_>) {
    let mut others = false;
    if let Value::Map(members) = &node.value {
        for member in members {
            others |= member.key != "default";
            if !member.node.is_null() {
                walk(&keys::SERVICE_NETWORK, &member.node, f, |f, key, member| {
                    for alias in texts(&member.node, key, f) {
                        take_alias(&alias, aliases, f);
                    }
                });
            }
        }
    } else {
        others = texts(node, "networks", f).iter().any(|name| name.value != "default");
    }
    if others {
        let what = "`networks` has no effect: networks join nobody here";
        f.warning(node.place, what, "declare `x-casemate: talks-to: [\"service:port\"]`");
    }
}

fn take_alias(alias: &At<String>, aliases: &mut BTreeMap<AgentName, Place>, f: &mut Findings<'_>) {
    match alias.value.parse::<AgentName>() {
        Ok(_) if aliases.len() >= ALIASES_MAX => {
            f.problem(alias.place, format!("more than {ALIASES_MAX} aliases"), "use fewer");
        }
        Ok(name) => drop(aliases.insert(name, alias.place)),
        Err(_) => {
            let what = format!("alias `{}` is not made of a-z, 0-9, `-` and `_`", printable(&alias.value));
            f.problem(alias.place, what, "write a name without dots and capitals");
        }
    }
}
