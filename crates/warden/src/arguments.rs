//! The command line.

use std::path::PathBuf;

use casemate_composition::lock::AgentName;

/// Runs the agents of one box. Started by the box's init or by `casemate up`, as root.
#[derive(Debug, clap::Parser)]
#[command(name = "casemate-warden", version)]
pub(crate) struct Arguments {
    /// The composition: a `compose.lock`.
    #[arg(long, value_name = "FILE")]
    pub(crate) lock: PathBuf,
    /// Folder for logs, volumes, the event log and the control socket.
    #[arg(long, value_name = "DIR")]
    pub(crate) project_dir: PathBuf,
    /// Image store.
    #[arg(long, value_name = "DIR")]
    pub(crate) images: PathBuf,
    /// configfs-tsm report folder: /sys/kernel/config/tsm/report on hardware.
    #[arg(long, value_name = "DIR")]
    pub(crate) tsm: PathBuf,
    /// Runtime measurement registers: /sys/devices/virtual/misc/tdx_guest/measurements on TDX; required there.
    #[arg(long, value_name = "DIR")]
    pub(crate) measurements: Option<PathBuf>,
    /// The broker: https://HOST:PORT.
    #[arg(long, value_name = "URL")]
    pub(crate) broker: String,
    /// The broker's certificate, the only one that the courier trusts.
    #[arg(long, value_name = "PEM")]
    pub(crate) broker_cert: PathBuf,
    /// The launcher program.
    #[arg(long, value_name = "FILE")]
    pub(crate) launcher: PathBuf,
    /// The gateway program.
    #[arg(long, value_name = "FILE")]
    pub(crate) gateway: PathBuf,
    /// The courier program.
    #[arg(long, value_name = "FILE")]
    pub(crate) courier: PathBuf,
    /// The program of a backend that is not ours, as BACKEND=FILE: gvisor=/usr/bin/runsc.
    #[arg(long, value_name = "BACKEND=FILE")]
    pub(crate) backend_program: Vec<String>,
    /// A control that may be missing; evidence shows it.
    #[arg(long, value_name = "CONTROL")]
    pub(crate) allow_weaker: Vec<String>,
    /// An agent that starts with the box; repeat for each. Without one, all start.
    #[arg(long, value_name = "AGENT")]
    pub(crate) start: Vec<AgentName>,
}
