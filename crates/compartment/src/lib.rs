//! Compartments, whatever builds them: one trait, and a backend for each way.
//!
//! What it is: the place where the warden asks for a compartment, a command in it, sockets born in it, and the truth
//! about its controls. A new backend is a module here and a name in the lock; the warden does not change.
//! What it is not: a policy. Which control may be missing is the caller's matter ([`require`]).
//! Who trusts it: the warden, and through it everyone who reads the status of controls in evidence.

mod controls;
mod cores;
mod gvisor;
mod native;
mod plan;
mod programs;
mod start;

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;

use casemate_composition::lock::{self, AgentName, BackendKind};
use casemate_composition::sockets::SocketPath;
use casemate_protocol::Refusal;
use casemate_protocol::agent_token::{Control, ControlStatus};
use casemate_sys::cgroup::{CgroupError, Group};
use casemate_sys::netns;
use casemate_sys::root::ImageFiles;
use casemate_sys::spawn::{FirstProcess, Gate, LaunchError, Released, Streams};
use casemate_sys::spec::{ID_RANGE, Spec};
use casemate_sys::unix_edge::{self, DialError};
use rustix::io::Errno;

pub use controls::require;
pub use cores::Cores;
pub use plan::{PROBE_PATH, Plan, Tenant, uid_base};
pub use programs::Programs;

/// What builds compartments, runs commands in them and looks at them from outside.
pub trait Backend: Sync {
    /// Begins to build the compartment of `plan`, with this root and these streams for the agent. Call it on a
    /// thread that lives as long as the compartment shall: the kernel ends the compartment with that thread.
    ///
    /// # Errors
    /// [`CompartmentError`]; then nothing of it is left.
    fn start(&self, plan: &Plan<'_>, root: Root<'_>, streams: Streams) -> Result<Starting, CompartmentError>;

    /// Refuses, before anything happens, what this backend has no way to do in a standing compartment.
    ///
    /// # Errors
    /// The refusal `backend.visit`.
    fn can(&self, work: &Work) -> Result<(), Refusal> {
        let _ = work;
        Ok(())
    }

    /// Starts what an operator or the composition asks for in a standing compartment, confined as its agent is, with these
    /// streams. The
    /// child ends with the status of what was started, and passes signals on to it; [`Released::executed`] tells
    /// whether it could be.
    ///
    /// # Errors
    /// [`CompartmentError::Launch`], or [`CompartmentError::Refused`] where this backend cannot do it.
    fn visit(
        &self,
        compartment: &Compartment,
        visit: &Visit,
        streams: Streams,
    ) -> Result<(Child, Released), CompartmentError>;

    /// `count` unconnected TCP sockets born in the compartment's network: to reach its ports with. Blocks.
    ///
    /// # Errors
    /// The system's error; `ESRCH` where the compartment is gone.
    fn sockets(&self, compartment: &Compartment, count: u32) -> Result<Vec<OwnedFd>, Errno>;

    /// TCP sockets born in the compartment's network and bound to `addresses`, not yet listening. Blocks.
    ///
    /// # Errors
    /// The system's error; `EADDRINUSE` where the agent listens there, `ESRCH` where the compartment is gone.
    fn bound_sockets(
        &self,
        compartment: &Compartment,
        addresses: &[SocketAddrV4],
    ) -> Result<Vec<OwnedFd>, Errno> {
        netns::bound_sockets(compartment.first.pidfd(), addresses)
    }

    /// A connection to the agent's Unix socket at `path`, for bytes alone. Never waits for the agent.
    ///
    /// # Errors
    /// [`DialError`].
    fn dial(&self, compartment: &Compartment, path: &SocketPath) -> Result<OwnedFd, DialError> {
        let ids = compartment.outer_id(0)..compartment.outer_id(ID_RANGE);
        unix_edge::dial(compartment.first.pid(), compartment.first.pidfd(), path.as_str(), ids)
    }

    /// The status of each control, as seen from outside. `others` are the roots of the other agents of the box.
    fn controls(
        &self,
        plan: &Plan<'_>,
        compartment: &Compartment,
        others: &[(AgentName, String)],
    ) -> BTreeMap<Control, ControlStatus>;
}

/// The backend that a lock names.
#[must_use]
pub fn backend(kind: lock::Backend) -> &'static dyn Backend {
    match kind {
        lock::Backend::Native => &native::Native,
        lock::Backend::Gvisor { .. } => &gvisor::Gvisor,
    }
}

/// What an operator, or the composition, asks for in a standing compartment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// What is done.
    pub work: Work,
    /// Inner user and group; none is the agent's own, with its further groups.
    pub user: Option<(u32, u32)>,
    /// Working directory; none is the agent's own.
    pub working_dir: Option<String>,
    /// Variables, added to the agent's own.
    pub environment: BTreeMap<String, String>,
}

/// The work of a visit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Runs this program with these arguments.
    Command(Vec<String>),
    /// Writes the files at this path to standard output ([`casemate_sys::transfer`]).
    CopyOut(String),
    /// Makes the files that arrive on standard input at this path.
    CopyIn(String),
}

/// What becomes the root of a compartment.
#[derive(Debug, Clone, Copy)]
pub enum Root<'a> {
    /// An image that was verified: mounted for this agent alone, from a copy of its metadata with this number.
    Image(ImageFiles<'a>, u64),
    /// A mount that the agents of a group use together, from one copy of the metadata with this number.
    Shared(BorrowedFd<'a>, u64),
}

/// A compartment in the making.
pub struct Starting(Box<dyn FnOnce() -> Result<Standing, CompartmentError> + Send>);

impl Starting {
    /// Of the work that is left.
    pub(crate) fn new(work: impl FnOnce() -> Result<Standing, CompartmentError> + Send + 'static) -> Self {
        Self(Box::new(work))
    }

    /// Waits until the compartment is confined and nothing of the agent has run. Blocks.
    ///
    /// # Errors
    /// [`CompartmentError`]; then nothing of the compartment is left.
    pub fn finish(self) -> Result<Standing, CompartmentError> {
        (self.0)()
    }
}

/// A confined compartment whose agent waits for its first instruction.
#[derive(Debug)]
pub struct Standing {
    /// What stays.
    pub compartment: Compartment,
    /// The listening agent socket, born inside.
    pub agent_socket: OwnedFd,
    /// Listeners in the order of the aliases, then those of Unix sockets in the order of the edges, then resolver UDP and TCP, then the pool.
    pub sockets: Vec<OwnedFd>,
    /// Lets the agent run; dropping it unused ends the compartment.
    pub gate: Gate,
}

/// A standing compartment. Dropping it ends its processes; its control group is removed by [`Compartment::group`].
#[derive(Debug)]
pub struct Compartment {
    /// Its first process.
    pub first: FirstProcess,
    /// Directory `/run/secrets` inside.
    pub secrets: OwnedFd,
    /// The control group of all its processes.
    pub group: Group,
    /// Number of the root's file system instance, as seen from outside.
    pub root_device: Option<String>,
    spec: Spec,
    launcher: PathBuf,
    reported: controls::Reported,
    /// The sandbox's program, where there is one.
    program: Option<Arc<gvisor::Program>>,
}

impl Compartment {
    /// The id outside that stands for `inner`.
    #[must_use]
    pub const fn outer_id(&self, inner: u32) -> u32 {
        self.spec.uid_base.saturating_add(inner)
    }
}

/// Why there is no compartment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompartmentError {
    /// The control group could not be made.
    #[error(transparent)]
    Group(#[from] CgroupError),
    /// A folder outside that belongs to it could not be used.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A program that a backend needs was not named.
    #[error("the lock asks for {backend}, and its program is not named")]
    NoProgram {
        /// Which backend.
        backend: BackendKind,
    },
    /// A rule refused: a program is another one than the lock says, or a backend cannot do what is asked.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The launcher did not do its part.
    #[error(transparent)]
    Launch(#[from] LaunchError),
}

impl Visit {
    /// Of this command, as the agent's user and in its working directory.
    #[must_use]
    pub const fn of(command: Vec<String>) -> Self {
        Self { work: Work::Command(command), user: None, working_dir: None, environment: BTreeMap::new() }
    }

    /// The specification of a standing compartment, with what the visitor asks for in place of the agent's own.
    pub(crate) fn specification(&self, standing: &Spec) -> Spec {
        let mut spec = standing.clone();
        if let Some((uid, gid)) = self.user {
            (spec.uid, spec.gid, spec.groups) = (uid, gid, Vec::new());
        }
        if let Some(directory) = &self.working_dir {
            spec.working_dir.clone_from(directory);
        }
        let added =
            |entry: &String| entry.split('=').next().is_some_and(|n| self.environment.contains_key(n));
        spec.environment.retain(|entry| !added(entry));
        spec.environment.extend(self.environment.iter().map(|(name, value)| format!("{name}={value}")));
        spec
    }
}
