//! `casemate events`: the event log, with its running hash.

use std::io::BufReader;

use casemate_protocol::event::{EVENTS_MAX, Event, LogHead};
use clap::Args;

use crate::cli::Global;
use crate::commands::edges;
use crate::failure::{Failure, Outcome};
use crate::lines;
use crate::progress::shortened;
use crate::project::Project;

/// What `events` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate events")]
pub(crate) struct EventsArgs {}

/// Shows the log. Its lines are allegations; `verify` replays the log inside evidence against the hardware.
pub(crate) fn run(global: &Global, _args: &EventsArgs) -> Outcome {
    let project = Project::find(global)?;
    let path = project.events();
    let file = std::fs::File::open(&path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            return project.never_run();
        }
        Failure::input(format!("{}: {error}", path.display()), "start the project with `casemate up`")
    })?;
    let mut reader = BufReader::new(file);
    let mut head = LogHead::EMPTY;
    for number in 1..=EVENTS_MAX {
        let bad = |what: String| {
            Failure::input(
                format!("{}:{number}:1: {what}", path.display()),
                "start the project anew with `casemate up`",
            )
        };
        let Some(line) = lines::next_line(&mut reader).map_err(|error| bad(error.to_string()))? else {
            break;
        };
        let event: Event =
            serde_json::from_slice(&line).map_err(|error| bad(format!("not an event: {error}")))?;
        head = head.extended(&event.digest().map_err(|error| bad(error.to_string()))?);
        lines::print(if global.json { lines::printable(&line) } else { describe(number, &event) });
    }
    if !global.json {
        lines::print(format!("{} events, log head {}", head.count, head.head));
    }
    Ok(0)
}

fn describe(number: usize, event: &Event) -> String {
    let text = match event {
        Event::CompositionLoaded { composition, warden } => {
            format!("composition loaded   {} by warden {warden}", shortened(&composition.to_string()))
        }
        Event::AgentLaunched { agent, instance, measurement, .. } => {
            format!("agent launched       {agent} #{instance} {}", shortened(&measurement.to_string()))
        }
        Event::SecretDelivered { agent, resource } => format!("secret delivered     {agent} {resource}"),
        Event::AgentStarted { agent, instance } => format!("agent started        {agent} #{instance}"),
        Event::AgentExited { agent, instance, status } => {
            format!("agent exited         {agent} #{instance} status {status}")
        }
        Event::PolicyChanged { agent, to, change } => {
            format!("policy changed       {agent} to {to}: {}", edges::change_name(*change))
        }
        Event::AgentTainted { agent, by } => format!("agent tainted        {agent} by {by}"),
    };
    lines::printable(format!("{number:4}  {text}").as_bytes())
}
