//! `casemate completions`: a completion script.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::Outcome;

/// What `completions` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate completions bash > /etc/bash_completion.d/casemate")]
pub(crate) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run<C: CommandFactory>(args: &CompletionsArgs) -> Outcome {
    clap_complete::generate(args.shell, &mut C::command(), "casemate", &mut std::io::stdout());
    Ok(0)
}
