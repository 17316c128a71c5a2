//! `casemate pause` and `casemate unpause`: agents stand still, and go on.

use casemate_composition::lock::AgentName;
use casemate_protocol::lifecycle::Action;
use clap::Args;

use crate::cli::Global;
use crate::failure::Outcome;
use crate::orders::simple;

/// What `pause` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate pause researcher",
    after_help = "The event log says when. Meanwhile health checks do not count, and there is no evidence about the agent"
)]
pub(crate) struct PauseArgs {
    /// Which agents [default: all that run]
    #[arg(value_name = "AGENT")]
    agents: Vec<AgentName>,
}

/// What `unpause` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate unpause researcher")]
pub(crate) struct UnpauseArgs {
    /// Which agents [default: all that run]
    #[arg(value_name = "AGENT")]
    agents: Vec<AgentName>,
}

/// Stops all processes of agents, in memory.
pub(crate) fn pause(global: &Global, args: &PauseArgs) -> Outcome {
    simple(global, &args.agents, Action::Pause, ("paused", "is paused already"))
}

/// Lets them go on.
pub(crate) fn unpause(global: &Global, args: &UnpauseArgs) -> Outcome {
    simple(global, &args.agents, Action::Unpause, ("goes on", "was not paused"))
}
