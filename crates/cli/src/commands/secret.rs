//! `casemate secret`: the project's secrets at its broker. The broker's own program does it; this one sees no content.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use clap::{Args, Subcommand};

use crate::cli::Global;
use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::lines;
use crate::programs::Program;
use crate::project::{ComposeFile, Project};

/// What `secret` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate secret put api_token < token.txt")]
pub(crate) struct SecretArgs {
    #[command(subcommand)]
    command: SecretCommand,
}

#[derive(Subcommand, Debug)]
enum SecretCommand {
    /// Store a secret, read from standard input
    #[command(before_help = "Example: casemate secret put api_token < token.txt")]
    Put {
        /// Name in the Compose file
        name: String,
    },
    /// List the names
    #[command(before_help = "Example: casemate secret ls")]
    Ls,
    /// Remove a secret
    #[command(before_help = "Example: casemate secret rm api_token")]
    Rm {
        /// Name in the Compose file
        name: String,
    },
}

/// Becomes the broker's program.
pub(crate) fn run(global: &Global, args: SecretArgs) -> Outcome {
    let project = Project::find(global)?;
    project.create_dirs()?;
    inputs::make_dir(&project.broker())?;
    let mut arguments: Vec<OsString> = vec!["secret".into()];
    match args.command {
        SecretCommand::Put { name } => {
            arguments.extend(["put".into(), resource(&project, &name)?]);
            warn_where_nobody_gets(global, &project, &name);
        }
        SecretCommand::Ls => arguments.push("ls".into()),
        SecretCommand::Rm { name } => arguments.extend(["rm".into(), resource(&project, &name)?]),
    }
    arguments.extend(["--state".into(), project.broker().into()]);
    let program = Program::Broker.path()?;
    let error = Command::new(&program).args(arguments).exec();
    Err(Failure::environment(
        format!("{}: {error}", program.display()),
        "build all programs with `cargo xtask dist`",
    ))
}

/// Says so where the lock gives the secret to no agent: the name may be mistyped.
fn warn_where_nobody_gets(global: &Global, project: &Project, name: &str) {
    let Some(lock) = ComposeFile::find(global).ok().and_then(|file| inputs::read_lock_beside(&file)) else {
        return;
    };
    let resource = format!("{}/secret/{name}", project.name);
    if !lock.agents.values().flat_map(|agent| &agent.secrets).any(|secret| secret.resource == resource) {
        lines::note(format!("warning: compose.lock gives the secret `{name}` to no agent"));
        lines::note("to do: check the name; after a change of the Compose file, run `casemate lock`");
    }
}

fn resource(project: &Project, name: &str) -> Outcome<OsString> {
    let path = format!("{}/secret/{name}", project.name);
    if casemate_protocol::rcar::is_resource_path(&path) {
        return Ok(path.into());
    }
    Err(Failure::input(
        format!("`{}` is not a name of a secret", crate::failure::one_line(name)),
        "use letters, digits, `_`, `-` and `.`, not starting with `.`",
    ))
}
