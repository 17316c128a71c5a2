//! What a caller says of an agent, and what `/proc` shows of its processes.

use std::collections::{BTreeMap, BTreeSet};

use casemate_protocol::agent_token::{Control, ControlStatus};

use crate::tree::{Tree, Unread};

/// An agent of the running box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFacts {
    /// Its name.
    pub name: String,
    /// Its trust group.
    pub trust: String,
    /// Group of agents that it shares files with, where the composition says so.
    pub share: Option<String>,
    /// Its processes, as numbered in the box.
    pub pids: Vec<u32>,
    /// Its controls, as the warden sees them.
    pub controls: BTreeMap<Control, ControlStatus>,
    /// TCP ports on which sockets of its network namespace may listen: its own and those of its edges.
    pub ports: BTreeSet<u16>,
}

impl AgentFacts {
    /// The first of its processes, which stands for what all of them have in common.
    pub(crate) fn first(&self) -> Result<u32, Unread> {
        self.pids.first().copied().ok_or(Unread::Failed("it has no process".into()))
    }
}

/// A field of `/proc/PID/status`.
pub(crate) fn status_field(tree: &Tree, pid: u32, name: &str) -> Result<String, Unread> {
    let text = tree.text(&format!("/proc/{pid}/status"))?;
    let field = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    field.map(|value| value.trim().to_owned()).ok_or(Unread::Absent)
}

/// A line of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Number of the file system instance: `MAJOR:MINOR`.
    pub(crate) device: String,
    /// What of the file system is mounted.
    pub(crate) root: String,
    /// Where.
    pub(crate) target: String,
    /// Type of the file system.
    pub(crate) kind: String,
    /// What it was mounted from.
    pub(crate) source: String,
    /// Options of the file system.
    pub(crate) options: String,
}

impl Mount {
    pub(crate) fn has_option(&self, wanted: &str) -> bool {
        self.options.split(',').any(|option| option == wanted)
    }
}

/// The mounts that a process sees. A line of another form is an error: what is not understood is not left out.
pub(crate) fn mounts(tree: &Tree, pid: &str) -> Result<Vec<Mount>, Unread> {
    let text = tree.text(&format!("/proc/{pid}/mountinfo"))?;
    let mounts: Vec<Mount> = text.lines().map(mount).collect::<Option<_>>().ok_or(Unread::NotText)?;
    if mounts.is_empty() { Err(Unread::NotText) } else { Ok(mounts) }
}

fn mount(line: &str) -> Option<Mount> {
    let (mount, super_block) = line.split_once(" - ")?;
    let mut words = mount.split(' ').skip(2).map(str::to_owned);
    let (device, root, target) = (words.next()?, words.next()?, words.next()?);
    words.next()?;
    let mut words = super_block.split(' ').map(str::to_owned);
    Some(Mount {
        device,
        root,
        target,
        kind: words.next()?,
        source: words.next()?,
        options: words.next().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_understood_or_refused() {
        let line = "99 1 0:45 /a /b ro,nosuid idmapped - erofs /x ro,directio";
        let read = mount(line).unwrap();
        assert_eq!((read.device.as_str(), read.root.as_str(), read.target.as_str()), ("0:45", "/a", "/b"));
        assert!(read.has_option("directio") && !read.has_option("direct"));
        for cut in 0..line.find("/x").unwrap() {
            assert_eq!(mount(line.get(..cut).unwrap()), None, "{cut}");
        }
    }
}
