//! The command line.

use std::path::PathBuf;

/// Talks to the broker for the warden. Started by the warden, not by people.
#[derive(Debug, clap::Parser)]
#[command(name = "casemate-courier", version)]
pub(crate) struct Arguments {
    /// Inherited stream socket to the warden.
    #[arg(long, value_name = "N")]
    pub(crate) socket_fd: i32,
    /// User and group id to become; it is started with root, as it may lie where only root can reach.
    #[arg(long, value_name = "N")]
    pub(crate) uid: Option<u32>,
    /// The broker: https://HOST:PORT.
    #[arg(long, value_name = "URL")]
    pub(crate) broker: String,
    /// The broker's certificate: the only one that is trusted.
    #[arg(long, value_name = "PEM")]
    pub(crate) broker_cert: PathBuf,
}
