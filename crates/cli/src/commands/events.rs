//! `casemate events`: the event log, with its running hash.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use casemate_protocol::event::{EVENTS_MAX, Event, LogHead};
use clap::Args;

use crate::cli::Global;
use crate::commands::edges;
use crate::failure::{Failure, Outcome};
use crate::follow::POLL;
use crate::lines;
use crate::progress::shortened;
use crate::project::Project;
use crate::supervisor::Lease;

/// Longest line in bytes.
const LINE_BYTES_MAX: usize = 1 << 20;
/// How much is read at once, in bytes.
const READ_BYTES: usize = 64 << 10;

/// What `events` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate --json events -f")]
pub(crate) struct EventsArgs {
    /// Go on with new events until the project stops
    #[arg(short, long)]
    follow: bool,
}

/// Shows the log. Its lines are allegations; `verify` replays the log inside evidence against the hardware.
pub(crate) fn run(global: &Global, args: &EventsArgs) -> Outcome {
    let project = Project::find(global)?;
    let mut log = Log::open(&project)?;
    loop {
        // Asked before the last look, so that nothing is missed.
        let goes_on = args.follow && !lines::output_ended() && Lease::take(&project)?.is_none();
        log.show_new(global)?;
        if !goes_on {
            break;
        }
        std::thread::sleep(POLL);
        if log.was_begun_anew() {
            log = Log::open(&project)?;
        }
    }
    log.ends_whole()?;
    if !global.json {
        lines::print(format!("{} events, log head {}", log.head.count, log.head.head));
    }
    Ok(0)
}

/// The log file, read so far.
struct Log {
    path: PathBuf,
    file: File,
    read_bytes: u64,
    /// The beginning of a line whose end is not there yet.
    partial: Vec<u8>,
    head: LogHead,
    number: usize,
}

impl Log {
    fn open(project: &Project) -> Outcome<Self> {
        let path = project.events();
        let file = File::open(&path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                return project.never_run();
            }
            Failure::input(format!("{}: {error}", path.display()), "start the project with `casemate up`")
        })?;
        Ok(Self { path, file, read_bytes: 0, partial: Vec::new(), head: LogHead::EMPTY, number: 0 })
    }

    /// Another box has begun, and cut the file.
    fn was_begun_anew(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.len() < self.read_bytes)
    }

    fn show_new(&mut self, global: &Global) -> Outcome<()> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = self.file.read(&mut buffer).map_err(|error| self.bad(&error.to_string()))?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
            self.read_bytes = self.read_bytes.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            self.partial.extend_from_slice(bytes);
            while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
                let rest = self.partial.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.partial, rest);
                line.pop();
                self.show(global, &line)?;
            }
            if self.partial.len() > LINE_BYTES_MAX {
                return Err(self.bad("line is too long"));
            }
        }
    }

    fn show(&mut self, global: &Global, line: &[u8]) -> Outcome<()> {
        self.number = self.number.saturating_add(1);
        if self.number > EVENTS_MAX {
            return Err(self.bad("more events than a log can have"));
        }
        let event: Event =
            serde_json::from_slice(line).map_err(|error| self.bad(&format!("not an event: {error}")))?;
        let digest = event.digest().map_err(|error| self.bad(&error.to_string()))?;
        self.head = self.head.extended(&digest);
        lines::print(if global.json { lines::printable(line) } else { describe(self.number, &event) });
        Ok(())
    }

    fn ends_whole(&mut self) -> Outcome<()> {
        self.number = self.number.saturating_add(1);
        if self.partial.is_empty() { Ok(()) } else { Err(self.bad("line is cut off or too long")) }
    }

    fn bad(&self, what: &str) -> Failure {
        Failure::input(
            format!("{}:{}:1: {what}", self.path.display(), self.number),
            "start the project anew with `casemate up`",
        )
    }
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
        Event::PostureChanged { check, verdict, observed } => {
            format!("posture changed      {check} {}: {observed}", verdict.name())
        }
        Event::AgentPaused { agent, instance } => format!("agent paused         {agent} #{instance}"),
        Event::AgentResumed { agent, instance } => format!("agent resumed        {agent} #{instance}"),
        Event::AgentTainted { agent, by } => format!("agent tainted        {agent} by {by}"),
        Event::AgentProbed { agent, program } => format!("agent probed         {agent} by {program}"),
    };
    lines::printable(format!("{number:4}  {text}").as_bytes())
}
