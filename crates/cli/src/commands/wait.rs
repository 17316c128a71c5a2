//! `casemate wait`: waits until agents have ended for good.

use std::collections::BTreeMap;

use casemate_composition::lock::AgentName;
use casemate_protocol::control::{ControlRequest, Reply};
use clap::Args;
use serde_json::json;

use crate::cli::Global;
use crate::control;
use crate::failure::Outcome;
use crate::lines;
use crate::orders::{Conversation, refused, until_interrupted};
use crate::project::Project;
use crate::replicas;

/// Exit code where an agent's program never ran, as of a start that failed.
const NEVER_RAN: u8 = 255;

/// What `wait` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate wait importer",
    after_help = "Exit code: that of the first agent named whose own is not 0, else 0; a failure of `wait` itself has the codes of \
        all commands. An agent that its restart policy starts again has not ended"
)]
pub(crate) struct WaitArgs {
    /// Which agents
    #[arg(value_name = "AGENT", required = true)]
    agents: Vec<AgentName>,
}

/// Prints each agent's exit status as it comes.
pub(crate) fn run(global: &Global, args: &WaitArgs) -> Outcome {
    let project = Project::find(global)?;
    let agents = replicas::named(&project, &args.agents)?;
    let statuses = until_interrupted(statuses(global, &project, &agents))?;
    let codes = agents.iter().filter_map(|agent| statuses.get(agent)).map(|status| code(*status));
    Ok(codes.into_iter().find(|code| *code != 0).unwrap_or(0))
}

async fn statuses(
    global: &Global,
    project: &Project,
    agents: &[AgentName],
) -> Outcome<BTreeMap<AgentName, Option<i32>>> {
    let request = ControlRequest::Wait { agents: agents.iter().cloned().collect() };
    let mut conversation = Conversation::begin(project, &request).await?;
    let mut statuses = BTreeMap::new();
    loop {
        match conversation.next().await? {
            Reply::Ended { agent, status } => {
                lines::print(match (global.json, status) {
                    (true, status) => json!({"agent": agent, "status": status}).to_string(),
                    (false, Some(status)) => format!("{agent} {status}"),
                    (false, None) => format!("{agent} never ran"),
                });
                statuses.insert(agent, status);
            }
            Reply::Done => return Ok(statuses),
            Reply::Refused { refusal } => return Err(refused(project, refusal)),
            _ => return Err(control::unexpected_reply()),
        }
    }
}

fn code(status: Option<i32>) -> u8 {
    status.map_or(NEVER_RAN, |status| u8::try_from(status).unwrap_or(NEVER_RAN))
}
