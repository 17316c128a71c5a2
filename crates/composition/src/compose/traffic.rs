//! One endpoint of `talks-to` or `egress`: a text, or a mapping that has its limits too.

use crate::keys;
use crate::lock::TrafficLimits;
use crate::problem::{Findings, Place};
use crate::units;
use crate::yaml::{Node, Value};

use super::read::{parsed, text, walk};

/// Most connections that one edge may be limited to: an agent has no more in all.
const CONNECTIONS_MAX: u64 = 1024;
/// Smallest rate: below it a connection looks dead.
const RATE_BYTES_MIN: u64 = 1 << 10;
/// Largest rate and sum: what JSON keeps exactly.
const BYTES_MAX: u64 = 1 << 53;

/// An endpoint as written.
pub(crate) struct Written {
    pub(crate) endpoint: String,
    pub(crate) place: Place,
    pub(crate) limits: Option<TrafficLimits>,
}

/// The endpoint of one item.
pub(crate) fn endpoint(item: &Node, key: &str, f: &mut Findings<'_>) -> Option<Written> {
    if !matches!(item.value, Value::Map(_)) {
        return text(item, key, f).map(|endpoint| Written { endpoint, place: item.place, limits: None });
    }
    let mut endpoint = None;
    let mut limits = TrafficLimits { connections: None, rate_bytes: None, total_bytes: None };
    walk(&keys::X_ENDPOINT, item, f, |f, key, member| {
        let node = &member.node;
        match key {
            "to" => endpoint = text(node, key, f).map(|text| (text, node.place)),
            "connections" => {
                let wanted = "a number of open connections from 1 to 1024";
                let fits = |number: &u64| (1..=CONNECTIONS_MAX).contains(number);
                let read = |text: &str| units::natural(text).filter(fits)?.try_into().ok();
                limits.connections = parsed(node, key, wanted, f, read).map(|at| at.value);
            }
            "rate" => {
                let wanted = "bytes in one second from 1k, such as 1m";
                let fits = |bytes: &u64| (RATE_BYTES_MIN..BYTES_MAX).contains(bytes);
                let read = |text: &str| units::bytes(text).filter(fits);
                limits.rate_bytes = parsed(node, key, wanted, f, read).map(|at| at.value);
            }
            _ => {
                let fits = |bytes: &u64| (1..BYTES_MAX).contains(bytes);
                let read = |text: &str| units::bytes(text).filter(fits);
                limits.total_bytes = parsed(node, key, "bytes, such as 1g", f, read).map(|at| at.value);
            }
        }
    });
    let Some((endpoint, place)) = endpoint else {
        f.problem(item.place, format!("`{key}` has an endpoint without `to`"), "write { to: \"name:port\" }");
        return None;
    };
    let none = limits.connections.is_none() && limits.rate_bytes.is_none() && limits.total_bytes.is_none();
    Some(Written { endpoint, place, limits: (!none).then_some(limits) })
}
