//! The command line: which subcommands there are, and what they share.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::commands::{
    attach, attest, bundle, completions, config, cp, doctor, down, ear, edges, events, exec, image, init,
    kill, lock, logs, pause, plan, policy, port, posture, probe, ps, restart, run, secret, start, stats,
    stop, top, up, verify, wait, why,
};
use crate::failure::{EXIT_CODES, Failure, Outcome};
use crate::hints;
use crate::preflight;
use crate::supervisor;

/// A command line without a command is answered with the help.
const HELP_FOR_LACK_OF_A_COMMAND: ErrorKind = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

/// Runs agents that do not trust each other in one confidential VM, each attested as itself.
#[derive(Parser)]
#[command(
    name = "casemate",
    version,
    before_help = "Example: casemate init --yes && casemate image import localhost/python:1 --tar rootfs.tar \
        && casemate policy write && casemate up",
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
    /// Compose file, before the command; repeat it to lay one over another [default: COMPOSE_FILE, or compose.yaml,
    /// compose.yml or docker-compose.yaml/.yml in this folder, and compose.override.yaml over it]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,
    /// File of variables for the Compose file; of several, later ones win [default: .env beside the Compose file]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) env_file: Vec<PathBuf>,
    /// Activate a profile; repeat for each, `*` for all [default: COMPOSE_PROFILES]
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) profile: Vec<String>,
    /// Folder that relative paths start from and no path leaves [default: that of the first Compose file]
    #[arg(long, value_name = "FOLDER", global = true)]
    pub(crate) project_directory: Option<PathBuf>,
    /// Project name [default: COMPOSE_PROJECT_NAME, else `name:` of the Compose file, else its folder]
    #[arg(short, long, value_name = "NAME", global = true)]
    pub(crate) project: Option<String>,
    /// Answer in JSON: config, lock, plan, image, up, down, start, stop, restart, kill, pause, unpause, wait, ps, port, logs, stats, top, cp, probe, verify, ear verify, bundle, why, edges, allow, deny, events, doctor, posture; evidence is JSON always
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Write a Compose file to start from
    Init(init::InitArgs),
    /// Show the composition as it is understood, all files merged
    Config(config::ConfigArgs),
    /// Resolve the Compose file into `compose.lock`
    Lock(lock::LockArgs),
    /// Show what `up` would change, and what the policy would say to it
    Plan(plan::PlanArgs),
    /// Write the appraisal policy
    Policy(policy::PolicyArgs),
    /// Put, list and remove secrets at the project's broker
    Secret(secret::SecretArgs),
    /// Pull, import, list, inspect and remove images
    Image(image::ImageArgs),
    /// Start all agents and show how
    Up(up::UpArgs),
    /// Stop all agents and everything that serves them
    Down(down::DownArgs),
    /// Start agents of a running box
    Start(start::StartArgs),
    /// Stop agents, and leave them in the box
    Stop(stop::StopArgs),
    /// Stop agents and start them again
    Restart(restart::RestartArgs),
    /// Send a signal to agents
    Kill(kill::KillArgs),
    /// Let agents stand still
    Pause(pause::PauseArgs),
    /// Let paused agents go on
    Unpause(pause::UnpauseArgs),
    /// Wait until agents have ended, for their exit status
    Wait(wait::WaitArgs),
    /// Show the agents, their state and their controls
    Ps(ps::PsArgs),
    /// Show where the box listens for an agent
    Port(port::PortArgs),
    /// Show what agents wrote
    Logs(logs::LogsArgs),
    /// Run a command in an agent, which taints it
    Exec(exec::ExecArgs),
    /// Run a service with another command, in a box of its own
    Run(run::RunArgs),
    /// Show what an agent writes, and write to it, which taints it
    Attach(attach::AttachArgs),
    /// Copy files into an agent or out of it, which taints it
    Cp(cp::CpArgs),
    /// Show what agents use
    Stats(stats::StatsArgs),
    /// Show the processes of an agent
    Top(top::TopArgs),
    /// Try attacks from one agent on another, in compartments like theirs
    Probe(probe::ProbeArgs),
    /// Bring evidence about one agent
    Attest(attest::AttestArgs),
    /// Appraise evidence, offline
    Verify(verify::VerifyArgs),
    /// Make keys for signed results, and check signed results
    Ear(ear::EarArgs),
    /// Make, sign and show the file of endorsements that `verify` and the broker use
    Bundle(bundle::BundleArgs),
    /// Explain why an agent may or may not reach an endpoint
    Why(why::WhyArgs),
    /// Show who may call whom, within which limits, and what passed
    Edges(edges::EdgesArgs),
    /// Open an edge of a running box, until the box ends
    Allow(edges::JudgeArgs),
    /// Close an edge of a running box and end its connections, until the box ends
    Deny(edges::DenyArgs),
    /// Look at the machine and the box: what is open, who vouches for it, what to do
    Doctor(doctor::DoctorArgs),
    /// Show what separates agents, what evidence covers, what the host can do, what agents share
    Posture(posture::PostureArgs),
    /// Show the event log
    Events(events::EventsArgs),
    /// Write a completion script for a shell
    Completions(completions::CompletionsArgs),
    #[command(hide = true)]
    BoxSupervisor(supervisor::SupervisorArgs),
    #[command(hide = true)]
    BoxChild(supervisor::ChildArgs),
    #[command(hide = true)]
    BoxPreflight,
}

/// Reads the command line and does what it says.
pub(crate) fn run() -> Outcome {
    let Cli { global, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version; nothing is to be said about them that clap does not say.
        Err(error) if !error.use_stderr() || error.kind() == HELP_FOR_LACK_OF_A_COMMAND => error.exit(),
        Err(error) => {
            let words = std::env::args_os().filter_map(|word| word.into_string().ok());
            return Err(unusable(&error.render().to_string(), words));
        }
    };
    match command {
        Command::Init(args) => init::run(&global, &args),
        Command::Config(args) => config::run(&global, &args),
        Command::Lock(args) => lock::run(&global, &args),
        Command::Plan(args) => plan::run(&global, &args),
        Command::Policy(args) => policy::run(&global, args),
        Command::Secret(args) => secret::run(&global, args),
        Command::Image(args) => image::run(&global, args),
        Command::Up(args) => up::run(&global, &args),
        Command::Down(args) => down::run(&global, &args),
        Command::Start(args) => start::run(&global, &args),
        Command::Stop(args) => stop::run(&global, &args),
        Command::Restart(args) => restart::run(&global, &args),
        Command::Kill(args) => kill::run(&global, &args),
        Command::Pause(args) => pause::pause(&global, &args),
        Command::Unpause(args) => pause::unpause(&global, &args),
        Command::Wait(args) => wait::run(&global, &args),
        Command::Ps(args) => ps::run(&global, &args),
        Command::Port(args) => port::run(&global, &args),
        Command::Logs(args) => logs::run(&global, &args),
        Command::Exec(args) => exec::run(&global, &args),
        Command::Run(args) => run::run(&global, &args),
        Command::Attach(args) => attach::run(&global, &args),
        Command::Cp(args) => cp::run(&global, &args),
        Command::Stats(args) => stats::run(&global, &args),
        Command::Top(args) => top::run(&global, &args),
        Command::Probe(args) => probe::run(&global, &args),
        Command::Attest(args) => attest::run(&global, &args),
        Command::Verify(args) => verify::run(&global, &args),
        Command::Ear(args) => ear::run(&global, &args),
        Command::Bundle(args) => bundle::run(&global, &args),
        Command::Why(args) => why::run(&global, &args),
        Command::Edges(args) => edges::run(&global, &args),
        Command::Allow(args) => edges::allow(&global, &args),
        Command::Deny(args) => edges::deny(&global, &args),
        Command::Doctor(args) => doctor::run(&global, &args),
        Command::Posture(args) => posture::run(&global, &args),
        Command::Events(args) => events::run(&global, &args),
        Command::Completions(args) => completions::run::<Cli>(&args),
        Command::BoxSupervisor(args) => supervisor::run(args),
        Command::BoxChild(args) => supervisor::child(args),
        Command::BoxPreflight => preflight::try_all(),
    }
}

/// What clap says of a command line, in two lines: its first paragraph, and its tip or where to look.
fn unusable(said: &str, mut words: impl Iterator<Item = String>) -> Failure {
    let joined = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let what = said.split("\n\n").next().unwrap_or(said).trim_start_matches("error: ");
    let is_command = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
    let command = match said.lines().find_map(|line| line.strip_prefix("Usage: ")) {
        Some(usage) => usage.split_whitespace().take_while(is_command).collect::<Vec<_>>().join(" "),
        None => words
            .find(|word| Cli::command().find_subcommand(word).is_some())
            .map_or_else(|| "casemate".to_owned(), |word| format!("casemate {word}")),
    };
    // What it is about stands between the first quotes.
    let about = what.split('\'').nth(1).unwrap_or_default();
    let hint = if what.starts_with("unrecognized subcommand") {
        hints::of_command(about)
    } else if what.starts_with("unexpected argument") {
        hints::of_flag(command.strip_prefix("casemate ").unwrap_or_default(), about)
    } else {
        None
    };
    let todo = if let Some(hint) = hint {
        hint.to_owned()
    } else if matches!(about, "-f" | "--file") {
        "name the Compose file before the command: `casemate -f FILE COMMAND`".to_owned()
    } else {
        let tip = said.lines().find_map(|line| line.trim_start().strip_prefix("tip: "));
        tip.map_or_else(String::new, |tip| format!("{tip}; ")) + &format!("see `{command} --help`")
    };
    Failure::input(joined(what), todo)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(arguments: &[&str]) -> String {
        let words = || std::iter::once("casemate").chain(arguments.iter().copied()).map(str::to_owned);
        let error = Cli::try_parse_from(words()).err().unwrap();
        unusable(&error.render().to_string(), words()).to_string()
    }

    #[test]
    fn an_unusable_command_line_is_two_lines() {
        assert_eq!(
            refused(&["up", "-f", "x"]),
            "error: unexpected argument '-f' found\n\
             to do: name the Compose file before the command: `casemate -f FILE COMMAND`\n"
        );
        assert_eq!(
            refused(&["upp"]),
            "error: unrecognized subcommand 'upp'\n\
             to do: a similar subcommand exists: 'up'; see `casemate --help`\n"
        );
        assert_eq!(
            refused(&["attest", "a"]),
            "error: the following required arguments were not provided: --nonce <NONCE>\n\
             to do: see `casemate attest --help`\n"
        );
        assert!(refused(&["up", "--platform", "x"]).ends_with("to do: see `casemate up --help`\n"));
        assert_eq!(refused(&["up", "--wait-timeout", "\u{1b}[2J"]).lines().count(), 2);
    }

    #[test]
    fn words_of_compose_are_answered_with_what_does_it_here() {
        let to_do = |arguments: &[&str]| {
            let said = refused(arguments);
            said.split_once("\nto do: ").unwrap().1.trim_end().to_owned()
        };
        assert!(to_do(&["up", "--build"]).contains("casemate image import"));
        assert!(to_do(&["up", "-d", "--dry-run"]).contains("casemate plan"));
        assert!(to_do(&["ps", "--services"]).contains("casemate ps -q"));
        assert!(to_do(&["--project-name", "x", "ps"]).contains("-p NAME"));
        assert!(to_do(&["ps", "--filter=status=running"]).contains("--status"));
        assert!(to_do(&["build"]).contains("casemate image import"));
        assert!(to_do(&["up", "--nonsense"]).contains("casemate up --help"));
    }

    /// What a hint is about is not there, and what it names is.
    #[test]
    fn no_hint_is_stale() {
        let cli = Cli::command();
        let takes = |command: &clap::Command, flag: &str| {
            command.get_arguments().any(|argument| {
                argument.get_long().is_some_and(|long| flag == format!("--{long}"))
                    || argument.get_short().is_some_and(|short| flag == format!("-{short}"))
            })
        };
        let (flags, commands) = hints::all();
        for (of, flag, _) in flags {
            let all = cli.get_subcommands().filter(|command| of.is_empty() || command.get_name() == *of);
            let all: Vec<_> = all.collect();
            assert!(!all.is_empty(), "{of}");
            assert!(!all.iter().any(|command| takes(command, flag)) && !takes(&cli, flag), "{of} {flag}");
        }
        for (command, _) in commands {
            assert!(cli.find_subcommand(command).is_none(), "{command}");
        }
        let hints = flags.iter().map(|(_, _, hint)| hint).chain(commands.iter().map(|(_, hint)| hint));
        for named in hints.flat_map(|hint| hint.split("casemate ").skip(1)) {
            let word = named.split([' ', '`', ';']).next().unwrap_or_default();
            assert!(word.starts_with('-') || cli.find_subcommand(word).is_some(), "{named}");
        }
    }

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
