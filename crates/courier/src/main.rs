//! `casemate-courier`: talks to the broker for the warden, without privilege, key or secret.
//!
//! What it is: a relay between the warden's socket and a broker's TLS port, session by session. What it is not: a
//! judge or a holder of anything. Who trusts it: nobody; the warden takes only bounded messages from it.

mod arguments;
mod courier;
mod frames;
mod isolate;
mod session;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(ansi).with_target(false).init();
    let arguments = arguments::Arguments::parse();
    match courier::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            error.exit_code()
        }
    }
}
