//! Edges while the box runs: ports of the box, edges that are opened and closed by hand, and what passed over each.
//!
//! What it is: the one place that opens something which the composition does not declare. Each change is in the event
//! log before it is in force, and holds until the box ends, whichever of its agents start anew. The next box begins with
//! what its composition declares.
//! What it is not: a judge of who may ask. Whoever reaches the control socket is root in the box.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use casemate_compartment::backend;
use casemate_composition::host::HostName;
use casemate_composition::lock::{Agent, AgentName, Edge, Lock};
use casemate_composition::network::{self, ADDED_ALIASES, ADDED_ALIASES_MAX};
use casemate_composition::sockets::SocketEdge;
use casemate_protocol::Refusal;
use casemate_protocol::control::Reply;
use casemate_protocol::edges::{EdgeState, EdgeStatus, EdgeTraffic, Origin, declared, declared_targets};
use casemate_protocol::event::{EdgeChange, Event};
use casemate_protocol::gateway::{Target, ToGateway, Verdict};
use casemate_sys::netns;
use tokio::sync::{Mutex, Notify};

use crate::agent::{Running, blocking};
use crate::error::WardenError;
use crate::room;
use crate::world::World;

/// How long the gateway may take to tell what passed.
const REPORT_WAIT_MAX: Duration = Duration::from_secs(5);

/// Most edges that are taken from one answer of the gateway.
const REPORT_EDGES_MAX: usize = 1 << 16;

/// What was changed since the box started.
#[derive(Debug, Default)]
pub(crate) struct LiveEdges {
    changed: RefCell<BTreeMap<AgentName, Changed>>,
    /// Held while an edge changes or the sockets of an agent come or go.
    pub(crate) turn: Mutex<()>,
    reporting: Mutex<()>,
    report: RefCell<Vec<EdgeTraffic>>,
    reported: Notify,
}

#[derive(Debug, Default)]
struct Changed {
    /// Edges that the composition does not declare, with their addresses inside.
    added: BTreeMap<Target, SocketAddrV4>,
    /// Declared or added ones that are closed.
    denied: BTreeSet<Target>,
}

/// Takes part of the gateway's answer to [`ToGateway::Report`].
pub(crate) fn take_report(world: &World, edges: Vec<EdgeTraffic>, last: Last) {
    let mut report = world.live.report.borrow_mut();
    // The gateway is not trusted with the warden's memory.
    if report.len() < REPORT_EDGES_MAX {
        report.extend(edges);
    }
    drop(report);
    if last == Last::Yes {
        world.live.reported.notify_one();
    }
}

/// Whether it is the last part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    Yes,
    No,
}

/// All edges as they stand.
pub(crate) async fn status(world: &World) -> Result<Reply, WardenError> {
    let traffic = traffic(world).await?;
    let mut edges = declared(&world.lock);
    for (name, changed) in world.live.changed.borrow().iter() {
        edges.extend(changed.added.keys().map(|target| EdgeStatus {
            from: Origin::Agent(name.clone()),
            target: target.clone(),
            state: EdgeState::Added,
            limits: None,
            traffic: None,
        }));
    }
    for edge in &mut edges {
        if let Origin::Agent(agent) = &edge.from
            && world.live.is_denied(agent, &edge.target)
        {
            edge.state = EdgeState::Denied;
        }
        let to = edge.target.to_string();
        let passed = traffic.iter().find(|passed| passed.from == edge.from && passed.to == to);
        edge.traffic = Some(passed.map(|passed| passed.traffic.clone()).unwrap_or_default());
    }
    Ok(Reply::Edges { edges })
}

async fn traffic(world: &World) -> Result<Vec<EdgeTraffic>, WardenError> {
    let live = &world.live;
    let _turn = live.reporting.lock().await;
    live.report.borrow_mut().clear();
    world.gateway.send(&ToGateway::Report, &[]).await?;
    let answered = tokio::time::timeout(REPORT_WAIT_MAX, live.reported.notified()).await;
    answered.map_err(|_| WardenError::Environment {
        what: "the gateway does not tell what passed".into(),
        todo: "look at casemate-gateway.log among the project's logs",
    })?;
    Ok(live.report.take())
}

impl LiveEdges {
    fn is_denied(&self, agent: &AgentName, target: &Target) -> bool {
        self.changed.borrow().get(agent).is_some_and(|changed| changed.denied.contains(target))
    }

    /// What was changed about an agent's edges, for people: `+ host:443`, `- other:80`.
    pub(crate) fn summary(&self, agent: &AgentName) -> Vec<String> {
        let changed = self.changed.borrow();
        let Some(changed) = changed.get(agent) else { return Vec::new() };
        let open = changed.added.keys().filter(|target| !changed.denied.contains(*target));
        let added = open.map(|target| format!("+ {target}"));
        added.chain(changed.denied.iter().map(|target| format!("- {target}"))).collect()
    }

    /// The names that the resolver of `agent` answers.
    pub(crate) fn names(&self, lock: &Lock, agent: &AgentName) -> BTreeMap<String, Ipv4Addr> {
        let aliases = network::aliases(lock, agent).into_iter();
        let mut names: BTreeMap<_, _> = aliases.map(|alias| (alias.name, alias.address)).collect();
        if let Some(changed) = self.changed.borrow().get(agent) {
            for (target, address) in &changed.added {
                names.entry(name_of(target).to_owned()).or_insert_with(|| *address.ip());
            }
        }
        names
    }

    /// Where the added edges of `agent` begin.
    fn added(&self, agent: &AgentName) -> Vec<(Target, SocketAddrV4)> {
        let changed = self.changed.borrow();
        let added = changed.get(agent).into_iter().flat_map(|changed| &changed.added);
        added.map(|(target, address)| (target.clone(), *address)).collect()
    }

    /// The address inside `agent` for one more edge; none where there are too many.
    fn address(&self, lock: &Lock, agent: &AgentName, target: &Target) -> Option<SocketAddrV4> {
        if self.added(agent).len() >= usize::try_from(ADDED_ALIASES_MAX).unwrap_or(0) {
            return None;
        }
        let names = self.names(lock, agent);
        let port = port_of(target)?;
        if let Some(address) = names.get(name_of(target)) {
            return Some(SocketAddrV4::new(*address, port));
        }
        let taken: BTreeSet<Ipv4Addr> = names.into_values().collect();
        let mut all =
            (1..=ADDED_ALIASES_MAX).map(|number| Ipv4Addr::from_bits(ADDED_ALIASES.to_bits() | number));
        all.find(|address| !taken.contains(address)).map(|address| SocketAddrV4::new(address, port))
    }
}

fn name_of(target: &Target) -> &str {
    match target {
        Target::Agent { agent: name, .. }
        | Target::Service { service: name, .. }
        | Target::Socket { agent: name, .. } => name.as_str(),
        Target::Host { host, .. } => host,
    }
}

const fn port_of(target: &Target) -> Option<u16> {
    match target {
        Target::Agent { port, .. } | Target::Service { port, .. } | Target::Host { port, .. } => Some(*port),
        Target::Socket { .. } => None,
    }
}

/// Refuses, before anything starts, a port of the box that is taken.
pub(crate) fn require_free_ports(lock: &Lock) -> Result<(), WardenError> {
    for (name, agent) in &lock.agents {
        for port in &agent.ports {
            drop(listen_on_box(name, SocketAddr::new(port.address, port.port))?);
        }
    }
    Ok(())
}

fn listen_on_box(name: &AgentName, address: SocketAddr) -> Result<OwnedFd, WardenError> {
    netns::listening_socket(address).map_err(|errno| {
        let (what, todo) = match errno {
            rustix::io::Errno::ADDRINUSE => (
                format!("{address} of the box is in use, and agent {name} is published there"),
                "end the program that listens there (`ss -ltnp` names it), or write another port under `ports`",
            ),
            rustix::io::Errno::ADDRNOTAVAIL => (
                format!("{address} is no address of the box, and agent {name} is published there"),
                "write an address of the box under `ports`, 127.0.0.1, or 0.0.0.0 for each of them",
            ),
            other => (
                format!("listen on {address} of the box for agent {name}: {other}"),
                "write another address or port under `ports`",
            ),
        };
        WardenError::Environment { what, todo }
    })
}

/// Opens what belongs to a compartment besides the sockets that were born with it: ports of the box, and edges that were
/// added. Before the agent's first instruction.
pub(crate) async fn open_further(
    world: &World,
    name: &AgentName,
    agent: &Agent,
    running: &Running,
) -> Result<(), WardenError> {
    let _turn = world.live.turn.lock().await;
    for port in &agent.ports {
        let listener = listen_on_box(name, SocketAddr::new(port.address, port.port))?;
        let message = ToGateway::Publish { agent: name.clone(), port: port.target };
        world.gateway.send(&message, &[listener]).await?;
    }
    let added = world.live.added(name);
    if added.is_empty() {
        return Ok(());
    }
    let addresses = added.iter().map(|(_, address)| *address).collect();
    let sockets = bind_inside(name, agent, running, addresses).await?;
    for ((target, _), socket) in added.into_iter().zip(sockets) {
        listen_inside(world, name, target, socket).await?;
    }
    Ok(())
}

async fn bind_inside(
    name: &AgentName,
    agent: &Agent,
    running: &Running,
    addresses: Vec<SocketAddrV4>,
) -> Result<Vec<OwnedFd>, WardenError> {
    let (backend, compartment) = (backend(agent.backend), Arc::clone(&running.compartment));
    let shown = addresses.first().map(|address| address.port()).unwrap_or_default();
    let bound = blocking(move || backend.bound_sockets(&compartment, &addresses)).await?;
    bound.map_err(|errno| match errno {
        rustix::io::Errno::ADDRINUSE => WardenError::Environment {
            what: format!(
                "agent {name} listens on port {shown} itself, so it cannot call that port of another"
            ),
            todo: "use another port, or let the agent listen on 127.0.0.1 alone",
        },
        other => WardenError::Environment {
            what: format!("make a socket in the network namespace of agent {name}: {other}"),
            todo: "look whether the agent still runs with `casemate ps`",
        },
    })
}

async fn listen_inside(
    world: &World,
    name: &AgentName,
    target: Target,
    socket: OwnedFd,
) -> Result<(), WardenError> {
    netns::listen(&socket).map_err(WardenError::system("listen in an agent's network namespace"))?;
    let message = ToGateway::Listen { agent: name.clone(), target, limits: None };
    world.gateway.send(&message, &[socket]).await
}

/// Opens or closes an edge.
pub(crate) async fn judge(
    world: &World,
    name: &AgentName,
    host: &str,
    port: u16,
    verdict: Verdict,
) -> Result<Reply, WardenError> {
    let agent = known(world, name)?;
    let target = target(&world.lock, name, agent, host, port)?;
    judge_target(world, name, target, verdict).await
}

/// Closes an edge to a socket, or opens one again that was closed.
pub(crate) async fn judge_socket(
    world: &World,
    name: &AgentName,
    edge: &SocketEdge,
    verdict: Verdict,
) -> Result<Reply, WardenError> {
    let agent = known(world, name)?;
    if verdict == Verdict::Allowed && !agent.socket_edges.contains(edge) {
        // Its listener would have to be made in the agent's files while the agent runs.
        let expected =
            "an edge to a socket that the composition declares: such ones are not added while the box runs";
        return Err(Refusal::new("edge.socket", expected, edge).into());
    }
    judge_target(world, name, edge.into(), verdict).await
}

fn known<'w>(world: &'w World, name: &AgentName) -> Result<&'w Agent, Refusal> {
    world.lock.agents.get(name).ok_or_else(|| {
        let known: Vec<&str> = world.lock.agents.keys().map(AgentName::as_str).collect();
        Refusal::new("agent.declared", format!("one of {}", known.join(", ")), name)
    })
}

async fn judge_target(
    world: &World,
    name: &AgentName,
    target: Target,
    verdict: Verdict,
) -> Result<Reply, WardenError> {
    let _turn = world.live.turn.lock().await;
    let agent = known(world, name)?;
    let is_declared = declared_targets(&world.lock, name).contains(&target);
    let (is_added, is_denied) = {
        let changed = world.live.changed.borrow();
        let changed = changed.get(name);
        (
            changed.is_some_and(|changed| changed.added.contains_key(&target)),
            changed.is_some_and(|changed| changed.denied.contains(&target)),
        )
    };
    let change = match verdict {
        Verdict::Denied if !is_declared && !is_added => {
            return Err(Refusal::new("edge.known", open_edges(world, name), &target).into());
        }
        Verdict::Denied if is_denied => None,
        Verdict::Denied => Some(EdgeChange::Denied),
        Verdict::Allowed if is_declared => is_denied.then_some(EdgeChange::Restored),
        Verdict::Allowed => (is_denied || !is_added).then_some(EdgeChange::Added),
    };
    let Some(change) = change else { return Ok(Reply::EdgeJudged { change: None }) };
    if change == EdgeChange::Added && !is_added {
        let running = world.agent(name).and_then(|(_, record)| record.running.borrow().clone());
        add(world, name, agent, target, running).await?;
    } else {
        log(world, name, &target, change).await?;
        {
            let mut changed = world.live.changed.borrow_mut();
            let changed = changed.entry(name.clone()).or_default();
            match verdict {
                Verdict::Denied => changed.denied.insert(target.clone()),
                Verdict::Allowed => changed.denied.remove(&target),
            };
        }
        world.gateway.send(&ToGateway::Judge { agent: name.clone(), target, verdict }, &[]).await?;
    }
    Ok(Reply::EdgeJudged { change: Some(change) })
}

/// Opens an edge that the composition does not declare.
async fn add(
    world: &World,
    name: &AgentName,
    agent: &Agent,
    target: Target,
    running: Option<Rc<Running>>,
) -> Result<(), WardenError> {
    let Some(address) = world.live.address(&world.lock, name, &target) else {
        let found = format!("{ADDED_ALIASES_MAX} edges were added to {name}");
        let expected = format!("at most {ADDED_ALIASES_MAX} added edges of one agent");
        return Err(Refusal::new("edge.count", expected, found).into());
    };
    require_room(world, name, &target, address)?;
    let mut socket = match &running {
        Some(running) => bind_inside(name, agent, running, vec![address]).await?.pop(),
        None => None,
    };
    log(world, name, &target, EdgeChange::Added).await?;
    world.live.changed.borrow_mut().entry(name.clone()).or_default().added.insert(target.clone(), address);
    if let Some(socket) = socket.take() {
        let names = world.live.names(&world.lock, name);
        listen_inside(world, name, target, socket).await?;
        world.gateway.send(&ToGateway::Names { agent: name.clone(), names }, &[]).await?;
    }
    Ok(())
}

/// Refuses one more edge than the gateway takes.
fn require_room(
    world: &World,
    name: &AgentName,
    target: &Target,
    address: SocketAddrV4,
) -> Result<(), Refusal> {
    let mut names = world.live.names(&world.lock, name);
    names.insert(name_of(target).to_owned(), *address.ip());
    let one_more = |count: usize, added: usize| count.saturating_add(added).saturating_add(1);
    room::require(name, &names, one_more(room::listeners(&world.lock, name), world.live.added(name).len()))?;
    let added: usize = world.live.changed.borrow().values().map(|changed| changed.added.len()).sum();
    room::require_edges(one_more(room::declared(&world.lock), added))
}

async fn log(
    world: &World,
    agent: &AgentName,
    target: &Target,
    change: EdgeChange,
) -> Result<(), WardenError> {
    // One that is closed is said in any case.
    if change != EdgeChange::Denied {
        world.notary.require_room(agent).await?;
    }
    let event = Event::PolicyChanged { agent: agent.clone(), to: target.to_string(), change };
    world.notary.append(&event).await?;
    tracing::warn!(%agent, %target, ?change, "an edge was changed while the box runs");
    Ok(())
}

/// Whom `host` and `port` mean to `agent`.
fn target(
    lock: &Lock,
    name: &AgentName,
    agent: &Agent,
    host: &str,
    port: u16,
) -> Result<Target, WardenError> {
    let known = declared_targets(lock, name);
    let named = agent.names.iter().find(|(alias, _)| alias.as_str() == host).map(|(_, to)| to.as_str());
    let host = named.unwrap_or(host);
    let text = format!("{host}:{port}");
    if let Some(target) = known.into_iter().find(|target| target.to_string() == text) {
        return Ok(target);
    }
    if let Some((to, called)) = called(lock, host) {
        if to == *name || agent.replica_of.as_ref() == Some(&to) {
            return Err(Refusal::new("edge.other", format!("another agent than {name}"), host).into());
        }
        if !called.expose.contains(&port) {
            let ports: Vec<String> = called.expose.iter().map(ToString::to_string).collect();
            let expected = match ports.as_slice() {
                [] => format!("a port that {to} exposes: it exposes none"),
                ports => format!("a port that {to} exposes: {}", ports.join(", ")),
            };
            return Err(Refusal::new("edge.exposed", expected, port).into());
        }
        return Ok((&network::Target::of_edge(lock, &Edge { to, port })).into());
    }
    let expected = "a host name with a dot, in lower case, or an agent of this composition";
    let refused = |found: String| Refusal::new("egress.host", expected, found);
    let host: HostName = host.parse().map_err(|error| refused(format!("`{host}`: {error}")))?;
    if host.is_localhost() {
        return Err(refused(format!("`{host}`, which means the box itself")).into());
    }
    // Most likely the name of an agent, misspelt.
    if !host.as_str().contains('.') {
        return Err(refused(format!("`{host}`, which has no dot and is no agent")).into());
    }
    Ok(Target::Host { host: host.to_string(), port, address: None })
}

/// The agent of this name, or the first of the replicas of this service.
fn called<'l>(lock: &'l Lock, host: &str) -> Option<(AgentName, &'l Agent)> {
    let to: AgentName = host.parse().ok()?;
    let agent = lock.meant_by(&to).first().and_then(|first| lock.agents.get(first))?;
    Some((to, agent))
}

fn open_edges(world: &World, name: &AgentName) -> String {
    let declared = declared_targets(&world.lock, name).into_iter();
    let all: BTreeSet<String> = declared
        .chain(world.live.added(name).into_iter().map(|(target, _)| target))
        .map(|target| target.to_string())
        .collect();
    if all.is_empty() {
        return format!("an edge of {name}: it has none");
    }
    format!("one of {}", all.into_iter().collect::<Vec<_>>().join(", "))
}
