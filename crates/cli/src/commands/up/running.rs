//! `casemate up` where the box runs already: starts what does not run, and says so where the composition changed.
//!
//! The composition is bound when a box is launched. A changed one is another box, so nothing of it is brought into the
//! one that runs.

use std::collections::BTreeSet;

use casemate_canon::Sha384;
use casemate_composition::Lock;
use casemate_composition::explain::diff;
use casemate_composition::lock::AgentName;
use casemate_protocol::control::{ControlRequest, Reply};
use casemate_protocol::lifecycle::{Action, Dependencies, Done, Until};
use casemate_protocol::refusal::Refusal;
use serde_json::json;

use super::UpArgs;
use crate::cli::Global;
use crate::commands::down;
use crate::commands::plan::require_admitted;
use crate::control;
use crate::failure::{Failure, Outcome};
use crate::inputs::{self, LockChange};
use crate::lines;
use crate::orders::{Changed, order, until_interrupted, within};
use crate::progress::{Display, Style, shortened};
use crate::project::{ComposeFile, Project};
use crate::supervisor::{StopRequest, clean};

/// What `up` goes on with.
pub(super) enum Next {
    /// All is done.
    Done,
    /// No box runs any more, or none did: start one.
    Start,
}

/// Does what can be done in a running box, or ends it where that was asked for.
pub(super) fn join(
    global: &Global,
    args: &UpArgs,
    file: &ComposeFile,
    project: &Project,
    (lock, named): (&Lock, &BTreeSet<AgentName>),
) -> Outcome<Next> {
    // Nobody answers, or a crash left the socket: the lease tells.
    if std::os::unix::net::UnixStream::connect(project.control_socket()).is_err() {
        return Ok(Next::Start);
    }
    let Reply::Status { composition, .. } = control::ask(project, &ControlRequest::Status)? else {
        return Err(control::unexpected_reply());
    };
    let same = inputs::digest(lock)? == composition;
    if args.force_recreate && args.agents.is_empty() {
        // Nothing is ended for a box that could not start.
        if args.locked {
            inputs::write_lock(file, lock, LockChange::Refuse)?;
        }
        if args.broker.is_none() {
            require_admitted(&super::usable_policy(file)?, lock)?;
        }
        lines::note(format!("project {} is stopped, and starts anew", project.name));
        let lease = down::stop(project, StopRequest::default())?;
        clean(project)?;
        drop(lease);
        return Ok(Next::Start);
    }
    if !same {
        return Err(changed(args, project, lock, composition));
    }
    if args.binds_the_box() {
        return Err(Failure::input(
            format!(
                "project {} runs already, and `--platform`, `--broker` and `--allow-weaker` are bound when a box starts",
                project.name
            ),
            "leave them out, or start the box anew with `casemate up --force-recreate`",
        ));
    }
    let change = if args.locked { LockChange::Refuse } else { LockChange::Write };
    inputs::write_lock(file, lock, change)?;
    let named: Vec<AgentName> = named.iter().cloned().collect();
    start(global, args, project, &named, composition)?;
    Ok(Next::Done)
}

fn start(
    global: &Global,
    args: &UpArgs,
    project: &Project,
    named: &[AgentName],
    composition: Sha384,
) -> Outcome<()> {
    let dependencies = if args.no_deps { Dependencies::Leave } else { Dependencies::Follow };
    let action = if args.force_recreate {
        Action::Restart { grace_ms: None, dependencies, until: Until::Healthy }
    } else {
        Action::Start { dependencies, until: Until::Healthy }
    };
    let names: Vec<_> = inputs::read_lock(&project.lock_file())?.agents.into_keys().collect();
    let mut display = Display::new(if global.json { Style::Json } else { args.progress }, &names);
    let ordered = order(project, named, action, Some(&mut display));
    let changed = until_interrupted(within(args.wait_timeout, ordered))
        .inspect_err(|failure| display.failed(failure))?;
    tell(global, project, &changed, composition, args.force_recreate);
    if !args.detaches() {
        lines::note("the box goes on in the background: `casemate logs -f` shows what agents write");
    }
    Ok(())
}

fn tell(global: &Global, project: &Project, changed: &Changed, composition: Sha384, restarted: bool) {
    let started: Vec<String> =
        changed.iter().filter(|(_, done)| **done == Done::Done).map(|(name, _)| name.to_string()).collect();
    if global.json {
        lines::print(json!({
            "type": "summary", "started": started, "agents": changed.len(), "composition": composition,
            "unchanged": true, "simulated": true,
        }));
        return;
    }
    let composition = shortened(&composition.to_string());
    lines::print(if started.is_empty() {
        format!("project {} runs already, and nothing changes; composition {composition}", project.name)
    } else {
        let word = if restarted { "started anew" } else { "started" };
        format!("{} {word} in the box that runs; composition {composition}", started.join(", "))
    });
}

/// Shows what changes and refuses.
fn changed(args: &UpArgs, project: &Project, lock: &Lock, running: Sha384) -> Failure {
    if let Ok(old) = inputs::read_lock(&project.lock_file()) {
        for change in diff(&old, lock) {
            lines::note(change);
        }
    }
    let found = inputs::digest(lock).map_or_else(|failure| failure.what, |digest| digest.to_string());
    let refusal = Refusal::new("composition.running", running, found);
    let whole = if args.agents.is_empty() {
        ""
    } else {
        ", without naming agents: a changed composition is another box"
    };
    Failure::refused(
        format!(
            "the composition changed, and the one that runs in project {} was bound at its launch",
            project.name
        ),
        refusal,
        format!(
            "end that box and start anew with `casemate up --force-recreate`{whole}; `casemate plan` shows more"
        ),
    )
}

/// Removes what agents have left that the composition does not have any more. None of them runs: a box has one
/// composition.
pub(super) fn remove_orphans(project: &Project, lock: &Lock) -> Outcome<()> {
    for name in orphans(project, lock) {
        for suffix in ["log", "log.1"] {
            Project::remove(&project.logs().join(format!("{name}.{suffix}")))?;
        }
        lines::note(format!("removed the logs of {name}, which the composition does not have any more"));
    }
    Ok(())
}

/// Agents that have logs and are not in the composition.
fn orphans(project: &Project, lock: &Lock) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(project.logs()) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log").map(str::to_owned))
        // The programs of the box have logs there too.
        .filter(|name| !name.starts_with("casemate-"))
        .filter(|name| name.parse().is_ok_and(|name| !lock.agents.contains_key(&name)))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::project::Home;

    #[test]
    fn an_agent_with_logs_that_the_composition_does_not_have_is_an_orphan() {
        let dir = tempfile::tempdir().unwrap();
        let project = Project {
            name: "p".parse().unwrap(),
            dir: dir.path().to_owned(),
            home: Home(dir.path().to_owned()),
        };
        std::fs::create_dir(project.logs()).unwrap();
        for file in ["gone.log", "gone.log.1", "box-warden.txt", "casemate-gateway.log"] {
            std::fs::write(project.logs().join(file), "x").unwrap();
        }
        let lock = Lock {
            version: 1,
            project: "p".parse().unwrap(),
            agents: std::collections::BTreeMap::new(),
            volumes: std::collections::BTreeMap::new(),
        };
        assert_eq!(orphans(&project, &lock), ["gone"]);
        remove_orphans(&project, &lock).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(project.logs()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["box-warden.txt", "casemate-gateway.log"]);
    }
}
