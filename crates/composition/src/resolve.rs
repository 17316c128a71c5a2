//! Compose file and image facts to a lock: every default written out, every choice made.

use std::collections::{BTreeMap, BTreeSet};

use casemate_canon::Sha256;

use crate::compose::{Compose, Service, TMPFS_BYTES_DEFAULT, TMPFS_MODE_DEFAULT, absolute_path, target_of};
use crate::lock::{
    Agent, AgentName, Backend, BackendKind, Dependency, Edge, Egress, Exec, ImagePin, LOCK_BYTES_MAX,
    LOCK_VERSION, Limits, Lock, LogLimits, Mount, Restart, RestartCondition, Secret, Stop, TrafficLimits,
    Ulimit, UlimitValues, User,
};
use crate::problem::{At, Findings, Place, Problems, printable};
use crate::replicas::names_of;
use crate::rules;
use crate::sockets::SocketEdge;

/// Memory of an agent that names no limit.
pub const MEMORY_BYTES_DEFAULT: u64 = 512 << 20;
/// Processes and threads of an agent that names no limit.
pub const PIDS_DEFAULT: u32 = 256;
/// Open files of a process that names no limit.
pub const OPEN_FILES_DEFAULT: u64 = 1024;
/// Weight of an agent that names none (as Linux).
pub const CPU_SHARES_DEFAULT: u32 = 1024;
/// Size of `/dev/shm` of an agent that names none (as container engines).
pub const SHM_BYTES_DEFAULT: u64 = 64 << 20;
/// Time before SIGKILL of an agent that names none (as Compose).
pub const STOP_GRACE_MS_DEFAULT: u64 = 10_000;
/// Size of a file of output of an agent that names none.
pub const LOG_FILE_BYTES_DEFAULT: u64 = 16 << 20;
/// Files of output that are kept of an agent that names none.
pub const LOG_FILES_DEFAULT: u32 = 2;
/// `PATH` where neither image nor file set one (as container engines do).
pub const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Most bytes of a command line and its environment together (half of what Linux allows with its usual stack).
pub const ARGUMENTS_BYTES_MAX: usize = 1 << 20;
/// What to do where gVisor's program is missing.
const RUNSC_TODO: &str =
    "install Debian's `runsc` from bookworm-backports, or name the program with CASEMATE_RUNSC";
const SIGTERM: i32 = 15;
/// User and group ids inside a compartment are below this.
const IDS: u32 = 65_536;

/// What is known of an image once it is pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// Its digests.
    pub pin: ImagePin,
    /// `Entrypoint` of its configuration.
    pub entrypoint: Vec<String>,
    /// `Cmd` of its configuration.
    pub command: Vec<String>,
    /// `Env` of its configuration.
    pub environment: BTreeMap<String, String>,
    /// `WorkingDir` of its configuration; empty means `/`.
    pub working_dir: String,
    /// `User` of its configuration, as numbers.
    pub user: User,
}

fn kind_of(service: &Service) -> BackendKind {
    service.extension.backend.as_ref().map_or(BackendKind::Native, |at| at.value)
}

impl Compose {
    /// The lock. `images` has the facts of each of [`Compose::images`], by reference as written.
    ///
    /// # Errors
    /// [`Problems`]: an image is missing, or has no command.
    pub fn resolve(&self, images: &BTreeMap<String, ImageFacts>) -> Result<Lock, Problems> {
        let mut f = Findings::of(&self.sources);
        let mut agents = BTreeMap::new();
        // Replicas multiply what files bring: no more is made than a lock may have.
        let mut bytes_left = Some(LOCK_BYTES_MAX);
        for (name, service) in &self.services {
            if service.replicas() == 0 {
                continue;
            }
            if let Some(agent) = self.agent(name, service, images, &mut f) {
                check_order(name, service, &agent, &mut f);
                bytes_left =
                    bytes_left.and_then(|left| left.checked_sub(bytes_of(&agent, service.replicas())));
                if bytes_left.is_some() {
                    agents.extend(replicas(name, service, agent));
                }
            }
        }
        let volumes =
            self.volumes.values().map(|volume| (volume.name.clone(), volume.lock_entry())).collect();
        let lock = Lock { version: LOCK_VERSION, project: self.project.clone(), agents, volumes };
        let bytes = lock.to_json().map_or(usize::MAX, |json| json.len());
        if bytes > LOCK_BYTES_MAX || bytes_left.is_none() {
            let what = format!("lock would have more than {LOCK_BYTES_MAX} bytes");
            f.problem(Place::START, what, "split the composition");
        }
        Ok(f.finish(Some(lock))?.0)
    }

    /// Names the program of the gVisor sandbox, for agents that ask for one.
    #[must_use]
    pub fn with_runsc(mut self, runsc: Sha256) -> Self {
        self.runsc = Some(runsc);
        self
    }

    /// The agents that ask for a backend.
    #[must_use]
    pub fn asks_for(&self, kind: BackendKind) -> bool {
        self.services.values().any(|service| kind_of(service) == kind)
    }

    fn backend(&self, name: &AgentName, service: &Service, f: &mut Findings<'_>) -> Option<Backend> {
        match (kind_of(service), self.runsc) {
            (BackendKind::Native, _) => Some(Backend::Native),
            (BackendKind::Gvisor, Some(runsc)) => Some(Backend::Gvisor { runsc }),
            (BackendKind::Gvisor, None) => {
                let place = service.extension.backend.as_ref().map_or(Place::START, |at| at.place);
                let what = format!("agent `{name}` asks for gVisor, and its program `runsc` was not found");
                f.problem(place, what, RUNSC_TODO);
                None
            }
        }
    }

    fn agent(
        &self,
        name: &AgentName,
        service: &Service,
        images: &BTreeMap<String, ImageFacts>,
        f: &mut Findings<'_>,
    ) -> Option<Agent> {
        let image = service.image.as_ref()?;
        let Some(facts) = images.get(&image.value) else {
            let shown = printable(&image.value);
            let what = format!("image `{shown}` is not in the store");
            // No registry has what is called after this machine.
            let get = if image.value.starts_with("localhost/") {
                String::new()
            } else {
                format!("get it with `casemate image pull {shown}`, ")
            };
            let todo = format!("{get}import it with `casemate image import`, or correct the reference");
            f.problem(image.place, what, todo);
            return None;
        };
        let command = command(service, facts);
        if command.first().is_none_or(String::is_empty) {
            let what = format!("service `{name}` has no command, and neither has its image");
            f.problem(image.place, what, "write command: [\"program\", \"argument\"]");
            return None;
        }
        let environment = environment(service, facts);
        let backend = self.backend(name, service, f)?;
        let rules = rules::digests(backend);
        check(facts, &command, &environment, image, f);
        Some(Agent {
            image: facts.pin.clone(),
            command,
            environment,
            working_dir: service.working_dir.clone().unwrap_or_else(|| match facts.working_dir.as_str() {
                "" => "/".to_owned(),
                path => path.to_owned(),
            }),
            user: service.user.unwrap_or(facts.user),
            groups: service.groups.clone(),
            hostname: service.hostname.as_ref().map_or_else(|| name.to_string(), |at| at.value.clone()),
            mounts: self.mounts(service),
            secrets: self.secrets_of(service),
            limits: limits(service),
            seccomp_rules: rules.seccomp,
            landlock_rules: rules.landlock,
            backend,
            share: service.extension.share.as_ref().map(|at| at.value.clone()),
            memory: service.extension.memory,
            trust: service.extension.trust.clone().unwrap_or_else(|| name.clone()),
            expose: service.expose.clone(),
            edges: self.edges(service).cloned().collect(),
            sockets: service.extension.sockets.keys().cloned().collect(),
            socket_edges: self.socket_edges(service).cloned().collect(),
            names: self.names(service),
            egress: egress(service),
            traffic: self.traffic(service),
            ports: service.ports.iter().map(|at| at.value).collect(),
            restart: service.restart.as_ref().map_or(Restart::on(RestartCondition::No), |at| at.value),
            health: service.health.clone(),
            depends_on: self.dependencies(service),
            stop: Stop {
                signal: service.stop_signal.unwrap_or(SIGTERM),
                grace_ms: service.stop_grace_ms.unwrap_or(STOP_GRACE_MS_DEFAULT),
            },
            exec: service.extension.exec.unwrap_or(Exec::Allow),
            stdin_open: service.stdin_open,
            tty: service.tty,
            post_start: service.post_start.clone(),
            pre_stop: service.pre_stop.clone(),
            log: LogLimits {
                file_bytes: service.log.file_bytes.unwrap_or(LOG_FILE_BYTES_DEFAULT),
                files: service.log.files.unwrap_or(LOG_FILES_DEFAULT),
            },
            replica_of: None,
        })
    }

    /// Whom this service may call, but for services that no agent runs.
    fn edges<'s>(&'s self, service: &'s Service) -> impl Iterator<Item = &'s Edge> {
        let runs = |edge: &&Edge| self.services.get(&edge.to).is_some_and(|to| to.replicas() > 0);
        service.extension.talks_to.iter().map(|at| &at.value).filter(runs)
    }

    /// Likewise, of the edges to sockets.
    fn socket_edges<'s>(&'s self, service: &'s Service) -> impl Iterator<Item = &'s SocketEdge> {
        let runs = |edge: &&SocketEdge| self.services.get(&edge.to).is_some_and(|to| to.replicas() > 0);
        service.extension.socket_edges.iter().map(|at| &at.value).filter(runs)
    }

    /// Limits of endpoints, but for those of services that no agent runs.
    fn traffic(&self, service: &Service) -> BTreeMap<String, TrafficLimits> {
        let mut all = service.extension.traffic.clone();
        let ports = self.edges(service).map(|edge| format!("{}:{}", edge.to, edge.port));
        let calls: BTreeSet<String> =
            ports.chain(self.socket_edges(service).map(ToString::to_string)).collect();
        let ports = service.extension.talks_to.iter().map(|at| format!("{}:{}", at.value.to, at.value.port));
        let sockets = service.extension.socket_edges.iter().map(|at| at.value.to_string());
        for endpoint in ports.chain(sockets).filter(|endpoint| !calls.contains(endpoint)) {
            all.remove(&endpoint);
        }
        all
    }

    /// Whom it waits for: each replica of a service. A service that no agent runs is not waited for, as in Compose.
    fn dependencies(&self, service: &Service) -> BTreeMap<AgentName, Dependency> {
        let known = service.depends_on.iter().filter_map(|(to, at)| Some((to, self.services.get(to)?, at)));
        known
            .flat_map(|(to, other, at)| {
                names_of(to, other.replicas()).into_iter().map(|name| (name, at.value))
            })
            .collect()
    }

    /// The further names of those that this service may call.
    fn names(&self, service: &Service) -> BTreeMap<AgentName, AgentName> {
        let called: BTreeSet<&AgentName> = self.edges(service).map(|edge| &edge.to).collect();
        let mut names = BTreeMap::new();
        for to in called {
            let aliases = self.services.get(to).map(|target| &target.aliases).into_iter().flatten();
            names.extend(
                aliases.filter(|(alias, _)| *alias != to).map(|(alias, _)| (alias.clone(), to.clone())),
            );
        }
        names
    }

    /// In the order of their targets, so that an outer mount comes before one inside it; `/tmp` is always there.
    fn mounts(&self, service: &Service) -> Vec<Mount> {
        let volume = |mount: &At<Mount>| match &mount.value {
            Mount::Volume { name, target, read_only } => Mount::Volume {
                name: self.volumes.get(name).map_or(name, |volume| &volume.name).clone(),
                target: target.clone(),
                read_only: *read_only,
            },
            other => other.clone(),
        };
        let mut mounts: Vec<Mount> = service.mounts.iter().map(volume).collect();
        if !mounts.iter().any(|mount| target_of(mount) == "/tmp") {
            let target = "/tmp".to_owned();
            mounts.push(Mount::Tmpfs { target, size_bytes: TMPFS_BYTES_DEFAULT, mode: TMPFS_MODE_DEFAULT });
        }
        for At { value: config, .. } in &service.configs {
            let Some(Some(content)) = self.configs.get(&config.source) else { continue };
            let (target, content) = (config.target.clone(), content.clone());
            mounts.push(Mount::Config {
                target,
                content,
                uid: config.uid,
                gid: config.gid,
                mode: config.mode,
            });
        }
        mounts.sort_by(|a, b| target_of(a).cmp(target_of(b)));
        mounts
    }

    fn secrets_of(&self, service: &Service) -> Vec<Secret> {
        let mut secrets: Vec<_> = service
            .secrets
            .iter()
            .filter_map(|at| {
                let name = self.secrets.get(&at.value.source)?;
                let resource = format!("{}/secret/{name}", self.project);
                Some(Secret { resource, target: at.value.target.clone() })
            })
            .collect();
        secrets.sort();
        secrets
    }
}

/// Bytes that so many agents of a kind take in a lock, at least.
fn bytes_of(agent: &Agent, count: u32) -> usize {
    let one = serde_json::to_vec(agent).map_or(usize::MAX, |json| json.len());
    one.saturating_mul(usize::try_from(count).unwrap_or(usize::MAX))
}

/// The agents of a service: itself, or its replicas. Those differ by their names, and by what is called after them
/// where the file names nothing else.
fn replicas(name: &AgentName, service: &Service, agent: Agent) -> Vec<(AgentName, Agent)> {
    if service.replicas() == 1 {
        return vec![(name.clone(), agent)];
    }
    let of = |own: AgentName| {
        let mut replica = Agent { replica_of: Some(name.clone()), ..agent.clone() };
        if service.hostname.is_none() {
            replica.hostname = own.to_string();
        }
        if service.extension.trust.is_none() {
            replica.trust = own.clone();
        }
        (own, replica)
    };
    names_of(name, service.replicas()).into_iter().map(of).collect()
}

/// Whoever reviews a lock must read what runs: no value of file or image has characters that show it in another order
/// (Unicode Standard Annex 9: embeddings, overrides and isolates).
fn check_order(name: &AgentName, service: &Service, agent: &Agent, f: &mut Findings<'_>) {
    let json = serde_json::to_string(agent).unwrap_or_default();
    let found = json.chars().find(|c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
    if let Some(c) = found {
        let what = format!(
            "a value of service `{name}`, or of its image or its files, has U+{:04X}: what follows is shown in another \
             order than it has",
            u32::from(c)
        );
        f.problem(service.place, what, "take the character out");
    }
}

/// What an image's configuration brings is as untrusted as the file.
fn check(
    facts: &ImageFacts,
    command: &[String],
    environment: &BTreeMap<String, String>,
    image: &At<String>,
    f: &mut Findings<'_>,
) {
    let shown = printable(&image.value);
    if facts.user.uid >= IDS || facts.user.gid >= IDS {
        let what = format!("image `{shown}` names user {}:{}", facts.user.uid, facts.user.gid);
        f.problem(image.place, what, format!("write user: with numbers below {IDS}"));
    }
    if !facts.working_dir.is_empty() && absolute_path(&facts.working_dir).is_none() {
        let what = format!("image `{shown}` has working directory `{}`", printable(&facts.working_dir));
        f.problem(image.place, what, "write working_dir: with an absolute path");
    }
    let variables = facts.environment.iter();
    if variables
        .clone()
        .any(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0'))
        || command.iter().any(|word| word.contains('\0'))
    {
        let what =
            format!("image `{shown}` has a variable without name, or a zero byte in a variable or argument");
        f.problem(image.place, what, "use an image with a well-formed configuration");
    }
    let words = command.iter().map(|word| word.len().saturating_add(1));
    let pairs =
        environment.iter().map(|(name, value)| name.len().saturating_add(value.len()).saturating_add(2));
    if words.chain(pairs).fold(0_usize, usize::saturating_add) > ARGUMENTS_BYTES_MAX {
        let what = format!("command and environment are longer than {ARGUMENTS_BYTES_MAX} bytes");
        f.problem(image.place, what, "shorten them");
    }
}

/// As the Compose specification merges them: an entrypoint of the file also drops the image's command.
fn command(service: &Service, facts: &ImageFacts) -> Vec<String> {
    let (entrypoint, default) = match &service.entrypoint {
        Some(entrypoint) => (entrypoint.as_slice(), &[][..]),
        None => (facts.entrypoint.as_slice(), facts.command.as_slice()),
    };
    let command = service.command.as_deref().unwrap_or(default);
    [entrypoint, command].concat()
}

fn environment(service: &Service, facts: &ImageFacts) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([("PATH".to_owned(), PATH_DEFAULT.to_owned())]);
    all.extend(facts.environment.clone());
    all.extend(service.environment.iter().map(|(name, at)| (name.clone(), at.value.clone())));
    all
}

fn limits(service: &Service) -> Limits {
    let written = &service.limits;
    let files = UlimitValues { soft: Some(OPEN_FILES_DEFAULT), hard: Some(OPEN_FILES_DEFAULT) };
    let mut ulimits = BTreeMap::from([(Ulimit::Nofile, files)]);
    ulimits.extend(written.ulimits.clone());
    Limits {
        memory_bytes: written.memory_bytes.as_ref().map_or(MEMORY_BYTES_DEFAULT, |at| at.value),
        memory_reserved_bytes: written.memory_reserved_bytes.as_ref().map(|at| at.value),
        pids: written.pids.as_ref().map_or(PIDS_DEFAULT, |at| at.value),
        cpu_milli: written.cpu_milli.as_ref().map(|at| at.value),
        cpu_shares: written.cpu_shares.as_ref().map_or(CPU_SHARES_DEFAULT, |at| at.value),
        cpuset: written.cpuset.as_ref().map(|at| at.value.clone()),
        shm_bytes: written.shm_bytes.as_ref().map_or(SHM_BYTES_DEFAULT, |at| at.value),
        oom_score_adj: written.oom_score_adj.as_ref().map_or(0, |at| at.value),
        ulimits,
        disk: written.disk,
    }
}

fn egress(service: &Service) -> BTreeSet<Egress> {
    service
        .extension
        .egress
        .iter()
        .map(|at| {
            let (host, port) = &at.value;
            let address = service.extra_hosts.get(host).map(|at| at.value);
            Egress { host: host.to_string(), port: *port, address }
        })
        .collect()
}
