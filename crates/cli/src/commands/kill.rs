//! `casemate kill`: sends a signal to agents of a running box.

use casemate_composition::lock::AgentName;
use casemate_composition::order::signal_number;
use casemate_protocol::lifecycle::Action;
use clap::Args;

use crate::cli::Global;
use crate::failure::Outcome;
use crate::lines;
use crate::orders::{order, tell, until_interrupted};
use crate::project::Project;
use crate::replicas;

/// What `kill` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate kill -s HUP researcher",
    after_help = "After SIGKILL and after its own `stop_signal`, an agent that ends does not start again by itself"
)]
pub(crate) struct KillArgs {
    /// Which signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL", value_parser = signal)]
    signal: Signal,
    /// Which agents [default: all that run]
    #[arg(value_name = "AGENT")]
    agents: Vec<AgentName>,
}

/// A signal, and how it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Signal {
    number: i32,
    name: String,
}

/// Sends the signal.
pub(crate) fn run(global: &Global, args: &KillArgs) -> Outcome {
    let project = Project::find(global)?;
    let agents = replicas::named(&project, &args.agents)?;
    let Signal { number, name } = &args.signal;
    let changed = until_interrupted(order(&project, &agents, Action::Kill { signal: *number }, None))?;
    if global.json {
        tell(global, &changed, ("", ""));
    } else {
        changed.keys().for_each(|agent| lines::print(format!("sent {name} to {agent}")));
    }
    Ok(0)
}

fn signal(text: &str) -> Result<Signal, String> {
    let number = signal_number(text).ok_or_else(|| "write a signal such as TERM, SIGHUP or 10".to_owned())?;
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    Ok(Signal { number, name: if is_number { format!("signal {number}") } else { name.to_owned() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_called_by_its_name_where_one_was_given() {
        for (text, number, name) in [("SIGHUP", 1, "HUP"), ("TERM", 15, "TERM"), ("10", 10, "signal 10")] {
            assert_eq!(signal(text), Ok(Signal { number, name: name.to_owned() }));
        }
        assert!(signal("NOSUCH").is_err());
    }
}
