//! `casemate restart`: ends agents of a running box and starts them again.

use casemate_composition::lock::AgentName;
use casemate_protocol::lifecycle::Action;
use clap::Args;

use super::start::StartOptions;
use super::stop::Grace;
use crate::cli::Global;
use crate::failure::Outcome;
use crate::orders::{order, tell, until_interrupted, within};
use crate::project::Project;
use crate::replicas;

/// What `restart` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate restart --wait researcher")]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    grace: Grace,
    #[command(flatten)]
    how: StartOptions,
    /// Which agents, and with them those whose `depends_on` says `restart: true` [default: all]
    #[arg(value_name = "AGENT")]
    agents: Vec<AgentName>,
}

/// Restarts agents: each is a new instance, measured, appraised and given its secrets anew.
pub(crate) fn run(global: &Global, args: &RestartArgs) -> Outcome {
    let project = Project::find(global)?;
    let agents = replicas::named(&project, &args.agents)?;
    let action = Action::Restart {
        grace_ms: args.grace.ms(),
        dependencies: args.how.dependencies(),
        until: args.how.until(),
    };
    let started = order(&project, &agents, action, None);
    let changed = until_interrupted(within(args.how.wait_timeout, started))?;
    tell(global, &changed, ("started anew", "runs already"));
    Ok(0)
}
