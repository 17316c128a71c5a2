//! The cores of each agent: placed when the box starts, set before the agent joins its group, seen from outside after.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    /// The trust group of each agent.
    trust: BTreeMap<AgentName, AgentName>,
    known: Mutex<Known>,
}

/// What came of the placement so far.
#[derive(Debug, Default)]
struct Known {
    /// Agents that the kernel did not confine to their place, or that were seen elsewhere: nobody is known to be apart
    /// from them.
    loose: BTreeSet<AgentName>,
    /// Agents of which it was said that they share no core with another trust group. It stays said, in the log.
    apart: BTreeSet<AgentName>,
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
        let trust = lock.agents.iter().map(|(name, agent)| (name.clone(), agent.trust.clone())).collect();
        Self { placement, refused, asked, weaker, trust, known: Mutex::default() }
    }

    /// Confines the group of an agent that has a place of its own. Where the kernel cannot, an agent of which the file
    /// says where it runs does not start, nor one that would make untrue what was said of another; for the rest, their
    /// status says so.
    pub(crate) fn confine(&self, name: &AgentName, group: &mut Group) -> Result<(), Refusal> {
        if let Some(refusal) = &self.refused {
            return Err(refusal.clone());
        }
        let Some(processors) = self.processors(name) else { return Ok(()) };
        let set = group.set_processors(processors);
        self.note(name, set.is_ok());
        match set {
            Err(error) if self.must(name) || self.spoils(name) => Err(not_applied(error)),
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
        if in_force == Some(false) {
            self.note(name, false);
        }
        self.say(name, told(in_force, place.shares_with.is_empty()))
    }

    /// Refuses an agent that is seen to run elsewhere than placed, where the file says where it runs, or where of an agent
    /// of another trust group it was said that nobody shares its cores.
    ///
    /// # Errors
    /// The refusal `control.cores`.
    pub fn require(&self, name: &AgentName, status: Option<ControlStatus>) -> Result<(), Refusal> {
        match status {
            Some(ControlStatus::Enforced | ControlStatus::EnforcedWithGaps) => Ok(()),
            _ if self.must(name) || self.spoils(name) => Err(not_applied("it may run on other processors")),
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

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers whether an agent is kept to its place.
    fn note(&self, name: &AgentName, kept: bool) {
        let mut known = self.known();
        if kept {
            known.loose.remove(name);
        } else {
            known.loose.insert(name.clone());
        }
    }

    /// What may be said of an agent: that it is apart from others only where no other may have left its place, and where
    /// nobody who does is let in.
    fn say(&self, name: &AgentName, status: ControlStatus) -> ControlStatus {
        if status != ControlStatus::Enforced {
            return status;
        }
        let mut known = self.known();
        let may_be_near = |other: &AgentName| self.is_foreign(name, other) && self.weaker;
        if known.loose.iter().any(|other| self.is_foreign(name, other)) || self.trust.keys().any(may_be_near)
        {
            return ControlStatus::EnforcedWithGaps;
        }
        known.apart.insert(name.clone());
        ControlStatus::Enforced
    }

    /// Whether an agent is out of its place while it was said of one of another trust group that nobody shares its cores.
    fn spoils(&self, name: &AgentName) -> bool {
        let known = self.known();
        known.loose.contains(name) && known.apart.iter().any(|other| self.is_foreign(name, other))
    }

    fn is_foreign(&self, one: &AgentName, other: &AgentName) -> bool {
        self.trust.get(one) != self.trust.get(other)
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

    /// Two of one trust group, and one of another.
    fn cores(weaker: bool) -> Cores {
        let name = |text: &str| text.parse::<AgentName>().unwrap();
        let trust = [("a", "one"), ("b", "one"), ("c", "two")];
        Cores {
            placement: None,
            refused: None,
            asked: BTreeSet::new(),
            weaker,
            trust: trust.map(|(agent, group)| (name(agent), name(group))).into(),
            known: Mutex::default(),
        }
    }

    #[test]
    fn nobody_is_apart_from_an_agent_of_another_group_that_may_be_anywhere() {
        let [a, b, c]: [AgentName; 3] = ["a", "b", "c"].map(|name| name.parse().unwrap());
        let cores = cores(false);
        cores.note(&c, false);
        assert_eq!(cores.say(&a, ControlStatus::Enforced), ControlStatus::EnforcedWithGaps);
        assert_eq!(cores.say(&c, ControlStatus::NotEnforced), ControlStatus::NotEnforced);
        assert!(!cores.spoils(&c), "nothing was said that it makes untrue");
        cores.note(&c, true);
        assert_eq!(cores.say(&a, ControlStatus::Enforced), ControlStatus::Enforced);
        cores.note(&b, false);
        assert_eq!(cores.say(&a, ControlStatus::Enforced), ControlStatus::Enforced, "one of its own group");
    }

    #[test]
    fn an_agent_that_would_make_untrue_what_was_said_of_another_is_refused() {
        let [a, b, c]: [AgentName; 3] = ["a", "b", "c"].map(|name| name.parse().unwrap());
        let cores = cores(false);
        assert_eq!(cores.say(&a, ControlStatus::Enforced), ControlStatus::Enforced);
        cores.note(&c, false);
        assert!(cores.require(&c, Some(ControlStatus::NotEnforced)).is_err());
        cores.note(&b, false);
        assert_eq!(cores.require(&b, Some(ControlStatus::NotEnforced)), Ok(()));
    }

    #[test]
    fn where_the_operator_accepts_the_gap_nobody_is_said_to_be_apart() {
        let [a, c]: [AgentName; 2] = ["a", "c"].map(|name| name.parse().unwrap());
        let cores = cores(true);
        assert_eq!(cores.say(&a, ControlStatus::Enforced), ControlStatus::EnforcedWithGaps);
        cores.note(&c, false);
        assert_eq!(cores.require(&c, Some(ControlStatus::NotEnforced)), Ok(()));
    }

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
