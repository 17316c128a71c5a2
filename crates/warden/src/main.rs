//! `casemate-warden`: the privileged supervisor in the box; part of what the hardware measures.
//!
//! What it is: a state machine that measures, launches, logs, answers per-agent sockets and delivers secrets. What
//! it is not: a network program. It parses no byte from the network; what the courier brings is a sealed blob of
//! bounded length. It waits on no agent. Who trusts it: every relying party, through the hardware's measurement.

mod agent;
mod agent_socket;
mod arguments;
mod change;
mod complaints;
mod control;
mod courier;
mod dependencies;
mod dial;
mod edges;
mod ending;
mod error;
mod evidence;
mod gateway;
mod guest;
mod health;
mod hooks;
mod inside;
mod log;
mod order;
mod output;
mod pace;
mod pause;
mod posture;
mod probe;
mod progress;
mod restart;
mod room;
mod roots;
mod secrets;
mod streams;
mod tail;
mod visits;
mod volumes;
mod world;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false).init();
    match world::run(arguments::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.explain(),
    }
}
