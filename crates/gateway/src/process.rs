//! What the gateway does to its own process before it serves: no privilege, no survivor, no core dump.

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::{
    DumpableBehavior, PidfdFlags, PidfdGetfdFlags, Signal, getpid, pidfd_getfd, pidfd_open,
    set_dumpable_behavior, set_parent_process_death_signal,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities, set_no_new_privs,
};

use crate::error::GatewayError;

/// Dies with its parent, gains no privilege, drops every capability, and cannot be traced by its own uid.
///
/// # Errors
/// [`GatewayError::System`] where the kernel refuses one of them: the gateway does not start without.
pub fn drop_privileges() -> Result<(), GatewayError> {
    let none = CapabilitySet::empty();
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(GatewayError::kernel("PR_SET_PDEATHSIG"))?;
    set_no_new_privs(true).map_err(GatewayError::kernel("PR_SET_NO_NEW_PRIVS"))?;
    clear_ambient_capability_set().map_err(GatewayError::kernel("clear ambient capabilities"))?;
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(GatewayError::kernel("drop capabilities"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(GatewayError::kernel("PR_SET_DUMPABLE"))
}

/// The inherited control socket, as a descriptor that is owned and closed on exec.
///
/// A raw number cannot be turned into an owned descriptor in safe code; asking the kernel for a copy of our
/// own descriptor can. The inherited one stays open, which is harmless: the warden's end decides the end.
///
/// # Errors
/// [`GatewayError::NotTheControlSocket`] where it is anything but a `SOCK_SEQPACKET` Unix socket.
pub fn inherited_socket(number: u32) -> Result<OwnedFd, GatewayError> {
    let wrong = || GatewayError::NotTheControlSocket { found: number };
    let raw = i32::try_from(number).map_err(|_| wrong())?;
    let own =
        pidfd_open(getpid(), PidfdFlags::empty()).map_err(GatewayError::kernel("pidfd_open of itself"))?;
    let socket = pidfd_getfd(&own, raw, PidfdGetfdFlags::empty()).map_err(|errno| match errno {
        rustix::io::Errno::BADF => wrong(),
        other => GatewayError::kernel("pidfd_getfd of itself")(other),
    })?;
    let fits = sockopt::socket_domain(&socket) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(&socket) == Ok(SocketType::SEQPACKET);
    if fits { Ok(socket) } else { Err(wrong()) }
}

/// Says what happened and what to do, and gives the exit code: 2 for a fault of the warden's side, 1 for one
/// of the machine.
#[must_use]
pub fn explain(error: &GatewayError) -> ExitCode {
    let (code, advice) = match error {
        GatewayError::System { .. } => (1, "the warden restarts the gateway; look at the kernel's limits"),
        _ => (2, "warden and gateway must be of one version; the box must be started again"),
    };
    tracing::error!("{error}; {advice}");
    ExitCode::from(code)
}
