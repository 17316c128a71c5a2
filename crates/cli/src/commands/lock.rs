//! `casemate lock`: resolves the Compose file into `casemate.lock` beside it.

use clap::Args;

use crate::cli::Global;
use crate::failure::Outcome;
use crate::inputs::{self, LockChange};
use crate::lines;
use crate::project::{ComposeFile, Project};

/// What `lock` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate lock --check")]
pub(crate) struct LockArgs {
    /// Write nothing; fail where the lock would change
    #[arg(long)]
    check: bool,
}

/// Resolves and writes.
pub(crate) fn run(global: &Global, args: &LockArgs) -> Outcome {
    let file = ComposeFile::find(global)?;
    let project = Project::of(global, &file)?;
    let lock = inputs::resolve(&file, &project)?;
    let change = if args.check { LockChange::Refuse } else { LockChange::Write };
    inputs::write_lock(&file, &lock, change)?;
    let digest = inputs::digest(&lock)?;
    if global.json {
        let agents: serde_json::Map<String, serde_json::Value> = lock
            .agents
            .iter()
            .map(|(name, agent)| {
                (name.to_string(), agent.measurement().map(|m| m.to_string()).unwrap_or_default().into())
            })
            .collect();
        lines::print(serde_json::json!({"composition": digest, "agents": agents}));
        return Ok(0);
    }
    lines::print(format!("composition {digest}"));
    for (name, agent) in &lock.agents {
        let measurement = agent.measurement().map(|m| m.to_string()).unwrap_or_default();
        lines::print(format!("agent {name} {measurement}"));
    }
    Ok(0)
}
