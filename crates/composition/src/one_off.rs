//! A one-off agent: a service with another command, in a composition of its own with those that it depends on.
//!
//! What it is: the composition that `casemate run` starts. It is measured as it is, so it has another digest than the
//! one of the files, and a policy that expects that one refuses it. What it is not: one more agent of a running box.

use std::collections::{BTreeMap, BTreeSet};

use crate::compose::{Compose, Service};
use crate::lock::{AgentName, User};
use crate::problem::{At, Place};

/// What a one-off agent has in place of what its service says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OneOff {
    /// Arguments; none means the service's.
    pub command: Option<Vec<String>>,
    /// Program; the service's arguments are then left out, as in Compose.
    pub entrypoint: Option<Vec<String>>,
    /// Variables besides the service's, and in place of those.
    pub environment: BTreeMap<String, String>,
    /// User inside; none means the service's.
    pub user: Option<User>,
    /// Working directory; none means the service's.
    pub working_dir: Option<String>,
    /// Whether it reads an input.
    pub stdin_open: bool,
    /// Whether it has a terminal of its own; none means the service's.
    pub tty: Option<bool>,
    /// Whether those are there that the service depends on.
    pub dependencies: Dependencies,
}

/// Whether a one-off agent comes with those that it depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dependencies {
    /// It does, and with those that they depend on.
    #[default]
    Follow,
    /// It comes alone, and waits for nobody.
    Leave,
}

impl Compose {
    /// The composition of one agent of `service` and of those that it depends on; none where there is no such service.
    /// Nothing else of it is there: no other agent, so no edge to one, no port of the box, no restart, and of the one-off
    /// agent no health check and no hooks, which would be about another command.
    #[must_use]
    pub fn one_off(mut self, service: &AgentName, change: &OneOff) -> Option<Self> {
        let target = self.services.get_mut(service)?;
        replace(target, change);
        if change.dependencies == Dependencies::Leave {
            target.depends_on.clear();
        }
        let kept = self.with_dependencies(service);
        self.services.retain(|name, _| kept.contains(name));
        for other in self.services.values_mut() {
            other.ports.clear();
        }
        let used: BTreeSet<AgentName> = self.services.values().flat_map(Service::volumes).cloned().collect();
        self.volumes.retain(|name, _| used.contains(name));
        Some(self)
    }

    fn with_dependencies(&self, service: &AgentName) -> BTreeSet<AgentName> {
        let mut all = BTreeSet::new();
        let mut open = vec![service.clone()];
        while let Some(name) = open.pop() {
            let Some(found) = self.services.get(&name) else { continue };
            if all.insert(name) {
                open.extend(found.depends_on.keys().cloned());
            }
        }
        all
    }
}

fn replace(service: &mut Service, change: &OneOff) {
    if let Some(entrypoint) = &change.entrypoint {
        service.entrypoint = Some(entrypoint.clone());
        service.command = None;
    }
    if let Some(command) = &change.command {
        service.command = Some(command.clone());
    }
    let at = |value: &String| At { place: Place::START, value: value.clone() };
    service.environment.extend(change.environment.iter().map(|(name, value)| (name.clone(), at(value))));
    if let Some(user) = change.user {
        service.user = Some(user);
    }
    if let Some(folder) = &change.working_dir {
        service.working_dir = Some(folder.clone());
    }
    service.stdin_open = change.stdin_open;
    service.tty = change.tty.unwrap_or(service.tty);
    service.restart = None;
    service.health = None;
    service.post_start.clear();
    service.pre_stop.clear();
}
