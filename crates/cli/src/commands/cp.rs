//! `casemate cp`: files into an agent's compartment and out of it, by a process confined as the agent. It taints the agent.

use std::fs::File;
use std::io::{BufReader, BufWriter};

use casemate_composition::lock::AgentName;
use casemate_protocol::inside::InsideRequest;
use casemate_sys::transfer::{self, Copied, Item, Limits, TransferError};
use clap::Args;
use serde_json::json;

use crate::cli::Global;
use crate::failure::{Failure, Outcome, one_line};
use crate::inside;
use crate::lines;
use crate::project::Project;
use crate::replicas::{self, IndexOption};

/// Most files and folders of one copy.
const ENTRIES_MAX: u64 = 1_000_000;

/// What `cp` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate cp researcher:/data/report.txt .",
    after_help = "Exactly one side is AGENT:PATH; a local name with a colon begins with ./. Files and folders are copied; \
        symbolic links and special files are not, and are named. A process that is confined as the agent reads and writes \
        inside: it reaches what the agent reaches, and what it writes belongs to the agent's user. Both directions taint \
        the agent, as `exec` does: a copy out can carry off its secrets."
)]
pub(crate) struct CpArgs {
    /// From where: AGENT:PATH or a local path
    #[arg(value_name = "FROM")]
    from: String,
    /// To where: a local path or AGENT:PATH
    #[arg(value_name = "TO")]
    to: String,
    /// Most that is taken out of an agent, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 4096)]
    max_mib: u64,
    #[command(flatten)]
    index: IndexOption,
}

/// The two sides.
#[derive(Debug, PartialEq, Eq)]
enum Direction {
    Out { agent: AgentName, path: String, to: String },
    Into { from: String, agent: AgentName, path: String },
}

/// Copies.
pub(crate) fn run(global: &Global, args: &CpArgs) -> Outcome {
    let project = Project::find(global)?;
    let copied = match direction(&args.from, &args.to)? {
        Direction::Out { agent, path, to } => {
            let agent = replicas::indexed(&project, &agent, args.index)?;
            let name = agent.clone();
            let (visit, streams) = inside::begin(&project, InsideRequest::CopyOut { agent, path })?;
            let output = streams.output.ok_or_else(crate::control::unexpected_reply)?;
            let limits = Limits { bytes: args.max_mib.saturating_mul(1 << 20), entries: ENTRIES_MAX };
            let copied = transfer::receive(&mut BufReader::new(File::from(output)), &to, limits);
            drop(visit);
            copied.map_err(|error| failed(of_agent(&name, error)))?
        }
        Direction::Into { from, agent, path } => {
            let agent = replicas::indexed(&project, &agent, args.index)?;
            // Nothing is tainted by a name that does not exist.
            std::fs::metadata(&from)
                .map_err(|error| Failure::input(format!("{from}: {error}"), "name a file or folder"))?;
            let name = agent.clone();
            let (visit, streams) = inside::begin(&project, InsideRequest::CopyIn { agent, path })?;
            let (Some(input), Some(output)) = (streams.input, streams.output) else {
                return Err(crate::control::unexpected_reply());
            };
            let sent = transfer::send(&from, &mut BufWriter::new(File::from(input)));
            let answer = Item::read(&mut File::from(output)).map_err(failed)?;
            drop(visit);
            match answer {
                Item::Failed { reason } => {
                    return Err(failed(of_agent(&name, TransferError::Other { reason })));
                }
                Item::End => sent.map_err(|error| failed(error.into()))?,
                _ => return Err(crate::control::unexpected_reply()),
            }
        }
    };
    report(global, &copied);
    Ok(0)
}

fn report(global: &Global, copied: &Copied) {
    let Copied { files, folders, bytes, skipped } = copied;
    for (path, reason) in skipped {
        lines::note(format!("warning: not copied: {}: {}", one_line(path), one_line(reason)));
    }
    if global.json {
        lines::print(json!({"files": files, "folders": folders, "bytes": bytes, "skipped": skipped}));
    } else {
        let many = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let (files, folders, bytes) = (many(*files, "file"), many(*folders, "folder"), many(*bytes, "byte"));
        lines::print(format!("copied {files} and {folders}, {bytes}"));
    }
}

/// What the agent's side says, as a path of the agent.
fn of_agent(agent: &AgentName, error: TransferError) -> TransferError {
    match error {
        TransferError::Other { reason } if reason.starts_with('/') => {
            TransferError::Other { reason: format!("{agent}:{reason}") }
        }
        error => error,
    }
}

fn failed(error: TransferError) -> Failure {
    let todo = match &error {
        TransferError::TooMuch { .. } => "name less, or give a larger --max-mib",
        TransferError::File { .. } => "check that the folder exists and can be written",
        TransferError::Other { reason } if reason.contains("Read-only") => {
            "name a path that the agent itself can write: its root is read-only"
        }
        TransferError::Other { .. } => {
            "name a path that the agent itself can use: `casemate exec AGENT ls` shows some"
        }
        _ => "try again; where it stays, `casemate logs` and the warden's log say more",
    };
    Failure::environment(error, todo)
}

fn direction(from: &str, to: &str) -> Outcome<Direction> {
    if from == "-" || to == "-" {
        return Err(Failure::input(
            "`-` is no file: copies are files and folders, not streams",
            "name a local path; `casemate exec AGENT cat FILE` writes a file to standard output",
        ));
    }
    let inside = |text: &str| {
        let (agent, path) = text.split_once(':')?;
        Some((
            agent.parse::<AgentName>().ok()?,
            if path.is_empty() { ".".to_owned() } else { path.to_owned() },
        ))
    };
    match (inside(from), inside(to)) {
        (Some((agent, path)), None) => Ok(Direction::Out { agent, path, to: to.to_owned() }),
        (None, Some((agent, path))) => Ok(Direction::Into { from: from.to_owned(), agent, path }),
        (Some(_), Some(_)) => Err(Failure::input(
            "both sides are in an agent: nothing passes between agents but over edges",
            "copy to a local file first, or begin a local name with ./",
        )),
        (None, None) => Err(Failure::input("neither side is in an agent", "write one as AGENT:PATH")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_side_is_in_an_agent() {
        let a: AgentName = "a".parse().unwrap();
        let out = Direction::Out { agent: a.clone(), path: "/x".into(), to: "y".into() };
        assert_eq!(direction("a:/x", "y"), Ok(out));
        let into = Direction::Into { from: "./b:c".into(), agent: a, path: ".".into() };
        assert_eq!(direction("./b:c", "a:"), Ok(into));
        assert!(direction("a:/x", "b:/y").is_err() && direction("x", "/y:z").is_err());
        assert!(direction("a:/x", "-").is_err() && direction("-", "a:/x").is_err());
    }
}
