//! The socket of one agent. It was born in that agent's compartment and exists nowhere else, so it says who asks; the
//! caller's uid is checked again. No request names an agent.

use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use casemate_composition::lock::AgentName;
use casemate_protocol::Refusal;
use casemate_protocol::agent_api::{AgentRequest, AgentResponse, REQUEST_LINE_BYTES_MAX};
use casemate_sys::spec::ID_RANGE;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::agent::Running;
use crate::error::WardenError;
use crate::secrets::{self, SecretLine};
use crate::world::World;

/// Most open connections of one agent.
const CONNECTIONS_MAX: usize = 16;
/// Time for a request to arrive once its connection stands, and for an answer to be taken.
const IO_WAIT_MAX: Duration = Duration::from_secs(30);
/// Pause after each piece of evidence, so that one agent cannot keep the hardware from the others.
const EVIDENCE_PAUSE: Duration = Duration::from_millis(100);

/// Pause after each secret: its memory costs every core of the machine an interrupt for each page.
const SECRET_PAUSE: Duration = Duration::from_millis(10);

/// What an agent may have made for it one at a time.
#[derive(Debug)]
struct Turns {
    evidence: Semaphore,
    secret: Semaphore,
}

/// Serves until the agent is gone.
pub(crate) async fn serve(world: Rc<World>, name: AgentName, running: Weak<Running>, socket: OwnedFd) {
    let listener = std::os::unix::net::UnixListener::from(socket);
    let Ok(listener) = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener)) else {
        return;
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let turns = Rc::new(Turns { evidence: Semaphore::new(1), secret: Semaphore::new(1) });
    while running.strong_count() > 0 {
        // The listener dies with the compartment only when nobody holds it: look now and then.
        let accepted = tokio::time::timeout(Duration::from_secs(1), listener.accept()).await;
        let Ok(Ok((stream, _))) = accepted else { continue };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (world, name, running, turns) =
            (Rc::clone(&world), name.clone(), Weak::clone(&running), Rc::clone(&turns));
        tokio::task::spawn_local(async move {
            let _place = place;
            let _ = converse(&world, &name, &running, &turns, stream).await;
        });
    }
}

async fn converse(
    world: &World,
    name: &AgentName,
    running: &Weak<Running>,
    turns: &Turns,
    mut stream: UnixStream,
) -> Option<()> {
    let base = running.upgrade()?.compartment.outer_id(0);
    let caller = stream.peer_cred().ok()?.uid();
    if !(base..base.saturating_add(ID_RANGE)).contains(&caller) {
        tracing::error!(agent = %name, uid = caller, "a foreign process reached the agent's socket");
        return None;
    }
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let limit = u64::try_from(REQUEST_LINE_BYTES_MAX).ok()?;
        let mut limited = (&mut reader).take(limit);
        let read =
            tokio::time::timeout(IO_WAIT_MAX, limited.read_until(b'\n', &mut line)).await.ok()?.ok()?;
        if read == 0 {
            return Some(());
        }
        let whole = line.ends_with(b"\n");
        let answer = if whole {
            answer(world, name, running, turns, &line).await
        } else {
            let what = format!("request is no line of at most {REQUEST_LINE_BYTES_MAX} bytes");
            Answer::Other(AgentResponse::Error(what))
        };
        let sent = async {
            match answer {
                Answer::Secret(line) => writer.write_all(line.bytes()).await,
                Answer::Other(response) => {
                    let mut bytes = serde_json::to_vec(&response)?;
                    bytes.push(b'\n');
                    writer.write_all(&bytes).await
                }
            }
        };
        tokio::time::timeout(IO_WAIT_MAX, sent).await.ok()?.ok()?;
        if !whole {
            return None;
        }
    }
}

/// What an agent is answered.
enum Answer {
    /// One of its secrets, which is nowhere else.
    Secret(SecretLine),
    /// All else.
    Other(AgentResponse),
}

async fn answer(
    world: &World,
    name: &AgentName,
    running: &Weak<Running>,
    turns: &Turns,
    line: &[u8],
) -> Answer {
    let error = |what: String| Answer::Other(AgentResponse::Error(what));
    let request: AgentRequest = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(why) => return error(format!("request is not understood: {why}")),
    };
    let Some(running) = running.upgrade() else { return error("the agent ended".into()) };
    let outcome = match request {
        AgentRequest::Identity {} => identity(world, name, &running),
        AgentRequest::Evidence { nonce } => {
            let _turn = turns.evidence.acquire().await;
            let made = world.evidence(&running.subject, &nonce).await;
            tokio::time::sleep(EVIDENCE_PAUSE).await;
            made.map(|evidence| evidence.to_json())
        }
        AgentRequest::Secret { name: wanted } => {
            let _turn = turns.secret.acquire().await;
            let read = secret(world, name, &running, &wanted);
            tokio::time::sleep(SECRET_PAUSE).await;
            match read {
                Ok(line) => return Answer::Secret(line),
                Err(error) => Err(error),
            }
        }
    };
    Answer::Other(match outcome {
        Ok(value) => AgentResponse::Ok(value),
        Err(WardenError::Refused(refusal)) => {
            if let Some((_, record)) = world.agent(name) {
                record.complaints.tell(name, &refusal);
            }
            AgentResponse::Refused(refusal)
        }
        Err(error) => {
            if let Some((_, record)) = world.agent(name) {
                record.complaints.tell(name, &Refusal::new("agent.request", "an answer", &error));
            }
            AgentResponse::Error("the box could not serve this; its log says why".into())
        }
    })
}

fn identity(world: &World, name: &AgentName, running: &Running) -> Result<serde_json::Value, WardenError> {
    let measurement = match world.lock.agents.get(name) {
        Some(agent) => agent.measurement().map_err(|e| WardenError::ours(&e))?,
        None => return Err(WardenError::ours(&"agent is not in the lock")),
    };
    Ok(json!({
        "agent": name,
        "instance": running.subject.instance,
        "measurement": measurement,
        "composition": world.composition,
        "controls": running.subject.controls,
    }))
}

fn secret(
    world: &World,
    name: &AgentName,
    running: &Running,
    wanted: &str,
) -> Result<SecretLine, WardenError> {
    let own: Vec<&str> = world
        .lock
        .agents
        .get(name)
        .map(|agent| agent.secrets.iter().map(|secret| secret.target.as_str()).collect())
        .unwrap_or_default();
    if !own.contains(&wanted) {
        let expected = if own.is_empty() {
            format!("no secret ({name} has none)")
        } else {
            format!("one of {}", own.join(", "))
        };
        return Err(Refusal::new("agent.secrets", expected, wanted).into());
    }
    secrets::line(&running.compartment.secrets, wanted)?.ok_or_else(|| {
        let expected = "UTF-8 text; read the file instead";
        WardenError::Refused(Refusal::new("agent.secrets.text", expected, "binary"))
    })
}
