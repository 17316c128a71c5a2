//! `casemate run`: refused, with what to do instead. A one-off command is in no composition, so nobody could appraise it.

use casemate_composition::lock::AgentName;
use casemate_protocol::Refusal;
use clap::Args;

use crate::failure::{Failure, Outcome};

/// What `run` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate run --rm planner python3 once.py",
    after_help = "It is always refused: a box runs what its composition names, and nothing else is measured, appraised or \
        given secrets. A command in an agent that runs is `casemate exec`, which taints the agent; a command with a \
        measurement of its own is a service of the Compose file."
)]
pub(crate) struct RunArgs {
    /// Remove the compartment afterwards, as Compose has it
    #[arg(long)]
    rm: bool,
    /// Of which agent
    agent: AgentName,
    /// Program and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Refuses, whatever runs.
pub(crate) fn run(args: &RunArgs) -> Outcome {
    let kept = if args.rm { "a one-off compartment" } else { "a further compartment" };
    let words = if args.command.is_empty() { "" } else { " with another command" };
    let refusal = Refusal::new(
        "composition.membership",
        "an agent of the composition, once",
        format!("{kept} of {}{words}", args.agent),
    );
    let todo = format!(
        "run it in the agent with `casemate exec {} COMMAND`, which taints it, or write it as a service of its own",
        args.agent
    );
    Err(Failure::refused("the box runs nothing that its composition does not name", refusal, todo))
}
