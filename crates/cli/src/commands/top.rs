//! `casemate top`: the processes of one agent, or of each replica of a service.

use casemate_composition::lock::AgentName;
use casemate_protocol::control::{ControlRequest, Reply};
use casemate_protocol::inside::{InsideReply, InsideRequest, ProcessStatus};
use clap::Args;

use crate::cli::Global;
use crate::control;
use crate::failure::Outcome;
use crate::lines;
use crate::project::Project;
use crate::replicas;

/// What `top` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate top researcher",
    after_help = "PID is the id in the box, INSIDE that in the agent; USER is the user inside, `-` for the box's own helper \
        of an `exec` or a health check. Command lines are the agent's own words."
)]
pub(crate) struct TopArgs {
    /// Which agent, or service with replicas
    agent: AgentName,
}

/// Shows the processes.
pub(crate) fn run(global: &Global, args: &TopArgs) -> Outcome {
    let project = Project::find(global)?;
    let agents = replicas::named(&project, std::slice::from_ref(&args.agent))?;
    for agent in &agents {
        if agents.len() > 1 && !global.json {
            lines::print(agent);
        }
        show(global, &project, agent)?;
    }
    Ok(0)
}

fn show(global: &Global, project: &Project, agent: &AgentName) -> Outcome<()> {
    let request = ControlRequest::Inside(InsideRequest::Processes { agent: agent.clone() });
    let Reply::Inside(InsideReply::Processes { processes }) = control::ask(project, &request)? else {
        return Err(control::unexpected_reply());
    };
    if global.json {
        lines::print(serde_json::to_string(&processes).unwrap_or_default());
        return Ok(());
    }
    let head = ["PID", "INSIDE", "USER", "STATE", "THREADS", "CPU", "MEMORY", "COMMAND"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(processes.iter().map(row));
    lines::print_table(&rows);
    Ok(())
}

fn row(process: &ProcessStatus) -> Vec<String> {
    vec![
        process.pid.to_string(),
        process.pid_inside.to_string(),
        process.user.map_or_else(|| "-".to_owned(), |user| user.to_string()),
        process.state.to_string(),
        process.threads.to_string(),
        format!("{}.{:02} s", process.cpu_ms / 1000, process.cpu_ms % 1000 / 10),
        lines::size(process.memory_bytes),
        lines::printable(process.command.as_bytes()),
    ]
}
