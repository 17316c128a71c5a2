//! `casemate attach`: what an agent prints from now on, and its standard input where it has one.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use casemate_composition::lock::AgentName;
use casemate_protocol::inside::InsideRequest;
use clap::Args;

use crate::cli::Global;
use crate::failure::{Failure, Outcome};
use crate::follow::{Follower, LineStyle, POLL, Shown, Wanted};
use crate::inputs;
use crate::inside;
use crate::lines;
use crate::project::Project;
use crate::replicas::{self, IndexOption};
use crate::supervisor::Lease;

/// What `attach` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate attach planner",
    after_help = "Output is the agent's log, line by line, of all its starts. Where the Compose file says `stdin_open: \
        true`, standard input is passed on, which taints the agent as `exec` does; with --no-stdin nothing is, and nothing \
        is tainted. Ctrl-C ends `attach` and not the agent; so does the end of standard input, and the agent's own input \
        stays open.\n\nWhere it says `tty: true` as well, this is the agent's terminal: every key goes to it, Ctrl-C among \
        them, and it has the size of yours. Ctrl-P Ctrl-Q leaves it."
)]
pub(crate) struct AttachArgs {
    /// Show output alone
    #[arg(long)]
    no_stdin: bool,
    #[command(flatten)]
    index: IndexOption,
    /// Which agent
    agent: AgentName,
}

/// Attaches.
pub(crate) fn run(global: &Global, args: &AttachArgs) -> Outcome {
    let project = Project::find(global)?;
    let agent = replicas::indexed(&project, &args.agent, args.index)?;
    let lock = inputs::read_lock(&project.lock_file())?;
    let entry = lock.agents.get(&agent);
    let reads = entry.is_some_and(|entry| entry.stdin_open);
    if reads && !args.no_stdin && !global.json && entry.is_some_and(|entry| entry.tty) {
        return terminal(&project, &agent);
    }
    let wanted = Wanted { tail: Some(0), ..Wanted::default() };
    let style =
        if global.json { LineStyle::Json } else { LineStyle::Text { prefix: Shown::No, times: Shown::No } };
    let mut follower = Follower::new(&project, std::slice::from_ref(&agent), wanted, style);
    let over = Arc::new(AtomicBool::new(false));
    if reads && !args.no_stdin {
        let request = InsideRequest::Attach { agent };
        let (_visit, streams) = inside::begin(&project, request)?;
        let input = streams.input.ok_or_else(crate::control::unexpected_reply)?;
        let over = Arc::clone(&over);
        std::thread::spawn(move || {
            let (mut piece, mut input) = (vec![0; 4096], File::from(input));
            while let Ok(count @ 1..) = std::io::stdin().read(&mut piece) {
                if input.write_all(piece.get(..count).unwrap_or_default()).is_err() {
                    break;
                }
            }
            over.store(true, Ordering::Release);
        });
    } else {
        crate::control::ask(&project, &casemate_protocol::control::ControlRequest::Status)?;
        lines::note(format!("{} reads no input: this shows its output alone", agent));
    }
    while !over.load(Ordering::Acquire) && !lines::output_ended() {
        follower.print_new();
        if Lease::take(&project)?.is_some() {
            let what = format!("project {} has stopped", project.name);
            return Err(Failure::environment(what, "start it again with `casemate up`"));
        }
        std::thread::sleep(POLL);
    }
    follower.print_new();
    Ok(0)
}

/// The agent's own terminal.
fn terminal(project: &Project, agent: &AgentName) -> Outcome {
    let (_visit, streams) = inside::begin(project, InsideRequest::Attach { agent: agent.clone() })?;
    if inside::watch(streams)? == inside::Left::Agent {
        lines::note(format!("{} has ended, or starts again: its terminal is gone", agent));
    }
    Ok(0)
}
