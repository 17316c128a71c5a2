//! `casemate attest`: evidence about one agent, for a relying party's nonce.

use std::path::PathBuf;

use casemate_composition::lock::AgentName;
use casemate_protocol::Nonce;
use casemate_protocol::control::{ControlRequest, Reply};
use clap::Args;

use crate::cli::Global;
use crate::control;
use crate::failure::Outcome;
use crate::inputs;
use crate::lines;
use crate::project::Project;
use crate::replicas;

/// What `attest` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate attest researcher --nonce 5f2c9e01aa43 -o evidence.json")]
pub(crate) struct AttestArgs {
    /// Which agent
    agent: AgentName,
    /// The relying party's nonce: 8 to 88 printable characters, used once
    #[arg(long)]
    nonce: Nonce,
    /// Write to a file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Brings evidence.
pub(crate) fn run(global: &Global, args: &AttestArgs) -> Outcome {
    let project = Project::find(global)?;
    let agent = replicas::one(&project, &args.agent)?;
    let request = ControlRequest::Attest { agent, nonce: args.nonce.clone() };
    let Reply::Evidence { evidence } = control::ask(&project, &request)? else {
        return Err(control::unexpected_reply());
    };
    match &args.output {
        Some(path) => inputs::write_file(path, format!("{evidence}\n").as_bytes())?,
        None => lines::print(evidence),
    }
    Ok(0)
}
