//! `casemate port`: where the box listens for an agent.

use std::net::SocketAddr;

use casemate_composition::lock::AgentName;
use clap::Args;
use serde_json::json;

use crate::cli::Global;
use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::lines;
use crate::project::Project;
use crate::replicas;

/// What `port` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate port planner 8080")]
pub(crate) struct PortArgs {
    /// Of which agent
    agent: AgentName,
    /// Only of this port of the agent
    #[arg(value_name = "PORT")]
    port: Option<u16>,
}

/// Shows the ports of `ports:`.
pub(crate) fn run(global: &Global, args: &PortArgs) -> Outcome {
    let project = Project::find(global)?;
    let agent = replicas::one(&project, &args.agent)?;
    let lock = inputs::read_lock(&project.lock_file())?;
    let all = lock.agents.get(&agent).map(|agent| &agent.ports).into_iter().flatten();
    let found: Vec<_> = all.filter(|port| args.port.is_none_or(|wanted| wanted == port.target)).collect();
    if let (Some(wanted), true) = (args.port, found.is_empty()) {
        return Err(Failure::input(
            format!("no port of the box leads to port {wanted} of {}", args.agent),
            "publish it under `ports:` in the Compose file",
        ));
    }
    for port in found {
        let at = SocketAddr::new(port.address, port.port);
        match (global.json, args.port) {
            (true, _) => lines::print(json!({"target": port.target, "address": at})),
            (false, Some(_)) => lines::print(at),
            (false, None) => lines::print(format!("{}/tcp -> {at}", port.target)),
        }
    }
    Ok(0)
}
