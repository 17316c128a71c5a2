//! What is seen of a compartment from outside, as the status of each control.

use std::collections::{BTreeMap, BTreeSet};

use casemate_composition::lock::{AgentName, Lock};
use casemate_protocol::Refusal;
use casemate_protocol::agent_token::{Control, ControlStatus};
use casemate_sys::cgroup::{Group, GroupLimits};
use casemate_sys::observe::{Observed, Root};

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
    limits: bool,
    cpu: bool,
}

impl GroupSeen {
    pub(crate) fn look(group: &Group, limits: GroupLimits, pid: i32) -> Self {
        let member = group.contains(pid);
        Self { limits: member && group.limits_in_force(limits), cpu: member && group.cpu_as_asked(limits) }
    }
}

/// The status of each control: as seen from outside; for Landlock and the keyring, which the kernel does not show, as
/// the measured launcher reports.
pub(crate) fn controls(
    seen: &Observed,
    root_alone: bool,
    group: GroupSeen,
    cores: ControlStatus,
    not_applied: &[String],
) -> BTreeMap<Control, ControlStatus> {
    Control::ALL
        .into_iter()
        .map(|control| {
            let in_force = match control {
                Control::UserNamespace => seen.ids_mapped,
                Control::Namespaces => seen.namespaces_own,
                Control::PrivateRoot => root_alone,
                Control::NoPrivileges => seen.unprivileged,
                Control::Seccomp => seen.filtered,
                Control::CgroupLimits => group.limits,
                Control::CgroupCpu => group.cpu,
                Control::Cores => return (control, cores),
                Control::Landlock | Control::Keyring | Control::AgentSocket => true,
            } && !not_applied.iter().any(|name| name == control.name());
            (control, if in_force { ControlStatus::Enforced } else { ControlStatus::NotEnforced })
        })
        .collect()
}

/// Refuses the first control that is not in force and may not be missing. What depends on the machine alone may be.
///
/// # Errors
/// The refusal `control.<name>`.
pub fn require(
    controls: &BTreeMap<Control, ControlStatus>,
    weaker: &BTreeSet<Control>,
) -> Result<(), Refusal> {
    let missing = |(control, status): &(&Control, &ControlStatus)| {
        **status != ControlStatus::Enforced && !weaker.contains(control) && !control.depends_on_machine()
    };
    match controls.iter().find(missing) {
        None => Ok(()),
        Some((control, _)) => {
            let rule = format!("control.{}", control.name());
            Err(Refusal::new(&rule, "enforced, seen from outside", "not enforced"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_control_follows_what_is_seen() {
        let all = Observed {
            ids_mapped: true,
            namespaces_own: true,
            root: None,
            unprivileged: true,
            filtered: true,
        };
        let group = GroupSeen { limits: true, cpu: true };
        let apart = ControlStatus::Enforced;
        assert!(controls(&all, true, group, apart, &[]).values().all(|status| *status == apart));
        let cases = [
            (Control::UserNamespace, Observed { ids_mapped: false, ..all.clone() }, group, vec![]),
            (Control::Namespaces, Observed { namespaces_own: false, ..all.clone() }, group, vec![]),
            (Control::PrivateRoot, all.clone(), group, vec![]),
            (Control::NoPrivileges, Observed { unprivileged: false, ..all.clone() }, group, vec![]),
            (Control::Seccomp, Observed { filtered: false, ..all.clone() }, group, vec![]),
            (Control::CgroupLimits, all.clone(), GroupSeen { limits: false, ..group }, vec![]),
            (Control::CgroupCpu, all.clone(), GroupSeen { cpu: false, ..group }, vec![]),
            (Control::Landlock, all.clone(), group, vec!["landlock".to_owned()]),
            (Control::Keyring, all.clone(), group, vec!["keyring".to_owned()]),
            (Control::AgentSocket, all.clone(), group, vec!["agent-socket".to_owned()]),
        ];
        // And cores, which stop no start.
        assert_eq!(cases.len() + 1, Control::ALL.len());
        for found in [ControlStatus::NotEnforced, ControlStatus::EnforcedWithGaps, ControlStatus::Unknown] {
            let status = controls(&all, true, group, found, &[]);
            assert_eq!(status.get(&Control::Cores), Some(&found));
            assert_eq!(require(&status, &BTreeSet::new()), Ok(()));
        }
        for (control, seen, group, not_applied) in cases {
            let status = controls(&seen, control != Control::PrivateRoot, group, apart, &not_applied);
            assert_eq!(status.get(&control), Some(&ControlStatus::NotEnforced), "{control:?}");
            assert_eq!(
                status.values().filter(|s| **s == ControlStatus::NotEnforced).count(),
                1,
                "{control:?}"
            );
            let refused = require(&status, &BTreeSet::new());
            assert_eq!(refused.unwrap_err().rule, format!("control.{}", control.name()));
        }
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
        use casemate_composition::{ImageFacts, compose};
        let text = "name: t\nservices:\n  a: &a\n    image: i:1\n    x-casemate: { share: g, trust: t }\n  b: *a\n  other-image:\n    <<: *a\n    image: i:2\n  single:\n    image: i:1\n";
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
