//! `casemate kill`: sends a signal to agents of a running box.

use casemate_composition::lock::AgentName;
use casemate_composition::order::signal_number;
use casemate_protocol::lifecycle::Action;
use clap::Args;

use crate::cli::Global;
use crate::failure::Outcome;
use crate::orders::simple;

/// What `kill` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate kill -s HUP researcher",
    after_help = "After SIGKILL and after its own `stop_signal`, an agent that ends does not start again by itself"
)]
pub(crate) struct KillArgs {
    /// Which signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL", value_parser = signal)]
    signal: i32,
    /// Which agents [default: all that run]
    #[arg(value_name = "AGENT")]
    agents: Vec<AgentName>,
}

/// Sends the signal.
pub(crate) fn run(global: &Global, args: &KillArgs) -> Outcome {
    let done = format!("has signal {}", args.signal);
    simple(global, &args.agents, Action::Kill { signal: args.signal }, (&done, "did not run"))
}

fn signal(text: &str) -> Result<i32, String> {
    signal_number(text).ok_or_else(|| "write a signal such as TERM, SIGHUP or 10".to_owned())
}
