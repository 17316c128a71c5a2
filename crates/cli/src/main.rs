//! `casemate`: the command. It resolves, starts, asks and shows; what matters is decided by the crates below it.

mod cli;
mod commands;
mod control;
mod failure;
mod follow;
mod inputs;
mod lines;
mod programs;
mod progress;
mod project;
mod supervisor;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(),
    }
}
