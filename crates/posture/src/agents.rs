//! What a caller says of an agent, and what `/proc` shows of its processes.

use std::collections::{BTreeMap, BTreeSet};

use casemate_protocol::agent_token::{Control, ControlStatus};

use crate::kernel_text::{self, Mount};
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

/// The mounts that a process sees. A line of another form is an error: what is not understood is not left out.
pub(crate) fn mounts(tree: &Tree, pid: &str) -> Result<Vec<Mount>, Unread> {
    kernel_text::mounts(&tree.text(&format!("/proc/{pid}/mountinfo"))?).ok_or(Unread::NotText)
}
