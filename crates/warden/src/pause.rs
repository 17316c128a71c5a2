//! Pausing an agent: all its processes stand still until they are let go on, or it ends.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use casemate_composition::lock::AgentName;
use casemate_protocol::event::Event;
use casemate_protocol::lifecycle::Done;
use casemate_sys::cgroup::freezer::{FreezeError, Freezer};
use tokio::sync::{Mutex, OwnedRwLockReadGuard, RwLock, watch};

use crate::agent::{Record, Running, blocking};
use crate::change;
use crate::error::WardenError;
use crate::world::World;

/// Whether an agent stands still, and what makes it.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    on: watch::Sender<bool>,
    /// How often it began or ended.
    count: Cell<u64>,
    freezer: RefCell<Option<Freezer>>,
    /// One change at a time.
    turn: Mutex<()>,
    /// Who starts something inside is in the door; while it stands still, nobody is.
    door: Arc<RwLock<()>>,
}

/// Held by who starts something in a compartment, until it runs: what comes after those that a pause found would go on.
pub(crate) type Door = OwnedRwLockReadGuard<()>;

impl Pause {
    pub(crate) fn is_on(&self) -> bool {
        *self.on.borrow()
    }

    /// How often a pause began or ended: of two equal counts, nothing was paused in between.
    pub(crate) fn count(&self) -> u64 {
        self.count.get()
    }

    /// Waits until it goes on.
    async fn goes_on(&self) {
        let mut on = self.on.subscribe();
        // The sender lives as long as the record.
        let _ = on.wait_for(|on| !on).await;
    }

    /// The way in, as long as the agent does not stand still.
    pub(crate) async fn door(&self) -> Option<Door> {
        let door = Arc::clone(&self.door).read_owned().await;
        (!self.is_on()).then_some(door)
    }

    /// The way in, as soon as the agent goes on.
    pub(crate) async fn open_door(&self) -> Door {
        loop {
            self.goes_on().await;
            if let Some(door) = self.door().await {
                return door;
            }
        }
    }

    /// The compartment is at its end: what is to be released.
    pub(crate) async fn end(&self) -> Option<Freezer> {
        let _turn = self.turn.lock().await;
        self.set(false);
        self.freezer.borrow_mut().take()
    }

    fn set(&self, on: bool) {
        if self.is_on() != on {
            self.count.set(self.count.get().wrapping_add(1));
            self.on.send_replace(on);
        }
    }
}

/// Pauses an agent. It stands still before the log says so.
pub(crate) async fn pause(world: &World, name: &AgentName) -> Result<Done, WardenError> {
    let (record, running) = change::runs(world, name)?;
    let _turn = record.pause.turn.lock().await;
    if record.pause.is_on() {
        return Ok(Done::Already);
    }
    world.notary.require_room(name).await?;
    // Who is on the way in arrives first, and is found inside.
    let _door = record.pause.door.write().await;
    let freezer = Freezer::of(&world.box_name, name.as_str()).map_err(|error| cannot(name, error))?;
    *record.pause.freezer.borrow_mut() = Some(freezer.clone());
    let group = running.compartment.group.clone();
    let frozen = blocking({
        let freezer = freezer.clone();
        move || freezer.freeze(&group)
    });
    frozen.await?.map_err(|error| cannot(name, error))?;
    let event = Event::AgentPaused { agent: name.clone(), instance: running.subject.instance };
    if let Err(error) = world.notary.append(&event).await {
        let _ = freezer.thaw();
        return Err(error);
    }
    record.pause.set(true);
    Ok(Done::Done)
}

/// Lets an agent go on, once the log says so.
pub(crate) async fn unpause(world: &World, name: &AgentName) -> Result<Done, WardenError> {
    let (record, running) = change::runs(world, name)?;
    let _turn = record.pause.turn.lock().await;
    if !record.pause.is_on() {
        return Ok(Done::Already);
    }
    let event = Event::AgentResumed { agent: name.clone(), instance: running.subject.instance };
    world.notary.append(&event).await?;
    thaw(record).map_err(|error| cannot(name, error))?;
    Ok(Done::Done)
}

/// Lets an agent go on that is asked to end. A log that takes nothing more must not keep it.
pub(crate) async fn go_on_to_end(world: &World, record: &Record, running: &Rc<Running>) {
    let _turn = record.pause.turn.lock().await;
    if !record.pause.is_on() {
        return;
    }
    let name = &running.subject.agent;
    let event = Event::AgentResumed { agent: name.clone(), instance: running.subject.instance };
    if let Err(error) = world.notary.append(&event).await {
        tracing::error!(agent = %name, "{error}");
    }
    if let Err(error) = thaw(record) {
        tracing::error!(agent = %name, "{error}");
    }
}

/// Ends an agent by force. It may have been paused since it was asked to end.
pub(crate) async fn kill(record: &Record, running: &Running) {
    let _ = running.compartment.first.signal(9);
    go_on_to_die(record).await;
}

/// Lets an agent go on that has its SIGKILL: none of its instructions runs any more. Whatever was said of a pause: one
/// that stands still may be unable to end.
pub(crate) async fn go_on_to_die(record: &Record) {
    let freezer = {
        let _turn = record.pause.turn.lock().await;
        record.pause.freezer.borrow().clone()
    };
    if let Some(Err(error)) = freezer.map(|freezer| freezer.thaw()) {
        tracing::error!("{error}");
    }
}

fn thaw(record: &Record) -> Result<(), FreezeError> {
    if let Some(freezer) = record.pause.freezer.borrow().as_ref() {
        freezer.thaw()?;
    }
    record.pause.set(false);
    Ok(())
}

fn cannot(name: &AgentName, error: FreezeError) -> WardenError {
    let todo = match &error {
        FreezeError::GoesOn => {
            "it waits for a disk or the kernel: try again, or stop it with `casemate stop`"
        }
        FreezeError::Absent => "mount control groups of version 2, or the freezer of version 1",
        _ => "look at the kernel log, or stop it with `casemate stop`",
    };
    WardenError::Environment { what: format!("agent {name} cannot be paused: {error}"), todo }
}
