//! `casemate stop`: ends agents of a running box. They stay in the composition, and `start` starts them again.

use casemate_composition::lock::AgentName;
use casemate_protocol::lifecycle::Action;
use clap::Args;

use crate::cli::Global;
use crate::failure::Outcome;
use crate::orders::simple;

/// What `stop` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate stop -t 5 researcher")]
pub(crate) struct StopArgs {
    #[command(flatten)]
    grace: Grace,
    /// Which agents [default: all]
    #[arg(value_name = "AGENT")]
    agents: Vec<AgentName>,
}

/// How long an agent has to end.
#[derive(Args, Debug, Clone)]
pub(crate) struct Grace {
    /// Seconds each agent has before it is killed [default: its own `stop_grace_period`]
    #[arg(short, long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
    timeout: Option<u64>,
}

impl Grace {
    /// In milliseconds.
    pub(crate) fn ms(&self) -> Option<u64> {
        self.timeout.map(|seconds| seconds.saturating_mul(1000))
    }
}

/// Stops agents: nobody before those that depend on it. No restart policy starts them again.
pub(crate) fn run(global: &Global, args: &StopArgs) -> Outcome {
    simple(global, &args.agents, Action::Stop { grace_ms: args.grace.ms() }, ("stopped", "did not run"))
}
