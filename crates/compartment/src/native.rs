//! The native backend: namespaces, seccomp and Landlock under the box's own kernel, by the launcher.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Child;

use casemate_composition::lock::AgentName;
use casemate_protocol::agent_token::{Control, ControlStatus};
use casemate_sys::cgroup::Group;
use casemate_sys::netns;
use casemate_sys::observe::{self, observe};
use casemate_sys::root::RootObject;
use casemate_sys::spawn::{self, Launched, Prepared, Released, Streams};
use casemate_sys::spec::{JOIN_COPY_IN, JOIN_COPY_OUT, Spec};
use rustix::io::Errno;

use crate::controls::{self, GroupSeen, Hardening, Reported, is_root_alone};
use crate::plan::{self, Plan};
use crate::{Backend, Compartment, CompartmentError, Root, Standing, Starting, Visit, Work};

/// The backend.
pub(crate) struct Native;

impl Backend for Native {
    fn start(&self, plan: &Plan<'_>, root: Root<'_>, streams: Streams) -> Result<Starting, CompartmentError> {
        // It gets ready while the group is made.
        let prepared = spawn::prepare(plan.launcher)?;
        let mut group = Group::create(plan.box_name, plan.name.as_str(), plan::group_limits(plan.agent))?;
        let confined = plan.cores.confine(plan.name, &mut group).map_err(CompartmentError::from);
        let begun = confined.and_then(|()| begin(plan, prepared, root, streams, &group));
        let (starting, spec) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                let _ = group.remove();
                return Err(error);
            }
        };
        let launcher = plan.launcher.to_owned();
        Ok(Starting::new(move || {
            let launched = starting.collect().map_err(|error| {
                let _ = group.remove();
                CompartmentError::from(error)
            })?;
            let Launched { first, agent_socket, secrets, sockets, not_applied, tried, gate } = launched;
            let seen = casemate_sys::hardening::refuses_descriptors(agent_socket.as_fd());
            let reported = Reported { not_applied, tried, agent_socket: seen };
            let root_device = observe::root_device(first.pid());
            let compartment =
                Compartment { first, secrets, group, root_device, spec, launcher, reported, program: None };
            Ok(Standing { compartment, agent_socket, sockets, gate })
        }))
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
        let group = GroupSeen::look(&compartment.group, plan::group_limits(plan.agent), pid);
        let root_seen = (compartment.spec.root_number, seen.root.as_ref());
        let alone = is_root_alone(plan.lock, plan.name, root_seen, others);
        let cores = plan.cores.status(plan.name, &compartment.group, pid);
        controls::controls(&seen, alone, group, cores, Hardening::look(pid), &compartment.reported)
    }
}

fn begin(
    plan: &Plan<'_>,
    prepared: Prepared,
    root: Root<'_>,
    streams: Streams,
    group: &Group,
) -> Result<(spawn::Starting, Spec), CompartmentError> {
    let mut spec = plan::spec(plan, group);
    let object;
    (object, spec.root_number) = match root {
        Root::Image(image, number) => (RootObject::Image(image), number),
        Root::Shared(mount, number) => (RootObject::Shared(mount), number),
    };
    let starting = prepared.start(&spec, object, None, &streams)?;
    Ok((starting, spec))
}
