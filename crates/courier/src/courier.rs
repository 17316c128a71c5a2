//! The relay: one reader of the warden's socket, one task per session, one writer.
//!
//! What it is: dispatch by session number, so that a slow session holds up no other. What it is not: the steps of a
//! session (`session`). Who trusts it: the warden, for nothing but effort.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use casemate_client::BrokerClient;
use casemate_client::error::InputError;
use casemate_protocol::courier::{FromCourier, ToCourier};
use rustix::io::Errno;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::arguments::Arguments;
use crate::session::failed;
use crate::{frames, isolate, session};

/// Most sessions at a time.
const SESSIONS_MAX: usize = 256;
/// Most messages of a session that wait.
const SESSION_MESSAGES_MAX: usize = 4;
/// Most answers that wait for the warden.
const ANSWERS_MAX: usize = 64;
/// Largest certificate file in bytes.
const CERTIFICATE_FILE_BYTES_MAX: u64 = 64 << 10;

/// Why the courier ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CourierError {
    /// The broker's address or certificate cannot be used.
    #[error("broker: {0}")]
    Broker(#[from] InputError),
    /// The certificate file cannot be read.
    #[error("{}: {error}", path.display())]
    CertificateFile {
        /// Path.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// The warden's message is malformed.
    #[error("malformed message from the warden: {0}")]
    Message(String),
    /// The descriptor is no socket, or it broke.
    #[error("socket to the warden: {0}")]
    Socket(#[from] io::Error),
    /// A restriction could not be applied.
    #[error("cannot set {what}: {error}")]
    Isolation {
        /// Which.
        what: &'static str,
        /// The system's error.
        error: Errno,
    },
    /// The rules of its filter are none: our mistake.
    #[error("system call filter: {0}")]
    Rules(String),
    /// The warden ended before the courier began.
    #[error("the warden is gone")]
    Orphaned,
}

impl CourierError {
    /// Exit code: 2 for what the caller gave, 1 for the rest.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Broker(_) | Self::CertificateFile { .. } => 2,
            Self::Message(_) | Self::Socket(_) | Self::Isolation { .. } | Self::Rules(_) | Self::Orphaned => {
                1
            }
        })
    }
}

/// Isolates the process, then relays until the warden closes its end.
pub(crate) fn run(arguments: &Arguments) -> Result<(), CourierError> {
    // Read first: the file may be for root alone. It is parsed only after the change of identity.
    let certificates = read_certificates(&arguments.broker_cert)?;
    isolate::isolate(arguments.uid)?;
    let broker = BrokerClient::new(&arguments.broker, &certificates)?;
    let socket = casemate_sys::process::inherited_descriptor(arguments.socket_fd).map_err(io::Error::from)?;
    isolate::confine()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(relay(socket, Arc::new(broker)))
}

fn read_certificates(path: &PathBuf) -> Result<Vec<u8>, CourierError> {
    use io::Read as _;
    let failed = |error| CourierError::CertificateFile { path: path.clone(), error };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(CERTIFICATE_FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// A session's inbox and its task.
struct Running {
    inbox: mpsc::Sender<ToCourier>,
    task: AbortHandle,
}

async fn relay(socket: OwnedFd, broker: Arc<BrokerClient>) -> Result<(), CourierError> {
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    let (mut reader, writer) = UnixStream::from_std(socket)?.into_split();
    let (outbox, answers) = mpsc::channel(ANSWERS_MAX);
    let mut writing = tokio::spawn(write_answers(writer, answers));
    let mut sessions: HashMap<u32, Running> = HashMap::new();
    loop {
        let message = tokio::select! {
            message = frames::read_message(&mut reader) => message?,
            // The warden no longer reads: nothing is left to do.
            _ = &mut writing => return Ok(()),
        };
        let Some(message) = message else { return Ok(()) };
        let message =
            ToCourier::decode(&message).map_err(|error| CourierError::Message(error.to_string()))?;
        if let Some(answer) = dispatch(&mut sessions, message, &broker, &outbox)
            && outbox.send(answer).await.is_err()
        {
            return Ok(());
        }
    }
}

/// Hands a message to its session. Returns an answer where there is none to hand it to.
fn dispatch(
    sessions: &mut HashMap<u32, Running>,
    message: ToCourier,
    broker: &Arc<BrokerClient>,
    outbox: &mpsc::Sender<FromCourier>,
) -> Option<FromCourier> {
    let number = match &message {
        ToCourier::End { session } => {
            if let Some(running) = sessions.remove(session) {
                running.task.abort();
            }
            return None;
        }
        ToCourier::Begin { session, .. }
        | ToCourier::Evidence { session, .. }
        | ToCourier::Fetch { session, .. } => *session,
    };
    if !sessions.contains_key(&number) {
        if !matches!(message, ToCourier::Begin { .. }) {
            return Some(failed(number, "no such session"));
        }
        if sessions.len() >= SESSIONS_MAX {
            return Some(failed(number, "too many sessions"));
        }
        let (inbox, messages) = mpsc::channel(SESSION_MESSAGES_MAX);
        let task = tokio::spawn(session::serve(number, Arc::clone(broker), messages, outbox.clone()));
        sessions.insert(number, Running { inbox, task: task.abort_handle() });
    }
    let running = sessions.get(&number)?;
    running.inbox.try_send(message).err().map(|_| failed(number, "too many messages wait in this session"))
}

async fn write_answers(mut socket: OwnedWriteHalf, mut answers: mpsc::Receiver<FromCourier>) {
    while let Some(answer) = answers.recv().await {
        if let Err(error) = frames::write_message(&mut socket, &answer.encode()).await {
            tracing::warn!("cannot answer the warden: {error}");
            return;
        }
    }
}
