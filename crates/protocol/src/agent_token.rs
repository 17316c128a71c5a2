//! The agent token: an EAT (RFC 9711) as a JWT, signed ES256 by the box key.

use std::collections::BTreeMap;

use casemate_canon::Sha384;
use casemate_composition::lock::{AgentName, Backend, BackendKind};
use casemate_composition::merkle::Proof;
use serde::{Deserialize, Serialize};

use crate::jwk::EcJwk;
use crate::nonce::Nonce;

/// `eat_profile` of agent tokens.
pub const AGENT_TOKEN_PROFILE: &str = "tag:casemate.dev,2026:agent/1";
/// `typ` in the JOSE header of agent tokens.
pub const AGENT_TOKEN_TYP: &str = "eat+jwt";

/// Claims of an agent token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentToken {
    /// [`AGENT_TOKEN_PROFILE`].
    pub eat_profile: String,
    /// The relying party's nonce, fresh for this token.
    pub eat_nonce: Nonce,
    /// When the warden made it, seconds since 1970, by the box's own clock (host-claimed).
    pub iat: u64,
    /// Agent name.
    pub sub: AgentName,
    /// Which start of this agent: 1 for the first.
    pub instance: u32,
    /// Agent measurement.
    pub measurement: Sha384,
    /// That this agent belongs to the composition.
    pub proof: Proof,
    /// What builds the compartment.
    pub backend: Backend,
    /// Each control and whether it is in force.
    pub controls: BTreeMap<Control, ControlStatus>,
    /// Whether anything ran in the compartment that the composition does not name (`exec`, `attach`).
    pub tainted: bool,
    /// Digest of what the box saw of itself and of what this agent has in common with others
    /// ([`crate::posture::Posture`]).
    pub posture: Sha384,
    /// Head of the event log when the token was made.
    pub log_head: Sha384,
    /// Number of events up to that head.
    pub log_count: u64,
    /// The agent's public key: secrets are sealed to it.
    pub cnf: Confirmation,
}

/// Proof-of-possession key (RFC 7800).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// The key (`ECDH-ES+A256KW`).
    pub jwk: EcJwk,
}

/// A control of the compartment boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// User namespace with a uid range and a creating uid of its own.
    UserNamespace,
    /// Own pid, mount, ipc, uts, net, cgroup and time namespaces.
    Namespaces,
    /// Read-only root from a file mounted for this agent alone, with no page of a file's content shared; for an agent
    /// whose lock entry says `share`, mounted for its group alone.
    PrivateRoot,
    /// No capability in any set, and no new privileges.
    NoPrivileges,
    /// Deny-by-default system call filter.
    Seccomp,
    /// Landlock file rules.
    Landlock,
    /// Memory and process limits.
    CgroupLimits,
    /// CPU time as the composition asks: limited, or not where it asks for no limit.
    CgroupCpu,
    /// No core in common with an agent of another trust group. In force with gaps where the agent is kept to cores that
    /// it has in common with others, not in force where it runs on all cores.
    Cores,
    /// Session keyring of its own.
    Keyring,
    /// The agent socket takes bytes and no descriptors, so that nothing an agent hands over can hold up the warden.
    AgentSocket,
    /// `/proc` shows the agent's own processes and network, and no count of the box.
    Proc,
    /// The kernel's switches against speculation, thrown for good.
    Speculation,
    /// Nothing of another agent on the second thread of the same core.
    CoreScheduling,
    /// No memory that is or becomes writable and executable; for agents whose lock entry asks for it.
    DenyWriteExecute,
}

impl Control {
    /// All controls, in order.
    pub const ALL: [Self; 15] = [
        Self::UserNamespace,
        Self::Namespaces,
        Self::PrivateRoot,
        Self::NoPrivileges,
        Self::Seccomp,
        Self::Landlock,
        Self::CgroupLimits,
        Self::CgroupCpu,
        Self::Cores,
        Self::Keyring,
        Self::AgentSocket,
        Self::Proc,
        Self::Speculation,
        Self::CoreScheduling,
        Self::DenyWriteExecute,
    ];

    /// The name used in files, evidence and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserNamespace => "user-namespace",
            Self::Namespaces => "namespaces",
            Self::PrivateRoot => "private-root",
            Self::NoPrivileges => "no-privileges",
            Self::Seccomp => "seccomp",
            Self::Landlock => "landlock",
            Self::CgroupLimits => "cgroup-limits",
            Self::CgroupCpu => "cgroup-cpu",
            Self::Cores => "cores",
            Self::Keyring => "keyring",
            Self::AgentSocket => "agent-socket",
            Self::Proc => "proc",
            Self::Speculation => "speculation",
            Self::CoreScheduling => "core-scheduling",
            Self::DenyWriteExecute => "deny-write-execute",
        }
    }

    /// Whether a compartment can be built without it. Without the others there is none, whatever is allowed.
    #[must_use]
    pub const fn may_be_missing(self) -> bool {
        !matches!(
            self,
            Self::UserNamespace
                | Self::Namespaces
                | Self::PrivateRoot
                | Self::NoPrivileges
                | Self::CgroupLimits
                | Self::CgroupCpu
        )
    }

    /// The status that a backend of this kind gives the control at least. Who accepts the backend accepts that: a policy
    /// names the backends. What is below it is refused, unless the policy allows it for this control.
    #[must_use]
    pub const fn promised_by(self, backend: BackendKind) -> ControlStatus {
        match (backend, self) {
            // Who is under Landlock rules may not mount, and a sandbox is made by mounting.
            (BackendKind::Gvisor, Self::Landlock) => ControlStatus::NotEnforced,
            // The agent's /proc is the sandbox's own, and tells how much memory the box has.
            (BackendKind::Gvisor, Self::Proc) => ControlStatus::EnforcedWithGaps,
            // The sandbox's processes have a few capabilities in the agent's own user namespace.
            (BackendKind::Gvisor, Self::NoPrivileges) => ControlStatus::EnforcedWithGaps,
            _ => ControlStatus::Enforced,
        }
    }

    /// What to do where the control called `name` cannot be applied.
    #[must_use]
    pub fn remedy(name: &str) -> String {
        match Self::from_name(name) {
            Some(Self::PrivateRoot) => {
                "use Linux 6.16 or later with EROFS, and keep the image store on ext4 or XFS; nothing else will do".into()
            }
            Some(Self::CgroupLimits | Self::CgroupCpu) => {
                "mount the control group controllers memory, pids and cpu below /sys/fs/cgroup, writable; there is no \
                 compartment without them"
                    .into()
            }
            Some(Self::Cores) => {
                "name processors of this box, or leave `cpuset` out; where the kernel has no cpuset controller, accept the \
                 gap with `casemate up --allow-weaker cores`"
                    .into()
            }
            Some(control) if !control.may_be_missing() => {
                "use Linux 6.16 or later; there is no compartment without it".into()
            }
            _ => format!(
                "use a kernel that has it, or accept the gap with `casemate up --allow-weaker {name}`; evidence shows it \
                 and the policy must allow it"
            ),
        }
    }

    /// The control with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|control| control.name() == name)
    }
}

/// Whether a control is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlStatus {
    /// In force: seen from outside or, where the kernel shows it to nobody, tried by the measured launcher
    /// ([`Control::checked`] says which).
    Enforced,
    /// In force with a gap that the documentation names.
    EnforcedWithGaps,
    /// Not in force.
    NotEnforced,
    /// Not told by the kernel, and not tried.
    Unknown,
}

impl ControlStatus {
    /// Whether this is at least what is asked for. What could not be told never is.
    #[must_use]
    pub const fn meets(self, asked: Self) -> bool {
        match asked {
            Self::Enforced => matches!(self, Self::Enforced),
            Self::EnforcedWithGaps => matches!(self, Self::Enforced | Self::EnforcedWithGaps),
            Self::NotEnforced => !matches!(self, Self::Unknown),
            Self::Unknown => false,
        }
    }
}
