//! Asks the warden over its control socket. The warden answers with one JSON object a line.

use std::io::{BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use casemate_protocol::control::{ControlRequest, Reply};

use crate::failure::{Failure, Outcome};
use crate::lines;
use crate::project::Project;

/// Time the warden has for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// One request, one reply.
pub(crate) fn ask(project: &Project, request: &ControlRequest) -> Outcome<Reply> {
    let path = project.control_socket();
    let stream = UnixStream::connect(&path).map_err(|error| not_running(project, &error))?;
    let reply = exchange(&stream, request).map_err(|error| {
        Failure::environment(
            format!("the warden did not answer on {}: {error}", path.display()),
            format!(
                "read {}, or stop everything with `casemate -p {} down`",
                project.program_log("warden").display(),
                project.name
            ),
        )
    })?;
    match reply {
        Reply::Refused { refusal } => {
            Err(Failure::refused("the warden refused", refusal.cleaned(), "change what was asked for"))
        }
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

fn not_running(project: &Project, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => Failure::environment(
            format!("project {} does not run", project.name),
            "start it with `casemate up`",
        ),
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
