//! `casemate why`: whether an agent may reach an endpoint, and which line says so.

use casemate_composition::explain::explain_edge;
use casemate_composition::lock::AgentName;
use casemate_protocol::Refusal;
use clap::Args;
use serde_json::json;

use crate::cli::Global;
use crate::failure::{Failure, Kind, Outcome, one_line};
use crate::inputs;
use crate::lines;
use crate::project::{ComposeFile, Project};

/// What `why` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate why asker answerer:8080")]
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
            format!("`{}` is not HOST:PORT", one_line(&args.endpoint)),
            "write it as `answerer:8080`",
        ));
    };
    let port: u16 = port.parse().map_err(|_| {
        Failure::input(format!("`{}` is not a port", one_line(port)), "use a number from 1 to 65535")
    })?;
    let file = ComposeFile::find(global)?;
    let project = Project::of(global, &file)?;
    let lock = inputs::resolve(&file, &project)?;
    match explain_edge(&lock, &args.agent, host, port) {
        Ok(because) if global.json => {
            lines::print(json!({"allowed": true, "because": because}));
            Ok(0)
        }
        Ok(because) => {
            lines::print(because);
            Ok(0)
        }
        Err(refusal) => {
            let todo = match refusal.rule {
                "agent.declared" => "name an agent of the Compose file",
                _ => "declare it under `x-casemate: talks-to` for an agent, or `egress` for an outside host",
            };
            let refusal = Refusal::new(refusal.rule, refusal.expected, refusal.found);
            if global.json {
                lines::print(json!({"allowed": false, "refusal": refusal}));
                return Ok(Kind::Refused.code());
            }
            Err(Failure::refused(
                format!("{} may not reach {}", args.agent, one_line(&args.endpoint)),
                refusal,
                todo,
            ))
        }
    }
}
