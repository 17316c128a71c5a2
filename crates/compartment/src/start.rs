//! How a compartment begins, whatever its agent runs under: control group, launcher, and what the launcher hands out.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use casemate_sys::cgroup::{Group, GroupLimits};
use casemate_sys::root::RootObject;
use casemate_sys::spawn::{self, Launched, Streams};
use casemate_sys::spec::Spec;

use crate::controls::Reported;
use crate::gvisor::Program;
use crate::plan::{self, Plan};
use crate::{Compartment, CompartmentError, Root, Standing, Starting};

/// Processes that build a compartment and are gone before its agent runs: the launcher, and who holds the namespaces.
const BUILDERS: u32 = 2;

/// What a backend has of its own.
pub(crate) struct Own {
    /// The limits of the control group, as they are when the agent runs.
    pub(crate) limits: GroupLimits,
    /// Changes the specification that all have.
    pub(crate) specify: Box<dyn FnOnce(&mut Spec)>,
    /// The sandbox's program, where there is one.
    pub(crate) program: Option<Arc<Program>>,
    /// The number of the root's file system instance, as seen from outside by the first process's number.
    pub(crate) root_device: fn(i32) -> Option<String>,
}

/// Begins to build the compartment of `plan`. Where it fails, nothing of it is left.
pub(crate) fn start(
    plan: &Plan<'_>,
    root: Root<'_>,
    streams: Streams,
    own: Own,
) -> Result<Starting, CompartmentError> {
    let Own { limits, specify, program, root_device } = own;
    // It gets ready while the group is made.
    let prepared = spawn::prepare(plan.launcher)?;
    let while_built = GroupLimits { pids: limits.pids.saturating_add(BUILDERS), ..limits };
    let mut group = Group::create(plan.box_name, &plan.group_name(), while_built)?;
    let confined = plan::disks(plan).and_then(|disks| match disks {
        None => Ok(()),
        Some((disks, limits)) => group.set_disks(&disks, limits),
    });
    let confined = confined
        .map_err(CompartmentError::from)
        .and_then(|()| Ok(plan.cores.confine(plan.name, &mut group)?));
    let begun = confined.and_then(|()| {
        let mut spec = plan::spec(plan, &group);
        specify(&mut spec);
        let object;
        (object, spec.root_number) = match root {
            Root::Image(image, number) => (RootObject::Image(image), number),
            Root::Shared(mount, number) => (RootObject::Shared(mount), number),
        };
        let file = program.as_ref().map(|program| program.file());
        Ok((prepared.start(&spec, object, file, &streams)?, spec))
    });
    let (starting, spec) = begun.inspect_err(|_| {
        let _ = group.remove();
    })?;
    let launcher = plan.launcher.to_owned();
    Ok(Starting::new(move || {
        let settled = starting.collect().map_err(CompartmentError::from).and_then(|launched| {
            group.set_processes(limits.pids)?;
            Ok(launched)
        });
        let launched = settled.inspect_err(|_| {
            let _ = group.remove();
        })?;
        let Launched { first, agent_socket, secrets, sockets, not_applied, tried, gate } = launched;
        let seen = casemate_sys::hardening::refuses_descriptors(agent_socket.as_fd());
        let reported = Reported { not_applied, tried, agent_socket: seen };
        let root_device = root_device(first.pid());
        let compartment =
            Compartment { first, secrets, group, root_device, spec, launcher, reported, program };
        Ok(Standing { compartment, agent_socket, sockets, gate })
    }))
}
