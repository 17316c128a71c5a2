//! The lock: the composition with every choice made. One agent's entry is exactly what is measured of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use casemate_canon::{CanonicalError, Sha256, Sha384, to_canonical_json};
use serde::{Deserialize, Serialize};

use crate::merkle::{self, Proof};
use crate::sockets::{SocketEdge, SocketPath};

/// The name of an agent: a Compose service name that is also a host name label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentName(String);

/// A name is not a lower-case host name label of 1 to 63 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("name `{found}` is not 1 to 63 of a-z, 0-9, `-` and `_`, starting with a letter or digit")]
pub struct NameError {
    /// The name as found.
    pub found: String,
}

impl AgentName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let ok = (1..=63).contains(&text.len())
            && text.bytes().next().is_some_and(plain)
            && text.bytes().all(|b| plain(b) || b == b'-' || b == b'_');
        if ok { Ok(Self(text.to_owned())) } else { Err(NameError { found: text.chars().take(80).collect() }) }
    }
}

impl TryFrom<String> for AgentName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<AgentName> for String {
    fn from(name: AgentName) -> Self {
        name.0
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The resolved composition. [`crate::lock_file`] has its file form, `compose.lock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lock {
    /// Version of this structure: 1.
    pub version: u32,
    /// Compose project name. Measured in the global leaf.
    pub project: AgentName,
    /// The agents by name.
    pub agents: BTreeMap<AgentName, Agent>,
    /// Named volumes. Measured in the global leaf.
    pub volumes: BTreeMap<AgentName, Volume>,
}

/// A named volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Bytes that are set aside for it, and that it cannot exceed; none means that only the disk below it ends.
    pub size_bytes: Option<u64>,
}

/// One agent, resolved. Every field changes behaviour, and every field is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The image, by digest.
    pub image: ImagePin,
    /// Program and arguments: entrypoint and command joined, never empty.
    pub command: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// Working directory, absolute.
    pub working_dir: String,
    /// User inside the compartment.
    pub user: User,
    /// Further groups of the user, below 65536.
    pub groups: BTreeSet<u32>,
    /// Host name inside the compartment.
    pub hostname: String,
    /// What is mounted besides the read-only root.
    pub mounts: Vec<Mount>,
    /// Secrets, by name. Contents are never part of a lock.
    pub secrets: Vec<Secret>,
    /// Resource limits.
    pub limits: Limits,
    /// Digest of the seccomp rules that are applied.
    pub seccomp_rules: Sha384,
    /// Digest of the Landlock rules that are applied.
    pub landlock_rules: Sha384,
    /// What builds the compartment.
    pub backend: Backend,
    /// Trust group: its own name where none is named. No boundary depends on it; policies may.
    pub trust: AgentName,
    /// Group of agents among which those with the same root file system have one mount of it, and so see through the
    /// page cache what the others read; none means a mount of its own.
    pub share: Option<AgentName>,
    /// What memory of the agent may not be; none means what the kernel allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// TCP ports on which the agent may be reached over an edge.
    pub expose: BTreeSet<u16>,
    /// Whom this agent may call.
    pub edges: BTreeSet<Edge>,
    /// Unix sockets by which the agent may be reached over an edge; not written where there are none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sockets: BTreeSet<SocketPath>,
    /// Unix sockets of others that this agent may call; not written where there are none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub socket_edges: BTreeSet<SocketEdge>,
    /// Further names by which this agent may call those of its edges.
    pub names: BTreeMap<AgentName, AgentName>,
    /// Outside endpoints that this agent may call.
    pub egress: BTreeSet<Egress>,
    /// Limits of single edges and endpoints of this agent, by `name:port` as in [`Lock`]'s edges and egress.
    pub traffic: BTreeMap<String, TrafficLimits>,
    /// Ports of the box that lead to this agent.
    pub ports: BTreeSet<Port>,
    /// When to start again.
    pub restart: Restart,
    /// How health is told; none means: healthy while it runs.
    pub health: Option<Health>,
    /// Agents that must be in a state before this one starts.
    pub depends_on: BTreeMap<AgentName, Dependency>,
    /// How it is asked to end.
    pub stop: Stop,
    /// Whether the operator may run commands in it and copy files into it and out of it.
    pub exec: Exec,
    /// Whether its standard input is open for the operator (`attach`); else it reads nothing there.
    pub stdin_open: bool,
    /// Whether its streams are a terminal of its own; not written where they are not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
    /// Commands that run inside, one after the other, once its program runs; not written where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub post_start: Vec<Hook>,
    /// Commands that run inside, one after the other, before it is asked to end; not written where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pre_stop: Vec<Hook>,
    /// How much of its output is kept.
    pub log: LogLimits,
    /// The service of which it is one of several replicas; none means that it is alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_of: Option<AgentName>,
}

/// An image, by the digests of its parts (OCI image specification 1.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePin {
    /// Digest of the image manifest.
    pub manifest: Sha256,
    /// Digest of the image configuration.
    pub config: Sha256,
    /// Digest of the EROFS image built from the layers.
    pub rootfs: Sha256,
}

/// Numeric user and group inside the compartment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// User id, below 65536.
    pub uid: u32,
    /// Group id, below 65536.
    pub gid: u32,
}

/// A mount besides the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Mount {
    /// Memory of its own, emptied at each start.
    Tmpfs {
        /// Where, absolute.
        target: String,
        /// Largest size.
        size_bytes: u64,
        /// Permission bits of the mount point.
        mode: u32,
    },
    /// A named volume that outlives the agent.
    Volume {
        /// Name in [`Lock::volumes`].
        name: AgentName,
        /// Where, absolute.
        target: String,
        /// Without writing.
        read_only: bool,
    },
    /// A file of fixed content, without writing.
    Config {
        /// Where, absolute.
        target: String,
        /// Its whole content.
        content: String,
        /// Owner inside the compartment.
        uid: u32,
        /// Group inside the compartment.
        gid: u32,
        /// Permission bits.
        mode: u32,
    },
}

/// A secret that the agent receives as `/run/secrets/<target>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// Resource path at the broker: `<repository>/<type>/<tag>`.
    pub resource: String,
    /// File name below `/run/secrets`.
    pub target: String,
}

/// Resource limits of one compartment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory, without swap.
    pub memory_bytes: u64,
    /// Memory that the kernel takes last from the agent when the box runs short; none means no such part.
    pub memory_reserved_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: u32,
    /// CPU time in thousandths of one core; none means unlimited.
    pub cpu_milli: Option<u32>,
    /// Weight against other agents where cores are short, 2 to 262144.
    pub cpu_shares: u32,
    /// Processors on which the agent may run; none means that the warden chooses by trust groups.
    pub cpuset: Option<BTreeSet<u16>>,
    /// Size of `/dev/shm`.
    pub shm_bytes: u64,
    /// How readily the agent is ended when the box runs out of memory, 0 to 1000.
    pub oom_score_adj: u32,
    /// Limits of one process (setrlimit). Always has [`Ulimit::Nofile`].
    pub ulimits: BTreeMap<Ulimit, UlimitValues>,
    /// How much it may read and write on a disk; none means unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskLimits>,
}

/// How much an agent may read and write in one second, on each disk that it reaches; none means unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskLimits {
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Bytes written.
    pub write_bytes: Option<u64>,
    /// Read operations.
    pub read_operations: Option<u64>,
    /// Write operations.
    pub write_operations: Option<u64>,
}

/// What memory may not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Memory {
    /// Writable and executable, at once or one after the other (PR_SET_MDWE).
    DenyWriteExecute,
}

/// A limit that the kernel holds each process to (setrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ulimit {
    /// CPU time in seconds.
    Cpu,
    /// Bytes of data segment and heap.
    Data,
    /// Bytes of a file that it writes.
    Fsize,
    /// Bytes of locked memory.
    Memlock,
    /// Bytes of POSIX message queues of its user.
    Msgqueue,
    /// Open files.
    Nofile,
    /// Processes and threads of its user.
    Nproc,
    /// Queued signals of its user.
    Sigpending,
    /// Bytes of stack.
    Stack,
}

/// Both values of a limit; none means unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UlimitValues {
    /// What is in force.
    pub soft: Option<u64>,
    /// To what the agent may raise it.
    pub hard: Option<u64>,
}

/// What builds the compartment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Backend {
    /// Linux namespaces, seccomp and Landlock under the box's kernel.
    Native,
    /// A gVisor sandbox, whose kernel in user space answers the agent's system calls.
    Gvisor {
        /// Digest of the program `runsc`, which is all of it.
        runsc: Sha256,
    },
}

/// What builds a compartment, without the programs that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendKind {
    /// [`Backend::Native`].
    Native,
    /// [`Backend::Gvisor`].
    Gvisor,
}

impl BackendKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Native, Self::Gvisor];

    /// As files write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Gvisor => "gvisor",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Backend {
    /// Which it is.
    #[must_use]
    pub const fn kind(self) -> BackendKind {
        match self {
            Self::Native => BackendKind::Native,
            Self::Gvisor { .. } => BackendKind::Gvisor,
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// "May open a TCP connection to this port of that agent."
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// The agent that is called, or a service with replicas: then any of them.
    pub to: AgentName,
    /// Its port.
    pub port: u16,
}

/// "May open a TCP connection to this port of that outside host."
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// Host name, lower case.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Address that the name stands for (`extra_hosts`); none means the gateway resolves it.
    pub address: Option<std::net::IpAddr>,
}

/// What may pass over one edge. At least one of them is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrafficLimits {
    /// Open connections; none means no limit but the gateway's.
    pub connections: Option<u32>,
    /// Bytes in one second, both ways together; none means unlimited.
    pub rate_bytes: Option<u64>,
    /// Bytes in the life of the box, both ways together; none means unlimited.
    pub total_bytes: Option<u64>,
}

/// "Who connects to this port of the box reaches that port of the agent."
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Address of the box to listen on.
    pub address: std::net::IpAddr,
    /// Port of the box.
    pub port: u16,
    /// Port of the agent.
    pub target: u16,
}

impl Port {
    /// Whether the kernel refuses to have both: one port, and one address or one that stands for all of its family.
    #[must_use]
    pub fn excludes(&self, other: &Self) -> bool {
        let one_family = self.address.is_ipv4() == other.address.is_ipv4();
        let all = one_family && (self.address.is_unspecified() || other.address.is_unspecified());
        self.port == other.port && (all || self.address == other.address)
    }
}

/// When an agent is started again after it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// After which end.
    pub condition: RestartCondition,
    /// Largest number of restarts; none means without limit.
    pub attempts_max: Option<u32>,
    /// Pause before each restart; none means a pause that doubles from 100 ms to 60 s.
    pub delay_ms: Option<u64>,
    /// After a run of this length the count of restarts begins anew; none means never.
    pub window_ms: Option<u64>,
}

impl Restart {
    /// On `condition`, without limit and with the growing pause.
    #[must_use]
    pub const fn on(condition: RestartCondition) -> Self {
        Self { condition, attempts_max: None, delay_ms: None, window_ms: None }
    }
}

/// The end after which an agent is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartCondition {
    /// None.
    No,
    /// One with an error.
    OnFailure,
    /// Any, unless it was stopped.
    Always,
}

/// A command that exits 0 while the agent is healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Program and arguments, run inside the compartment.
    pub command: Vec<String>,
    /// Time between two checks.
    pub interval_ms: u64,
    /// Time one check may take.
    pub timeout_ms: u64,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// Time after the start in which failures do not count.
    pub start_period_ms: u64,
    /// Time between two checks until the first one passes.
    pub start_interval_ms: u64,
}

/// A command that the composition has run in a compartment at a moment of its agent's life, confined as the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Program and arguments, never empty.
    pub command: Vec<String>,
    /// User and group inside; none is the agent's own, with its further groups.
    pub user: Option<User>,
    /// Working directory, absolute; none is the agent's own.
    pub working_dir: Option<String>,
    /// Variables, added to the agent's own.
    pub environment: BTreeMap<String, String>,
}

/// An agent that this one waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// The state it must have reached.
    pub condition: Condition,
    /// Whether this one does not start where the dependency fails.
    pub required: bool,
    /// Whether this one restarts where a user restarts the dependency; not written where it does not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart: bool,
}

/// The state a dependency must have reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It runs.
    ServiceStarted,
    /// It is healthy.
    ServiceHealthy,
    /// It ended with status 0.
    ServiceCompletedSuccessfully,
}

/// How an agent is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Signal number.
    pub signal: i32,
    /// Time it has before SIGKILL.
    pub grace_ms: u64,
}

/// Whether the operator of the box may reach into an agent that runs: `exec`, `cp`, input of `attach`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exec {
    /// Yes, and it taints the agent: the event log and each later token say so.
    Allow,
    /// No: the warden refuses.
    Deny,
}

/// How much of an agent's output is kept: the file that is written and those put aside before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLimits {
    /// Size at which a file is put aside.
    pub file_bytes: u64,
    /// Files, the one that is written among them.
    pub files: u32,
}

/// Version of the lock structure.
pub const LOCK_VERSION: u32 = 1;
/// Largest lock file in bytes.
pub const LOCK_BYTES_MAX: usize = 4 << 20;
/// Most agents of one composition.
pub const AGENTS_MAX: usize = 1000;

/// What is measured of the composition besides its agents.
#[derive(Serialize)]
struct Global<'a> {
    version: u32,
    project: &'a AgentName,
    volumes: &'a BTreeMap<AgentName, Volume>,
}

impl Lock {
    /// The composition digest: the root of the Merkle tree.
    ///
    /// # Errors
    /// [`CanonicalError`] where a number is 2^53 or more.
    pub fn digest(&self) -> Result<Sha384, CanonicalError> {
        self.digest_over(&self.measurements()?)
    }

    /// The measurement of each agent.
    ///
    /// # Errors
    /// [`CanonicalError`] where a number is 2^53 or more.
    pub fn measurements(&self) -> Result<BTreeMap<AgentName, Sha384>, CanonicalError> {
        self.agents.iter().map(|(name, agent)| Ok((name.clone(), agent.measurement()?))).collect()
    }

    /// The composition digest, given the measurement of each agent.
    pub(crate) fn digest_over(
        &self,
        measurements: &BTreeMap<AgentName, Sha384>,
    ) -> Result<Sha384, CanonicalError> {
        Ok(merkle::root(&self.leaves(measurements)?).unwrap_or(Sha384::ZERO))
    }

    /// That agent `name` belongs to this composition; none where it does not.
    ///
    /// # Errors
    /// [`CanonicalError`] where a number is 2^53 or more.
    pub fn proof(&self, name: &AgentName) -> Result<Option<Proof>, CanonicalError> {
        let Some(position) = self.agents.keys().position(|known| known == name) else { return Ok(None) };
        Ok(proof_at(&self.leaves(&self.measurements()?)?, position))
    }

    /// That each agent belongs to this composition. All agents are measured once, not once for each proof.
    ///
    /// # Errors
    /// [`CanonicalError`] where a number is 2^53 or more.
    pub fn proofs(&self) -> Result<BTreeMap<AgentName, Proof>, CanonicalError> {
        let leaves = self.leaves(&self.measurements()?)?;
        let names = self.agents.keys().enumerate();
        Ok(names.filter_map(|(place, name)| Some((name.clone(), proof_at(&leaves, place)?))).collect())
    }

    /// The agents that use one mount of the root with agent `name`: those of its group with the same root file system.
    #[must_use]
    pub fn shares_root_with(&self, name: &AgentName) -> Vec<AgentName> {
        let key = |agent: &Agent| Some((agent.share.clone()?, agent.image.rootfs));
        let Some(own) = self.agents.get(name).and_then(key) else { return Vec::new() };
        let same =
            |(other, agent): &(&AgentName, &Agent)| *other != name && key(agent).as_ref() == Some(&own);
        self.agents.iter().filter(same).map(|(other, _)| other.clone()).collect()
    }

    /// The leaves of the Merkle tree: what is global, then the agents in the order of their names.
    fn leaves(&self, measurements: &BTreeMap<AgentName, Sha384>) -> Result<Vec<Sha384>, CanonicalError> {
        let global = Global { version: self.version, project: &self.project, volumes: &self.volumes };
        let global = merkle::global_leaf(&to_canonical_json(&global)?);
        let agents = measurements.iter().map(|(name, measurement)| merkle::agent_leaf(name, measurement));
        Ok(std::iter::once(global).chain(agents).collect())
    }
}

/// The proof of the agent at this place in the order of names.
fn proof_at(leaves: &[Sha384], place: usize) -> Option<Proof> {
    let index = place.saturating_add(1);
    let path = merkle::path(leaves, index)?;
    Some(Proof { index: index.try_into().ok()?, size: leaves.len().try_into().ok()?, path })
}

impl Agent {
    /// The agent measurement: SHA-384 over the RFC 8785 form of all its fields.
    ///
    /// # Errors
    /// [`CanonicalError`] where a number is 2^53 or more.
    pub fn measurement(&self) -> Result<Sha384, CanonicalError> {
        Ok(Sha384::of_parts(&[b"casemate:measurement/1\x00", &to_canonical_json(self)?]))
    }
}
