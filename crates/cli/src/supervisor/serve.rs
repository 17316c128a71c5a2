//! How the supervisor is told to stop: SIGTERM, SIGINT, or a line on its socket; and how it tells the warden.

use std::io::{BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use casemate_protocol::control::ControlRequest;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Failure, Outcome};
use crate::lines;
use crate::project::Project;

/// Longest request in bytes.
const REQUEST_BYTES_MAX: u64 = 256;
/// Time a caller has for its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// A request to stop everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StopRequest {
    /// Replaces each agent's own grace time.
    pub(crate) grace_ms: Option<u64>,
}

/// Listens for requests to stop.
pub(super) struct StopListener {
    listener: tokio::net::UnixListener,
    terminate: Signal,
    interrupt: Signal,
}

impl StopListener {
    /// Must be called inside the runtime.
    pub(super) fn open(project: &Project) -> Outcome<Self> {
        let path = project.supervisor_socket();
        let failed = |error: std::io::Error| {
            Failure::environment(
                format!("{}: {error}", path.display()),
                "make the folder writable, then try again",
            )
        };
        Ok(Self {
            listener: tokio::net::UnixListener::bind(&path).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    /// Waits for a request.
    pub(super) async fn next(&mut self) -> StopRequest {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return StopRequest::default(),
                _ = self.interrupt.recv() => return StopRequest::default(),
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        if let Ok(Some(request)) = tokio::time::timeout(REQUEST_TIMEOUT, read(stream)).await {
                            return request;
                        }
                    }
                    Err(_) => tokio::time::sleep(REQUEST_TIMEOUT).await,
                },
            }
        }
    }
}

async fn read(stream: tokio::net::UnixStream) -> Option<StopRequest> {
    let mut line = String::new();
    tokio::io::BufReader::new(stream.take(REQUEST_BYTES_MAX)).read_line(&mut line).await.ok()?;
    serde_json::from_str(&line).ok()
}

/// Asks the supervisor of a project to stop everything. Whether one was there to ask.
pub(crate) fn ask_to_stop(project: &Project, request: StopRequest) -> bool {
    let ask = || -> std::io::Result<()> {
        let mut stream = UnixStream::connect(project.supervisor_socket())?;
        stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
        // The connection is closed once the request was read.
        let _ = lines::next_line(&mut BufReader::new(stream));
        Ok(())
    };
    ask().is_ok()
}

/// Asks the warden to stop all agents and then itself. Whether it took the request.
pub(super) async fn shut_down_warden(project: &Project, grace_ms: Option<u64>) -> bool {
    let path = project.control_socket();
    let ask = async {
        let mut stream = tokio::net::UnixStream::connect(&path).await?;
        let mut line = serde_json::to_vec(&ControlRequest::Shutdown { grace_ms })?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        // Keep the connection: the warden answers when it is done, and the supervisor waits for its end instead.
        tokio::spawn(async move {
            let mut answer = Vec::new();
            stream.take(REQUEST_BYTES_MAX).read_to_end(&mut answer).await
        });
        std::io::Result::Ok(())
    };
    matches!(tokio::time::timeout(REQUEST_TIMEOUT, ask).await, Ok(Ok(())))
}
