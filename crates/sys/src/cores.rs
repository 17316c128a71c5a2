//! The cores of the machine, as far as this process may use them, and lists of processors as the kernel writes them.
//!
//! In a virtual machine the hypervisor says which processors share a core: who does not trust it must not rely on that.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the kernel shows the processors (Documentation/admin-guide/cputopology.rst).
const PROCESSORS: &str = "/sys/devices/system/cpu";

/// Why the cores cannot be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoresError {
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file holds something else than a list of processors.
    #[error("{} holds no list of processors", path.display())]
    Content {
        /// Which.
        path: PathBuf,
    },
}

/// The cores that this process may use, each as the processors that share it, in the order of their first one.
///
/// # Errors
/// [`CoresError`].
pub fn cores() -> Result<Vec<BTreeSet<u16>>, CoresError> {
    let allowed = allowed("self").ok_or_else(|| CoresError::Content { path: "/proc/self/status".into() })?;
    let mut cores = Vec::<BTreeSet<u16>>::new();
    for processor in &allowed {
        if cores.iter().any(|core| core.contains(processor)) {
            continue;
        }
        let path =
            Path::new(PROCESSORS).join(format!("cpu{processor}")).join("topology/thread_siblings_list");
        let text =
            fs::read_to_string(&path).map_err(|source| CoresError::File { path: path.clone(), source })?;
        let siblings = parse_list(&text).filter(|siblings| siblings.contains(processor));
        let siblings = siblings.ok_or(CoresError::Content { path })?;
        cores.push(siblings.intersection(&allowed).copied().collect());
    }
    Ok(cores)
}

/// The processors on which the kernel lets a process run: `/proc/PID/status`. None where it cannot be read.
#[must_use]
pub fn allowed(pid: &str) -> Option<BTreeSet<u16>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    parse_list(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?)
}

/// `0-2,5` as numbers (cpuset(7), "List format"). None where it is no such list; an empty one has no processor.
pub(crate) fn parse_list(text: &str) -> Option<BTreeSet<u16>> {
    let mut all = BTreeSet::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        all.extend(first.parse::<u16>().ok()?..=last.parse().ok()?);
    }
    Some(all)
}

/// Numbers as `0,1,2,5`.
pub(crate) fn list(processors: &BTreeSet<u16>) -> String {
    processors.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lists_as_the_kernel_writes_them() {
        assert_eq!(parse_list("0-2,5\n"), Some([0, 1, 2, 5].into()));
        assert_eq!(parse_list("\n"), Some(BTreeSet::new()));
        for wrong in ["a", "1-", "-1", "1-b", "70000"] {
            assert_eq!(parse_list(wrong), None, "{wrong}");
        }
        assert_eq!(parse_list(&list(&[0, 3, 7].into())), Some([0, 3, 7].into()));
    }

    #[test]
    fn tells_the_cores_of_this_machine() {
        let cores = cores().unwrap();
        let together: BTreeSet<u16> = cores.iter().flatten().copied().collect();
        assert_eq!(Some(&together), allowed("self").as_ref());
        assert_eq!(together.len(), cores.iter().map(BTreeSet::len).sum::<usize>(), "no processor in two");
    }
}
