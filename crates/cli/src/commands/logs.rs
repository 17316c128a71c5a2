//! `casemate logs`: what agents wrote.

use casemate_composition::lock::AgentName;
use clap::Args;

use crate::cli::Global;
use crate::failure::Outcome;
use crate::follow::{Follower, LineStyle, POLL, chosen_agents};
use crate::lines;
use crate::project::Project;
use crate::supervisor::Lease;

/// What `logs` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate logs -f --tail 20 researcher")]
pub(crate) struct LogsArgs {
    /// Go on with new lines until the project stops
    #[arg(short, long)]
    follow: bool,
    /// Only this many lines of each agent
    #[arg(long, short = 'n', value_name = "N")]
    tail: Option<usize>,
    /// Only these agents
    #[arg(value_name = "AGENT")]
    agents: Vec<AgentName>,
}

/// Prints logs.
pub(crate) fn run(global: &Global, args: &LogsArgs) -> Outcome {
    let project = Project::find(global)?;
    let agents = chosen_agents(&project, &args.agents)?;
    let mut follower = Follower::new(&project, &agents, args.tail, LineStyle::of(global));
    while follower.print_new() && !lines::output_ended() {}
    while args.follow && !lines::output_ended() && Lease::take(&project)?.is_none() {
        std::thread::sleep(POLL);
        follower.print_new();
    }
    follower.print_rest();
    Ok(0)
}
