//! The courier from the warden's side: a process without privileges, started on demand, and sessions over it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use casemate_protocol::courier::{FROM_COURIER_BYTES_MAX, FromCourier, Sealed, ToCourier};
use casemate_sys::process;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc};

use crate::error::WardenError;

/// Outer uid and gid of the courier: just below the agents' ranges.
pub(crate) const COURIER_UID: u32 = 0x3fff_0001;
/// Number under which the courier finds its socket.
const SOCKET_FD: i32 = 3;
/// How long the broker may take for one answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(90);

/// How the courier is started.
#[derive(Debug)]
pub(crate) struct Courier {
    program: PathBuf,
    broker: String,
    certificate: PathBuf,
    log: PathBuf,
    sessions: Cell<u32>,
    line: RefCell<Option<Rc<Line>>>,
}

/// The connection to a running courier.
#[derive(Debug)]
struct Line {
    writer: Mutex<OwnedWriteHalf>,
    waiting: RefCell<HashMap<u32, mpsc::Sender<FromCourier>>>,
    closed: Cell<bool>,
}

/// One agent's conversation with the broker.
#[derive(Debug)]
pub(crate) struct Session {
    number: u32,
    line: Rc<Line>,
    answers: mpsc::Receiver<FromCourier>,
}

impl Courier {
    pub(crate) fn new(program: PathBuf, broker: String, certificate: PathBuf, log: PathBuf) -> Self {
        Self { program, broker, certificate, log, sessions: Cell::new(0), line: RefCell::new(None) }
    }

    /// A fresh session; starts the courier where none runs.
    pub(crate) fn session(&self) -> Result<Session, WardenError> {
        let running = self.line.borrow().clone().filter(|line| !line.closed.get());
        let line = match running {
            Some(line) => line,
            None => {
                let line = self.start()?;
                *self.line.borrow_mut() = Some(Rc::clone(&line));
                line
            }
        };
        let number = self.sessions.get().wrapping_add(1);
        self.sessions.set(number);
        let (sender, answers) = mpsc::channel(4);
        line.waiting.borrow_mut().insert(number, sender);
        Ok(Session { number, line, answers })
    }

    fn start(&self) -> Result<Rc<Line>, WardenError> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(WardenError::system("make the courier's socket"))?;
        // No descriptors on this line. Before Linux 6.16 the kernel cannot see to that.
        let _ = process::refuse_descriptors(ours.as_fd());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log);
        let mut command = Command::new(&self.program);
        process::clean_environment(&mut command);
        command
            .args(["--socket-fd", &SOCKET_FD.to_string(), "--uid", &COURIER_UID.to_string()])
            .args(["--broker", &self.broker])
            .arg("--broker-cert")
            .arg(&self.certificate)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.map_or_else(|_| Stdio::null(), Stdio::from));
        process::prepare(&mut command, &[(theirs.as_fd(), SOCKET_FD)]);
        let mut child = command.spawn().map_err(WardenError::file(&self.program))?;
        // Its end shows as the end of the socket; a thread takes its status.
        std::thread::spawn(move || child.wait());
        let (reader, writer) = stream(ours)?.into_split();
        let line = Rc::new(Line {
            writer: Mutex::new(writer),
            waiting: RefCell::new(HashMap::new()),
            closed: Cell::new(false),
        });
        tokio::task::spawn_local(Rc::clone(&line).dispatch(reader));
        Ok(line)
    }
}

fn stream(descriptor: OwnedFd) -> Result<UnixStream, WardenError> {
    let stream = std::os::unix::net::UnixStream::from(descriptor);
    stream
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(stream))
        .map_err(|source| WardenError::File { path: "courier socket".into(), source })
}

impl Line {
    async fn dispatch(self: Rc<Self>, mut reader: OwnedReadHalf) {
        while let Some(message) = receive(&mut reader).await {
            let receiver = self.waiting.borrow().get(&message.session()).cloned();
            if let Some(receiver) = receiver {
                // A session takes one answer at a time: where it has not taken four, the courier lies.
                if receiver.try_send(message).is_err() {
                    break;
                }
            }
        }
        self.closed.set(true);
        self.waiting.borrow_mut().clear();
    }
}

/// The next message; none at the end of the stream and for anything that is no message.
async fn receive(reader: &mut OwnedReadHalf) -> Option<FromCourier> {
    let length = reader.read_u32_le().await.ok()?;
    let length = usize::try_from(length).ok().filter(|length| *length <= FROM_COURIER_BYTES_MAX)?;
    let mut message = vec![0; length];
    reader.read_exact(&mut message).await.ok()?;
    match FromCourier::decode(&message) {
        Ok(message) => Some(message),
        Err(error) => {
            tracing::error!("the courier does not speak the protocol: {error}");
            None
        }
    }
}

impl Session {
    /// Opens a session with the broker: its nonce.
    pub(crate) async fn begin(&mut self, tee: &'static str) -> Result<String, WardenError> {
        match self.ask(ToCourier::Begin { session: self.number, tee: tee.to_owned() }).await? {
            FromCourier::Challenge { nonce, .. } => Ok(nonce),
            other => Err(unexpected(other)),
        }
    }

    /// Sends evidence; returns when the broker has affirmed it.
    pub(crate) async fn attest(&mut self, body: Vec<u8>) -> Result<(), WardenError> {
        match self.ask(ToCourier::Evidence { session: self.number, body }).await? {
            FromCourier::Appraised { .. } => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Brings a secret, sealed.
    pub(crate) async fn fetch(&mut self, resource: &str) -> Result<Sealed, WardenError> {
        match self.ask(ToCourier::Fetch { session: self.number, resource: resource.to_owned() }).await? {
            FromCourier::Sealed { sealed, .. } => Ok(sealed),
            other => Err(unexpected(other)),
        }
    }

    /// Ends it.
    pub(crate) async fn end(self) {
        let _ = self.send(ToCourier::End { session: self.number }).await;
    }

    async fn ask(&mut self, message: ToCourier) -> Result<FromCourier, WardenError> {
        self.send(message).await?;
        match tokio::time::timeout(ANSWER_WAIT_MAX, self.answers.recv()).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(WardenError::Broker { what: "the courier ended".into() }),
            Err(_) => Err(WardenError::Broker { what: "the broker gave no answer in 90 s".into() }),
        }
    }

    async fn send(&self, message: ToCourier) -> Result<(), WardenError> {
        let body = message.encode();
        let length = u32::try_from(body.len()).map_err(|e| WardenError::ours(&e))?;
        let mut writer = self.line.writer.lock().await;
        let sent = async {
            writer.write_u32_le(length).await?;
            writer.write_all(&body).await
        };
        sent.await.map_err(|_| WardenError::Broker { what: "the courier ended".into() })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.line.waiting.borrow_mut().remove(&self.number);
    }
}

fn unexpected(answer: FromCourier) -> WardenError {
    match answer {
        FromCourier::Refused { refusal, .. } => WardenError::Refused(refusal),
        FromCourier::Failed { what, .. } => WardenError::Broker { what },
        _ => WardenError::Broker { what: "the courier answered out of turn".into() },
    }
}
