//! Serves operators who look or reach into a compartment. Streams pass between command and caller: the warden makes them
//! and hands the caller's ends over, so that it copies no byte and waits on no agent. No descriptor of the caller's ever
//! enters a compartment, and a terminal is made for its command alone.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use casemate_compartment::{Visit, Work, backend};
use casemate_composition::lock::AgentName;
use casemate_protocol::Refusal;
use casemate_protocol::control::Reply;
use casemate_protocol::inside::{
    AgentUsage, Caller, ExecRequest, InsideReply, InsideRequest, ProcessStatus, Stream, WORDS_MAX,
};
use casemate_sys::descriptors::send_packet;
use casemate_sys::spawn::Streams;
use casemate_sys::spec::ID_RANGE;
use casemate_sys::{terminal, usage};
use tokio::io::{AsyncBufReadExt as _, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::WriteHalf;

use crate::agent::{Running, blocking};
use crate::control::{Lines, REQUEST_LINE_BYTES_MAX, reply_to, send};
use crate::error::WardenError;
use crate::guest::{self, Guest, NotBegun};
use crate::output::pipe;
use crate::streams::Since;
use crate::visits::{Place, running};
use crate::world::World;

/// Time that reading the usage of a compartment may take: its processes' memory may be slow to read.
const LOOK_WAIT_MAX: Duration = Duration::from_secs(5);
/// Signals that a caller may send.
const SIGNALS: [i32; 6] = [1, 2, 3, 10, 12, 18];

/// The ends that the caller gets.
pub(crate) type Ends = Vec<(Stream, OwnedFd)>;

/// Answers one request, and stays for as long as its command runs.
pub(crate) async fn serve(
    world: &World,
    request: InsideRequest,
    writer: &mut WriteHalf<'_>,
    lines: &mut Lines<'_>,
) -> std::io::Result<()> {
    let reply = match request {
        InsideRequest::Usage => usage_of_all(world).await,
        InsideRequest::Processes { agent } => processes(world, &agent).await,
        InsideRequest::Attach { agent } => return lend(attach(world, &agent).await, writer).await,
        InsideRequest::Input { agent } => return lend(input(world, &agent).await, writer).await,
        InsideRequest::NoInput { agent } => running(world, &agent).map(|(_, _, standing)| {
            drop(standing.own.stdin.borrow_mut().take());
            InsideReply::Noted
        }),
        InsideRequest::Probed { attacker, victim, seen } => {
            crate::probe::told(world, &attacker, &victim, seen)
        }
        InsideRequest::Probes => Ok(InsideReply::Probes { probes: world.posture.batteries() }),
        InsideRequest::Probe { agent } => return crate::probe::serve(world, &agent, writer, lines).await,
        InsideRequest::Exec(request) => return converse(exec(world, request).await, writer, lines).await,
        InsideRequest::CopyOut { agent, path } => {
            return converse(copy(world, &agent, Work::CopyOut(path)).await, writer, lines).await;
        }
        InsideRequest::CopyIn { agent, path } => {
            return converse(copy(world, &agent, Work::CopyIn(path)).await, writer, lines).await;
        }
    };
    send(writer, &reply.map_or_else(|error| reply_to(&error), Reply::Inside)).await
}

/// Hands streams of the agent's own over.
async fn lend(lent: Result<(Place, Ends), WardenError>, writer: &mut WriteHalf<'_>) -> std::io::Result<()> {
    match lent {
        Ok((_place, ends)) => hand_over(writer.as_ref(), &ends).await,
        Err(error) => send(writer, &reply_to(&error)).await,
    }
}

/// A command that runs, and where the caller finds it.
struct Begun {
    guest: Guest,
    ends: Ends,
    _place: Place,
}

/// Hands the streams over, passes on what the caller says, and tells the command's end. Where the caller goes away, the
/// command ends.
async fn converse(
    begun: Result<Begun, NotBegun>,
    writer: &mut WriteHalf<'_>,
    lines: &mut Lines<'_>,
) -> std::io::Result<()> {
    let mut begun = match begun {
        Ok(begun) => begun,
        Err(NotBegun::Refused(error)) => return send(writer, &reply_to(&error)).await,
        Err(NotBegun::NotExecuted(status, what)) => {
            return send(writer, &Reply::Inside(InsideReply::NotExecuted { status, what })).await;
        }
    };
    hand_over(writer.as_ref(), &begun.ends).await?;
    // What stays open here would keep the caller from seeing the end of the streams.
    begun.ends.clear();
    let mut line = Vec::new();
    loop {
        lines.get_mut().set_limit(REQUEST_LINE_BYTES_MAX);
        tokio::select! {
            status = begun.guest.ended() => {
                return send(writer, &Reply::Inside(InsideReply::Exited { status })).await;
            }
            // What was read stays in `line` where the other branch comes first.
            read = lines.read_until(b'\n', &mut line) => {
                if read? == 0 || !line.ends_with(b"\n") {
                    return Ok(());
                }
                let Ok(Caller::Signal { number }) = serde_json::from_slice(&line) else { return Ok(()) };
                if SIGNALS.contains(&number) {
                    begun.guest.signal(number);
                }
                line.clear();
            }
        }
    }
}

pub(crate) async fn hand_over(stream: &UnixStream, ends: &Ends) -> std::io::Result<()> {
    let streams = ends.iter().map(|(stream, _)| *stream).collect();
    let mut line = serde_json::to_vec(&Reply::Inside(InsideReply::Streams { streams }))?;
    line.push(b'\n');
    let descriptors: Vec<BorrowedFd<'_>> = ends.iter().map(|(_, end)| end.as_fd()).collect();
    stream.async_io(Interest::WRITABLE, || Ok(send_packet(stream, &line, &descriptors)?)).await
}

async fn exec(world: &World, request: ExecRequest) -> Result<Begun, NotBegun> {
    let ExecRequest { agent, command, user, working_dir, environment, input, terminal } = request;
    let possible = !command.is_empty()
        && command.len().max(environment.len()) <= WORDS_MAX
        && user.is_none_or(|(uid, gid)| uid.max(gid) < ID_RANGE)
        && working_dir.as_ref().is_none_or(|path| path.starts_with('/'))
        && !environment.keys().any(|name| name.is_empty() || name.contains('='))
        && !command
            .iter()
            .chain(environment.iter().flat_map(|(n, v)| [n, v]))
            .any(|text| text.contains('\0'));
    if !possible {
        let expected = format!(
            "a command and variables of at most {WORDS_MAX} words without zero bytes, ids below {ID_RANGE}, an absolute \
             working directory"
        );
        return Err(WardenError::from(Refusal::new("agent.command", expected, "another request")).into());
    }
    let work = Work::Command(command);
    let (place, running) = begin_work(world, &agent, "exec", &work).await?;
    let (streams, ends) = match terminal {
        Some((rows, columns)) => {
            let (own_uid, own_gid) =
                world.agent(&agent).map_or((0, 0), |(entry, _)| (entry.user.uid, entry.user.gid));
            let (uid, gid) = user.unwrap_or((own_uid, own_gid));
            let outer = |id| running.compartment.outer_id(id);
            let pair = terminal::open(outer(uid), outer(gid), terminal::Size { rows, columns })
                .map_err(WardenError::system("make a terminal"))?;
            (Streams::Terminal(pair.slave), vec![(Stream::Terminal, pair.master)])
        }
        None => {
            let (output, stdout) = pipe()?;
            let (error, stderr) = pipe()?;
            let mut ends = vec![(Stream::Output, output), (Stream::Error, error)];
            if input {
                let (stdin, keys) = pipe()?;
                ends.push((Stream::Input, keys));
                (Streams::All { stdin, stdout, stderr }, ends)
            } else {
                (Streams::Output { stdout, stderr }, ends)
            }
        }
    };
    let visit = Visit { work, user, working_dir, environment };
    start(world, &agent, &running, &visit, streams, ends, place).await
}

async fn copy(world: &World, agent: &AgentName, work: Work) -> Result<Begun, NotBegun> {
    let inward = matches!(work, Work::CopyIn(_));
    let by = if inward { "copy-in" } else { "copy-out" };
    let (place, running) = begin_work(world, agent, by, &work).await?;
    let (output, stdout) = pipe()?;
    let (_, stderr) = pipe()?;
    let mut ends = vec![(Stream::Output, output)];
    let streams = if inward {
        let (stdin, files) = pipe()?;
        ends.push((Stream::Input, files));
        Streams::All { stdin, stdout, stderr }
    } else {
        Streams::Output { stdout, stderr }
    };
    let visit = Visit { work, user: None, working_dir: None, environment: BTreeMap::new() };
    start(world, agent, &running, &visit, streams, ends, place).await
}

async fn attach(world: &World, name: &AgentName) -> Result<(Place, Ends), WardenError> {
    require_input(world, name)?;
    let (place, running) = begin(world, name, "attach").await?;
    if let Some(terminal) = &running.own.terminal {
        let (master, printed) = terminal.attach(Since::Now)?;
        return Ok((place, vec![(Stream::Terminal, master), (Stream::Output, printed)]));
    }
    let keys = running.own.stdin.borrow().as_ref().map(OwnedFd::try_clone);
    let keys = keys.ok_or_else(|| no_input(name))?.map_err(WardenError::file("pipe"))?;
    Ok((place, vec![(Stream::Input, keys)]))
}

/// As [`attach`], once and for good, and with what was printed before.
async fn input(world: &World, name: &AgentName) -> Result<(Place, Ends), WardenError> {
    require_input(world, name)?;
    let (place, running) = begin(world, name, "input").await?;
    if let Some(terminal) = &running.own.terminal {
        let (master, printed) = terminal.attach(Since::Beginning)?;
        return Ok((place, vec![(Stream::Terminal, master), (Stream::Output, printed)]));
    }
    let keys = running.own.stdin.borrow_mut().take().ok_or_else(|| no_input(name))?;
    Ok((place, vec![(Stream::Input, keys)]))
}

fn require_input(world: &World, name: &AgentName) -> Result<(), WardenError> {
    let (agent, _, standing) = running(world, name)?;
    if !agent.stdin_open {
        let expected = format!("`stdin_open: true` of {name}");
        return Err(Refusal::new("agent.stdin", expected, "an agent that reads no input").into());
    }
    if standing.own.terminal.is_none() && standing.own.stdin.borrow().is_none() {
        return Err(no_input(name));
    }
    Ok(())
}

fn no_input(name: &AgentName) -> WardenError {
    let expected = format!("an open input of {name}");
    Refusal::new("agent.stdin", expected, "it was handed over for good, or has ended").into()
}

async fn begin(world: &World, name: &AgentName, by: &str) -> Result<(Place, Rc<Running>), WardenError> {
    let (_, record, _) = running(world, name)?;
    record.visits.begin(world, name, by).await
}

/// As [`begin`], for work of which the backend says that it can do it: nobody is tainted by what cannot be.
async fn begin_work(
    world: &World,
    name: &AgentName,
    by: &str,
    work: &Work,
) -> Result<(Place, Rc<Running>), WardenError> {
    let (agent, _, _) = running(world, name)?;
    backend(agent.backend).can(work)?;
    begin(world, name, by).await
}

async fn start(
    world: &World,
    name: &AgentName,
    running: &Running,
    visit: &Visit,
    streams: Streams,
    ends: Ends,
    mut place: Place,
) -> Result<Begun, NotBegun> {
    let kind = match world.agent(name) {
        Some((agent, _)) => agent.backend,
        None => return Err(WardenError::ours(&"agent is not in the lock").into()),
    };
    let guest = guest::begin(kind, running, visit, streams).await?;
    place.arrived();
    Ok(Begun { guest, ends, _place: place })
}

async fn usage_of_all(world: &World) -> Result<InsideReply, WardenError> {
    let at_ms = |at: Instant| u64::try_from(at.duration_since(world.began).as_millis()).unwrap_or(u64::MAX);
    let mut agents = BTreeMap::new();
    for (name, agent) in &world.lock.agents {
        let Ok((_, _, standing)) = running(world, name) else { continue };
        let compartment = Arc::clone(&standing.compartment);
        let look = blocking(move || (usage::usage(&compartment.group), Instant::now()));
        // One that cannot be read in time is not shown.
        let Ok(seen) = tokio::time::timeout(LOOK_WAIT_MAX, look).await else { continue };
        let (seen, at) = seen?;
        let used = AgentUsage {
            instance: standing.subject.instance,
            at_ms: at_ms(at),
            cpu_us: seen.cpu.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            cpu_milli_max: agent.limits.cpu_milli,
            memory_bytes: seen.memory_bytes,
            memory_bytes_max: agent.limits.memory_bytes,
            // The first process is the box's.
            pids: seen.pids.map(|pids| pids.saturating_sub(1)),
            pids_max: agent.limits.pids,
            read_bytes: seen.read_bytes,
            written_bytes: seen.written_bytes,
        };
        agents.insert(name.clone(), used);
    }
    Ok(InsideReply::Usage { agents })
}

async fn processes(world: &World, name: &AgentName) -> Result<InsideReply, WardenError> {
    let (_, _, standing) = running(world, name)?;
    let compartment = Arc::clone(&standing.compartment);
    let look = blocking(move || usage::processes(&compartment.group));
    let seen = tokio::time::timeout(LOOK_WAIT_MAX, look).await.map_err(|_| WardenError::Environment {
        what: format!("the processes of {name} could not be read in {} s", LOOK_WAIT_MAX.as_secs()),
        todo: "try again: the agent's memory is slow to read",
    })??;
    let base = standing.compartment.outer_id(0);
    let processes = seen
        .into_iter()
        .map(|process| ProcessStatus {
            pid: process.pid,
            pid_inside: process.pid_inside,
            parent: process.parent,
            user: process.uid.checked_sub(base).filter(|id| *id < ID_RANGE),
            threads: process.threads,
            cpu_ms: u64::try_from(process.cpu.as_millis()).unwrap_or(u64::MAX),
            memory_bytes: process.memory_bytes,
            state: process.state,
            command: process.command,
        })
        .collect();
    Ok(InsideReply::Processes { processes })
}
