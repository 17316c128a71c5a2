//! `casemate-emulator`: a development stand-in for the guest interfaces of a confidential VM.
//!
//! What it is: a FUSE file system with the semantics of Linux configfs-tsm and of the TDX measurement registers, whose
//! reports are correctly signed under a development PKI. What it is not: protection of anything; every report it makes
//! is simulated. Who trusts it: nobody but a policy that names its development root.

mod arguments;
mod files;
mod launch;
mod outputs;
mod platform;
mod run;
mod tree;
mod tsm;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match run::run(&arguments::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}\n  {}", failure.what_to_do());
            ExitCode::from(2)
        }
    }
}
