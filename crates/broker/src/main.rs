//! `casemate-broker`: verifies evidence, decides by policy, releases secrets, keeps a log.
//!
//! What it is: verifier and relying party outside the box, speaking the key-broker protocol 0.4 over TLS.
//! What it is not: a place of policy defaults: without nonce, expectation and policy nothing is accepted.
//! Who trusts it: the owners of the secrets.

mod api;
mod arguments;
mod attested;
mod clock;
mod commands;
mod failure;
mod inputs;
mod isolate;
mod keys;
mod server;
mod state_dir;
mod store;
mod tls;
mod vault;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(ansi).with_target(false).init();
    let arguments = arguments::Arguments::parse();
    match isolate::isolate().map_err(failure::Failure::from).and_then(|()| commands::run(arguments)) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
