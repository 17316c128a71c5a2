//! What is known of each control besides its name: how it is applied, how it is checked, and whether it must be in force.
//!
//! `docs/controls.md` has the same table with what each stops and where its gaps are; a test compares the names.

use casemate_composition::lock::{Agent, BackendKind, Memory};

use crate::agent_token::{Control, ControlStatus};

/// Whether a control must be in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// For every agent.
    Always,
    /// For agents whose lock entry asks for it.
    WhenAsked,
    /// As far as the machine has it: its status is told, and a policy may ask for it.
    WhereThereIs,
}

impl Control {
    /// Whether it must be in force.
    #[must_use]
    pub const fn need(self) -> Need {
        match self {
            Self::DenyWriteExecute => Need::WhenAsked,
            Self::Cores | Self::Speculation | Self::CoreScheduling => Need::WhereThereIs,
            _ => Need::Always,
        }
    }

    /// Whether it must be in force for this agent, whatever policies ask for.
    #[must_use]
    pub fn is_required_of(self, agent: &Agent) -> bool {
        match self.need() {
            Need::Always => true,
            Need::WhenAsked => agent.memory == Some(Memory::DenyWriteExecute),
            Need::WhereThereIs => self == Self::Cores && agent.limits.cpuset.is_some(),
        }
    }

    /// The least status that is in order for this agent in a compartment of `backend`: what the backend promises. An agent
    /// that its lock entry puts on processors is there; with whom is the lock's matter.
    #[must_use]
    pub const fn least_of(self, agent: &Agent, backend: BackendKind) -> ControlStatus {
        match self {
            Self::Cores if agent.limits.cpuset.is_some() => ControlStatus::EnforcedWithGaps,
            _ => self.promised_by(backend),
        }
    }

    /// How the native backend applies it.
    #[must_use]
    pub const fn applied(self) -> &'static str {
        match self {
            Self::UserNamespace => "clone under an own outer id, uid_map",
            Self::Namespaces => "clone3: pid mnt net ipc uts cgroup time",
            Self::PrivateRoot => "erofs mount, directio, ids mapped",
            Self::NoPrivileges => "capset, PR_SET_NO_NEW_PRIVS",
            Self::Seccomp => "filter on the first process",
            Self::Landlock => "ruleset on the first process",
            Self::CgroupLimits => "memory and pids group",
            Self::CgroupCpu => "cpu group",
            Self::Cores => "cpuset group, one for each trust group",
            Self::Keyring => "keyctl: fresh session keyring",
            Self::AgentSocket => "SO_PASSRIGHTS off",
            Self::Proc => "proc subset=pid, modes of /proc/net",
            Self::Speculation => "PR_SET_SPECULATION_CTRL, force",
            Self::CoreScheduling => "PR_SCHED_CORE, an own cookie",
            Self::DenyWriteExecute => "PR_SET_MDWE",
        }
    }

    /// How its status is found.
    #[must_use]
    pub const fn checked(self) -> Check {
        match self {
            Self::UserNamespace => Check::Seen("/proc/PID/uid_map, gid_map"),
            Self::Namespaces => Check::Seen("/proc/PID/ns/*"),
            Self::PrivateRoot => Check::Seen("/proc/PID/mountinfo of all agents"),
            Self::NoPrivileges => Check::Seen("/proc/PID/status Cap*, NoNewPrivs"),
            Self::Seccomp => Check::Seen("/proc/PID/status Seccomp"),
            Self::CgroupLimits | Self::CgroupCpu => Check::Seen("files of the control group"),
            Self::Cores => Check::Seen("/proc/PID/status Cpus_allowed_list of all agents"),
            Self::AgentSocket => Check::Seen("getsockopt on the socket itself"),
            Self::Proc => Check::Seen("/proc/PID/mountinfo, modes of /proc/PID/net"),
            Self::Speculation => Check::Seen("/proc/PID/status Spec*"),
            Self::CoreScheduling => Check::Seen("PR_SCHED_CORE_GET of the process"),
            Self::Landlock => Check::Tried("opens /dev/random for writing"),
            Self::Keyring => Check::Tried("asks for its session keyring"),
            Self::DenyWriteExecute => Check::Tried("maps a page writable and executable"),
        }
    }
}

/// How the status of a control is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The box looks at it from outside, and the kernel shows it.
    Seen(&'static str),
    /// The kernel shows it to nobody. The measured launcher, confined, tries what it forbids, in the process that becomes
    /// the agent's first, and reports whether the kernel refused.
    Tried(&'static str),
}

impl Check {
    /// In words.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Seen(what) => format!("seen: {what}"),
            Self::Tried(what) => format!("tried by the launcher: {what}"),
        }
    }
}

impl ControlStatus {
    /// The name used in files, evidence and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::EnforcedWithGaps => "enforced-with-gaps",
            Self::NotEnforced => "not-enforced",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_a_row_for_each_control() {
        let text = include_str!("../../../docs/controls.md");
        for control in Control::ALL {
            let row = text.lines().find(|line| line.starts_with(&format!("| `{}` |", control.name())));
            let row = row.unwrap_or_else(|| panic!("{} has no row", control.name()));
            let word = match control.checked() {
                Check::Seen(_) => "seen",
                Check::Tried(_) => "tried",
            };
            assert!(row.contains(word), "{row}");
        }
    }
}
