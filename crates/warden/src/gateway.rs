//! The gateway from the warden's side: started once; its end ends the box, because its sockets are gone with it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use casemate_protocol::gateway::{DESCRIPTORS_MAX, FromGateway, PACKET_BYTES_MAX, ToGateway};
use casemate_sys::descriptors::{packet_pair, receive_packet, send_packet};
use casemate_sys::process;
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::Mutex;

use crate::error::WardenError;

/// Outer uid and gid of the gateway.
pub(crate) const GATEWAY_UID: u32 = 0x3fff_0002;
const SOCKET_FD: i32 = 3;
/// Descriptors that the gateway has use for: two for each of 16,384 connections, and 4096 besides.
const GATEWAY_DESCRIPTORS: u64 = 36_864;
/// How long the gateway may leave a message lying.
const SEND_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(2);

/// The line to the gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    socket: UnixDatagram,
    sending: Mutex<()>,
}

impl Gateway {
    /// Starts the gateway and waits until it serves.
    pub(crate) async fn start(program: &Path, log: &Path) -> Result<Self, WardenError> {
        let (ours, theirs) = packet_pair().map_err(WardenError::system("make the gateway's socket"))?;
        // Descriptors go to the gateway, never back. Before Linux 6.16 the kernel cannot see to that.
        let _ = process::refuse_descriptors(ours.as_fd());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log);
        let mut command = Command::new(program);
        process::clean_environment(&mut command);
        command
            .args(["--socket-fd", &SOCKET_FD.to_string(), "--uid", &GATEWAY_UID.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.map_or_else(|_| Stdio::null(), Stdio::from));
        raise_descriptor_limit();
        process::prepare(&mut command, &[(theirs.as_fd(), SOCKET_FD)]);
        let mut child = command.spawn().map_err(WardenError::file(program))?;
        drop(theirs);
        std::thread::spawn(move || child.wait());
        // A packet socket under the type of datagram sockets: only its readiness is used.
        let socket = std::os::unix::net::UnixDatagram::from(ours);
        let socket = socket
            .set_nonblocking(true)
            .and_then(|()| UnixDatagram::from_std(socket))
            .map_err(WardenError::file("gateway socket"))?;
        let gateway = Self { socket, sending: Mutex::new(()) };
        match gateway.next().await {
            Some(FromGateway::Ready) => Ok(gateway),
            _ => Err(WardenError::Environment {
                what: "the gateway ended before it served".into(),
                todo: "look at gateway.log in the project folder",
            }),
        }
    }

    /// Sends a message with descriptors.
    pub(crate) async fn send(&self, message: &ToGateway, descriptors: &[OwnedFd]) -> Result<(), WardenError> {
        let packet = serde_json::to_vec(message).map_err(|e| WardenError::ours(&e))?;
        if packet.len() > PACKET_BYTES_MAX || descriptors.len() > DESCRIPTORS_MAX {
            // It would end the gateway.
            return Err(WardenError::ours(&"a message that the gateway does not take"));
        }
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let _turn = self.sending.lock().await;
        let send = || send_packet(&self.socket, &packet, &borrowed).map_err(std::io::Error::from);
        match tokio::time::timeout(SEND_WAIT_MAX, self.socket.async_io(Interest::WRITABLE, send)).await {
            Ok(sent) => sent.map_err(WardenError::file("gateway socket")),
            Err(_) => Err(WardenError::Environment {
                what: "the gateway takes no messages".into(),
                todo: "look at casemate-gateway.log among the project's logs, then `casemate up` again",
            }),
        }
    }

    /// The next message; none when the gateway ended or speaks no protocol.
    pub(crate) async fn next(&self) -> Option<FromGateway> {
        let receive = || receive_packet(&self.socket, PACKET_BYTES_MAX).map_err(std::io::Error::from);
        let (packet, descriptors) = self.socket.async_io(Interest::READABLE, receive).await.ok()?;
        if packet.is_empty() || !descriptors.is_empty() {
            return None;
        }
        serde_json::from_slice(&packet).ok()
    }
}

/// Lets the gateway have two descriptors for each of as many connections as it serves at most. Best effort: where the
/// machine allows fewer, the gateway offers fewer connections. The limit of agents is their own, from the lock.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let allowed = getrlimit(Resource::Nofile);
    if let Some(most) = allowed.maximum.filter(|most| *most < GATEWAY_DESCRIPTORS) {
        let raised = Rlimit { current: allowed.current, maximum: Some(GATEWAY_DESCRIPTORS) };
        if let Err(errno) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!("the gateway may have {most} descriptors only: {errno}");
        }
    }
}
