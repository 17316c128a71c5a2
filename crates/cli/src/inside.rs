//! Asks the warden about the inside of a compartment, and takes the descriptors that come with its answer.

mod relay;
mod screen;
mod terminal;

use std::io::{BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use casemate_protocol::control::{ControlRequest, Reply};
use casemate_protocol::inside::{Caller, InsideReply, InsideRequest, Stream};
use casemate_sys::descriptors::receive_packet;

use crate::control;
use crate::failure::{Failure, Outcome};
use crate::lines;
use crate::project::Project;

pub(crate) use relay::{Relay, relay};
pub(crate) use screen::{Left, watch};
pub(crate) use terminal::{window, window_of_stdin};

/// Time until the warden says that the command runs.
const BEGIN_WAIT_MAX: Duration = Duration::from_secs(60);
/// Longest first answer in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// An event loop to wait for signals in.
fn event_loop() -> Outcome<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| {
        Failure::environment(
            format!("cannot wait for signals: {error}"),
            "close some programs, then try again",
        )
    })
}

/// A command that runs in a compartment. Dropping it ends the command.
#[derive(Debug)]
pub(crate) struct Visit {
    stream: UnixStream,
}

/// Its streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) input: Option<OwnedFd>,
    pub(crate) output: Option<OwnedFd>,
    pub(crate) error: Option<OwnedFd>,
    pub(crate) terminal: Option<OwnedFd>,
}

/// Asks for something that has streams.
pub(crate) fn begin(project: &Project, request: InsideRequest) -> Outcome<(Visit, Streams)> {
    let path = project.control_socket();
    let mut stream = UnixStream::connect(&path).map_err(|error| control::not_running(project, &error))?;
    let silent = |error: std::io::Error| control::no_answer(project, &error);
    stream.set_read_timeout(Some(BEGIN_WAIT_MAX)).map_err(silent)?;
    let mut line = serde_json::to_vec(&ControlRequest::Inside(request)).unwrap_or_default();
    line.push(b'\n');
    stream.write_all(&line).map_err(silent)?;
    let (mut answer, mut descriptors) = (Vec::new(), Vec::new());
    while !answer.ends_with(b"\n") {
        let (bytes, more) =
            receive_packet(&stream, ANSWER_BYTES_MAX).map_err(|errno| silent(errno.into()))?;
        if bytes.is_empty() || answer.len() > ANSWER_BYTES_MAX {
            return Err(silent(std::io::ErrorKind::UnexpectedEof.into()));
        }
        answer.extend(bytes);
        descriptors.extend(more);
    }
    let reply: Reply = serde_json::from_slice(&answer).map_err(|error| silent(error.into()))?;
    match control::accepted(project, reply)? {
        Reply::Inside(InsideReply::Streams { streams }) if streams.len() == descriptors.len() => {
            let mut all = Streams::default();
            for (kind, descriptor) in streams.into_iter().zip(descriptors) {
                *match kind {
                    Stream::Input => &mut all.input,
                    Stream::Output => &mut all.output,
                    Stream::Error => &mut all.error,
                    Stream::Terminal => &mut all.terminal,
                } = Some(descriptor);
            }
            Ok((Visit { stream }, all))
        }
        Reply::Inside(InsideReply::NotExecuted { status, what }) => {
            let todo = "check the name of the program: only what the agent's image has can run there";
            Err(Failure::not_executed(what, todo, status))
        }
        _ => Err(control::unexpected_reply()),
    }
}

impl Visit {
    /// Waits for the command's end and gives its status.
    pub(crate) fn status(&self) -> Outcome<i32> {
        self.status_within(None)
    }

    /// Likewise, for at most `bound`.
    pub(crate) fn status_within(&self, bound: Option<Duration>) -> Outcome<i32> {
        let _ = self.stream.set_read_timeout(bound);
        let gone = || {
            let todo = "look at `casemate ps`: the box may have been stopped";
            Failure::environment("the warden went away before the command ended", todo)
        };
        let line = lines::next_line(&mut BufReader::new(&self.stream)).ok().flatten().ok_or_else(gone)?;
        match serde_json::from_slice(&line).map_err(|_| gone())? {
            Reply::Inside(InsideReply::Exited { status }) => Ok(status),
            Reply::Failed { what, todo } => Err(Failure::environment(what, todo)),
            _ => Err(control::unexpected_reply()),
        }
    }

    /// Sends the command's processes a signal.
    pub(crate) fn signal(&self, number: i32) {
        let Ok(mut line) = serde_json::to_vec(&Caller::Signal { number }) else { return };
        line.push(b'\n');
        let _ = (&self.stream).write_all(&line);
    }

    /// A second hand on the same command.
    pub(crate) fn try_clone(&self) -> Outcome<Self> {
        let stream = self.stream.try_clone().map_err(|error| {
            Failure::environment(
                format!("connection to the warden: {error}"),
                "close some files, then try again",
            )
        })?;
        Ok(Self { stream })
    }

    /// Ends the command.
    pub(crate) fn hang_up(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}
