//! What the report is made of: everything is asked of the box and looked at on the machine in one run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use casemate_canon::{Sha256, Sha384};
use casemate_composition::lock::{Agent, AgentName, BackendKind, Lock, Mount};
use casemate_composition::rules;
use casemate_posture::doctor::{self as checks, Facts};
use casemate_posture::report::{AgentView, Calls, EdgeView, End, Input, Platform, ProbeView};
use casemate_posture::sharing::{NotRun, ledger};
use casemate_protocol::cmw::{Evidence, Platform as Hardware};
use casemate_protocol::control::{AgentStatus, ControlRequest, Reply};
use casemate_protocol::edges::{EdgeState, EdgeStatus, Origin};
use casemate_protocol::gateway::Target;
use casemate_protocol::inside::{InsideReply, InsideRequest};
use casemate_sys::seccomp;

use super::{sharing, starts};
use crate::commands::doctor;
use crate::control;
use crate::failure::Outcome;
use crate::inputs;
use crate::project::Project;

/// Collects everything. What cannot be had but is no reason to fail is noted with its reason.
pub(super) fn input(project: &Project) -> Outcome<Input> {
    let Reply::Status { composition, agents: states } = control::ask(project, &ControlRequest::Status)?
    else {
        return Err(control::unexpected_reply());
    };
    let lock = inputs::read_lock(&project.lock_file())?;
    let running = doctor::agents_of(project)?;
    let mut not_seen = Vec::new();
    let mut note = |name: &str, reason: String| not_seen.push(NotRun { name: name.to_owned(), reason });
    let edges = edges(project).unwrap_or_else(|failure| {
        note("edges", failure.what);
        Vec::new()
    });
    let probes = probes(project).unwrap_or_else(|failure| {
        note("batteries of the probe", failure.what);
        Vec::new()
    });
    let (mut platform, report) = evidence(project, &states);
    platform.simulated = project.emulator().is_dir();
    if let Some(reason) = &platform.reason {
        note("evidence", reason.clone());
    }
    let tree = sharing::tree()?;
    let facts = Facts::new(&tree, Some(&running), report.as_deref(), casemate_sys::landlock_version());
    let findings = checks::run(&facts);
    let build_ms = starts::build_ms(project);
    let mut agents = BTreeMap::new();
    for (name, agent) in &lock.agents {
        let state = states.get(name);
        let runs = running.iter().any(|one| one.name == name.as_str());
        if !runs {
            note(name.as_str(), "the agent does not run: nothing of it was seen".to_owned());
        }
        let build_ms = build_ms.get(name.as_str()).copied();
        agents.insert(name.to_string(), view(agent, state.filter(|_| runs), build_ms));
    }
    let (calls, unread) = calls(&lock);
    not_seen.extend(unread);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Ok(Input {
        project: project.name.to_string(),
        now,
        date: date(now),
        composition: composition.to_string(),
        host_data: host_data(&composition),
        platform,
        report,
        agents,
        edges,
        probes,
        calls,
        findings,
        ledger: ledger(&tree, &running, build_ms),
        not_seen,
    })
}

fn date(now: u64) -> String {
    let at = i64::try_from(now).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    at.map_or_else(|| format!("{now} s after 1970"), |at| at.to_string())
}

/// What HOST_DATA is for this composition.
fn host_data(composition: &Sha384) -> String {
    Sha256::of(&composition.0).to_hex()
}

fn view(agent: &Agent, state: Option<&AgentStatus>, build_ms: Option<u64>) -> AgentView {
    let volume = |mount: &Mount| match mount {
        Mount::Volume { name, .. } => Some(name.to_string()),
        Mount::Tmpfs { .. } | Mount::Config { .. } => None,
    };
    let port = |port: &casemate_composition::lock::Port| format!("{}:{}", port.address, port.port);
    AgentView {
        backend: agent.backend.kind().name(),
        trust: agent.trust.to_string(),
        share: agent.share.as_ref().map(AgentName::to_string),
        runs: state.is_some(),
        tainted: state.is_some_and(|state| state.tainted),
        controls: state.map(|state| state.controls.clone()).unwrap_or_default(),
        cores_with: state.map_or_else(Vec::new, |state| {
            state.shares_cores_with.iter().map(AgentName::to_string).collect()
        }),
        secrets: agent.secrets.iter().map(|secret| secret.resource.clone()).collect(),
        volumes: agent.mounts.iter().filter_map(volume).collect(),
        ports: agent.ports.iter().map(port).collect(),
        build_ms,
    }
}

/// Edges that stand open. An edge to a service leads to each of its replicas.
fn edges(project: &Project) -> Outcome<Vec<EdgeView>> {
    let Reply::Edges { edges } = control::ask(project, &ControlRequest::Edges)? else {
        return Err(control::unexpected_reply());
    };
    let mut open: Vec<EdgeView> =
        edges.iter().filter(|edge| edge.state != EdgeState::Denied).flat_map(views).collect();
    open.sort();
    Ok(open)
}

fn views(edge: &EdgeStatus) -> Vec<EdgeView> {
    // Ports of the box are told with their agent.
    let Origin::Agent(from) = &edge.from else { return Vec::new() };
    let view = |to: String, port: End, outside: bool| EdgeView {
        from: from.to_string(),
        to,
        port,
        outside,
        added: edge.state == EdgeState::Added,
    };
    match &edge.target {
        Target::Agent { agent, port } => vec![view(agent.to_string(), End::Port(*port), false)],
        Target::Service { replicas, port, .. } => {
            replicas.iter().map(|replica| view(replica.to_string(), End::Port(*port), false)).collect()
        }
        Target::Socket { agent, path } => vec![view(agent.to_string(), End::Socket(path.to_string()), false)],
        Target::Host { host, port, .. } => vec![view(host.clone(), End::Port(*port), true)],
    }
}

fn probes(project: &Project) -> Outcome<Vec<ProbeView>> {
    let Reply::Inside(InsideReply::Probes { probes }) =
        control::ask(project, &ControlRequest::Inside(InsideRequest::Probes))?
    else {
        return Err(control::unexpected_reply());
    };
    let view = |one: casemate_protocol::posture::ProbeBetween| ProbeView {
        attacker: one.attacker.to_string(),
        victim: one.victim.to_string(),
        seen: one.seen,
    };
    Ok(probes.into_iter().map(view).collect())
}

/// One piece of evidence, for what the hardware says of the box. Freshness is nobody's concern here: the box is asked over
/// its own socket.
fn evidence(project: &Project, states: &BTreeMap<AgentName, AgentStatus>) -> (Platform, Option<Vec<u8>>) {
    let none = |reason: String| (Platform { reason: Some(reason), ..Platform::default() }, None);
    let asked = states.iter().find(|(_, state)| state.pid.is_some() && !state.paused);
    let Some((agent, _)) = asked else { return none("no agent runs, and evidence is about one".to_owned()) };
    let Ok(nonce) = "posture-report".parse() else { return none("no nonce".to_owned()) };
    let request = ControlRequest::Attest { agent: agent.clone(), nonce };
    let evidence = match control::ask(project, &request) {
        Ok(Reply::Evidence { evidence }) => evidence.to_string(),
        Ok(_) => return none("the warden gave an answer of another kind".to_owned()),
        Err(failure) => return none(failure.what),
    };
    let of = |kind: &'static str| Platform { kind: Some(kind), ..Platform::default() };
    match Evidence::from_json_bytes(evidence.as_bytes()).map(|evidence| evidence.platform) {
        Ok(Hardware::Tdx { quote }) => (of("tdx"), Some(quote)),
        Ok(Hardware::Snp { report, .. }) => (of("snp"), Some(report)),
        Ok(Hardware::Vtpm(_)) => (of("vtpm"), None),
        Err(error) => none(error.to_string()),
    }
}

/// The filters of both backends, of no agent.
pub(super) fn rules() -> Vec<Calls> {
    BackendKind::ALL.into_iter().filter_map(|kind| filter(kind).ok()).collect()
}

/// The filters of the backends that the lock has, as far as they are this program's: a lock of another build names others.
fn calls(lock: &Lock) -> (Vec<Calls>, Vec<NotRun>) {
    let mut found = Vec::new();
    let mut unread = Vec::new();
    for kind in BackendKind::ALL {
        let of_kind = || lock.agents.iter().filter(|(_, agent)| agent.backend.kind() == kind);
        let mut behind = BTreeSet::new();
        for (name, agent) in of_kind() {
            if agent.seccomp_rules == rules::digests(agent.backend).seccomp {
                behind.insert(name.to_string());
            } else {
                let reason = "the lock names other rules than those of this program".to_owned();
                unread.push(NotRun { name: format!("system calls of {name}"), reason });
            }
        }
        match filter(kind) {
            Ok(calls) if !behind.is_empty() => found.push(Calls { agents: behind, ..calls }),
            Err(error) => {
                unread.push(NotRun { name: format!("system calls of {kind}"), reason: error.to_string() })
            }
            Ok(_) => {}
        }
    }
    (found, unread)
}

fn filter(kind: BackendKind) -> Result<Calls, seccomp::SeccompError> {
    let (text, of) = match kind {
        BackendKind::Native => (rules::SECCOMP_RULES, "each agent"),
        BackendKind::Gvisor => (rules::GVISOR_SECCOMP_RULES, "each sandbox's own processes"),
    };
    let reach = seccomp::reach(text)?;
    Ok(Calls {
        backend: kind.name(),
        of,
        agents: BTreeSet::new(),
        allowed: reach.allowed,
        conditional: reach.conditional,
        pretended: reach.pretended,
        refused: reach.refused,
        unnamed: reach.unnamed,
    })
}
