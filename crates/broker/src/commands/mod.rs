//! The subcommands, one file each.

mod log;
mod secret;
mod serve;

use std::process::ExitCode;

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;

/// Runs what the command line asks for.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    match arguments.command {
        Command::Serve(serve) => serve::run(&serve),
        Command::Secret { state, action } => secret::run(&state.dir, action),
        Command::Log { state, json } => log::run(&state.dir, json),
    }
}
