//! Which processors each agent runs on, from the lock and the machine's cores alone: agents of different trust groups
//! get cores of their own where there are enough.
//!
//! A core is all processors that share one (simultaneous multithreading): what runs on one of them sees the other by
//! time and by the caches. Enough means: as many cores as the trust groups ask for together. A group asks for the sum of
//! `cpus` of its agents, rounded up, and for one core at least. Agents with a `cpuset` run there and nowhere else, and no
//! other agent is placed on those cores as long as others are left.

use std::collections::{BTreeMap, BTreeSet};

use crate::lock::{Agent, AgentName, Lock};

/// The processors of one core, by number.
pub type Core = BTreeSet<u16>;

/// Where each agent runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    agents: BTreeMap<AgentName, Place>,
}

/// Where one agent runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its processors; none means all.
    pub processors: Option<BTreeSet<u16>>,
    /// Agents of other trust groups with which it has a core in common.
    pub shares_with: BTreeSet<AgentName>,
}

/// A `cpuset` names a processor that the machine does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`cpuset` of {agent} names processor {processor}, and there is none here")]
pub struct NoSuchProcessor {
    /// Whose.
    pub agent: AgentName,
    /// The first one that is missing.
    pub processor: u16,
}

impl Placement {
    /// Places the agents of `lock` on `cores`.
    ///
    /// # Errors
    /// [`NoSuchProcessor`].
    pub fn new(lock: &Lock, cores: &[Core]) -> Result<Self, NoSuchProcessor> {
        let all: BTreeSet<u16> = cores.iter().flatten().copied().collect();
        let mut fixed = BTreeSet::new();
        for (name, agent) in &lock.agents {
            let wanted = agent.limits.cpuset.iter().flatten();
            for processor in wanted {
                if !all.contains(processor) {
                    return Err(NoSuchProcessor { agent: name.clone(), processor: *processor });
                }
                fixed.insert(*processor);
            }
        }
        let free: Vec<&Core> = cores.iter().filter(|core| core.is_disjoint(&fixed)).collect();
        let groups = split(lock, &free);
        let processors: BTreeMap<&AgentName, Option<BTreeSet<u16>>> = lock
            .agents
            .iter()
            .map(|(name, agent)| {
                let chosen = match &agent.limits.cpuset {
                    Some(cpuset) => Some(cpuset.clone()),
                    None => groups.get(&agent.trust).cloned().flatten(),
                };
                (name, chosen)
            })
            .collect();
        let used = |name: &AgentName| -> BTreeSet<usize> {
            let own = processors.get(name).cloned().flatten();
            let uses = |core: &Core| own.as_ref().is_none_or(|own| !core.is_disjoint(own));
            cores.iter().enumerate().filter(|(_, core)| uses(core)).map(|(index, _)| index).collect()
        };
        let used: BTreeMap<&AgentName, BTreeSet<usize>> =
            lock.agents.keys().map(|name| (name, used(name))).collect();
        let meets = |one: &AgentName, other: &AgentName| match (used.get(one), used.get(other)) {
            (Some(one), Some(other)) => !one.is_disjoint(other),
            _ => true,
        };
        let agents = lock
            .agents
            .iter()
            .map(|(name, agent)| {
                let foreign = lock.agents.iter().filter(|(_, other)| other.trust != agent.trust);
                let shares_with =
                    foreign.filter(|(other, _)| meets(name, other)).map(|(other, _)| other.clone()).collect();
                let processors = processors.get(name).cloned().flatten();
                (name.clone(), Place { processors, shares_with })
            })
            .collect();
        Ok(Self { agents })
    }

    /// Where agent `name` runs; none for an agent that is not in the lock.
    #[must_use]
    pub fn of(&self, name: &AgentName) -> Option<&Place> {
        self.agents.get(name)
    }
}

/// The processors of each trust group with an agent that has no `cpuset`; none means all.
fn split<'a>(lock: &'a Lock, free: &[&Core]) -> BTreeMap<&'a AgentName, Option<BTreeSet<u16>>> {
    let mut groups = BTreeMap::<&AgentName, Vec<&Agent>>::new();
    for agent in lock.agents.values().filter(|agent| agent.limits.cpuset.is_none()) {
        groups.entry(&agent.trust).or_default().push(agent);
    }
    let unfixed = lock.agents.values().all(|agent| agent.limits.cpuset.is_none());
    if (groups.len() <= 1 && unfixed) || free.is_empty() {
        return groups.into_keys().map(|group| (group, None)).collect();
    }
    let needs: Vec<usize> = groups.values().map(|agents| cores_asked_for(agents)).collect();
    let Some(mut left) = free.len().checked_sub(needs.iter().copied().fold(0, usize::saturating_add)) else {
        // Together, and away from the cores that a `cpuset` names.
        let together = || (!unfixed).then(|| free.iter().flat_map(|core| core.iter().copied()).collect());
        return groups.into_keys().map(|group| (group, together())).collect();
    };
    // What is left goes to the groups that can use it, one core a turn.
    let mut counts: Vec<(usize, bool)> =
        needs.into_iter().zip(groups.values()).map(|(need, agents)| (need, is_unlimited(agents))).collect();
    while left > 0 && counts.iter().any(|(_, unlimited)| *unlimited) {
        for (count, _) in counts.iter_mut().filter(|(_, unlimited)| *unlimited).take(left) {
            *count = count.saturating_add(1);
            left = left.saturating_sub(1);
        }
    }
    let mut free = free.iter();
    let groups = groups.into_keys().zip(counts);
    groups
        .map(|(group, (count, _))| {
            let cores = free.by_ref().take(count);
            (group, Some(cores.flat_map(|core| core.iter().copied()).collect()))
        })
        .collect()
}

fn cores_asked_for(agents: &[&Agent]) -> usize {
    let milli = agents.iter().filter_map(|agent| agent.limits.cpu_milli).fold(0, u32::saturating_add);
    usize::try_from(milli.div_ceil(1000)).unwrap_or(usize::MAX).max(1)
}

fn is_unlimited(agents: &[&Agent]) -> bool {
    agents.iter().any(|agent| agent.limits.cpu_milli.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::ImageFacts;

    /// Agents with a trust group and further keys, on cores of one processor each or of two.
    fn place(agents: &[(&str, &str, &str)], cores: &[&[u16]]) -> Result<Placement, NoSuchProcessor> {
        let services: String = agents
            .iter()
            .map(|(name, trust, more)| {
                format!("  {name}: {{ image: i, x-casemate: {{ trust: {trust} }}, {more} }}\n")
            })
            .collect();
        let facts = ImageFacts {
            pin: crate::lock::ImagePin {
                manifest: casemate_canon::Sha256::of(b"m"),
                config: casemate_canon::Sha256::of(b"c"),
                rootfs: casemate_canon::Sha256::of(b"r"),
            },
            entrypoint: vec!["/entry".into()],
            command: Vec::new(),
            environment: BTreeMap::new(),
            working_dir: "/".into(),
            user: crate::lock::User { uid: 0, gid: 0 },
        };
        let text = format!("name: t\nservices:\n{services}");
        let compose = crate::compose::parse("c.yaml", &text, &BTreeMap::new()).unwrap();
        let lock = compose.resolve(&[("i".to_owned(), facts)].into()).unwrap();
        let cores: Vec<Core> = cores.iter().map(|core| core.iter().copied().collect()).collect();
        Placement::new(&lock, &cores)
    }

    /// Processors as text (`-` for all), and with whom cores are shared.
    fn told(placement: &Placement, name: &str) -> (String, String) {
        let place = placement.of(&name.parse().unwrap()).unwrap();
        let numbers = |set: &BTreeSet<u16>| set.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        let with: Vec<&str> = place.shares_with.iter().map(AgentName::as_str).collect();
        (place.processors.as_ref().map_or_else(|| "-".into(), numbers), with.join(","))
    }

    fn check(agents: &[(&str, &str, &str)], cores: &[&[u16]], expected: &[(&str, &str, &str)]) {
        let placement = place(agents, cores).unwrap();
        for (name, processors, with) in expected {
            assert_eq!(told(&placement, name), ((*processors).to_owned(), (*with).to_owned()), "{name}");
        }
    }

    const FOUR: &[&[u16]] = &[&[0], &[1], &[2], &[3]];

    #[test]
    fn one_trust_group_has_all_cores() {
        check(&[("a", "t", ""), ("b", "t", "")], FOUR, &[("a", "-", ""), ("b", "-", "")]);
    }

    #[test]
    fn trust_groups_get_cores_of_their_own_where_there_are_enough() {
        let agents = [("a", "t", ""), ("b", "u", ""), ("c", "t", "")];
        check(&agents, FOUR, &[("a", "0,1", ""), ("b", "2,3", ""), ("c", "0,1", "")]);
        check(&agents, &[&[0], &[1]], &[("a", "0", ""), ("b", "1", ""), ("c", "0", "")]);
    }

    #[test]
    fn a_core_is_never_split_between_its_processors() {
        let agents = [("a", "t", ""), ("b", "u", "")];
        check(&agents, &[&[0, 2], &[1, 3]], &[("a", "0,2", ""), ("b", "1,3", "")]);
        check(&agents, &[&[0, 1]], &[("a", "-", "b"), ("b", "-", "a")]);
    }

    #[test]
    fn a_group_gets_what_its_agents_ask_for_and_what_is_left_goes_to_those_without_a_limit() {
        let agents = [("a", "t", "cpus: 1.5"), ("b", "u", ""), ("c", "v", "cpus: 0.5")];
        check(&agents, FOUR, &[("a", "0,1", ""), ("b", "2", ""), ("c", "3", "")]);
        let agents = [("a", "t", "cpus: 0.5"), ("b", "u", ""), ("c", "t", "cpus: 0.5")];
        check(&agents, FOUR, &[("a", "0", ""), ("b", "1,2,3", ""), ("c", "0", "")]);
    }

    #[test]
    fn where_cores_do_not_suffice_all_share_them_and_it_is_told_with_whom() {
        let three = [("a", "t", ""), ("b", "u", ""), ("c", "v", "")];
        check(&three, &[&[0], &[1]], &[("a", "-", "b,c"), ("b", "-", "a,c"), ("c", "-", "a,b")]);
        let much = [("a", "t", "cpus: 4"), ("b", "u", "")];
        check(&much, FOUR, &[("a", "-", "b"), ("b", "-", "a")]);
    }

    #[test]
    fn a_cpuset_is_kept_and_others_stay_away_from_its_cores() {
        let agents = [("a", "t", "cpuset: \"1\""), ("b", "u", ""), ("c", "v", "")];
        check(&agents, FOUR, &[("a", "1", ""), ("b", "0,2", ""), ("c", "3", "")]);
        let agents = [("a", "t", "cpuset: \"0-1\""), ("b", "u", "cpuset: \"1\"")];
        check(&agents, FOUR, &[("a", "0,1", "b"), ("b", "1", "a")]);
        let agents = [("a", "t", "cpuset: 0-2"), ("b", "u", ""), ("c", "v", "")];
        check(&agents, FOUR, &[("a", "0,1,2", ""), ("b", "3", "c"), ("c", "3", "b")]);
        let agents = [("a", "t", "cpuset: 0-3"), ("b", "u", "")];
        check(&agents, FOUR, &[("a", "0,1,2,3", "b"), ("b", "-", "a")]);
    }

    #[test]
    fn a_cpuset_of_a_processor_that_is_not_there_is_refused() {
        let refused = place(&[("a", "t", "cpuset: \"3-4\"")], FOUR);
        assert_eq!(refused, Err(NoSuchProcessor { agent: "a".parse().unwrap(), processor: 4 }));
    }
}
