//! `casemate-gateway --socket-fd N`: the program around the library; the warden starts it.

use std::process::ExitCode;

use casemate_gateway::{Limits, process, serve};
use clap::Parser;

/// Carries every byte between agents and to the outside. Started by the warden.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Inherited descriptor of the `SOCK_SEQPACKET` socket to the warden.
    #[arg(long, value_name = "N")]
    socket_fd: i32,
    /// User and group to become; for a start as root.
    #[arg(long, value_name = "N")]
    uid: Option<u32>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let outcome = process::drop_privileges(arguments.uid)
        .and_then(|()| process::inherited_socket(arguments.socket_fd))
        .and_then(|control| {
            let limits = Limits::of_this_process();
            process::confine().and_then(|()| serve(control, limits))
        });
    outcome.map_or_else(|error| process::explain(&error), |()| ExitCode::SUCCESS)
}
