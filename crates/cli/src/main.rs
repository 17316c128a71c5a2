//! `casemate`: the command. It resolves, starts, asks and shows; what matters is decided by the crates below it.

mod cli;
mod commands;
mod composition;
mod control;
mod failure;
mod follow;
mod hints;
mod image_progress;
mod inputs;
mod inside;
mod lines;
mod orders;
mod preflight;
mod programs;
mod progress;
mod project;
mod replicas;
mod statement;
mod supervisor;
mod transfer;

use std::process::ExitCode;

use failure::{Failure, Kind};

fn main() -> ExitCode {
    match (cli::run(), lines::output_failure()) {
        (Ok(_) | Err(Failure { kind: Kind::Interrupted, .. }), Some(failure)) | (Err(failure), _) => {
            failure.report()
        }
        (Ok(code), None) => ExitCode::from(code),
    }
}
