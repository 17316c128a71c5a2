//! `blkio_config`: how much an agent may read and write in a second.
//!
//! Its paths are of another machine than the box, so none is looked for: an agent reaches disks by its volumes and its
//! image alone, and those are meant.

use crate::keys;
use crate::lock::DiskLimits;
use crate::problem::{At, Findings};
use crate::units;
use crate::yaml::{Node, Value};

use super::read::{parsed, walk};

/// Smallest rate in bytes: below it a file system looks dead.
const BYTES_MIN: u64 = 64 << 10;
/// Largest rate: what JSON keeps exactly.
const RATE_MAX: u64 = 1 << 52;

/// The limits; none where the file has none.
pub(crate) fn blkio(node: &Node, f: &mut Findings<'_>) -> Option<DiskLimits> {
    let mut limits = DiskLimits::default();
    walk(&keys::BLKIO, node, f, |f, key, member| {
        let slot = match key {
            "device_read_bps" => &mut limits.read_bytes,
            "device_write_bps" => &mut limits.write_bytes,
            "device_read_iops" => &mut limits.read_operations,
            _ => &mut limits.write_operations,
        };
        *slot = rate(&member.node, key, f);
    });
    (limits != DiskLimits::default()).then_some(limits)
}

/// The one rate of a list.
fn rate(list: &Node, key: &str, f: &mut Findings<'_>) -> Option<u64> {
    let Value::List(items) = &list.value else {
        let what = format!("`{key}` is {}, not a list", list.kind());
        f.problem(list.place, what, format!("write {key}: [{{ path: /dev/sda, rate: 10mb }}]"));
        return None;
    };
    let mut rates: Vec<At<u64>> = Vec::new();
    for item in items {
        let (mut has_path, mut has_rate) = (false, false);
        walk(&keys::BLKIO_DEVICE, item, f, |f, name, member| {
            let node = &member.node;
            match name {
                "path" => {
                    has_path = true;
                    let absolute = |text: &str| text.starts_with('/').then_some(());
                    let _ = parsed(node, name, "an absolute path, such as /dev/sda", f, absolute);
                }
                _ => {
                    has_rate = true;
                    rates.extend(number(node, key, name, f));
                }
            }
        });
        if !(has_path && has_rate) {
            let what = format!("`{key}` has an entry without `path` or `rate`");
            f.problem(item.place, what, "write { path: /dev/sda, rate: 10mb }");
        }
    }
    let mut rates = rates.into_iter();
    let first = rates.next();
    if let (Some(first), Some(other)) =
        (&first, rates.find(|at| Some(at.value) != first.as_ref().map(|a| a.value)))
    {
        let what = format!("`{key}` has several rates, {} and {}", first.value, other.value);
        f.problem(other.place, what, "write one: it is for each disk that the agent reaches");
    }
    first.map(|at| at.value)
}

/// A rate in bytes or in operations, as its key says.
fn number(node: &Node, key: &str, name: &str, f: &mut Findings<'_>) -> Option<At<u64>> {
    if key.ends_with("_bps") {
        let wanted = "bytes in one second from 64k, such as 10mb";
        let fits = |bytes: &u64| (BYTES_MIN..=RATE_MAX).contains(bytes);
        return parsed(node, name, wanted, f, |text| units::bytes(text).filter(fits));
    }
    let wanted = "operations in one second from 1 to 4294967295, such as 100";
    let fits = |count: &u64| (1..=u64::from(u32::MAX)).contains(count);
    parsed(node, name, wanted, f, |text| units::natural(text).filter(fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_whatever_disk_they_name() {
        let text = "name: t\nservices:\n  one:\n    image: i:1\n    blkio_config:\n      \
            device_read_bps: [{ path: /dev/sda, rate: 12mb }, { path: /dev/sdb, rate: 12mb }]\n      \
            device_write_iops: [{ path: /dev/sda, rate: 120 }]\n  two:\n    image: i:1\n    blkio_config: {}\n";
        let compose = crate::compose::parse("c.yaml", text, &std::collections::BTreeMap::new()).unwrap();
        let limits = |name: &str| compose.services[&name.parse().unwrap()].limits.disk;
        let expected =
            DiskLimits { read_bytes: Some(12 << 20), write_operations: Some(120), ..DiskLimits::default() };
        assert_eq!((limits("one"), limits("two")), (Some(expected), None));
    }
}
