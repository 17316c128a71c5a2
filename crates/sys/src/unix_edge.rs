//! Both ends of an edge between Unix sockets: the listener inside the caller, and the connection to the socket of whom it
//! calls.
//!
//! What it is: streams of bytes. Neither end takes a descriptor (`SO_PASSRIGHTS`), and whoever reads them gives the kernel no
//! room for one. The caller's listener lies below folders that its agent can neither write nor rename. The called
//! agent's path is looked up below its own root without following a link, and what is found must be a socket on which a
//! process with that agent's ids listens.
//! What it is not: a judge of who may call whom.
//! Who trusts it: warden and launcher.

use std::fs;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use crate::netns::BACKLOG;
use crate::spawn::FirstProcess;
use crate::syscall;

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// There is nothing at the path, a link is on the way, or its end is no socket.
    #[error("no socket is found at the path: {0}")]
    NotASocket(Errno),
    /// Nobody listens, or not for a stream.
    #[error("nobody takes the connection: {0}")]
    Refused(Errno),
    /// As many connections wait to be accepted as may.
    #[error("as many connections wait as may")]
    Full,
    /// Who listens has another user id outside than the agent can have.
    #[error("user {found} listens there, and the agent's are {first} to {last}")]
    NotTheAgents {
        /// Who listens.
        found: u32,
        /// First id of the agent outside.
        first: u32,
        /// Last id.
        last: u32,
    },
    /// The agent is gone, or another step failed.
    #[error("connect inside the agent: {0}")]
    System(Errno),
}

/// A listening socket at `path`, with the folders above it. For the first process, which is root and has the agent's tree in
/// sight: the agent has no right over what is made.
pub(crate) fn listener(path: &str) -> Result<OwnedFd, Errno> {
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let mut made = Vec::new();
    let mut folder = Path::new(path).parent();
    while let Some(missing) = folder.filter(|folder| !folder.exists()) {
        made.push(missing);
        folder = missing.parent();
    }
    for folder in made.into_iter().rev() {
        fs::create_dir(folder).map_err(errno)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(errno)?;
    }
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(errno)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A connection to the stream socket at `path` inside the compartment of `first`, whose processes have these ids outside.
/// Never waits for the agent. The connection is not blocking.
///
/// # Errors
/// [`DialError`].
pub fn dial(pid: i32, pidfd: &OwnedFd, path: &str, ids: Range<u32>) -> Result<OwnedFd, DialError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(format!("/proc/{pid}/root"), flags, Mode::empty()).map_err(DialError::System)?;
    // The number is that of the compartment's process as long as that one lives, so it was when the root was opened.
    FirstProcess::lives(pidfd).map_err(DialError::System)?;
    connect_below(&root, path, ids)
}

fn connect_below(root: &OwnedFd, path: &str, ids: Range<u32>) -> Result<OwnedFd, DialError> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
        .map_err(DialError::NotASocket)?;
    let kind = fstat(&found).map_err(DialError::System)?.st_mode;
    if FileType::from_raw_mode(kind) != FileType::Socket {
        return Err(DialError::NotASocket(Errno::NOTSOCK));
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(DialError::System)?;
    // Before Linux 6.16 there is no such option: what comes is closed by the kernel, as nobody makes room for it.
    let _ = syscall::refuse_descriptors(socket.as_fd());
    // By descriptor, so that it is what was looked at, whatever has its name by now.
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", found.as_raw_fd()));
    match connect(&socket, &address.map_err(DialError::System)?) {
        Ok(()) => {}
        Err(Errno::AGAIN) => return Err(DialError::Full),
        Err(errno) => return Err(DialError::Refused(errno)),
    }
    let listens = syscall::peer_user(socket.as_fd()).map_err(DialError::System)?;
    if ids.contains(&listens) {
        return Ok(socket);
    }
    Err(DialError::NotTheAgents { found: listens, first: ids.start, last: ids.end.saturating_sub(1) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::symlink;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    fn root(folder: &Path) -> OwnedFd {
        open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    fn own_ids() -> Range<u32> {
        let own = rustix::process::geteuid().as_raw();
        own..own + 1
    }

    #[test]
    fn connects_to_the_socket_below_the_root_and_to_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("root");
        fs::create_dir_all(inside.join("run")).unwrap();
        let listener = UnixListener::bind(inside.join("run/s")).unwrap();
        let _outside = UnixListener::bind(folder.path().join("outside")).unwrap();
        let _datagrams = UnixDatagram::bind(inside.join("run/datagrams")).unwrap();
        fs::write(inside.join("run/file"), "").unwrap();
        symlink("/run/s", inside.join("link")).unwrap();
        symlink("../outside", inside.join("out")).unwrap();
        symlink("/run", inside.join("folder")).unwrap();
        drop(UnixListener::bind(inside.join("run/gone")).unwrap());
        let root = root(&inside);
        let dial = |path| connect_below(&root, path, own_ids());

        let mut ours = UnixStream::from(dial("/run/s").unwrap());
        let (mut theirs, _) = listener.accept().unwrap();
        theirs.write_all(b"hello").unwrap();
        drop(theirs);
        ours.set_nonblocking(false).unwrap();
        let mut said = String::new();
        ours.read_to_string(&mut said).unwrap();
        assert_eq!(said, "hello");

        for link in ["/link", "/out", "/folder/s"] {
            assert_eq!(dial(link).unwrap_err(), DialError::NotASocket(Errno::LOOP), "{link}");
        }
        for missing in ["/run/nothing", "/../outside", "/run/../../outside"] {
            assert_eq!(dial(missing).unwrap_err(), DialError::NotASocket(Errno::NOENT), "{missing}");
        }
        assert_eq!(dial("/run/file").unwrap_err(), DialError::NotASocket(Errno::NOTSOCK));
        assert_eq!(dial("/run/gone").unwrap_err(), DialError::Refused(Errno::CONNREFUSED));
        assert_eq!(dial("/run/datagrams").unwrap_err(), DialError::Refused(Errno::PROTOTYPE));
    }

    #[test]
    fn refuses_a_listener_that_is_not_the_agents() {
        let folder = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let found = own_ids().start;
        let refused = connect_below(&root(folder.path()), "/s", found + 1..found + 3).unwrap_err();
        assert_eq!(refused, DialError::NotTheAgents { found, first: found + 1, last: found + 2 });
    }

    #[test]
    fn waits_for_nobody_where_the_queue_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&socket, 0).unwrap();
        let root = root(folder.path());
        let _first = connect_below(&root, "/s", own_ids()).unwrap();
        assert_eq!(connect_below(&root, "/s", own_ids()).unwrap_err(), DialError::Full);
    }

    #[test]
    fn a_listener_takes_connections_and_has_its_folders_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db/run/s");
        let _socket = listener(path.to_str().unwrap()).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o666, 0o755));
        assert_eq!(listener(path.to_str().unwrap()).unwrap_err(), Errno::ADDRINUSE);
    }
}
