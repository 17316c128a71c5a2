//! Which agents a request reaches beyond those that it names, and in which order agents end.

use std::collections::BTreeSet;

use crate::lock::{AgentName, Lock};

/// A signal's number, from a name with or without `SIG` or from a number (Linux on x86-64 and arm64).
#[must_use]
pub fn signal_number(text: &str) -> Option<i32> {
    crate::units::signal(text)
}

/// Some agents of a composition.
pub type Agents = BTreeSet<AgentName>;

impl Lock {
    /// These agents and all that they depend on, directly or not.
    #[must_use]
    pub fn with_dependencies(&self, agents: &Agents) -> Agents {
        self.closure(agents, |name| {
            let agent = self.agents.get(name);
            agent.into_iter().flat_map(|agent| agent.depends_on.keys().cloned()).collect()
        })
    }

    /// These agents and all that restart with them: those whose `depends_on` names one of them with `restart`.
    #[must_use]
    pub fn with_restarting_dependents(&self, agents: &Agents) -> Agents {
        self.closure(agents, |name| {
            let restarts =
                |agent: &crate::lock::Agent| agent.depends_on.get(name).is_some_and(|to| to.restart);
            self.agents.iter().filter(|(_, agent)| restarts(agent)).map(|(other, _)| other.clone()).collect()
        })
    }

    /// These agents in the order in which they end: nobody before those that depend on it. Those of one step end
    /// together.
    #[must_use]
    pub fn stop_order(&self, agents: &Agents) -> Vec<Agents> {
        let mut left = agents.clone();
        let mut steps = Vec::new();
        while !left.is_empty() {
            let needed: Agents = left
                .iter()
                .filter_map(|name| self.agents.get(name))
                .flat_map(|agent| agent.depends_on.keys().cloned())
                .collect();
            let step: Agents = left.difference(&needed).cloned().collect();
            // A lock that goes in a circle has no order.
            let step = if step.is_empty() { std::mem::take(&mut left) } else { step };
            left.retain(|name| !step.contains(name));
            steps.push(step);
        }
        steps
    }

    fn closure(&self, agents: &Agents, next: impl Fn(&AgentName) -> Vec<AgentName>) -> Agents {
        let mut all = Agents::new();
        let mut open: Vec<AgentName> = agents.iter().cloned().collect();
        while let Some(name) = open.pop() {
            if self.agents.contains_key(&name) && all.insert(name.clone()) {
                open.extend(next(&name));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeMap;

    use crate::lock::{ImagePin, User};
    use crate::resolve::ImageFacts;
    use casemate_canon::Sha256;

    /// `web` depends on `api` (and restarts with it), `api` on `db` and `queue`, `other` on nobody.
    fn lock() -> Lock {
        let text = "name: t\nservices:\n  web:\n    image: i:1\n    depends_on:\n      api: { condition: service_started, restart: true }\n  api:\n    image: i:1\n    depends_on: [db, queue]\n  db: &plain\n    image: i:1\n  queue: *plain\n  other: *plain\n";
        let facts = ImageFacts {
            pin: ImagePin { manifest: Sha256::of(b"m"), config: Sha256::of(b"c"), rootfs: Sha256::of(b"r") },
            entrypoint: vec!["/entry".into()],
            command: Vec::new(),
            environment: BTreeMap::new(),
            working_dir: "/".into(),
            user: User { uid: 0, gid: 0 },
        };
        let images = [("i:1".to_owned(), facts)].into();
        crate::compose::parse("c.yaml", text, &BTreeMap::new()).unwrap().resolve(&images).unwrap()
    }

    fn names(names: &[&str]) -> Agents {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn dependencies_are_followed_to_the_end() {
        let lock = lock();
        assert_eq!(lock.with_dependencies(&names(&["web"])), names(&["web", "api", "db", "queue"]));
        assert_eq!(lock.with_dependencies(&names(&["db", "other"])), names(&["db", "other"]));
        assert_eq!(lock.with_dependencies(&names(&["nobody"])), names(&[]));
    }

    #[test]
    fn only_those_restart_that_say_so() {
        let lock = lock();
        assert_eq!(lock.with_restarting_dependents(&names(&["api"])), names(&["api", "web"]));
        assert_eq!(lock.with_restarting_dependents(&names(&["db"])), names(&["db"]));
    }

    #[test]
    fn nobody_ends_before_those_that_depend_on_it() {
        let lock = lock();
        let all = names(&["web", "api", "db", "queue", "other"]);
        let steps = [names(&["web", "other"]), names(&["api"]), names(&["db", "queue"])];
        assert_eq!(lock.stop_order(&all), steps);
        assert_eq!(lock.stop_order(&names(&["web", "db"])), [names(&["web", "db"])]);
    }
}
