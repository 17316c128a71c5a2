//! `casemate why`: whether an agent may reach an endpoint, and which line says so.

use casemate_composition::lock::AgentName;
use clap::Args;

use crate::cli::Global;
use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::project::{ComposeFile, Project};

/// What `why` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate why planner scribe:8090")]
pub(crate) struct WhyArgs {
    /// Who calls
    agent: AgentName,
    /// Agent or host, and port
    #[arg(value_name = "HOST:PORT")]
    endpoint: String,
}

/// Explains. Exit code 0 where it is allowed, 1 where not.
pub(crate) fn run(global: &Global, args: &WhyArgs) -> Outcome {
    let Some((host, port)) = args.endpoint.rsplit_once(':') else {
        return Err(Failure::input(
            format!("`{}` is not HOST:PORT", crate::failure::one_line(&args.endpoint)),
            "write it as `researcher:8080`",
        ));
    };
    let port: u16 = port.parse().map_err(|_| {
        Failure::input(
            format!("`{}` is not a port", crate::failure::one_line(port)),
            "use a number from 1 to 65535",
        )
    })?;
    let file = ComposeFile::find(global)?;
    let project = Project::of(global, &file)?;
    let lock = inputs::resolve(&file, &project)?;
    if !lock.agents.contains_key(&args.agent) {
        let all: Vec<AgentName> = lock.agents.into_keys().collect();
        return Err(inputs::no_such_agent(&args.agent, &all));
    }
    inputs::explain(global, &lock, &args.agent, host, port)
}
