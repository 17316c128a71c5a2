//! The cores of each agent: placed when the box starts, set before the agent joins its group, seen from outside after.

use std::collections::BTreeSet;

use casemate_composition::cores::{NoSuchProcessor, Placement};
use casemate_composition::lock::{AgentName, Lock};
use casemate_protocol::Refusal;
use casemate_protocol::agent_token::{Control, ControlStatus};
use casemate_sys::cgroup::Group;
use casemate_sys::cores;

/// Where the agents of a box run.
#[derive(Debug)]
pub struct Cores {
    /// None where the machine does not tell its cores, or has none that a `cpuset` names.
    placement: Option<Placement>,
    /// Why nobody starts: the file names what is not here.
    refused: Option<Refusal>,
    /// Agents for which the file names processors.
    asked: BTreeSet<AgentName>,
    weaker: bool,
}

impl Cores {
    /// Places the agents of `lock` on the cores that this process may use. What cannot be is told to each that starts.
    #[must_use]
    pub fn place(lock: &Lock, weaker: &BTreeSet<Control>) -> Self {
        let with_cpuset = lock.agents.iter().filter(|(_, agent)| agent.limits.cpuset.is_some());
        let asked: BTreeSet<AgentName> = with_cpuset.map(|(name, _)| name.clone()).collect();
        let weaker = weaker.contains(&Control::Cores);
        let (placement, refused) = match cores::cores() {
            Ok(cores) => match Placement::new(lock, &cores) {
                Ok(placement) => (Some(placement), None),
                Err(missing) => (None, Some(refuse(&missing, &cores))),
            },
            Err(_) if asked.is_empty() => (None, None),
            Err(error) => (None, Some(not_applied(error))),
        };
        let refused = refused.filter(|_| !weaker);
        Self { placement, refused, asked, weaker }
    }

    /// Confines the group of an agent that has a place of its own. Where the kernel cannot, an agent of which the file
    /// says where it runs does not start; for another, its status says so.
    pub(crate) fn confine(&self, name: &AgentName, group: &mut Group) -> Result<(), Refusal> {
        if let Some(refusal) = &self.refused {
            return Err(refusal.clone());
        }
        let Some(processors) = self.processors(name) else { return Ok(()) };
        match group.set_processors(processors) {
            Err(error) if self.must(name) => Err(not_applied(error)),
            _ => Ok(()),
        }
    }

    /// How the control stands for process `pid` in `group`.
    pub(crate) fn status(&self, name: &AgentName, group: &Group, pid: i32) -> ControlStatus {
        let Some(place) = self.placement.as_ref().and_then(|placement| placement.of(name)) else {
            return ControlStatus::Unknown;
        };
        let in_force = place.processors.as_ref().map(|processors| {
            group.processors_in_force(processors)
                && cores::allowed(&pid.to_string()).is_some_and(|seen| seen == *processors)
        });
        told(in_force, place.shares_with.is_empty())
    }

    /// Refuses an agent of which the file says where it runs, and that is seen to run elsewhere.
    ///
    /// # Errors
    /// The refusal `control.cores`.
    pub fn require(&self, name: &AgentName, status: Option<ControlStatus>) -> Result<(), Refusal> {
        match status {
            Some(ControlStatus::Enforced | ControlStatus::EnforcedWithGaps) => Ok(()),
            _ if self.must(name) => Err(not_applied("it may run on other processors")),
            _ => Ok(()),
        }
    }

    /// Agents of other trust groups that run on a core of this one.
    #[must_use]
    pub fn shared_with(&self, name: &AgentName) -> Vec<AgentName> {
        let place = self.placement.as_ref().and_then(|placement| placement.of(name));
        place.map(|place| place.shares_with.iter().cloned().collect()).unwrap_or_default()
    }

    fn processors(&self, name: &AgentName) -> Option<&BTreeSet<u16>> {
        self.placement.as_ref()?.of(name)?.processors.as_ref()
    }

    fn must(&self, name: &AgentName) -> bool {
        self.asked.contains(name) && !self.weaker
    }
}

/// `in_force` says whether an agent that is kept to some processors is, and is none for one that has all; `apart`
/// whether these are no other trust group's.
const fn told(in_force: Option<bool>, apart: bool) -> ControlStatus {
    match (in_force, apart) {
        (Some(false), _) | (None, false) => ControlStatus::NotEnforced,
        (Some(true), false) => ControlStatus::EnforcedWithGaps,
        (Some(true) | None, true) => ControlStatus::Enforced,
    }
}

fn refuse(missing: &NoSuchProcessor, cores: &[BTreeSet<u16>]) -> Refusal {
    let there: Vec<String> = cores.iter().flatten().map(u16::to_string).collect();
    Refusal::new("control.cores", format!("processors of this box: {}", there.join(", ")), missing)
}

fn not_applied(found: impl std::fmt::Display) -> Refusal {
    Refusal::new("control.cores", "kept to the processors that `cpuset` names", found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_of_its_own_a_core_in_common_and_all_cores_are_three_things() {
        assert_eq!(told(Some(true), true), ControlStatus::Enforced);
        assert_eq!(told(None, true), ControlStatus::Enforced);
        assert_eq!(told(Some(true), false), ControlStatus::EnforcedWithGaps);
        assert_eq!(told(None, false), ControlStatus::NotEnforced);
        assert_eq!(told(Some(false), true), ControlStatus::NotEnforced);
        assert_eq!(told(Some(false), false), ControlStatus::NotEnforced);
    }
}
