//! `logging`: how much of an agent's output the box keeps. Where it goes is not a choice.

use crate::keys;
use crate::problem::{Findings, printable};
use crate::units;
use crate::yaml::Node;

use super::read::{mapping, parsed, walk};

/// Smallest and largest file of output.
const FILE_BYTES: std::ops::RangeInclusive<u64> = 4096..=1 << 30;
/// Most files of output.
const FILES_MAX: u32 = 100;

/// What `logging` says.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WrittenLog {
    pub(crate) file_bytes: Option<u64>,
    pub(crate) files: Option<u32>,
}

/// `logging`.
pub(crate) fn logging(node: &Node, f: &mut Findings<'_>) -> WrittenLog {
    let mut written = WrittenLog::default();
    walk(&keys::LOGGING, node, f, |f, key, member| match key {
        "options" => options(&member.node, &mut written, f),
        _ => {
            let wanted =
                "none, local or json-file, or remove it: output is kept in the box and shown by `logs`";
            let read = parsed(&member.node, key, wanted, f, |text| {
                matches!(text, "none" | "local" | "json-file").then_some(())
            });
            if read.is_some() {
                let what =
                    "`driver` of `logging` has no effect: output is kept in the box and shown by `logs`";
                f.warning(member.node.place, what, "remove it");
            }
        }
    });
    written
}

fn options(node: &Node, written: &mut WrittenLog, f: &mut Findings<'_>) {
    for member in mapping(node, "options of `logging`", f) {
        let value = &member.node;
        match member.key.as_str() {
            "max-size" => {
                let wanted = "a size from 4k to 1g, such as 10m";
                let read = parsed(value, "max-size", wanted, f, |text| {
                    units::bytes(text).filter(|bytes| FILE_BYTES.contains(bytes))
                });
                written.file_bytes = read.map(|at| at.value);
            }
            "max-file" => {
                let read = parsed(value, "max-file", "a number from 1 to 100", f, |text| {
                    text.parse().ok().filter(|count| (1..=FILES_MAX).contains(count))
                });
                written.files = read.map(|at| at.value);
            }
            other => {
                let what = format!("option `{}` of `logging` has no effect", printable(other));
                f.warning(member.key_place, what, "remove it: `max-size` and `max-file` alone have one");
            }
        }
    }
}
