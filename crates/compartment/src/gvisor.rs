//! The gVisor backend: a sandbox whose kernel, in user space, answers the agent's system calls.
//!
//! What it is: the same tree, network namespace and sockets as a native agent's, and inside of them gVisor's `runsc`, which
//! runs from a memory file whose digest the lock names, in the agent's user namespace, with nothing of the box in sight.
//! What it is not: a network of its own. The sandbox uses the sockets of its network namespace (`--network=host`), which
//! holds loopback alone; docs/decisions/0011-gvisor.md says what that opens.
//! Who trusts it: as the native backend, and gVisor's code in place of the box's kernel for all but sockets.

mod config;
mod program;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::process::Child;

use casemate_composition::lock::{Agent, AgentName};
use casemate_protocol::Refusal;
use casemate_protocol::agent_token::{Control, ControlStatus};
use casemate_sys::cgroup::GroupLimits;
use casemate_sys::compartment::sandbox::ROOT;
use casemate_sys::hardening::Seen;
use casemate_sys::netns;
use casemate_sys::observe::{self, Observed, observe};
use casemate_sys::spawn::{self, LaunchError, Released, Streams};
use casemate_sys::spec::{JOIN_SANDBOX_COPY_IN, JOIN_SANDBOX_COPY_OUT, Sandbox, Spec};
use rustix::io::Errno;

use crate::controls::{GroupSeen, Hardening, Reported, is_root_alone, statuses, told};
use crate::plan::{self, Plan};
use crate::start::{self, Own};
use crate::{Backend, Compartment, CompartmentError, Root, Starting, Visit, Work};

pub(crate) use program::Program;

/// Processes and threads of the sandbox itself (its kernel, its file server, and the programs that signal it or run health
/// checks), on top of what the agent may have.
const OWN_PIDS: u32 = 192;

/// The backend.
pub(crate) struct Gvisor;

impl Backend for Gvisor {
    fn start(&self, plan: &Plan<'_>, root: Root<'_>, streams: Streams) -> Result<Starting, CompartmentError> {
        let program = plan.programs.gvisor().ok_or(LaunchError::Protocol { reason: MISSING.into() })?;
        let seccomp = program.seccomp().to_vec();
        let terminal = matches!(streams, Streams::Terminal(_));
        let specify = move |spec: &mut Spec| {
            spec.seccomp = seccomp;
            spec.landlock = Vec::new();
            let config = config::whole(spec, terminal).to_string();
            spec.sandbox = Some(Sandbox { options: config::options(), config });
        };
        let own = Own {
            limits: group_limits(plan.agent),
            specify: Box::new(specify),
            program: Some(program),
            root_device: |pid| observe::root_at(pid, ROOT).map(|root| root.device),
        };
        start::start(plan, root, streams, own)
    }

    fn can(&self, work: &Work) -> Result<(), Refusal> {
        match work {
            Work::CopyIn(path) | Work::CopyOut(path) if is_of_the_sandbox(path) => {
                let expected = "a path outside of /proc and /dev, which the sandbox makes itself";
                Err(Refusal::new("backend.visit", expected, path))
            }
            Work::CopyIn(_) | Work::CopyOut(_) | Work::Command(_) => Ok(()),
        }
    }

    fn visit(
        &self,
        compartment: &Compartment,
        visit: &Visit,
        streams: Streams,
    ) -> Result<(Child, Released), CompartmentError> {
        self.can(&visit.work)?;
        let program = compartment.program.as_ref().ok_or(LaunchError::Protocol { reason: MISSING.into() })?;
        let mut spec = visit.specification(&compartment.spec);
        let mut file = None;
        match &visit.work {
            Work::Command(command) => {
                let terminal = matches!(streams, Streams::Terminal(_));
                let process = config::process(&spec, command, terminal).to_string();
                spec.sandbox = Some(Sandbox { options: config::options(), config: process });
                (spec.join, spec.command) = (1, Vec::new());
                file = Some(program.file());
            }
            Work::CopyOut(path) => beside(&mut spec, JOIN_SANDBOX_COPY_OUT, path, program),
            Work::CopyIn(path) => beside(&mut spec, JOIN_SANDBOX_COPY_IN, path, program),
        }
        Ok(spawn::join_with(&compartment.launcher, &spec, &compartment.first, file, &streams)?)
    }

    fn sockets(&self, compartment: &Compartment, count: u32) -> Result<Vec<OwnedFd>, Errno> {
        netns::unconnected_sockets(compartment.first.pidfd(), count)
    }

    fn controls(
        &self,
        plan: &Plan<'_>,
        compartment: &Compartment,
        others: &[(AgentName, String)],
    ) -> BTreeMap<Control, ControlStatus> {
        let first = compartment.first.pid();
        // Everything in the group, which begins with the first process and which nobody inside can leave.
        let seen: Vec<Process> = compartment
            .group
            .members()
            .into_iter()
            .filter(|pid| !observe::has_ended(*pid))
            .map(|pid| Process {
                no_new_privileges: observe::no_new_privileges(pid),
                rest: observe(pid, compartment.spec.uid_base),
            })
            .collect();
        let group = GroupSeen::look(plan, &compartment.group, group_limits(plan.agent), first);
        let root = observe::root_at(first, ROOT);
        let root_seen = (compartment.spec.root_number, root.as_ref());
        let alone = is_root_alone(plan.lock, plan.name, root_seen, others);
        let cores = plan.cores.status(plan.name, &compartment.group, first);
        controls(&seen, alone, group, cores, Hardening::look(first), &compartment.reported)
    }
}

/// Files are copied beside the sandbox: by a process in the agent's tree, confined as a native agent is.
fn beside(spec: &mut Spec, join: u8, path: &str, program: &Program) {
    (spec.join, spec.command, spec.sandbox) = (join, vec![path.to_owned()], None);
    spec.seccomp = program.copying_seccomp().to_vec();
    let tmpfs = spec.tmpfs.iter().map(|tmpfs| &tmpfs.target);
    let volumes = spec.volumes.iter().filter(|volume| volume.read_only == 0).map(|volume| &volume.target);
    spec.landlock = tmpfs.chain(volumes).map(|target| format!("all {target}")).collect();
    spec.landlock.extend(["read-execute /", "scope signal", "scope abstract-unix-socket"].map(str::to_owned));
}

/// Whether this path leads to what the sandbox makes itself, by its words. Who gets there by a link finds nothing.
fn is_of_the_sandbox(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    matches!(parts.next(), Some("proc" | "dev"))
}

const MISSING: &str = "the box has no gVisor";

/// The agent's limits, with room for the sandbox's own processes. Memory has none: the sandbox's is the agent's.
fn group_limits(agent: &Agent) -> GroupLimits {
    let limits = plan::group_limits(agent);
    GroupLimits { pids: limits.pids.saturating_add(OWN_PIDS), ..limits }
}

/// What is seen of one process of the sandbox.
struct Process {
    no_new_privileges: bool,
    rest: Observed,
}

/// The status of each control: of all processes of the sandbox, the weakest.
fn controls(
    seen: &[Process],
    root_alone: bool,
    group: GroupSeen,
    cores: ControlStatus,
    hardening: Hardening,
    reported: &Reported,
) -> BTreeMap<Control, ControlStatus> {
    let all = |holds: fn(&Process) -> bool| !seen.is_empty() && seen.iter().all(holds);
    statuses(cores, reported, |control| match control {
        Control::UserNamespace => told(all(|one| one.rest.ids_mapped)),
        Control::Namespaces => told(all(|one| one.rest.namespaces_own)),
        Control::PrivateRoot => told(root_alone),
        Control::NoPrivileges if all(|one| one.rest.unprivileged) => Seen::InForce,
        // Capabilities in the agent's own user namespace, and over nothing outside of it.
        Control::NoPrivileges if all(|one| one.no_new_privileges && one.rest.ids_mapped) => Seen::InPart,
        Control::Seccomp => told(all(|one| one.rest.filtered)),
        Control::CgroupLimits => told(group.limits),
        Control::CgroupCpu => told(group.cpu),
        // No process of the sandbox can make a key call: the filter that all of them are behind has none.
        Control::Keyring => told(all(|one| one.rest.filtered)),
        Control::AgentSocket => reported.agent_socket,
        // The agent's /proc is made by its sandbox; how much memory the box has is in it.
        Control::Proc if all(|one| one.rest.filtered) => Seen::InPart,
        Control::Speculation => hardening.speculation,
        Control::CoreScheduling => hardening.core_scheduling,
        Control::NoPrivileges | Control::Landlock | Control::Proc | Control::DenyWriteExecute => Seen::Not,
        Control::Cores => Seen::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_composition::lock::BackendKind;

    fn seen() -> Process {
        let rest = Observed {
            ids_mapped: true,
            namespaces_own: true,
            root: None,
            unprivileged: false,
            filtered: true,
        };
        Process { no_new_privileges: true, rest }
    }

    const NO_CORES: ControlStatus = ControlStatus::NotEnforced;

    fn none_seen() -> Hardening {
        Hardening::look(0)
    }

    fn reported(not_applied: &[&str]) -> Reported {
        Reported {
            not_applied: not_applied.iter().map(|name| (*name).to_owned()).collect(),
            tried: Vec::new(),
            agent_socket: casemate_sys::hardening::Seen::InForce,
        }
    }

    fn group() -> GroupSeen {
        GroupSeen { limits: true, cpu: true }
    }

    #[test]
    fn a_sandbox_has_what_the_backend_promises_and_says_what_it_has_not() {
        let status = controls(&[seen(), seen()], true, group(), NO_CORES, none_seen(), &reported(&[]));
        let always = |control: &Control| control.need() == casemate_protocol::controls::Need::Always;
        for (control, status) in status.iter().filter(|(control, _)| always(control)) {
            assert!(status.meets(control.promised_by(BackendKind::Gvisor)), "{control:?}");
            let native = matches!(control, Control::Landlock | Control::NoPrivileges | Control::Proc);
            assert_eq!(status.meets(control.promised_by(BackendKind::Native)), !native, "{control:?}");
        }
        assert_eq!(status.get(&Control::Landlock), Some(&ControlStatus::NotEnforced));
        assert_eq!(status.get(&Control::NoPrivileges), Some(&ControlStatus::EnforcedWithGaps));
    }

    #[test]
    fn one_process_that_lacks_a_control_is_a_sandbox_that_lacks_it() {
        type Weaken = fn(&mut Process);
        let weak: [(Control, Weaken); 4] = [
            (Control::UserNamespace, |one| one.rest.ids_mapped = false),
            (Control::Namespaces, |one| one.rest.namespaces_own = false),
            (Control::NoPrivileges, |one| one.no_new_privileges = false),
            (Control::Seccomp, |one| one.rest.filtered = false),
        ];
        for (control, weaken) in weak {
            let mut other = seen();
            weaken(&mut other);
            let status = controls(&[seen(), other], true, group(), NO_CORES, none_seen(), &reported(&[]));
            let status = status.get(&control).copied().unwrap();
            assert!(!status.meets(control.promised_by(BackendKind::Gvisor)), "{control:?}");
        }
        let none = controls(&[], true, group(), NO_CORES, none_seen(), &reported(&[]));
        assert_eq!(
            none.get(&Control::Seccomp),
            Some(&ControlStatus::NotEnforced),
            "nothing seen is nothing told"
        );
        let group = GroupSeen { limits: false, cpu: false };
        let status =
            controls(&[seen()], false, group, NO_CORES, none_seen(), &reported(&["keyring", "agent-socket"]));
        for control in [
            Control::PrivateRoot,
            Control::CgroupLimits,
            Control::CgroupCpu,
            Control::Keyring,
            Control::AgentSocket,
        ] {
            assert_eq!(status.get(&control), Some(&ControlStatus::NotEnforced), "{control:?}");
        }
    }

    #[test]
    fn what_the_sandbox_makes_itself_is_not_copied() {
        for (path, can) in [
            ("/tmp/a", true),
            ("/", true),
            ("/process", true),
            ("/proc", false),
            ("//./dev/shm/a", false),
            ("/proc/self/root/etc", false),
        ] {
            for work in [Work::CopyIn(path.into()), Work::CopyOut(path.into())] {
                let found = Gvisor.can(&work).map_err(|refusal| refusal.rule);
                assert_eq!(found, if can { Ok(()) } else { Err("backend.visit".into()) }, "{path}");
            }
        }
        assert_eq!(Gvisor.can(&Work::Command(vec!["/dev/sh".into()])), Ok(()));
    }

    #[test]
    fn what_could_not_be_told_meets_nothing() {
        for control in Control::ALL {
            assert!(!ControlStatus::Unknown.meets(control.promised_by(BackendKind::Gvisor)), "{control:?}");
        }
    }

    #[test]
    fn a_program_other_than_the_locks_is_refused() {
        let file = std::env::current_exe().unwrap();
        let expected = casemate_canon::Sha256::of(b"another");
        match Program::open(&file, expected) {
            Err(CompartmentError::Refused(refusal)) => {
                assert_eq!((refusal.rule.as_str(), refusal.expected), ("gvisor.runsc", expected.to_string()));
            }
            other => panic!("{other:?}"),
        }
        let own = casemate_canon::Sha256::of(&std::fs::read(&file).unwrap());
        assert!(Program::open(&file, own).is_ok());
    }

    #[test]
    fn the_root_is_read_only_and_each_writable_mount_is_one_of_the_lock() {
        let spec = Spec {
            command: vec!["/agent".into()],
            tmpfs: vec![casemate_sys::spec::Tmpfs { target: "/tmp".into(), size_bytes: 1, mode: 0o1777 }],
            volumes: vec![casemate_sys::spec::Volume {
                source: "/s".into(),
                target: "/d".into(),
                read_only: 1,
            }],
            rlimits: vec![casemate_sys::spec::Rlimit { resource: 7, soft: 1, hard: 2 }],
            ..Spec::default()
        };
        let config = config::whole(&spec, false);
        assert_eq!(config["root"], serde_json::json!({ "path": "/rootfs", "readonly": true }));
        let bound: Vec<_> =
            config["mounts"].as_array().unwrap().iter().filter(|mount| mount["type"] == "bind").collect();
        let of = |mount: &serde_json::Value| (mount["source"].clone(), mount["options"][3].clone());
        let bound: Vec<_> = bound.into_iter().map(of).collect();
        assert_eq!(bound, [("/rootfs/tmp".into(), "rw".into()), ("/rootfs/d".into(), "ro".into())]);
        assert_eq!(config["process"]["noNewPrivileges"], true);
        assert_eq!(config["process"]["rlimits"][0]["type"], "RLIMIT_NOFILE");
    }
}
