//! What the gateway does to its own process before it serves: no privilege, no survivor, no core dump.

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use casemate_sys::process::{Identity, become_identity, inherited_descriptor};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities, set_no_new_privs,
};

use crate::error::GatewayError;

/// Becomes `uid` where one is given, dies with its parent, gains no privilege, drops every capability, and cannot
/// be traced by its own uid.
///
/// # Errors
/// [`GatewayError::System`] where the kernel refuses one of them: the gateway does not start without.
pub fn drop_privileges(uid: Option<u32>) -> Result<(), GatewayError> {
    if let Some(uid) = uid {
        become_identity(Identity { uid, gid: uid }).map_err(GatewayError::kernel("change the user"))?;
    }
    let none = CapabilitySet::empty();
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(GatewayError::kernel("PR_SET_PDEATHSIG"))?;
    set_no_new_privs(true).map_err(GatewayError::kernel("PR_SET_NO_NEW_PRIVS"))?;
    clear_ambient_capability_set().map_err(GatewayError::kernel("clear ambient capabilities"))?;
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(GatewayError::kernel("drop capabilities"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(GatewayError::kernel("PR_SET_DUMPABLE"))
}

/// The inherited control socket, closed on exec.
///
/// # Errors
/// [`GatewayError::NotTheControlSocket`] where it is anything but a `SOCK_SEQPACKET` Unix socket.
pub fn inherited_socket(number: i32) -> Result<OwnedFd, GatewayError> {
    let socket = inherited_descriptor(number).map_err(|errno| match errno {
        Errno::BADF => GatewayError::NotTheControlSocket { found: number },
        other => GatewayError::kernel("take the control socket")(other),
    })?;
    let fits = sockopt::socket_domain(&socket) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(&socket) == Ok(SocketType::SEQPACKET);
    if fits { Ok(socket) } else { Err(GatewayError::NotTheControlSocket { found: number }) }
}

/// Says what happened and what to do, and gives the exit code: 2 for a fault of the warden's side, 1 for one
/// of the machine.
#[must_use]
pub fn explain(error: &GatewayError) -> ExitCode {
    let (code, advice) = match error {
        GatewayError::System { .. } => {
            (1, "the box ends with it: look at the kernel's limits, then start it again")
        }
        _ => (2, "the box ends with it: use warden and gateway of one version, then start it again"),
    };
    tracing::error!("{error}; {advice}");
    ExitCode::from(code)
}
