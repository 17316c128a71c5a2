//! Asks the warden over its control socket. The warden answers with one JSON object a line.

use std::io::{BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use casemate_protocol::control::{ControlRequest, Reply};

use crate::failure::{Failure, Outcome};
use crate::lines;
use crate::orders;
use crate::project::Project;
use crate::supervisor::LastEnd;

/// Time the warden has for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// One request, one reply.
pub(crate) fn ask(project: &Project, request: &ControlRequest) -> Outcome<Reply> {
    let path = project.control_socket();
    let stream = UnixStream::connect(&path).map_err(|error| not_running(project, &error))?;
    accepted(project, exchange(&stream, request).map_err(|error| no_answer(project, &error))?)
}

/// The failure where the warden is there and does not answer.
pub(crate) fn no_answer(project: &Project, error: &std::io::Error) -> Failure {
    Failure::environment(
        format!("the warden did not answer on {}: {error}", project.control_socket().display()),
        format!(
            "read {}, or stop everything with `casemate -p {} down`",
            project.program_log("warden").display(),
            project.name
        ),
    )
}

/// The reply, unless it says no.
pub(crate) fn accepted(project: &Project, reply: Reply) -> Outcome<Reply> {
    match reply {
        Reply::Refused { refusal } => Err(orders::refused(project, refusal)),
        Reply::Failed { what, todo } => Err(Failure::environment(what, todo)),
        reply => Ok(reply),
    }
}

/// The reply is not one that answers the request.
pub(crate) fn unexpected_reply() -> Failure {
    Failure::environment(
        "the warden gave an answer of another kind",
        "use programs of one build: `cargo xtask dist`",
    )
}

fn exchange(stream: &UnixStream, request: &ControlRequest) -> std::io::Result<Reply> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    (&mut &*stream).write_all(&line)?;
    let line = lines::next_line(&mut BufReader::new(stream))?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok(serde_json::from_slice(&line)?)
}

/// The failure where nobody answers on the control socket.
pub(crate) fn not_running(project: &Project, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => does_not_run(project),
        std::io::ErrorKind::PermissionDenied => Failure::environment(
            format!("{}: {error}", project.control_socket().display()),
            "run the command as the user who ran `casemate up`",
        ),
        _ => Failure::environment(
            format!("{}: {error}", project.control_socket().display()),
            "stop everything with `casemate down`, then start again",
        ),
    }
}

/// The failure of a project that does not run: with the reason, where nobody asked its box to end.
fn does_not_run(project: &Project) -> Failure {
    let name = &project.name;
    // A supervisor that ends removes its socket.
    let socket_left = UnixStream::connect(project.supervisor_socket())
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
    if let Some(end) = LastEnd::read(project) {
        return Failure::environment(
            format!(
                "project {name} does not run: its box ended at {}, with all agents: {}",
                end.at, end.what
            ),
            format!("{}; nothing of the box is left, and `casemate up` starts another", end.todo),
        );
    }
    if socket_left {
        return Failure::environment(
            format!("project {name} does not run: its box ended with all agents, and could not say why"),
            "it was killed, or the machine went down: `casemate down` cleans what it left, `casemate up` starts another",
        );
    }
    Failure::environment(format!("project {name} does not run"), "start it with `casemate up`")
}
