//! `ports`: which ports of the box lead to an agent. Measured, and never more than was written: the address is
//! 127.0.0.1 where none is, and a port of the box is never chosen by chance.

use std::net::{IpAddr, Ipv4Addr};

use crate::keys;
use crate::lock::Port;
use crate::problem::{At, Findings, Place, printable};
use crate::units;
use crate::yaml::{Node, Value};

use super::read::{self, list, scalar, walk};

/// Most ports of the box that lead to one agent.
const PORTS_MAX: usize = 64;
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LIKE: &str =
    "write \"8080:80\": port of the box, port of the agent; an address of the box may stand before it";

/// `ports` of a service.
pub(crate) fn ports(node: &Node, f: &mut Findings<'_>) -> Vec<At<Port>> {
    let mut all: Vec<At<Port>> = Vec::new();
    for item in list(node, "ports", f) {
        let read = match &item.value {
            Value::Map(_) => long(item, f).into_iter().collect(),
            _ => short(item, f),
        };
        for port in read {
            if all.iter().any(|other| other.value.excludes(&port)) {
                let what = format!("port {} of the box is written twice", port.port);
                f.problem(item.place, what, "keep one of the two");
            } else if all.len() >= PORTS_MAX {
                f.problem(item.place, format!("more than {PORTS_MAX} ports"), "publish fewer");
                return all;
            } else {
                all.push(At { place: item.place, value: port });
            }
        }
    }
    all
}

/// `[ADDRESS:]PORT:PORT[/tcp]`, each PORT a range of equal length.
fn short(item: &Node, f: &mut Findings<'_>) -> Vec<Port> {
    let Some((text, _)) = scalar(item, "ports", f) else { return Vec::new() };
    let shown = printable(text);
    let ports = match text.split_once('/') {
        Some((ports, "tcp")) => ports,
        Some((_, other)) => {
            refuse_protocol(other, item.place, f);
            return Vec::new();
        }
        None => text,
    };
    let mut parts = ports.rsplitn(3, ':');
    let (target, published, address) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let Some(published) = published.filter(|text| !text.is_empty()) else {
        refuse_random(&shown, item.place, f);
        return Vec::new();
    };
    let address = match address {
        None => Some(LOOPBACK),
        Some(text) => address_of(text, item.place, f),
    };
    let (Some((from, to)), Some((first, last))) = (range(published), range(target)) else {
        f.problem(item.place, format!("`ports` has `{shown}`"), LIKE);
        return Vec::new();
    };
    if to.abs_diff(from) != last.abs_diff(first) {
        let what = format!("`ports` has `{shown}`, whose two ranges differ in length");
        f.problem(item.place, what, "give both ranges the same number of ports");
        return Vec::new();
    }
    let Some(address) = address else { return Vec::new() };
    (from..=to).zip(first..=last).map(|(port, target)| Port { address, port, target }).collect()
}

fn long(item: &Node, f: &mut Findings<'_>) -> Option<Port> {
    let (mut address, mut port, mut target) = (Some(LOOPBACK), None, None);
    let mut published = false;
    walk(&keys::PORT, item, f, |f, key, member| {
        let node = &member.node;
        match key {
            "target" => {
                target = read::parsed(node, key, "a port from 1 to 65535", f, units::port).map(|at| at.value);
            }
            "published" => {
                published = true;
                port = read::parsed(node, key, "one port from 1 to 65535", f, units::port).map(|at| at.value);
            }
            "host_ip" => {
                address = scalar(node, key, f).and_then(|(text, _)| address_of(text, node.place, f));
            }
            "protocol" => {
                if let Some((other, _)) = scalar(node, key, f).filter(|(text, _)| *text != "tcp") {
                    refuse_protocol(other, node.place, f);
                }
            }
            _ => {
                let wanted = "host or ingress";
                read::parsed(node, key, wanted, f, |text| matches!(text, "host" | "ingress").then_some(()));
            }
        }
    });
    if !published {
        refuse_random("target", item.place, f);
    }
    Some(Port { address: address?, port: port?, target: target? })
}

fn refuse_protocol(protocol: &str, place: Place, f: &mut Findings<'_>) {
    let what = format!("`ports` has the protocol `{}`: only TCP passes the gateway", printable(protocol));
    f.problem(place, what, "serve over TCP, or remove the port");
}

fn refuse_random(shown: &str, place: Place, f: &mut Findings<'_>) {
    let what = format!("`ports` has `{shown}` without a port of the box: a random one would not be measured");
    f.problem(place, what, LIKE);
}

/// An address that the box can listen on: `[..]` around one of IPv6.
fn address_of(text: &str, place: Place, f: &mut Findings<'_>) -> Option<IpAddr> {
    let plain = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let usable = |address: &IpAddr| {
        let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        !address.is_multicast() && !mapped && *address != IpAddr::V4(Ipv4Addr::BROADCAST)
    };
    let address = plain.parse().ok().filter(usable);
    if address.is_none() {
        let what = format!("`ports` has the address `{}`", printable(text));
        f.problem(place, what, "write an address of the box, such as 127.0.0.1; 0.0.0.0 means each of them");
    }
    address
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (units::port(first)?, units::port(last)?);
    (first <= last && usize::from(last.abs_diff(first)) < PORTS_MAX).then_some((first, last))
}
