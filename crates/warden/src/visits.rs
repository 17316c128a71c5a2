//! What operators did inside an agent: how many are at it, and the taint that stays.
//!
//! A taint ends with the compartment, but for what outlives it: an agent that was visited and can write to a volume is
//! tainted in its later starts, too, as long as the warden lives.

use std::cell::Cell;
use std::rc::Rc;

use casemate_composition::lock::{Agent, AgentName, Exec, Mount};
use casemate_protocol::Refusal;
use casemate_protocol::event::Event;

use crate::agent::{Record, Running};
use crate::change;
use crate::error::WardenError;
use crate::pause::Door;
use crate::world::World;

/// Most visits of one agent at a time.
const VISITS_MAX: u32 = 16;

/// The visits of one agent.
#[derive(Debug, Default)]
pub(crate) struct Visits {
    now: Rc<Cell<u32>>,
    /// A volume that it can write to may hold what a visit left there.
    volume: Cell<bool>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    now: Rc<Cell<u32>>,
    door: Option<Door>,
}

impl Place {
    /// It is inside: from here on a pause finds it.
    pub(crate) fn arrived(&mut self) {
        self.door = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.now.set(self.now.get().saturating_sub(1));
    }
}

/// The agent that is asked for, while its own program runs: before its first instruction nobody else is let in.
pub(crate) fn running<'a>(
    world: &'a World,
    name: &AgentName,
) -> Result<(&'a Agent, &'a Record, Rc<Running>), WardenError> {
    let (record, running) = change::runs(world, name)?;
    let (agent, _) = world.agent(name).ok_or_else(|| WardenError::ours(&"agent is not in the lock"))?;
    if world.is_shutting_down() {
        return Err(Refusal::new("agent.running", format!("{name} runs"), "the box is about to end").into());
    }
    Ok((agent, record, running))
}

impl Visits {
    /// Lets a visitor in: the composition allows it, and the agent is tainted before anything happens.
    pub(crate) async fn begin(
        &self,
        world: &World,
        name: &AgentName,
        by: &str,
    ) -> Result<(Place, Rc<Running>), WardenError> {
        let (agent, record, running) = running(world, name)?;
        // While it is paused, the log says that nothing of it moves.
        let paused = || Refusal::new("agent.running", format!("{name} runs"), "it is paused");
        let door = record.pause.door().await.ok_or_else(paused)?;
        if agent.exec == Exec::Deny {
            let expected = format!("`exec: allow` in `x-casemate` of {name}, or no `exec` there");
            return Err(Refusal::new("agent.exec", expected, format!("`exec: deny`, asked for {by}")).into());
        }
        world.notary.require_room(name).await?;
        if self.now.get() >= VISITS_MAX {
            let found = format!("{VISITS_MAX} are at work");
            return Err(Refusal::new("agent.visits", format!("fewer than {VISITS_MAX} visits"), found).into());
        }
        self.now.set(self.now.get().saturating_add(1));
        let place = Place { now: Rc::clone(&self.now), door: Some(door) };
        if agent.mounts.iter().any(|mount| matches!(mount, Mount::Volume { read_only: false, .. })) {
            self.volume.set(true);
        }
        taint(world, name, record, &running, by).await?;
        Ok((place, running))
    }

    /// Taints a new start where an earlier one may have left something on a volume.
    pub(crate) async fn taint_again(
        &self,
        world: &World,
        name: &AgentName,
        record: &Record,
        running: &Running,
    ) -> Result<(), WardenError> {
        if self.volume.get() { taint(world, name, record, running, "volume").await } else { Ok(()) }
    }
}

/// Said in the token first and then in the log: no token without the taint has a log with it.
async fn taint(
    world: &World,
    name: &AgentName,
    record: &Record,
    running: &Running,
    by: &str,
) -> Result<(), WardenError> {
    running.subject.tainted.set(true);
    record.status.borrow_mut().tainted = true;
    world.notary.append(&Event::AgentTainted { agent: name.clone(), by: by.to_owned() }).await
}
