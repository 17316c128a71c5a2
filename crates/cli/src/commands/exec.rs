//! `casemate exec`: a command in an agent's compartment, confined as the agent is. It taints the agent.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use casemate_composition::lock::AgentName;
use casemate_protocol::inside::{ExecRequest, InsideRequest};
use clap::Args;

use crate::cli::Global;
use crate::failure::{EXIT_CODES_OF_ANOTHER, Failure, Outcome};
use crate::inside::{self, Relay, window_of_stdin};
use crate::project::Project;
use crate::replicas::{self, IndexOption};

/// What `exec` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate exec -it researcher sh",
    after_help = format!("The command has what the agent has: the same file system, limits and rules, no network but the agent's \
        edges. It sees and signals its own processes alone: those of the agent are in `casemate top`. It taints the agent: `ps`, the event log and each later token say that something ran in it that the \
        composition does not name, and policies refuse that unless they say `allow-tainted`. `x-casemate: {{ exec: deny }}` \
        in the Compose file forbids it.\n\n{EXIT_CODES_OF_ANOTHER}")
)]
pub(crate) struct ExecArgs {
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal of its own
    #[arg(short, long)]
    tty: bool,
    /// No terminal: the default
    #[arg(short = 'T', long, conflicts_with = "tty")]
    no_tty: bool,
    /// User inside, as numbers [default: the agent's, with its groups]
    #[arg(short, long, value_name = "UID[:GID]", value_parser = user)]
    user: Option<(u32, u32)>,
    /// Working directory inside [default: the agent's]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// A variable besides the agent's; repeat for each
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    #[command(flatten)]
    index: IndexOption,
    /// In which agent
    agent: AgentName,
    /// Program and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) fn user(text: &str) -> Result<(u32, u32), String> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    let id = |text: &str| text.parse::<u32>().ok().filter(|id| *id < casemate_sys::spec::ID_RANGE);
    id(uid).zip(id(gid)).ok_or_else(|| "write UID or UID:GID, numbers below 65536".to_owned())
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// Runs the command.
pub(crate) fn run(global: &Global, args: &ExecArgs) -> Outcome {
    let begun = || {
        let project = Project::find(global)?;
        let agent = replicas::indexed(&project, &args.agent, args.index)?;
        let terminal = match (args.tty, args.interactive) {
            (false, _) => None,
            (true, true) => Some(window_of_stdin().ok_or_else(|| {
                Failure::input("standard input is no terminal", "leave out -t, or run it in a terminal")
            })?),
            (true, false) => {
                let size = inside::window(std::io::stdout());
                Some(size.unwrap_or(casemate_sys::terminal::Size { rows: 24, columns: 80 }))
            }
        };
        let mut environment: BTreeMap<String, String> = args.env.iter().cloned().collect();
        if let (true, Ok(kind)) = (args.tty && std::io::stdout().is_terminal(), std::env::var("TERM")) {
            environment.entry("TERM".into()).or_insert(kind);
        }
        let request = InsideRequest::Exec(ExecRequest {
            agent,
            command: args.command.clone(),
            user: args.user,
            working_dir: args.workdir.clone(),
            environment,
            input: args.interactive && !args.tty,
            terminal: terminal.map(|size| (size.rows, size.columns)),
        });
        inside::begin(&project, request)
    };
    let (visit, mut streams) = begun().map_err(Failure::before_the_command)?;
    let how = match (&streams.terminal, args.interactive) {
        (Some(master), true) => {
            streams.input = master.try_clone().ok();
            Relay::Terminal
        }
        _ => Relay::Plain,
    };
    inside::relay(&visit, streams, how)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers_inside_the_agents_range() {
        assert_eq!(user("7"), Ok((7, 7)));
        assert_eq!(user("0:65535"), Ok((0, 65535)));
        for bad in ["", "root", "1:", ":1", "65536", "-1", "1:2:3"] {
            assert!(user(bad).is_err(), "{bad}");
        }
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(variable("A").is_err() && variable("=b").is_err());
    }
}
