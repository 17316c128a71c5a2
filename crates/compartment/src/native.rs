//! The native backend: namespaces, seccomp and Landlock under the box's own kernel, by the launcher.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::process::Child;

use casemate_composition::lock::{Agent, AgentName};
use casemate_protocol::agent_token::{Control, ControlStatus};
use casemate_sys::cgroup::GroupLimits;
use casemate_sys::netns;
use casemate_sys::observe::{self, observe};
use casemate_sys::spawn::{self, Released, Streams};
use casemate_sys::spec::{JOIN_COPY_IN, JOIN_COPY_OUT};
use rustix::io::Errno;

use crate::controls::{self, GroupSeen, Hardening, is_root_alone};
use crate::plan::{self, Plan};
use crate::start::{self, Own};
use crate::{Backend, Compartment, CompartmentError, Root, Starting, Visit, Work};

/// Processes on top of what the agent may have: the first process, which waits for it.
const OWN_PIDS: u32 = 1;

/// The backend.
pub(crate) struct Native;

impl Backend for Native {
    fn start(&self, plan: &Plan<'_>, root: Root<'_>, streams: Streams) -> Result<Starting, CompartmentError> {
        let own = Own {
            limits: group_limits(plan.agent),
            specify: Box::new(|_| {}),
            program: None,
            root_device: observe::root_device,
        };
        start::start(plan, root, streams, own)
    }

    fn visit(
        &self,
        compartment: &Compartment,
        visit: &Visit,
        streams: Streams,
    ) -> Result<(Child, Released), CompartmentError> {
        let mut spec = visit.specification(&compartment.spec);
        (spec.join, spec.command) = match &visit.work {
            Work::Command(command) => (1, command.clone()),
            Work::CopyOut(path) => (JOIN_COPY_OUT, vec![path.clone()]),
            Work::CopyIn(path) => (JOIN_COPY_IN, vec![path.clone()]),
        };
        Ok(spawn::join_with(&compartment.launcher, &spec, &compartment.first, None, &streams)?)
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
        let pid = compartment.first.pid();
        let seen = observe(pid, compartment.spec.uid_base);
        let group = GroupSeen::look(plan, &compartment.group, group_limits(plan.agent), pid);
        let root_seen = (compartment.spec.root_number, seen.root.as_ref());
        let alone = is_root_alone(plan.lock, plan.name, root_seen, others);
        let cores = plan.cores.status(plan.name, &compartment.group, pid);
        controls::controls(&seen, alone, group, cores, Hardening::look(pid), &compartment.reported)
    }
}

/// The limits of the control group.
const fn group_limits(agent: &Agent) -> GroupLimits {
    let limits = plan::group_limits(agent);
    GroupLimits { pids: limits.pids.saturating_add(OWN_PIDS), ..limits }
}
