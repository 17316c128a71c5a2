//! What is seen of a compartment from outside, as the status of each control.

use std::collections::{BTreeMap, BTreeSet};

use casemate_composition::lock::{Agent, AgentName, Lock};
use casemate_protocol::Refusal;
use casemate_protocol::agent_token::{Control, ControlStatus};
use casemate_sys::cgroup::{Group, GroupLimits};
use casemate_sys::hardening::{self, Seen};
use casemate_sys::observe::{Observed, Root};
use casemate_sys::proc_view;

use crate::plan::{self, Plan};

/// Whether the root that is seen is the agent's alone or, where its lock entry says `share`, its group's alone, mounted
/// from the copy of the metadata with the number `expected`. `others` are the roots of the other agents, by the number of
/// the file system instance.
pub(crate) fn is_root_alone(
    lock: &Lock,
    name: &AgentName,
    (expected, seen): (u64, Option<&Root>),
    others: &[(AgentName, String)],
) -> bool {
    let shares = lock.agents.get(name).is_some_and(|agent| agent.share.is_some());
    let with = lock.shares_root_with(name);
    seen.is_some_and(|root| {
        let as_the_lock_says =
            |(other, device): &(AgentName, String)| with.contains(other) == (*device == root.device);
        root.number == expected && root.past_the_cache != shares && others.iter().all(as_the_lock_says)
    })
}

/// What is seen of an agent's control group: that it is in it, and what the kernel says the limits are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupSeen {
    pub(crate) limits: bool,
    pub(crate) cpu: bool,
}

impl GroupSeen {
    pub(crate) fn look(plan: &Plan<'_>, group: &Group, limits: GroupLimits, pid: i32) -> Self {
        let member = group.contains(pid);
        let limited = group.limits_in_force(limits) && plan::disks_in_force(plan, group);
        Self { limits: member && limited, cpu: member && group.cpu_as_asked(limits) }
    }
}

/// What is seen of a process besides [`Observed`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hardening {
    proc: Seen,
    pub(crate) speculation: Seen,
    pub(crate) core_scheduling: Seen,
}

impl Hardening {
    pub(crate) fn look(pid: i32) -> Self {
        Self {
            proc: proc_view::seen(pid),
            speculation: hardening::speculation(pid),
            core_scheduling: hardening::core_scheduling(pid),
        }
    }
}

/// What the measured launcher reports, and what is seen of the socket that it hands over.
#[derive(Debug)]
pub(crate) struct Reported {
    /// Controls that it did not apply.
    pub(crate) not_applied: Vec<String>,
    /// Controls that it tried to break, and the kernel refused.
    pub(crate) tried: Vec<String>,
    /// Whether the agent socket takes no descriptors.
    pub(crate) agent_socket: Seen,
}

/// The status of each control: as seen from outside or, where the kernel shows it to nobody, as the measured launcher
/// tried it. What was neither seen nor tried is unknown.
pub(crate) fn controls(
    seen: &Observed,
    root_alone: bool,
    group: GroupSeen,
    cores: ControlStatus,
    hardening: Hardening,
    reported: &Reported,
) -> BTreeMap<Control, ControlStatus> {
    let tried = |control: Control| {
        if reported.tried.iter().any(|name| name == control.name()) { Seen::InForce } else { Seen::Unknown }
    };
    statuses(cores, reported, |control| match control {
        Control::UserNamespace => told(seen.ids_mapped),
        Control::Namespaces => told(seen.namespaces_own),
        Control::PrivateRoot => told(root_alone),
        Control::NoPrivileges => told(seen.unprivileged),
        Control::Seccomp => told(seen.filtered),
        Control::CgroupLimits => told(group.limits),
        Control::CgroupCpu => told(group.cpu),
        Control::AgentSocket => reported.agent_socket,
        Control::Proc => hardening.proc,
        Control::Speculation => hardening.speculation,
        Control::CoreScheduling => hardening.core_scheduling,
        Control::Landlock | Control::Keyring => tried(control),
        // Who does not ask for it does not have it.
        Control::DenyWriteExecute => told(tried(control) == Seen::InForce),
        Control::Cores => Seen::Unknown,
    })
}

/// The status of each control by what a backend has seen of it; of cores, what their placement says. What the launcher did
/// not apply is not in force, whatever is seen.
pub(crate) fn statuses(
    cores: ControlStatus,
    reported: &Reported,
    seen: impl Fn(Control) -> Seen,
) -> BTreeMap<Control, ControlStatus> {
    let missing = |control: Control| reported.not_applied.iter().any(|name| name == control.name());
    let status = |control| match control {
        Control::Cores => cores,
        _ if missing(control) => ControlStatus::NotEnforced,
        _ => status_of(seen(control)),
    };
    Control::ALL.into_iter().map(|control| (control, status(control))).collect()
}

pub(crate) const fn told(in_force: bool) -> Seen {
    if in_force { Seen::InForce } else { Seen::Not }
}

const fn status_of(seen: Seen) -> ControlStatus {
    match seen {
        Seen::InForce => ControlStatus::Enforced,
        Seen::InPart => ControlStatus::EnforcedWithGaps,
        Seen::Not => ControlStatus::NotEnforced,
        Seen::Unknown => ControlStatus::Unknown,
    }
}

/// Refuses the first control that is less in force than the agent's backend promises, must be for this agent, and may not be missing.
///
/// # Errors
/// The refusal `control.<name>`.
pub fn require(
    controls: &BTreeMap<Control, ControlStatus>,
    agent: &Agent,
    weaker: &BTreeSet<Control>,
) -> Result<(), Refusal> {
    let backend = agent.backend.kind();
    let lacks = |(control, status): &(&Control, &ControlStatus)| {
        !status.meets(control.least_of(agent, backend))
            && control.is_required_of(agent)
            && !weaker.contains(control)
    };
    match controls.iter().find(lacks) {
        None => Ok(()),
        Some((control, status)) => {
            let rule = format!("control.{}", control.name());
            let expected = format!("enforced; {}", control.checked().describe());
            Err(Refusal::new(&rule, expected, status.name()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_protocol::controls::Need;

    fn asking(memory: &str) -> Agent {
        let lock = lock_of(&format!("name: t\nservices:\n  one:\n    image: i:1\n{memory}"));
        lock.agents.into_values().next().unwrap()
    }

    #[test]
    fn each_control_follows_what_is_seen_or_tried() {
        let agent = asking("    x-casemate: { memory: deny-write-execute }\n");
        let group = GroupSeen { limits: true, cpu: true };
        for without in Control::ALL {
            let has = |control| without != control;
            let seen = Observed {
                ids_mapped: has(Control::UserNamespace),
                namespaces_own: has(Control::Namespaces),
                root: None,
                unprivileged: has(Control::NoPrivileges),
                filtered: has(Control::Seccomp),
            };
            let hardening = Hardening {
                proc: told(has(Control::Proc)),
                speculation: told(has(Control::Speculation)),
                core_scheduling: told(has(Control::CoreScheduling)),
            };
            let tried = [Control::Landlock, Control::Keyring, Control::DenyWriteExecute];
            let tried = tried.into_iter().filter(|control| has(*control));
            let reported = Reported {
                not_applied: Vec::new(),
                tried: tried.map(|control| control.name().to_owned()).collect(),
                agent_socket: told(has(Control::AgentSocket)),
            };
            let group = GroupSeen {
                limits: group.limits && has(Control::CgroupLimits),
                cpu: group.cpu && has(Control::CgroupCpu),
            };
            let cores = status_of(told(has(Control::Cores)));
            let status = controls(&seen, has(Control::PrivateRoot), group, cores, hardening, &reported);
            let weaker: Vec<_> = status.iter().filter(|(_, s)| **s != ControlStatus::Enforced).collect();
            let expected = match without {
                Control::Landlock | Control::Keyring => ControlStatus::Unknown,
                _ => ControlStatus::NotEnforced,
            };
            assert_eq!(weaker, [(&without, &expected)]);
            match require(&status, &agent, &BTreeSet::new()) {
                Ok(()) => assert_eq!(without.need(), Need::WhereThereIs),
                Err(refusal) => assert_eq!(refusal.rule, format!("control.{}", without.name())),
            }
            assert_eq!(require(&status, &agent, &BTreeSet::from([without])), Ok(()));
            if without == Control::DenyWriteExecute {
                assert_eq!(require(&status, &asking(""), &BTreeSet::new()), Ok(()));
            }
        }
    }

    #[test]
    fn an_agent_that_the_lock_puts_on_processors_is_on_them_and_perhaps_not_alone() {
        let none = BTreeSet::new();
        let status = |status| BTreeMap::from([(Control::Cores, status)]);
        let (put, free) = (asking("    cpuset: '0'\n"), asking(""));
        for (found, in_order) in [
            (ControlStatus::Enforced, true),
            (ControlStatus::EnforcedWithGaps, true),
            (ControlStatus::NotEnforced, false),
            (ControlStatus::Unknown, false),
        ] {
            assert_eq!(require(&status(found), &put, &none).is_ok(), in_order, "{found:?}");
            assert_eq!(require(&status(found), &free, &none), Ok(()), "{found:?}");
        }
        let weaker = BTreeSet::from([Control::Cores]);
        assert_eq!(require(&status(ControlStatus::Unknown), &put, &weaker), Ok(()));
    }

    #[test]
    fn what_the_launcher_did_not_apply_is_not_in_force_whatever_is_seen() {
        let seen = Observed {
            ids_mapped: true,
            namespaces_own: true,
            root: None,
            unprivileged: true,
            filtered: true,
        };
        let group = GroupSeen { limits: true, cpu: true };
        let all =
            Hardening { proc: Seen::InForce, speculation: Seen::InPart, core_scheduling: Seen::Unknown };
        let names: Vec<String> = Control::ALL.iter().map(|control| control.name().to_owned()).collect();
        let reported =
            |not_applied| Reported { not_applied, tried: names.clone(), agent_socket: Seen::InForce };
        let apart = ControlStatus::EnforcedWithGaps;
        let none = controls(&seen, true, group, ControlStatus::NotEnforced, all, &reported(names.clone()));
        assert!(none.values().all(|status| *status == ControlStatus::NotEnforced), "{none:?}");
        let some = controls(&seen, true, group, apart, all, &reported(Vec::new()));
        assert_eq!(some[&Control::Speculation], ControlStatus::EnforcedWithGaps);
        assert_eq!(some[&Control::CoreScheduling], ControlStatus::Unknown);
        assert_eq!(some[&Control::Cores], apart);
    }

    #[test]
    fn a_root_is_the_agents_alone_or_its_groups_alone() {
        let lock = lock_with_groups();
        let name = |text: &str| -> AgentName { text.parse().unwrap() };
        let root = |device: &str, past_the_cache| Root { device: device.into(), past_the_cache, number: 1 };
        let alone = |who: &str, seen: Option<&Root>, others: &[(&str, &str)]| {
            let others: Vec<_> =
                others.iter().map(|(who, device)| (name(who), (*device).to_owned())).collect();
            is_root_alone(&lock, &name(who), (1, seen), &others)
        };
        let (own, common) = (root("0:1", true), root("0:1", false));
        assert!(alone("single", Some(&own), &[("a", "0:2"), ("b", "0:2")]));
        assert!(!alone("single", Some(&own), &[("a", "0:1")]), "an instance of another");
        assert!(!alone("single", Some(&common), &[]), "read through the cache");
        assert!(!alone("single", None, &[]));
        let others_copy = Root { number: 2, ..own.clone() };
        assert!(!alone("single", Some(&others_copy), &[]), "from another copy of the metadata");
        assert!(alone("a", Some(&common), &[("b", "0:1"), ("single", "0:2")]));
        assert!(!alone("a", Some(&common), &[("b", "0:2")]), "the group has two");
        assert!(!alone("a", Some(&common), &[("single", "0:1")]), "somebody outside the group");
        assert!(!alone("a", Some(&common), &[("other-image", "0:1")]), "another image in the group");
        assert!(!alone("a", Some(&own), &[]), "not what the lock says");
    }

    /// `a` and `b` share, `other-image` is in their group, `single` is in none.
    fn lock_with_groups() -> Lock {
        let text = "name: t\nservices:\n  a: &a\n    image: i:1\n    x-casemate: { share: g, trust: t }\n  b: *a\n  other-image:\n    <<: *a\n    image: i:2\n  single:\n    image: i:1\n";
        lock_of(text)
    }

    fn lock_of(text: &str) -> Lock {
        use casemate_composition::{ImageFacts, compose};
        let facts = |tag: &str| ImageFacts {
            pin: casemate_composition::lock::ImagePin {
                manifest: casemate_canon::Sha256::of(tag.as_bytes()),
                config: casemate_canon::Sha256::of(b"config"),
                rootfs: casemate_canon::Sha256::of(tag.as_bytes()),
            },
            entrypoint: vec!["/entry".into()],
            command: Vec::new(),
            environment: BTreeMap::new(),
            working_dir: "/".into(),
            user: casemate_composition::lock::User { uid: 0, gid: 0 },
        };
        let images = ["i:1", "i:2"].map(|tag| (tag.to_owned(), facts(tag))).into();
        compose::parse("c.yaml", text, &BTreeMap::new()).unwrap().resolve(&images).unwrap()
    }
}
