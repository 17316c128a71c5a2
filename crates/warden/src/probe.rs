//! The peer probe's compartments: like that of an agent, beside it, with the box's own probe as its program.
//!
//! What it is: an order over the control socket that builds a compartment from an agent's entry in the lock, by the code that
//! builds the agent's: same image, user, limits, filters and backend. Its program is `casemate-probe`, which lies beside the
//! launcher. It has none of what is the agent's alone: no environment, config, volume, secret, edge, no key, and nobody answers
//! on its agent socket, so that no evidence is ever made about it. In place of secrets it has one that is worth nothing.
//! What it is not: something that reaches into the agent. The agent is not tainted; the log says that a probe was built.
//! Who trusts it: who reads the battery's verdicts.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use casemate_canon::Sha384;
use casemate_compartment::{Compartment, PROBE_PATH, Plan, Standing, Tenant, backend, require};
use casemate_composition::lock::{Agent, AgentName, Mount};
use casemate_protocol::Refusal;
use casemate_protocol::agent_token::Control;
use casemate_protocol::control::Reply;
use casemate_protocol::event::Event;
use casemate_protocol::inside::{InsideReply, PROBE_CANARY_NAME, Stream, probe_canary};
use casemate_protocol::posture::ProbeSeen;
use casemate_sys::spawn::Streams;
use casemate_sys::spec::CONFIG_BYTES_MAX;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::WriteHalf;

use crate::agent::{blocking, ended, explain, explain_launch};
use crate::control::{Lines, reply_to, send};
use crate::error::WardenError;
use crate::inside::{Ends, hand_over};
use crate::output::pipe;
use crate::secrets;
use crate::world::World;

/// File name of the program, beside the launcher.
const PROGRAM: &str = "casemate-probe";
/// Most attacks of a battery that is told, and longest name of one.
const ATTACKS_MAX: usize = 512;
const NAME_BYTES_MAX: usize = 64;
/// Time until an earlier probe beside the same agent is gone.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(10);

/// Builds one, hands its streams over, and stays until it ends or the caller goes away.
pub(crate) async fn serve(
    world: &World,
    name: &AgentName,
    writer: &mut WriteHalf<'_>,
    lines: &mut Lines<'_>,
) -> std::io::Result<()> {
    let built = match Present::begin(world, name).await {
        Ok(present) => build(world, name).await.map(|built| (built, present)),
        Err(error) => Err(error),
    };
    let ((compartment, ends), _present) = match built {
        Ok(built) => built,
        Err(error) => return send(writer, &reply_to(&error)).await,
    };
    world.probes_built.borrow_mut().insert(name.clone());
    let handed = hand_over(writer.as_ref(), &ends).await;
    // What stays open here would keep the caller from seeing the end of the streams.
    drop(ends);
    let mut shutdown = world.shutdown.subscribe();
    let mut byte = [0; 1];
    let status = tokio::select! {
        status = ended(&compartment.first) => Some(status),
        _ = lines.get_mut().read(&mut byte) => None,
        _ = shutdown.wait_for(Option::is_some) => None,
    };
    let group = compartment.group.clone();
    drop(compartment);
    if let Ok(Err(error)) = blocking(move || group.remove()).await {
        tracing::error!(agent = %name, "probe: {error}");
    }
    handed?;
    match status {
        Some(status) => send(writer, &Reply::Inside(InsideReply::Exited { status })).await,
        None => Ok(()),
    }
}

/// Takes what a battery came to into the victim's posture. Root of the box says it, whom all of the box has to trust; it is
/// refused where no such probes were built, whose programs are in the log.
pub(crate) fn told(
    world: &World,
    attacker: &AgentName,
    victim: &AgentName,
    mut seen: ProbeSeen,
) -> Result<InsideReply, WardenError> {
    let built = world.probes_built.borrow();
    if attacker == victim || ![attacker, victim].into_iter().all(|name| built.contains(name)) {
        let expected = "a battery between probes that this box built beside two agents";
        let found = format!("one of {attacker} on {victim}");
        return Err(Refusal::new("probe.agent", expected, found).into());
    }
    let sets = [&seen.blocked, &seen.allowed, &seen.leaks, &seen.inconclusive];
    let all = sets.iter().map(|set| set.len()).fold(0_usize, usize::saturating_add);
    let is_name = |name: &String| {
        name.len() <= NAME_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    };
    if all > ATTACKS_MAX || !sets.into_iter().flatten().all(is_name) {
        let expected =
            format!("at most {ATTACKS_MAX} attacks, each named with at most {NAME_BYTES_MAX} of a-z and -");
        return Err(Refusal::new("probe.attacks", expected, format!("{all} of another form")).into());
    }
    seen.ended = crate::posture::now();
    world.posture.probed(victim, attacker, seen);
    Ok(InsideReply::Noted)
}

/// One that is at work: there is one beside an agent, and the box's own control group goes when none is.
struct Present<'a>(&'a World, &'a AgentName);

impl<'a> Present<'a> {
    /// Waits until an earlier one is gone.
    async fn begin(world: &'a World, name: &'a AgentName) -> Result<Self, WardenError> {
        let mut probes = world.probes.subscribe();
        let gone = probes.wait_for(|probes| !probes.contains(name));
        // What is seen holds the lock: it is let go before the set is changed.
        if tokio::time::timeout(BUSY_WAIT_MAX, gone).await.is_err() {
            let found = "another one is at work";
            return Err(Refusal::new("probe.agent", format!("no other probe beside {name}"), found).into());
        }
        world.probes.send_modify(|probes| {
            probes.insert(name.clone());
        });
        Ok(Self(world, name))
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.probes.send_modify(|probes| {
            probes.remove(self.1);
        });
    }
}

async fn build(world: &World, name: &AgentName) -> Result<(Arc<Compartment>, Ends), WardenError> {
    let refusal = |found: &str| Refusal::new("probe.agent", "an agent of a box that runs", found);
    let (agent, _) = world.agent(name).ok_or_else(|| refusal("no such agent in this composition"))?;
    if world.is_shutting_down() {
        return Err(refusal("the box is shutting down").into());
    }
    let program = program(world)?;
    // Once for each program: batteries come again and again, and are not to use up the agent's share of the log.
    let digest = Sha384::of(&program);
    if world.probes_logged.borrow().get(name) != Some(&digest) {
        world.notary.require_room(name).await?;
        world.notary.append(&Event::AgentProbed { agent: name.clone(), program: digest }).await?;
        world.probes_logged.borrow_mut().insert(name.clone(), digest);
    }
    let agent = like(agent);
    let root = world.roots.root(&agent).await?;
    let volumes = BTreeMap::new();
    let plan = Plan {
        lock: &world.lock,
        name,
        agent: &agent,
        project_dir: &world.project_dir,
        images: &world.images,
        launcher: &world.launcher,
        cores: &world.cores,
        volumes: &volumes,
        seccomp: &world.seccomp,
        programs: &world.programs,
        weaker: &world.weaker,
        box_name: &world.box_name,
        tenant: Tenant::Probe(&program),
    };
    let (stdin, words) = pipe()?;
    let (answers, stdout) = pipe()?;
    let stderr = stdout.try_clone().map_err(WardenError::file("pipe"))?;
    let output = Streams::All { stdin, stdout, stderr };
    let starting = backend(agent.backend).start(&plan, root.object(), output).map_err(explain)?;
    let standing = blocking(move || starting.finish()).await?.map_err(explain)?;
    // Sockets are dropped: nobody is behind the probe's edges, names and agent socket.
    let Standing { compartment, gate, .. } = standing;
    let compartment = Arc::new(compartment);
    match release(world, &plan, &compartment, gate).await {
        Ok(()) => Ok((compartment, vec![(Stream::Input, words), (Stream::Output, answers)])),
        Err(error) => {
            let group = compartment.group.clone();
            drop(compartment);
            if let Ok(Err(error)) = blocking(move || group.remove()).await {
                tracing::error!(agent = %name, "probe: {error}");
            }
            Err(error)
        }
    }
}

/// Refuses a compartment that is not as the agent's must be, puts the worthless secret into it, and lets the probe run.
async fn release(
    world: &World,
    plan: &Plan<'_>,
    compartment: &Compartment,
    gate: casemate_sys::spawn::Gate,
) -> Result<(), WardenError> {
    let controls = backend(plan.agent.backend).controls(plan, compartment, &world.other_roots(plan.name));
    world.cores.require(plan.name, controls.get(&Control::Cores).copied())?;
    require(&controls, plan.agent, &world.weaker)?;
    secrets::require_memory(&compartment.secrets)?;
    let user = plan.agent.user;
    let (uid, gid) = (compartment.outer_id(user.uid), compartment.outer_id(user.gid));
    let canary = probe_canary(plan.name);
    secrets::write(&compartment.secrets, PROBE_CANARY_NAME, canary.as_bytes(), uid, gid)?;
    let released = gate.release().map_err(explain_launch)?;
    blocking(move || released.executed()).await?.map_err(explain_launch)
}

/// The agent's entry, with the probe's command, and without what is the agent's alone.
fn like(agent: &Agent) -> Agent {
    let mut agent = agent.clone();
    agent.command = vec![PROBE_PATH.to_owned()];
    agent.environment = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
    agent.working_dir = "/".to_owned();
    agent.mounts.retain(|mount| matches!(mount, Mount::Tmpfs { .. }));
    agent.secrets.clear();
    agent.stdin_open = true;
    agent
}

fn program(world: &World) -> Result<Vec<u8>, WardenError> {
    let path = world.launcher.with_file_name(PROGRAM);
    let absent = |error: std::io::Error| WardenError::Environment {
        what: format!("{}: {error}", path.display()),
        todo: "put casemate-probe beside the launcher: `cargo xtask dist` does",
    };
    let file = std::fs::File::open(&path).map_err(absent)?;
    let mut program = Vec::new();
    let most = u64::try_from(CONFIG_BYTES_MAX).unwrap_or(u64::MAX);
    let read = file.take(most).read_to_end(&mut program).map_err(absent)?;
    if read == CONFIG_BYTES_MAX {
        let expected = format!("less than {CONFIG_BYTES_MAX} bytes");
        return Err(Refusal::new("probe.program", expected, "a larger casemate-probe").into());
    }
    Ok(program)
}
