//! Plays the warden: starts the program, hands it sockets, answers its requests.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use casemate_composition::lock::{AgentName, TrafficLimits};
use casemate_protocol::edges::EdgeTraffic;
use casemate_protocol::gateway::{Dialled, FromGateway, PACKET_BYTES_MAX, Target, ToGateway};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    ipproto, recv, sendmsg, socket, socket_with, socketpair,
};

/// No step of a test takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn name(text: &str) -> AgentName {
    text.parse().unwrap()
}

/// A socket as the warden puts it into a pool.
pub(crate) fn fresh() -> OwnedFd {
    let made = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::TCP)).unwrap();
    bounded(&made);
    made
}

/// Buffers as those of sockets that are born inside agents.
fn bounded(socket: impl AsFd) {
    const BUFFER_BYTES: usize = 256 << 10;
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, BUFFER_BYTES).unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&socket, BUFFER_BYTES).unwrap();
}

pub(crate) fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A running gateway and the warden's end of its control socket.
pub(crate) struct Warden {
    control: Arc<OwnedFd>,
    inbox: mpsc::Receiver<FromGateway>,
    /// Rules that refused or ended a connection, with the edge's other end.
    denied: mpsc::Receiver<(String, String)>,
    child: Child,
}

type Supply = Box<dyn FnMut() -> OwnedFd + Send>;

impl Warden {
    /// Starts the program; requests for sockets are answered with `supply` where there is one, and are
    /// messages like all others where there is none.
    pub(crate) fn start_with(supply: Option<Supply>) -> Self {
        Self::start_program(Command::new(env!("CARGO_BIN_EXE_casemate-gateway")), supply)
    }

    pub(crate) fn start_with_arguments(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_casemate-gateway"));
        command.args(arguments);
        Self::start_program(command, Some(Box::new(fresh)))
    }

    /// Starts it with a descriptor limit.
    pub(crate) fn start_with_descriptors(descriptors_max: u32) -> Self {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {descriptors_max} && exec \"$0\" \"$@\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_casemate-gateway")]);
        Self::start_program(command, Some(Box::new(fresh)))
    }

    pub(crate) fn start_program(mut command: Command, supply: Option<Supply>) -> Self {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let child = command
            .args(["--socket-fd", "0"])
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let control = Arc::new(ours);
        let (sender, inbox) = mpsc::channel();
        let (denying, denied) = mpsc::channel();
        let reader = Arc::clone(&control);
        thread::spawn(move || read_messages(&reader, &sender, &denying, supply));
        let warden = Self { control, inbox, denied, child };
        assert_eq!(warden.receive(), Some(FromGateway::Ready));
        warden
    }

    pub(crate) fn start() -> Self {
        Self::start_with(Some(Box::new(fresh)))
    }

    pub(crate) fn send(&self, message: &ToGateway, descriptors: &[BorrowedFd<'_>]) {
        self.send_raw(&serde_json::to_vec(message).unwrap(), descriptors);
    }

    pub(crate) fn send_raw(&self, packet: &[u8], descriptors: &[BorrowedFd<'_>]) {
        send_packet(&self.control, packet, descriptors);
    }

    /// A message; none when nothing comes in time.
    pub(crate) fn receive(&self) -> Option<FromGateway> {
        self.inbox.recv_timeout(PATIENCE).ok()
    }

    pub(crate) fn receive_within(&self, time: Duration) -> Option<FromGateway> {
        self.inbox.recv_timeout(time).ok()
    }

    /// Hands over a new listening socket of `agent` to `target`; gives its address.
    pub(crate) fn listen(&self, agent: &str, target: Target) -> SocketAddr {
        let (listener, address) = listener();
        bounded(&listener);
        self.send(&ToGateway::Listen { agent: name(agent), target, limits: None }, &[listener.as_fd()]);
        address
    }

    /// Hands over a new listening socket of `agent` that leads to `target`'s `port`.
    pub(crate) fn edge(&self, agent: &str, target: &str, port: u16) -> SocketAddr {
        self.listen(agent, Target::Agent { agent: name(target), port })
    }

    /// As [`Self::edge`], with limits.
    pub(crate) fn limited(&self, agent: &str, target: &str, port: u16, limits: TrafficLimits) -> SocketAddr {
        let (listener, address) = listener();
        let target = Target::Agent { agent: name(target), port };
        let message = ToGateway::Listen { agent: name(agent), target, limits: Some(limits) };
        self.send(&message, &[listener.as_fd()]);
        address
    }

    /// Hands over a new listening socket at the path `at` of `agent` that leads to the socket at `path` of `target`.
    pub(crate) fn socket_edge(
        &self,
        agent: &str,
        at: &Path,
        target: &str,
        path: &Path,
        limits: Option<TrafficLimits>,
    ) {
        let listener = UnixListener::bind(at).unwrap();
        let target = Target::Socket { agent: name(target), path: path.to_str().unwrap().parse().unwrap() };
        self.send(&ToGateway::Listen { agent: name(agent), target, limits }, &[listener.as_fd()]);
    }

    /// Hands over a new listening socket of the box that leads to `agent`'s `port`.
    pub(crate) fn publish(&self, agent: &str, port: u16) -> SocketAddr {
        let (listener, address) = listener();
        self.send(&ToGateway::Publish { agent: name(agent), port }, &[listener.as_fd()]);
        address
    }

    /// The next rule that refused or ended a connection; none where there is none in time.
    pub(crate) fn denied(&self) -> Option<(String, String)> {
        self.denied.recv_timeout(PATIENCE).ok()
    }

    /// What passed over each edge.
    pub(crate) fn traffic(&self) -> Vec<EdgeTraffic> {
        self.send(&ToGateway::Report, &[]);
        let mut all = Vec::new();
        loop {
            match self.receive() {
                Some(FromGateway::Traffic { edges, last }) => {
                    all.extend(edges);
                    if last {
                        return all;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Closes the control socket for writing and reading, as a warden that ended.
    pub(crate) fn hang_up(&self) {
        rustix::net::shutdown(&self.control, rustix::net::Shutdown::Both).unwrap();
    }

    /// How the program ended.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the gateway did not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.control, rustix::net::Shutdown::Both);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send_packet(control: &OwnedFd, packet: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    sendmsg(control, &[IoSlice::new(packet)], &mut ancillary, SendFlags::NOSIGNAL).unwrap();
}

fn read_messages(
    control: &OwnedFd,
    sender: &mpsc::Sender<FromGateway>,
    denying: &mpsc::Sender<(String, String)>,
    mut supply: Option<Supply>,
) {
    let mut packet = vec![0; PACKET_BYTES_MAX];
    while let Ok((length @ 1.., _)) = recv(control, &mut packet[..], RecvFlags::empty()) {
        let message = serde_json::from_slice(&packet[..length]).unwrap();
        match (message, supply.as_mut()) {
            (FromGateway::NeedSockets { agent, count }, Some(supply)) => {
                let sockets: Vec<_> = (0..count).map(|_| supply()).collect();
                let borrowed: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
                let pool = serde_json::to_vec(&ToGateway::Pool { agent }).unwrap();
                send_packet(control, &pool, &borrowed);
            }
            (FromGateway::Dial { id, path, .. }, Some(_)) => {
                let dialled = UnixStream::connect(path.as_str());
                let outcome = if dialled.is_ok() { Dialled::Connected } else { Dialled::Refused };
                let answer = serde_json::to_vec(&ToGateway::Dialled { id, outcome }).unwrap();
                let stream: Vec<_> = dialled.iter().map(AsFd::as_fd).collect();
                send_packet(control, &answer, &stream);
            }
            (FromGateway::EdgeDenied { to, rule, .. }, _) => {
                let _ = denying.send((to, rule));
            }
            (message, _) => {
                if sender.send(message).is_err() {
                    return;
                }
            }
        }
    }
}

/// A client connection with a bound on every wait.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Serves `serve_one` on each connection, each in a thread of its own.
pub(crate) fn server(serve_one: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddr {
    let (listener, address) = listener();
    serve_on(listener, serve_one);
    address
}

pub(crate) fn serve_on(listener: TcpListener, serve_one: impl Fn(TcpStream) + Send + Clone + 'static) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve_one = serve_one.clone();
            thread::spawn(move || serve_one(stream.unwrap()));
        }
    });
}

/// Sends back what it reads, until the end of the stream.
pub(crate) fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 16 << 10];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// Closes a connection with a reset.
pub(crate) fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

/// Whether the other end is seen to have reset the connection.
pub(crate) fn is_reset(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    matches!(stream.read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset)
}

/// Whether a connection to `address` is reset: while it is made or once it stands.
pub(crate) fn resets(address: SocketAddr) -> bool {
    match TcpStream::connect(address) {
        Ok(mut stream) => {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            is_reset(&mut stream)
        }
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// A socket of any kind, for the wrong place.
pub(crate) fn odd_socket(family: AddressFamily, kind: SocketType) -> OwnedFd {
    socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap()
}
