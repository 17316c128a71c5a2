//! Orders to agents of a running box: sent, followed until they are carried out, and told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use casemate_composition::lock::AgentName;
use casemate_protocol::agent_token::Control;
use casemate_protocol::control::{ControlRequest, Phase, Progress, Reply};
use casemate_protocol::lifecycle::{Action, Done};
use casemate_protocol::refusal::Refusal;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines, Take};
use tokio::net::UnixStream;

use crate::cli::Global;
use crate::commands::up::interrupted;
use crate::commands::verify;
use crate::control;
use crate::failure::{Failure, Outcome};
use crate::lines::{self, LINE_BYTES_MAX};
use crate::progress::{Display, phase_name};
use crate::project::Project;
use crate::replicas;

/// What became of each agent.
pub(crate) type Changed = BTreeMap<AgentName, Done>;

/// A conversation with the warden, of one request and many replies.
pub(crate) struct Conversation<'a> {
    project: &'a Project,
    lines: Lines<BufReader<Take<UnixStream>>>,
}

impl<'a> Conversation<'a> {
    /// Asks. Must be called inside a runtime.
    pub(crate) async fn begin(project: &'a Project, request: &ControlRequest) -> Outcome<Self> {
        let path = project.control_socket();
        let mut stream =
            UnixStream::connect(&path).await.map_err(|error| control::not_running(project, &error))?;
        let mut line = serde_json::to_vec(request).unwrap_or_default();
        line.push(b'\n');
        stream
            .write_all(&line)
            .await
            .map_err(|error| Self::lost(project, &format!("{}: {error}", path.display())))?;
        Ok(Self { project, lines: BufReader::new(stream.take(LINE_BYTES_MAX)).lines() })
    }

    /// The next reply. A refusal and a failure end the conversation.
    pub(crate) async fn next(&mut self) -> Outcome<Reply> {
        let Ok(Some(line)) = self.lines.next_line().await else {
            return Err(Self::lost(self.project, "the warden ended"));
        };
        // The bound is for one line.
        self.lines.get_mut().get_mut().set_limit(LINE_BYTES_MAX);
        match serde_json::from_str(&line) {
            Ok(Reply::Failed { what, todo }) => Err(Failure::environment(what, todo)),
            Ok(reply) => Ok(reply),
            Err(error) => Err(Self::lost(self.project, &format!("answer of the warden: {error}"))),
        }
    }

    fn lost(project: &Project, what: &str) -> Failure {
        let log = project.program_log("warden");
        Failure::environment(what, format!("look with `casemate ps`, and read {}", log.display()))
    }
}

/// Runs work in an event loop, until Ctrl-C: what was ordered by then goes on.
pub(crate) fn until_interrupted<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::environment(format!("event loop: {error}"), "free some descriptors, then try again")
    })?;
    runtime.block_on(async {
        let signals = interrupted()?;
        tokio::select! {
            done = work => done,
            () = signals => Err(Failure::interrupted_wait()),
        }
    })
}

/// Orders and follows. Gives what became of each agent, or why some did not start.
pub(crate) async fn order(
    project: &Project,
    agents: &[AgentName],
    action: Action,
    mut display: Option<&mut Display>,
) -> Outcome<Changed> {
    let request = ControlRequest::Change { agents: agents.iter().cloned().collect(), action };
    let mut conversation = Conversation::begin(project, &request).await?;
    let mut failures: BTreeMap<AgentName, Failure> = BTreeMap::new();
    loop {
        match conversation.next().await? {
            Reply::Progress(progress) => {
                if let Some(display) = display.as_deref_mut() {
                    display.progress(&progress);
                }
                if let Some(failure) = start_failure(project, &progress) {
                    failures.insert(progress.agent, failure);
                }
            }
            Reply::Changed { agents } => return told(agents, failures),
            Reply::Refused { refusal } => return Err(refused(project, refusal)),
            _ => return Err(control::unexpected_reply()),
        }
    }
}

/// Waits with a bound on top.
pub(crate) async fn within<T>(seconds: u64, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    tokio::time::timeout(Duration::from_secs(seconds), work).await.unwrap_or_else(|_| {
        Err(Failure::environment(
            format!("not all agents run after {seconds} s; they go on starting"),
            "look with `casemate ps` and `casemate logs`, or give `--wait-timeout` more seconds",
        ))
    })
}

fn told(agents: Changed, mut failures: BTreeMap<AgentName, Failure>) -> Outcome<Changed> {
    let failed: BTreeSet<AgentName> =
        agents.iter().filter(|(_, done)| **done == Done::Failed).map(|(name, _)| name.clone()).collect();
    let mut all = failed.into_iter().map(|name| {
        failures.remove(&name).unwrap_or_else(|| {
            Failure::environment(format!("agent {name} did not start"), "look with `casemate ps`")
        })
    });
    match all.next() {
        None => Ok(agents),
        Some(first) => Err(Failure { more: all.collect(), ..first }),
    }
}

/// The failure that a step of a start is; none where it is none.
fn start_failure(project: &Project, progress: &Progress) -> Option<Failure> {
    use casemate_protocol::control::StepState;
    let what = match (progress.state, progress.phase) {
        (StepState::Failed, phase) => format!("agent {} failed at {}", progress.agent, phase_name(phase)),
        (StepState::Done, Phase::Exited) => {
            format!("agent {} ended before it was up", progress.agent)
        }
        _ => return None,
    };
    Some(explain(project, progress, what))
}

/// A failed step, with the rule where one refused.
pub(crate) fn explain(project: &Project, progress: &Progress, what: String) -> Failure {
    match &progress.refusal {
        // The remark repeats the refusal, which is shown in its parts.
        Some(refusal) => start_refused(what, refusal),
        None => {
            let logs = format!(
                "read {} and {}",
                project.agent_log(&progress.agent).display(),
                project.program_log("warden").display()
            );
            // Of a failed step: what happened, and what to do about it.
            let (detail, todo) = match progress.detail.split_once('\n') {
                Some((detail, todo)) => (detail, format!("{todo}; {logs}")),
                None => (progress.detail.as_str(), logs),
            };
            Failure::environment(if detail.is_empty() { what } else { format!("{what}: {detail}") }, todo)
        }
    }
}

/// A start that a rule refused.
pub(crate) fn start_refused(what: String, refusal: &Refusal) -> Failure {
    let todo = match refusal.rule.strip_prefix("control.") {
        Some(control) => Control::remedy(control),
        None => verify::todo(&refusal.rule).to_owned(),
    };
    Failure::refused(what, refusal.clone().cleaned(), todo)
}

/// An order that a rule refused.
pub(crate) fn refused(project: &Project, refusal: Refusal) -> Failure {
    let todo = match refusal.rule.as_str() {
        "agent.running" if refusal.found == "it is paused" => {
            // The rule expects `NAME runs`.
            let name = refusal.expected.strip_suffix(" runs").unwrap_or("AGENT");
            format!("`casemate -p {} unpause {name}` lets it go on", project.name)
        }
        "agent.exec" => {
            "the Compose file says `exec: deny` for it: change that and start anew, or use `casemate logs`"
                .to_owned()
        }
        "backend.visit" => {
            "`casemate exec AGENT cat FILE` shows a file that the sandbox makes itself".to_owned()
        }
        "agent.events" => {
            format!("`casemate -p {0} down` and `casemate -p {0} up` begin a new log", project.name)
        }
        "agent.running" | "agent.started" => {
            format!("look with `casemate -p {0} ps`; `casemate -p {0} start` starts agents", project.name)
        }
        "agent.known" => "name an agent of this composition".to_owned(),
        _ => "change what was asked for".to_owned(),
    };
    Failure::refused("the warden refused", refusal.cleaned(), todo)
}

/// An order without a start: sends it to the agents that are named, or to all, and says of each what became of it.
pub(crate) fn simple(global: &Global, named: &[AgentName], action: Action, words: (&str, &str)) -> Outcome {
    let project = Project::find(global)?;
    let agents = replicas::named(&project, named)?;
    let changed = until_interrupted(order(&project, &agents, action, None))?;
    tell(global, &changed, words);
    Ok(0)
}

/// Says what became of each agent: in `words`, where something was done and where it was so already.
pub(crate) fn tell(global: &Global, changed: &Changed, (done, already): (&str, &str)) {
    if global.json {
        lines::print(json!({"agents": changed}));
        return;
    }
    for (name, outcome) in changed {
        lines::print(format!("{name} {}", if *outcome == Done::Already { already } else { done }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Home;

    #[test]
    fn a_refused_order_says_what_to_do_about_it() {
        let dir = std::path::PathBuf::from("/nowhere");
        let project = Project { name: "p".parse().unwrap(), dir: dir.clone(), home: Home(dir) };
        for (rule, expected, found, todo) in [
            ("agent.running", "a runs", "it is paused", "casemate -p p unpause a"),
            ("agent.running", "a runs", "it does not run", "casemate -p p start"),
            ("agent.exec", "x", "y", "exec: deny"),
            ("backend.visit", "x", "y", "exec AGENT cat FILE"),
            ("agent.events", "x", "y", "casemate -p p down"),
            ("other", "x", "y", "change what was asked for"),
        ] {
            let failure = refused(&project, Refusal::new(rule, expected, found));
            assert!(failure.todo.contains(todo), "{}", failure.todo);
        }
    }
}
