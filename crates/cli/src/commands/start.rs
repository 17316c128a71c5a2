//! `casemate start`: starts agents of a running box that do not run.

use casemate_composition::lock::AgentName;
use casemate_protocol::lifecycle::{Action, Dependencies, Until};
use clap::Args;

use crate::cli::Global;
use crate::failure::Outcome;
use crate::orders::{order, tell, until_interrupted, within};
use crate::project::Project;
use crate::replicas;

/// What `start` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate start researcher")]
pub(crate) struct StartArgs {
    #[command(flatten)]
    how: StartOptions,
    /// Which agents, and with them those that they depend on [default: all]
    #[arg(value_name = "AGENT")]
    agents: Vec<AgentName>,
}

/// How agents start, also after a stop.
#[derive(Args, Debug, Clone)]
pub(crate) struct StartOptions {
    /// Leave other agents as they are; what `depends_on` asks of them is still asked
    #[arg(long)]
    pub(crate) no_deps: bool,
    /// Return when the agents are healthy, not only when their programs run
    #[arg(long)]
    pub(crate) wait: bool,
    /// Seconds to wait; the agents go on starting after that
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    pub(crate) wait_timeout: u64,
}

impl StartOptions {
    /// Whether other agents are reached.
    pub(crate) const fn dependencies(&self) -> Dependencies {
        if self.no_deps { Dependencies::Leave } else { Dependencies::Follow }
    }

    /// When it is done.
    pub(crate) const fn until(&self) -> Until {
        if self.wait { Until::Healthy } else { Until::Running }
    }
}

/// Starts agents: each is a new instance, measured, appraised and given its secrets anew.
pub(crate) fn run(global: &Global, args: &StartArgs) -> Outcome {
    let project = Project::find(global)?;
    let agents = replicas::named(&project, &args.agents)?;
    let action = Action::Start { dependencies: args.how.dependencies(), until: args.how.until() };
    let started = order(&project, &agents, action, None);
    let changed = until_interrupted(within(args.how.wait_timeout, started))?;
    tell(global, &changed, ("started", "runs already"));
    Ok(0)
}
