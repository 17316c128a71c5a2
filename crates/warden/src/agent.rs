//! One agent from its first step to its last: start, watch, restart, stop.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use casemate_compartment::{Compartment, CompartmentError, Plan, Standing, Tenant, backend, require};
use casemate_composition::lock::{Agent, AgentName};
use casemate_composition::{network, sockets};
use casemate_jose::RecipientKey;
use casemate_protocol::Nonce;
use casemate_protocol::agent_token::Control;
use casemate_protocol::cmw::Evidence;
use casemate_protocol::control::{AgentStatus, Phase, StepState};
use casemate_protocol::event::Event;
use casemate_protocol::gateway::{Target, ToGateway};
use casemate_protocol::lifecycle;
use casemate_protocol::rcar::{Attestation, RuntimeData, TeeEvidence};
use casemate_sys::observe::mounts_seen;
use casemate_sys::spawn::{FirstProcess, Gate, LaunchError};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;

use crate::error::WardenError;
use crate::evidence::Subject;
use crate::order::{self, Order};
use crate::progress::Steps;
use crate::restart::Restarts;
use crate::roots::Root;
use crate::streams::Own;
use crate::visits::Visits;
use crate::world::World;
use crate::{agent_socket, dependencies, edges, ending, secrets, streams};

/// Time between two looks whether a compartment stands.
const BUILD_POLL: Duration = Duration::from_millis(10);

/// Logged as the exit status of a compartment whose agent never ran.
const STATUS_START_FAILED: i32 = 255;

/// How far an agent is, for those that depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Before,
    Running,
    Healthy,
    Ended(i32),
    Failed,
}

/// What the box knows of one agent.
pub(crate) struct Record {
    pub(crate) status: RefCell<AgentStatus>,
    pub(crate) stage: watch::Sender<Stage>,
    pub(crate) running: RefCell<Option<Rc<Running>>>,
    pub(crate) order: watch::Sender<Order>,
    pub(crate) pause: crate::pause::Pause,
    pub(crate) complaints: crate::complaints::Complaints,
    /// Until when its uptime counts.
    pub(crate) since: Cell<Option<Instant>>,
    pub(crate) visits: Visits,
}

/// A standing compartment.
pub(crate) struct Running {
    pub(crate) compartment: Arc<Compartment>,
    pub(crate) subject: Subject,
    pub(crate) own: Own,
    key: RecipientKey,
}

/// Serves the orders for one agent until the box ends.
pub(crate) async fn live(world: Rc<World>, name: AgentName) {
    let Some((agent, record)) = world.agent(&name) else { return };
    let mut shutdown = world.shutdown.subscribe();
    let mut order = record.order.subscribe();
    loop {
        tokio::select! {
            biased;
            _ = shutdown.wait_for(Option::is_some) => break,
            _ = order.wait_for(|order| *order == Order::Run) => {}
        }
        let standing = run(&world, &name, agent, record).await;
        record.stand(standing);
        record.order.send_replace(Order::Rest);
    }
    record.order.send_replace(Order::Rest);
}

/// How one instance came to its end.
enum End {
    /// It ran this long and ended with this status.
    Exited { status: i32, ran: Duration },
    /// It never ran.
    StartFailed,
    /// It was asked to end before it ran.
    NotStarted,
}

/// Runs one agent until it ended for good, or was asked to.
async fn run(world: &Rc<World>, name: &AgentName, agent: &Agent, record: &Record) -> lifecycle::Standing {
    let mut restarts = Restarts::of(agent.restart);
    let mut first = true;
    loop {
        if let Err(error) = world.notary.require_room(name).await {
            tracing::error!(agent = %name, "{error}");
            set(record, Phase::Waiting, StepState::Failed);
            Steps::begin(name, &world.journal).failed(Phase::Waiting, &error);
            record.stage.send_replace(Stage::Failed);
            return lifecycle::Standing::Ended;
        }
        let end = once(world, name, agent, record).await;
        let again = match end {
            End::NotStarted => return lifecycle::Standing::Stopped,
            // A first start that fails is the composition's or the box's fault, and whoever asked for it is told. A
            // later one may be the broker's, for a moment: the restart policy decides.
            End::StartFailed => !first && restarts.allow(STATUS_START_FAILED, Duration::ZERO),
            End::Exited { status, ran } => restarts.allow(status, ran),
        };
        let wanted = record.may_run_again() && !world.is_shutting_down();
        if matches!(end, End::StartFailed) && !(again && wanted) {
            record.stage.send_replace(Stage::Failed);
        }
        if !wanted {
            return lifecycle::Standing::Stopped;
        }
        if !again {
            return lifecycle::Standing::Ended;
        }
        record.stand(lifecycle::Standing::Restarting);
        tokio::select! {
            () = tokio::time::sleep(restarts.pause()) => {}
            () = order::asked_to_end(world, record) => return lifecycle::Standing::Stopped,
        }
        record.stand(lifecycle::Standing::Up);
        first = false;
    }
}

/// One instance, from its start to its end.
async fn once(world: &Rc<World>, name: &AgentName, agent: &Agent, record: &Record) -> End {
    let instance = record.status.borrow().instance.saturating_add(1);
    let steps = Steps::begin(name, &world.journal);
    let phase = Cell::new(Phase::Waiting);
    let started = tokio::select! {
        started = start(world, name, agent, record, instance, &steps, &phase) => started,
        () = asked_between_steps(world, record, &phase) => Err(WardenError::ShuttingDown),
    };
    let running = match started {
        Ok(running) => running,
        Err(error) => {
            return not_started(world, name, record, (instance, phase.get()), &steps, &error).await;
        }
    };
    let began = Instant::now();
    record.since.set(Some(began));
    let (status, failed) = ending::watch_over(world, agent, record, &steps, &running).await;
    drop(running);
    clean_up(world, name, record).await;
    record.since.set(None);
    record.status.borrow_mut().exit_status = Some(status);
    log_exit(world, name, instance, status).await;
    if let Some(error) = failed {
        tracing::error!(agent = %name, "{error}");
        set(record, Phase::Run, StepState::Failed);
        steps.failed(Phase::Run, &error);
        return End::StartFailed;
    }
    set(record, Phase::Exited, StepState::Done);
    steps.note(Phase::Exited, StepState::Done, &format!("status {status}"));
    record.stage.send_replace(Stage::Ended(status));
    End::Exited { status, ran: began.elapsed() }
}

/// Waits until the agent was asked to end, and a compartment that is being built stands: half of one could not be taken
/// down. The end of the box takes down all.
async fn asked_between_steps(world: &World, record: &Record, phase: &Cell<Phase>) {
    order::asked_to_end(world, record).await;
    while phase.get() == Phase::Compartment && !world.is_shutting_down() {
        tokio::time::sleep(BUILD_POLL).await;
    }
}

/// Takes down what a start has built that came to nothing, and says why.
async fn not_started(
    world: &World,
    name: &AgentName,
    record: &Record,
    (instance, phase): (u32, Phase),
    steps: &Steps,
    error: &WardenError,
) -> End {
    let asked = matches!(error, WardenError::ShuttingDown) && !world.is_shutting_down();
    if !asked {
        tracing::error!(agent = %name, phase = ?phase, "{error}");
        set(record, phase, StepState::Failed);
    }
    clean_up(world, name, record).await;
    if phase > Phase::Measure {
        log_exit(world, name, instance, STATUS_START_FAILED).await;
    }
    if asked {
        record.status.borrow_mut().exit_status = None;
        set(record, Phase::Exited, StepState::Done);
        steps.note(Phase::Exited, StepState::Done, "stopped before it ran");
        record.stage.send_replace(Stage::Ended(STATUS_START_FAILED));
        return End::NotStarted;
    }
    // Last: who is told finds nothing of it.
    steps.failed(phase, error);
    End::StartFailed
}

async fn log_exit(world: &World, name: &AgentName, instance: u32, status: i32) {
    if let Err(error) =
        world.notary.append(&Event::AgentExited { agent: name.clone(), instance, status }).await
    {
        tracing::error!(agent = %name, "{error}");
    }
}

fn set(record: &Record, phase: Phase, state: StepState) {
    let mut status = record.status.borrow_mut();
    status.phase = phase;
    status.state = state;
}

/// Takes down what one start has built. Dropping [`Running`] ends its processes.
async fn clean_up(world: &World, name: &AgentName, record: &Record) {
    let running = record.running.borrow_mut().take();
    let group = running.as_ref().map(|running| running.compartment.group.clone());
    drop(running);
    let freezer = record.pause.end().await;
    {
        let mut status = record.status.borrow_mut();
        status.pid = None;
        status.health = None;
        status.health_said = None;
    }
    {
        let _turn = world.live.turn.lock().await;
        let _ = world.gateway.send(&ToGateway::Forget { agent: name.clone() }, &[]).await;
    }
    if let Some(group) = group {
        let removed = tokio::task::spawn_blocking(move || {
            // First: what stands still may not end.
            let released = freezer.map_or(Ok(()), |freezer| freezer.release());
            (released, group.remove())
        });
        if let Ok((released, removed)) = removed.await {
            if let Err(error) = released {
                tracing::error!(agent = %name, "{error}");
            }
            if let Err(error) = removed {
                tracing::error!(agent = %name, "{error}");
            }
        }
    }
}

/// All steps up to the agent's first instruction.
async fn start(
    world: &Rc<World>,
    name: &AgentName,
    agent: &Agent,
    record: &Record,
    instance: u32,
    steps: &Steps,
    phase: &Cell<Phase>,
) -> Result<Rc<Running>, WardenError> {
    let enter = |next: Phase| {
        steps.note(phase.get(), StepState::Done, "");
        phase.set(next);
        set(record, next, StepState::Started);
        steps.note(next, StepState::Started, "");
    };
    steps.note(Phase::Waiting, StepState::Started, "");
    record.status.borrow_mut().instance = instance;
    dependencies::wait(world, agent, steps).await?;

    enter(Phase::Rootfs);
    let root = world.roots.root(agent).await?;

    enter(Phase::Compartment);
    let (running, gate, agent_socket) = build(world, name, agent, instance, &root).await?;
    let running = Rc::new(running);
    {
        let mut status = record.status.borrow_mut();
        status.pid = Some(running.compartment.first.pid());
        status.controls = running.subject.controls.clone();
        status.secrets.clear();
        status.tainted = false;
    }
    *record.running.borrow_mut() = Some(Rc::clone(&running));
    edges::open_further(world, name, agent, &running).await?;
    require(&running.subject.controls, agent, &world.weaker)?;

    enter(Phase::Measure);
    let measurement = agent.measurement().map_err(|e| WardenError::ours(&e))?;
    world
        .notary
        .append(&Event::AgentLaunched {
            agent: name.clone(),
            instance,
            measurement,
            controls: running.subject.controls.clone(),
        })
        .await?;
    record.visits.taint_again(world, name, record, &running).await?;

    enter(Phase::Attest);
    let mut session = world.courier.session()?;
    let nonce = session.begin(world.tee).await?;
    let nonce: Nonce =
        nonce.parse().map_err(|e| WardenError::Broker { what: format!("the broker's challenge: {e}") })?;
    let evidence = evidence(world, &running, nonce.clone()).await?;
    let body = Attestation {
        init_data: None,
        runtime_data: RuntimeData { nonce: nonce.to_string(), tee_pubkey: running.key.jwk() },
        tee_evidence: TeeEvidence {
            primary_evidence: serde_json::json!({ "casemate": evidence.to_json() }),
            additional_evidence: String::new(),
        },
    };
    let body = serde_json::to_vec(&body).map_err(|e| WardenError::ours(&e))?;

    enter(Phase::Appraise);
    session.attest(body).await?;

    enter(Phase::Secrets);
    for secret in &agent.secrets {
        let sealed = session.fetch(&secret.resource).await?;
        let compartment = &running.compartment;
        let (uid, gid) = (compartment.outer_id(agent.user.uid), compartment.outer_id(agent.user.gid));
        world.secret_memory.pass(
            |memory| {
                running.key.open_into(&sealed, &secret.resource, memory).map_err(|error| {
                    WardenError::Broker {
                        what: format!("secret {} cannot be opened: {error}", secret.resource),
                    }
                })
            },
            |content| secrets::write(&compartment.secrets, &secret.target, content, uid, gid),
        )?;
        world
            .notary
            .append(&Event::SecretDelivered { agent: name.clone(), resource: secret.resource.clone() })
            .await?;
        record.status.borrow_mut().secrets.push(secret.target.clone());
    }
    session.end().await;

    enter(Phase::Run);
    world.notary.append(&Event::AgentStarted { agent: name.clone(), instance }).await?;
    let released = gate.release().map_err(explain_launch)?;
    blocking(move || released.executed()).await?.map_err(explain_launch)?;
    tokio::task::spawn_local(agent_socket::serve(
        Rc::clone(world),
        name.clone(),
        Rc::downgrade(&running),
        agent_socket,
    ));
    if agent.post_start.is_empty() {
        came_up(record, steps);
    }
    Ok(running)
}

/// Its program runs, and what belongs to its start is done.
pub(crate) fn came_up(record: &Record, steps: &Steps) {
    steps.note(Phase::Run, StepState::Done, "");
    record.stage.send_replace(Stage::Running);
}

/// Evidence that is made to its end though nobody waits for it any more: the hardware serves one at a time.
async fn evidence(world: &Rc<World>, running: &Running, nonce: Nonce) -> Result<Evidence, WardenError> {
    let (world, subject) = (Rc::clone(world), running.subject.clone());
    let made = async move { world.evidence(&subject, &nonce).await };
    tokio::task::spawn_local(made).await.map_err(|e| WardenError::ours(&e))?
}

async fn build(
    world: &Rc<World>,
    name: &AgentName,
    agent: &Agent,
    instance: u32,
    root: &Root,
) -> Result<(Running, Gate, OwnedFd), WardenError> {
    let volumes = world.volumes.ready(&world.lock, agent).await?;
    let plan = Plan {
        lock: &world.lock,
        name,
        agent,
        project_dir: &world.project_dir,
        images: &world.images,
        launcher: &world.launcher,
        cores: &world.cores,
        volumes: &volumes,
        seccomp: &world.seccomp,
        programs: &world.programs,
        weaker: &world.weaker,
        box_name: &world.box_name,
        tenant: Tenant::Agent,
    };
    let backend = backend(agent.backend);
    let (streams, own) = streams::make(world, name, agent)?;
    let starting = backend.start(&plan, root.object(), streams).map_err(explain)?;
    let standing = blocking(move || starting.finish()).await?.map_err(explain)?;
    let Standing { compartment, agent_socket, sockets, gate } = standing;
    hand_over_sockets(world, name, sockets).await?;
    let controls = backend.controls(&plan, &compartment, &world.other_roots(name));
    world.cores.require(name, controls.get(&Control::Cores).copied())?;
    crate::secrets::require_memory(&compartment.secrets)?;
    let key = RecipientKey::generate().map_err(|e| WardenError::ours(&e))?;
    let mounts = Rc::new(mounts_seen(compartment.first.pid()));
    let subject =
        Subject { agent: name.clone(), instance, controls, tainted: Rc::default(), key: key.jwk(), mounts };
    Ok((Running { compartment: Arc::new(compartment), subject, own, key }, gate, agent_socket))
}

/// Gives the sockets born inside to the gateway.
async fn hand_over_sockets(
    world: &World,
    name: &AgentName,
    sockets: Vec<OwnedFd>,
) -> Result<(), WardenError> {
    let aliases = network::aliases(&world.lock, name);
    let mut sockets = sockets.into_iter();
    let mut take = |count: usize| -> Vec<OwnedFd> { sockets.by_ref().take(count).collect() };
    let traffic = world.lock.agents.get(name).map(|agent| &agent.traffic);
    for (_, target) in network::listeners(&aliases) {
        let target = Target::from(target);
        let limits = traffic.and_then(|traffic| traffic.get(&target.to_string())).copied();
        let message = ToGateway::Listen { agent: name.clone(), target, limits };
        world.gateway.send(&message, &take(1)).await?;
    }
    for (_, edge) in world.lock.agents.get(name).into_iter().flat_map(sockets::listeners) {
        let limits = traffic.and_then(|traffic| traffic.get(&edge.to_string())).copied();
        let message = ToGateway::Listen { agent: name.clone(), target: edge.into(), limits };
        world.gateway.send(&message, &take(1)).await?;
    }
    let names = world.live.names(&world.lock, name);
    world.gateway.send(&ToGateway::Resolver { agent: name.clone(), names }, &take(2)).await?;
    world.gateway.send(&ToGateway::Pool { agent: name.clone() }, &take(usize::MAX)).await
}

/// The exit status, when it comes.
pub(crate) async fn ended(first: &FirstProcess) -> i32 {
    // Tokio has no type for a pidfd; a receiver waits for readability of any descriptor and is never read from.
    let pidfd = first.pidfd().try_clone().and_then(Receiver::from_owned_fd_unchecked);
    let Ok(pidfd) = pidfd else { return 255 };
    loop {
        match first.ended() {
            Ok(Some(status)) => return status,
            Ok(None) => {}
            Err(_) => return 255,
        }
        if pidfd.readable().await.is_err() {
            return 255;
        }
        // Readable and yet not ended cannot last; it must not spin either.
        tokio::task::yield_now().await;
    }
}

/// Work that blocks, off the thread that everything else lives on.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, WardenError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| WardenError::ours(&e))
}

pub(crate) fn explain(error: CompartmentError) -> WardenError {
    match error {
        CompartmentError::Group(error) => WardenError::control("cgroup-limits", error),
        CompartmentError::Refused(refusal) => WardenError::Refused(refusal),
        CompartmentError::File { path, source } => WardenError::File { path, source },
        error @ CompartmentError::NoProgram { .. } => {
            WardenError::Environment { what: error.to_string(), todo: "name it with --backend-program" }
        }
        CompartmentError::Launch(error) => explain_launch(error),
        other => WardenError::ours(&other),
    }
}

pub(crate) fn explain_launch(error: LaunchError) -> WardenError {
    match error {
        LaunchError::Step { control, step, errno } if !control.is_empty() => {
            WardenError::control(&control, format!("{step}: {errno}"))
        }
        LaunchError::Program { errno } => WardenError::program(errno),
        other => WardenError::Environment {
            what: other.to_string(),
            todo: "check command, working directory and mounts of the agent in the Compose file",
        },
    }
}
