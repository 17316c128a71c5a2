//! What the gateway does to its own process before it serves: no privilege, no survivor, no core dump.

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use casemate_composition::rules::NETWORK_SECCOMP_RULES;
use casemate_sys::process::{Identity, become_identity, inherited_descriptor};
use casemate_sys::seccomp;
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

/// Puts the gateway's system call filter on all threads of this process. The last step before it serves.
///
/// # Errors
/// [`GatewayError::System`] where the kernel takes no filter: the gateway does not start without.
pub fn confine() -> Result<(), GatewayError> {
    seccomp::load_for_process(&filter()?).map_err(GatewayError::kernel("load the system call filter"))
}

fn filter() -> Result<Vec<u8>, GatewayError> {
    seccomp::compile(NETWORK_SECCOMP_RULES).map_err(|error| GatewayError::System {
        doing: "compile the system call filter",
        source: std::io::Error::other(error),
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};
    use std::net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
    use std::process::Command;

    /// Runs `act` in a thread under the filter, as the gateway's own.
    fn confined<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
        let inside = || {
            set_no_new_privs(true).unwrap();
            seccomp::load(&filter().unwrap()).unwrap();
            act()
        };
        std::thread::spawn(inside).join().unwrap()
    }

    fn refused<T>(result: std::io::Result<T>) -> bool {
        matches!(result, Err(error) if error.raw_os_error() == Some(Errno::NOSYS.raw_os_error()))
    }

    #[test]
    fn under_the_filter_nothing_is_written_made_or_started() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "text").unwrap();
        confined(move || {
            assert!(refused(File::create(path.with_extension("new"))), "create");
            assert!(refused(OpenOptions::new().write(true).open(&path)), "write");
            assert!(refused(OpenOptions::new().append(true).open(&path)), "append");
            assert!(refused(std::fs::remove_file(&path)), "remove");
            assert!(refused(std::fs::rename(&path, path.with_extension("moved"))), "rename");
            assert!(refused(Command::new("/bin/true").status()), "a program");
            assert_eq!(std::fs::read_to_string(path).unwrap(), "text");
        });
    }

    #[test]
    fn under_the_filter_no_odd_socket_is_made_and_no_privilege_asked_for() {
        use rustix::net::{SocketFlags, SocketType, socket_with};
        /// linux/socket.h
        const AF_ALG: u16 = 38;
        confined(|| {
            let made = |family, kind| socket_with(family, kind, SocketFlags::CLOEXEC, None).err();
            for (family, kind) in [
                (AddressFamily::INET, SocketType::RAW),
                (AddressFamily::PACKET, SocketType::RAW),
                (AddressFamily::from_raw(AF_ALG), SocketType::SEQPACKET),
                (AddressFamily::VSOCK, SocketType::STREAM),
            ] {
                assert_eq!(made(family, kind), Some(Errno::NOSYS), "{family:?} {kind:?}");
            }
            assert!(UdpSocket::bind("127.0.0.1:0").is_ok(), "lookups need it");
            let unmounted = rustix::mount::unmount("/proc", rustix::mount::UnmountFlags::empty());
            assert_eq!(unmounted.err(), Some(Errno::NOSYS));
            assert_eq!(rustix::process::chroot("/").err(), Some(Errno::NOSYS));
        });
    }

    #[test]
    fn under_the_filter_names_resolve_and_connections_are_made() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        confined(move || {
            let found: Vec<_> = ("localhost", port).to_socket_addrs().unwrap().collect();
            assert!(!found.is_empty());
            assert!(TcpStream::connect(found.as_slice()).is_ok());
            assert!(std::thread::Builder::new().spawn(|| ()).unwrap().join().is_ok());
        });
    }
}
