//! The box: its composition, its agents, and the life of the warden.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use casemate_attester::{Provider, RuntimeRegister, Tsm};
use casemate_canon::Sha384;
use casemate_compartment::{Cores, Programs};
use casemate_composition::lock::{Agent, AgentName, Lock};
use casemate_composition::rules::{self, SECCOMP_RULES};
use casemate_protocol::agent_token::Control;
use casemate_protocol::cmw::Evidence;
use casemate_protocol::control::{AgentStatus, Phase, Reply, StepState};
use casemate_protocol::event::Event;
use casemate_protocol::gateway::{DESCRIPTORS_MAX, FromGateway, ToGateway};
use casemate_protocol::lifecycle::Standing;
use casemate_protocol::{Nonce, Refusal};
use casemate_sys::observe::MountSeen;
use casemate_sys::{cgroup, seccomp};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::agent::{self, Record, Stage, blocking};
use crate::arguments::Arguments;
use crate::control;
use crate::courier::Courier;
use crate::dial::{self, Dials};
use crate::edges::{self, Last, LiveEdges};
use crate::error::WardenError;
use crate::evidence::{Notary, Subject};
use crate::gateway::Gateway;
use crate::log::EventLog;
use crate::order::Order;
use crate::posture;
use crate::progress::Journal;
use crate::room;
use crate::roots::Roots;
use crate::secrets;
use crate::volumes::Volumes;

/// Everything in the box. One thread owns it.
pub(crate) struct World {
    pub(crate) lock: Lock,
    pub(crate) composition: Sha384,
    pub(crate) project_dir: PathBuf,
    /// The folder of the images.
    pub(crate) images: PathBuf,
    pub(crate) box_name: String,
    pub(crate) launcher: PathBuf,
    pub(crate) tee: &'static str,
    pub(crate) weaker: BTreeSet<Control>,
    pub(crate) seccomp: Vec<u8>,
    pub(crate) cores: Cores,
    pub(crate) volumes: Volumes,
    pub(crate) programs: Programs,
    pub(crate) notary: Notary,
    pub(crate) posture: posture::Known,
    pub(crate) courier: Courier,
    pub(crate) secret_memory: secrets::Desk,
    pub(crate) gateway: Gateway,
    pub(crate) live: LiveEdges,
    /// Held once by each connection to a Unix socket that is being made.
    pub(crate) dials: Rc<Dials>,
    pub(crate) journal: Rc<Journal>,
    /// Some grace time, once asked to end: `Some(None)` is each agent's own.
    pub(crate) shutdown: watch::Sender<Option<Option<u64>>>,
    records: BTreeMap<AgentName, Record>,
    pub(crate) roots: Roots,
    /// When the box began, for clocks that only go forward.
    pub(crate) began: std::time::Instant,
    done: watch::Sender<bool>,
    /// Agents beside which a compartment of the peer probe is.
    pub(crate) probes: watch::Sender<BTreeSet<AgentName>>,
    /// Those beside which one ever was.
    pub(crate) probes_built: RefCell<BTreeSet<AgentName>>,
    /// Beside which agents the log says that probes are built, and with which program.
    pub(crate) probes_logged: RefCell<BTreeMap<AgentName, Sha384>>,
    failed: RefCell<Option<WardenError>>,
}

/// The warden's life.
pub(crate) fn run(arguments: Arguments) -> Result<(), WardenError> {
    keep_memory_private()?;
    // One thread: the kernel ends agents, gateway and courier with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| WardenError::File { path: "runtime".into(), source })?;
    tokio::task::LocalSet::new().block_on(&runtime, live(arguments))
}

/// No core dump, no swap, no tracing by another process of this user: the box key and the agents' keys are in this memory.
/// All of it, as keys lie where the cryptographic library puts them. Secrets are in memory of their own ([`secrets`]).
fn keep_memory_private() -> Result<(), WardenError> {
    use rustix::mm::{MlockAllFlags, mlockall};
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(WardenError::system("keep the warden's memory out of core dumps"))?;
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
        .map_err(WardenError::system("keep the warden's memory out of swap"))
}

async fn live(arguments: Arguments) -> Result<(), WardenError> {
    let socket = arguments.project_dir.join("run").join("control.sock");
    let world = Rc::new(World::open(arguments).await?);
    let listener = control::bind(&socket)?;
    tokio::task::spawn_local(control::serve(Rc::clone(&world), listener));
    tokio::task::spawn_local(serve_gateway(Rc::clone(&world)));
    tokio::task::spawn_local(obey_signals(Rc::clone(&world)));
    tokio::task::spawn_local(posture::watch(Rc::clone(&world)));
    println!("ready");
    let _ = std::io::stdout().flush();
    let agents: Vec<_> = world
        .lock
        .agents
        .keys()
        .map(|name| tokio::task::spawn_local(agent::live(Rc::clone(&world), name.clone())))
        .collect();
    for agent in agents {
        let _ = agent.await;
    }
    let _ = world.probes.subscribe().wait_for(BTreeSet::is_empty).await;
    let box_name = world.box_name.clone();
    let removed = blocking(move || cgroup::remove_box(&box_name)).await?;
    if let Err(error) = removed {
        tracing::error!("{error}");
    }
    world.volumes.close().await;
    let _ = std::fs::remove_file(&socket);
    world.done.send_replace(true);
    // Whoever asked is answered before the runtime ends.
    tokio::time::sleep(Duration::from_millis(20)).await;
    world.failed.borrow_mut().take().map_or(Ok(()), Err)
}

impl World {
    async fn open(arguments: Arguments) -> Result<Self, WardenError> {
        let todo = "write the lock again with `casemate lock`";
        let input = |what: String| WardenError::Input { what, todo };
        let bytes = std::fs::read(&arguments.lock).map_err(WardenError::file(&arguments.lock))?;
        let lock =
            Lock::from_json(&bytes).map_err(|e| input(format!("{}: {e}", arguments.lock.display())))?;
        let composition = lock.digest().map_err(|e| input(format!("{}: {e}", arguments.lock.display())))?;
        same_rules(&lock)?;
        room::require_for(&lock)?;
        edges::require_free_ports(&lock)?;
        let programs = Programs::open(&lock, &arguments.backend_program).map_err(agent::explain)?;
        let weaker = arguments
            .allow_weaker
            .iter()
            .map(|name| {
                let control = Control::from_name(name).filter(|control| control.may_be_missing());
                control.ok_or_else(|| WardenError::Input {
                    what: format!("`{name}` is not a control that may be weaker"),
                    todo: "see `casemate up --allow-weaker help` for the names",
                })
            })
            .collect::<Result<BTreeSet<_>, _>>()?;
        let cores = Cores::place(&lock, &weaker);
        for folder in ["run", "logs"] {
            let folder = arguments.project_dir.join(folder);
            std::fs::create_dir_all(&folder).map_err(WardenError::file(&folder))?;
        }
        let (tsm, provider) = open_tsm(&arguments)?;
        let register = match (provider, &arguments.measurements) {
            (Provider::SevGuest, _) => None,
            (Provider::TdxGuest, Some(folder)) => {
                let register = RuntimeRegister::at(folder).map_err(|e| environment(&e))?;
                Some(register)
            }
            (Provider::TdxGuest, None) => {
                return Err(WardenError::Input {
                    what: "this is a TDX guest and no runtime measurement register is named".into(),
                    todo: "name it with --measurements /sys/devices/virtual/misc/tdx_guest/measurements",
                });
            }
        };
        let log = EventLog::create(&arguments.project_dir.join("events.jsonl"), register, lock.agents.len())?;
        let notary = Notary::new(tsm, &lock, log)?;
        let warden = env!("CARGO_PKG_VERSION").to_owned();
        notary.append(&Event::CompositionLoaded { composition, warden }).await?;
        let posture = posture::Known::default();
        posture.look().await;
        let logs = arguments.project_dir.join("logs");
        let wanted = wanted(&lock, &arguments.start)?;
        let records =
            lock.agents.keys().map(|name| Ok((name.clone(), record(&lock, &cores, name, &wanted)?)));
        Ok(Self {
            records: records.collect::<Result<_, WardenError>>()?,
            composition,
            box_name: cgroup::box_name(lock.project.as_str(), &arguments.project_dir),
            volumes: Volumes::of(&arguments.project_dir),
            cores,
            project_dir: arguments.project_dir,
            images: arguments.images.clone(),
            launcher: arguments.launcher,
            programs,
            tee: if provider == Provider::TdxGuest { "tdx" } else { "snp" },
            weaker,
            seccomp: seccomp::compile(SECCOMP_RULES).map_err(|e| WardenError::ours(&e))?,
            notary,
            posture,
            courier: Courier::new(
                arguments.courier,
                arguments.broker,
                arguments.broker_cert,
                logs.join("casemate-courier.log"),
            ),
            secret_memory: secrets::Desk::new()?,
            gateway: Gateway::start(&arguments.gateway, &logs.join("casemate-gateway.log")).await?,
            live: LiveEdges::default(),
            dials: Rc::default(),
            journal: Rc::new(Journal::default()),
            shutdown: watch::Sender::new(None),
            roots: Roots::of(&arguments.images)?,
            began: std::time::Instant::now(),
            done: watch::Sender::new(false),
            probes: watch::Sender::new(BTreeSet::new()),
            probes_built: RefCell::default(),
            probes_logged: RefCell::default(),
            failed: RefCell::new(None),
            lock,
        })
    }

    /// Evidence about an agent, with its posture of now.
    pub(crate) async fn evidence(&self, subject: &Subject, nonce: &Nonce) -> Result<Evidence, WardenError> {
        let posture = posture::of(self, subject);
        self.notary.evidence(&self.lock, subject, &posture, nonce).await
    }

    /// What the compartment of an agent that runs has mounted.
    pub(crate) fn mounts(&self, name: &AgentName) -> Option<Rc<Option<Vec<MountSeen>>>> {
        let running = self.records.get(name)?.running.borrow();
        Some(Rc::clone(&running.as_ref()?.subject.mounts))
    }

    /// One agent: its lock entry and its record.
    pub(crate) fn agent(&self, name: &AgentName) -> Option<(&Agent, &Record)> {
        Some((self.lock.agents.get(name)?, self.records.get(name)?))
    }

    /// The device numbers of the roots that other agents have now, with their names.
    pub(crate) fn other_roots(&self, name: &AgentName) -> Vec<(AgentName, String)> {
        let others = self.records.iter().filter(|(other, _)| *other != name);
        others
            .filter_map(|(other, record)| {
                let running = record.running.borrow();
                Some((other.clone(), running.as_ref()?.compartment.root_device.clone()?))
            })
            .collect()
    }

    /// The state of the box, for `ps`.
    pub(crate) fn status(&self) -> Reply {
        let agents = self
            .records
            .iter()
            .map(|(name, record)| {
                let mut status = record.status.borrow().clone();
                status.uptime_s = record.since.get().map(|since| since.elapsed().as_secs());
                status.edges_changed = self.live.summary(name);
                status.paused = record.pause.is_on();
                (name.clone(), status)
            })
            .collect();
        Reply::Status { composition: self.composition, agents }
    }

    /// Begins the end.
    pub(crate) fn shut_down(&self, grace_ms: Option<u64>) {
        self.shutdown.send_if_modified(|asked| {
            let first = asked.is_none();
            if first {
                *asked = Some(grace_ms);
            }
            first
        });
    }

    /// Whether the end has begun.
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.shutdown.borrow().is_some()
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) {
        let mut done = self.done.subscribe();
        let _ = done.wait_for(|done| *done).await;
    }
}

/// A lock names the filter rules that were measured; this warden must have those very rules.
fn same_rules(lock: &Lock) -> Result<(), WardenError> {
    for agent in lock.agents.values() {
        let ours = rules::digests(agent.backend);
        for (rule, expected, found) in [
            ("rules.seccomp", agent.seccomp_rules, ours.seccomp),
            ("rules.landlock", agent.landlock_rules, ours.landlock),
        ] {
            if expected != found {
                return Err(Refusal::new(rule, expected, found).into());
            }
        }
    }
    Ok(())
}

/// The agents that start with the box: those named, or all.
fn wanted(lock: &Lock, named: &[AgentName]) -> Result<BTreeSet<AgentName>, WardenError> {
    if let Some(unknown) = named.iter().find(|name| !lock.agents.contains_key(*name)) {
        return Err(WardenError::Input {
            what: format!("--start {unknown}: no such agent in this composition"),
            todo: "name an agent of the lock",
        });
    }
    if named.is_empty() {
        return Ok(lock.agents.keys().cloned().collect());
    }
    Ok(named.iter().cloned().collect())
}

fn record(
    lock: &Lock,
    cores: &Cores,
    name: &AgentName,
    wanted: &BTreeSet<AgentName>,
) -> Result<Record, WardenError> {
    let agent = lock.agents.get(name).ok_or_else(|| WardenError::ours(&"agent is not in the lock"))?;
    let (order, standing) = match wanted.contains(name) {
        true => (Order::Run, Standing::Up),
        false => (Order::Rest, Standing::NotStarted),
    };
    Ok(Record {
        status: RefCell::new(AgentStatus {
            phase: Phase::Waiting,
            state: StepState::Started,
            instance: 0,
            pid: None,
            uptime_s: None,
            exit_status: None,
            health: None,
            health_said: None,
            measurement: agent.measurement().map_err(|e| WardenError::ours(&e))?,
            backend: agent.backend.kind(),
            controls: BTreeMap::new(),
            secrets: Vec::new(),
            shares_root_with: lock.shares_root_with(name),
            shares_cores_with: cores.shared_with(name),
            tainted: false,
            edges_changed: Vec::new(),
            standing,
            paused: false,
        }),
        stage: watch::Sender::new(Stage::Before),
        running: RefCell::new(None),
        order: watch::Sender::new(order),
        pause: crate::pause::Pause::default(),
        complaints: crate::complaints::Complaints::default(),
        since: Cell::new(None),
        visits: crate::visits::Visits::default(),
    })
}

fn open_tsm(arguments: &Arguments) -> Result<(Tsm, Provider), WardenError> {
    let tsm = Tsm::at(&arguments.tsm).map_err(|e| environment(&e))?;
    let provider = tsm.provider().map_err(|e| environment(&e))?;
    Ok((tsm, provider))
}

fn environment(error: &dyn std::fmt::Display) -> WardenError {
    WardenError::Environment {
        what: error.to_string(),
        todo: "run in a confidential VM with configfs-tsm, or use `casemate up`, which emulates one",
    }
}

/// Refills pools and reports denials. The gateway's end is the end of the box: its sockets are gone with it.
async fn serve_gateway(world: Rc<World>) {
    loop {
        match world.gateway.next().await {
            Some(FromGateway::Ready) => {}
            Some(FromGateway::NeedSockets { agent, count }) => refill(&world, &agent, count).await,
            Some(FromGateway::Dial { id, agent, path }) => dial::answer(&world, id, &agent, path).await,
            Some(FromGateway::NameDenied { agent, name }) => deny(&world, &agent, &name),
            Some(FromGateway::EdgeDenied { agent, to, rule }) => tell(&world, &agent, &to, &rule),
            Some(FromGateway::Traffic { edges, last }) => {
                edges::take_report(&world, edges, if last { Last::Yes } else { Last::No });
            }
            None => {
                if !world.is_shutting_down() {
                    tracing::error!("the gateway ended; the box ends with it");
                    *world.failed.borrow_mut() = Some(WardenError::Environment {
                        what: "the gateway ended".into(),
                        todo: "look at casemate-gateway.log among the project's logs, then `casemate up` again",
                    });
                    world.shut_down(None);
                }
                return;
            }
        }
    }
}

async fn refill(world: &World, name: &AgentName, count: u32) {
    let Some((agent, record)) = world.agent(name) else { return };
    let compartment = record.running.borrow().as_ref().map(|running| Arc::clone(&running.compartment));
    let Some(compartment) = compartment else { return };
    let count = count.min(u32::try_from(DESCRIPTORS_MAX).unwrap_or(u32::MAX));
    let backend = casemate_compartment::backend(agent.backend);
    match blocking(move || backend.sockets(&compartment, count)).await {
        Ok(Ok(sockets)) => {
            let _ = world.gateway.send(&ToGateway::Pool { agent: name.clone() }, &sockets).await;
        }
        Ok(Err(errno)) => tracing::warn!(agent = %name, "sockets for the gateway: {errno}"),
        Err(error) => tracing::error!("{error}"),
    }
}

fn deny(world: &World, name: &AgentName, asked: &str) {
    let declared: Vec<String> = casemate_composition::network::aliases(&world.lock, name)
        .into_iter()
        .map(|alias| alias.name)
        .collect();
    let refusal = Refusal::new("name.declared", format!("one of {}", declared.join(", ")), asked);
    if let Some((_, record)) = world.agent(name) {
        record.complaints.tell(name, &refusal);
    }
}

/// The gateway refused or ended a connection of an edge of `name`.
fn tell(world: &World, name: &AgentName, to: &str, rule: &str) {
    if let Some((_, record)) = world.agent(name) {
        let expected = match rule {
            "edge.denied" => "an edge that is open",
            "edge.connections" | "edge.bytes" => "a connection within the limits of its edge",
            "gateway.connections" => "fewer open connections of one caller",
            "egress.address" => {
                "a name that stands for a public address, or one with an address under `extra_hosts`"
            }
            "egress.resolves" => "a name that resolves",
            _ => "a peer that takes the connection",
        };
        record.complaints.tell(name, &Refusal::new(rule, expected, to));
    }
}

async fn obey_signals(world: Rc<World>) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    world.shut_down(None);
}
