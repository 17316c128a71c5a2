//! The control socket: what the command line asks. Root only, by the mode of the socket file.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use casemate_composition::lock::AgentName;
use casemate_protocol::control::{ControlRequest, Reply};
use casemate_protocol::{Nonce, Refusal};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Take};
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::change;
use crate::edges;
use crate::error::WardenError;
use crate::inside;
use crate::world::World;

/// Longest request line in bytes: a command of `exec` and its variables fit.
pub(crate) const REQUEST_LINE_BYTES_MAX: u64 = 256 << 10;

/// Where request lines come from.
pub(crate) type Lines<'a> = BufReader<Take<ReadHalf<'a>>>;

/// Binds the socket, for root alone.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, WardenError> {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(WardenError::file(path))?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .map_err(WardenError::file(path))?;
    Ok(listener)
}

/// Serves until the warden ends.
pub(crate) async fn serve(world: Rc<World>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let world = Rc::clone(&world);
                tokio::task::spawn_local(async move {
                    let _ = converse(&world, stream).await;
                });
            }
            Err(error) => {
                tracing::error!("control socket: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(world: &Rc<World>, mut stream: UnixStream) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader.take(REQUEST_LINE_BYTES_MAX));
    reader.read_until(b'\n', &mut line).await?;
    let request: ControlRequest = match serde_json::from_slice(&line) {
        Ok(request) => request,
        Err(error) => {
            let todo = "use a casemate command of the same version as the warden".to_owned();
            return send(
                &mut writer,
                &Reply::Failed { what: format!("request is not understood: {error}"), todo },
            )
            .await;
        }
    };
    match request {
        ControlRequest::Watch => watch(world, &mut writer, reader.into_inner().into_inner()).await,
        ControlRequest::Inside(request) => inside::serve(world, request, &mut writer, &mut reader).await,
        ControlRequest::Status => send(&mut writer, &world.status()).await,
        ControlRequest::Attest { agent, nonce } => {
            let reply = attest(world, &agent, &nonce).await.unwrap_or_else(|error| reply_to(&error));
            send(&mut writer, &reply).await
        }
        ControlRequest::Edges => {
            let reply = edges::status(world).await.unwrap_or_else(|error| reply_to(&error));
            send(&mut writer, &reply).await
        }
        ControlRequest::JudgeEdge { agent, host, port, verdict } => {
            let judged = edges::judge(world, &agent, &host, port, verdict).await;
            send(&mut writer, &judged.unwrap_or_else(|error| reply_to(&error))).await
        }
        ControlRequest::JudgeSocket { agent, edge, verdict } => {
            let judged = edges::judge_socket(world, &agent, &edge, verdict).await;
            send(&mut writer, &judged.unwrap_or_else(|error| reply_to(&error))).await
        }
        ControlRequest::Change { agents, action } => {
            let (replies, mut told) = mpsc::unbounded_channel();
            let world = Rc::clone(world);
            // A task of its own: an order that was begun is carried out to its end.
            tokio::task::spawn_local(async move {
                change::change(&world, &replies, &agents, action).await;
            });
            let tell = async {
                while let Some(reply) = told.recv().await {
                    send(&mut writer, &reply).await?;
                }
                Ok(())
            };
            unless_gone(reader.into_inner().into_inner(), tell).await
        }
        ControlRequest::Wait { agents } => {
            unless_gone(reader.into_inner().into_inner(), change::wait(world, &mut writer, &agents)).await
        }
        ControlRequest::Shutdown { grace_ms } => {
            world.shut_down(grace_ms);
            world.ended().await;
            send(&mut writer, &Reply::Done).await
        }
    }
}

/// Tells something for as long as the asker is there. What it has ordered goes on without it.
async fn unless_gone(
    mut reader: ReadHalf<'_>,
    work: impl Future<Output = std::io::Result<()>>,
) -> std::io::Result<()> {
    let mut byte = [0; 1];
    tokio::select! {
        done = work => done,
        _ = reader.read(&mut byte) => Ok(()),
    }
}

async fn watch(world: &World, writer: &mut WriteHalf<'_>, mut reader: ReadHalf<'_>) -> std::io::Result<()> {
    let mut position = 0_usize;
    let mut byte = [0; 1];
    loop {
        tokio::select! {
            steps = world.journal.from(&mut position) => {
                for step in steps {
                    send(writer, &Reply::Progress(step)).await?;
                }
            }
            // The watcher went away.
            _ = reader.read(&mut byte) => return Ok(()),
        }
    }
}

async fn attest(world: &World, agent: &AgentName, nonce: &Nonce) -> Result<Reply, WardenError> {
    let (record, running) = change::runs(world, agent)?;
    if record.pause.is_on() {
        return Err(Refusal::new("agent.running", format!("{agent} runs"), "it is paused").into());
    }
    let evidence = world.evidence(&running.subject, nonce).await?;
    Ok(Reply::Evidence { evidence: evidence.to_json() })
}

pub(crate) fn reply_to(error: &WardenError) -> Reply {
    match error {
        WardenError::Refused(refusal) => Reply::Refused { refusal: refusal.clone() },
        other => Reply::Failed { what: other.to_string(), todo: other.todo() },
    }
}

pub(crate) async fn send(writer: &mut WriteHalf<'_>, reply: &Reply) -> std::io::Result<()> {
    let mut bytes = serde_json::to_vec(reply)?;
    bytes.push(b'\n');
    writer.write_all(&bytes).await
}
