//! `casemate why`: whether an agent may reach an endpoint, and which line says so.

use casemate_composition::explain::{explain_edge, explain_socket};
use casemate_composition::lock::{AgentName, Lock};
use casemate_protocol::Refusal;
use casemate_protocol::edges::{EdgeState, EdgeStatus, Origin};
use clap::Args;
use serde_json::json;

use crate::cli::Global;
use crate::commands::edges::{self, Endpoint};
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
    let endpoint = edges::endpoint(&args.endpoint)?;
    let file = ComposeFile::find(global)?;
    let project = Project::of(global, &file)?;
    let lock = inputs::resolve(&file, &project)?;
    let explained = match &endpoint {
        Endpoint::Port(host, port) => explain_edge(&lock, &args.agent, host, *port),
        Endpoint::Socket(edge) => explain_socket(&lock, &args.agent, edge),
    };
    let standing = standing(&lock, &project, &args.agent, &endpoint);
    match (explained, standing) {
        (Ok(_), Some(edge)) if edge.state == EdgeState::Denied => closed_by_hand(global, args),
        (Ok(because), standing) => allowed(global, because, standing.as_ref()),
        (Err(_), Some(edge)) if edge.state == EdgeState::Added => {
            let because =
                format!("opened by hand while the box runs: casemate allow {} {}", args.agent, edge.target);
            allowed(global, because, Some(&edge))
        }
        (Err(refusal), _) => {
            let todo = match refusal.rule {
                "agent.declared" => "name an agent of the Compose file",
                _ => "declare it under `x-casemate: talks-to` for an agent, or `egress` for an outside host",
            };
            refused(global, args, Refusal::new(refusal.rule, refusal.expected, refusal.found), todo)
        }
    }
}

/// The edge as it stands in the running box; none where the box does not run or has no such edge.
fn standing(
    lock: &Lock,
    project: &Project,
    agent: &AgentName,
    endpoint: &Endpoint<'_>,
) -> Option<EdgeStatus> {
    let names = &lock.agents.get(agent)?.names;
    let to = match endpoint {
        Endpoint::Port(host, port) => {
            let named = names.iter().find(|(alias, _)| alias.as_str() == *host).map(|(_, to)| to.as_str());
            format!("{}:{port}", named.unwrap_or(host))
        }
        Endpoint::Socket(edge) => edge.to_string(),
    };
    let from = Origin::Agent(agent.clone());
    let edges = edges::of_running(project)?;
    edges.into_iter().find(|edge| edge.from == from && edge.target.to_string() == to)
}

/// Exit code 0: it may, and this is how the edge stands.
fn allowed(global: &Global, because: String, standing: Option<&EdgeStatus>) -> Outcome {
    if global.json {
        lines::print(json!({"allowed": true, "because": because, "edge": standing}));
        return Ok(0);
    }
    lines::print(because);
    for line in standing.map(edges::details).unwrap_or_default() {
        lines::print(line);
    }
    Ok(0)
}

fn closed_by_hand(global: &Global, args: &WhyArgs) -> Outcome {
    let refusal = Refusal::new("edge.denied", "an edge that is open", "closed by hand while the box runs");
    let todo = format!("open it again with `casemate allow {} {}`", args.agent, one_line(&args.endpoint));
    refused(global, args, refusal, &todo)
}

fn refused(global: &Global, args: &WhyArgs, refusal: Refusal, todo: &str) -> Outcome {
    if global.json {
        lines::print(json!({"allowed": false, "refusal": refusal}));
        return Ok(Kind::Refused.code());
    }
    Err(Failure::refused(format!("{} may not reach {}", args.agent, one_line(&args.endpoint)), refusal, todo))
}
