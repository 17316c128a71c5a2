//! The command line: which subcommands there are, and what they share.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    attest, completions, down, events, image, init, lock, logs, policy, ps, secret, up, verify, why,
};
use crate::failure::{EXIT_CODES, Outcome};
use crate::supervisor;

/// Runs agents that do not trust each other in one confidential VM, each attested as itself.
#[derive(Parser)]
#[command(
    name = "casemate",
    version,
    before_help = "Example: casemate init && casemate image import NAME --tar rootfs.tar && casemate policy write && casemate up",
    after_help = EXIT_CODES,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What all subcommands take.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// Compose file [default: compose.yaml in this folder]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Project name [default: `name:` of the Compose file, else its folder]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) project: Option<String>,
    /// Answer in JSON where the command has an answer
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Write an example Compose file to start from
    Init(init::InitArgs),
    /// Resolve the Compose file into `casemate.lock`
    Lock(lock::LockArgs),
    /// Write the appraisal policy
    Policy(policy::PolicyArgs),
    /// Put, list and remove secrets at the project's broker
    Secret(secret::SecretArgs),
    /// Import, list and remove images
    Image(image::ImageArgs),
    /// Start all agents and show how
    Up(up::UpArgs),
    /// Stop all agents and everything that serves them
    Down(down::DownArgs),
    /// Show the agents, their state and their controls
    Ps(ps::PsArgs),
    /// Show what agents wrote
    Logs(logs::LogsArgs),
    /// Bring evidence about one agent
    Attest(attest::AttestArgs),
    /// Appraise evidence, offline
    Verify(verify::VerifyArgs),
    /// Explain why an agent may or may not reach an endpoint
    Why(why::WhyArgs),
    /// Show the event log
    Events(events::EventsArgs),
    /// Write a completion script for a shell
    Completions(completions::CompletionsArgs),
    #[command(hide = true)]
    BoxSupervisor(supervisor::SupervisorArgs),
    #[command(hide = true)]
    BoxChild(supervisor::ChildArgs),
}

/// Reads the command line and does what it says.
pub(crate) fn run() -> Outcome {
    let Cli { global, command } = Cli::parse();
    match command {
        Command::Init(args) => init::run(&global, &args),
        Command::Lock(args) => lock::run(&global, &args),
        Command::Policy(args) => policy::run(&global, args),
        Command::Secret(args) => secret::run(&global, args),
        Command::Image(args) => image::run(&global, args),
        Command::Up(args) => up::run(&global, &args),
        Command::Down(args) => down::run(&global, &args),
        Command::Ps(args) => ps::run(&global, &args),
        Command::Logs(args) => logs::run(&global, &args),
        Command::Attest(args) => attest::run(&global, &args),
        Command::Verify(args) => verify::run(&global, &args),
        Command::Why(args) => why::run(&global, &args),
        Command::Events(args) => events::run(&global, &args),
        Command::Completions(args) => completions::run::<Cli>(&args),
        Command::BoxSupervisor(args) => supervisor::run(args),
        Command::BoxChild(args) => supervisor::child(args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_text_starts_with_an_example() {
        for command in Cli::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            let before = command.get_before_help().map(ToString::to_string).unwrap_or_default();
            assert!(before.starts_with("Example: casemate "), "{}", command.get_name());
        }
    }
}
