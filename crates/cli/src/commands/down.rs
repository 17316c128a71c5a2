//! `casemate down`: stops everything of a project, and removes what a crash left behind.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::Global;
use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::lines;
use crate::project::Project;
use crate::supervisor::{LastEnd, Lease, StopRequest, ask_to_stop, clean};

/// Time the supervisor has on top of the agents' grace time.
const STOP_BOUND: Duration = Duration::from_secs(40);

/// What `down` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate down -t 2")]
pub(crate) struct DownArgs {
    /// Remove the project's volumes, too; nothing is asked, and each is named
    #[arg(short, long)]
    volumes: bool,
    /// Taken for scripts: no agent outlives its composition
    #[arg(long)]
    remove_orphans: bool,
    /// Seconds each agent has before it is killed [default: its own `stop_grace_period`]
    #[arg(short, long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
    timeout: Option<u64>,
}

/// Stops a project.
pub(crate) fn run(global: &Global, args: &DownArgs) -> Outcome {
    let project = Project::find(global)?;
    if !project.dir.exists() {
        answer(global, &project, false, &[]);
        return Ok(0);
    }
    project.create_dirs()?;
    let request = StopRequest { grace_ms: args.timeout.map(|seconds| seconds * 1000) };
    let (lease, ran) = match Lease::take(&project)? {
        Some(lease) => (lease, false),
        None => (stop(&project, request)?, true),
    };
    clean(&project)?;
    LastEnd::forget(&project)?;
    let volumes = if args.volumes { remove_volumes(&project)? } else { Vec::new() };
    drop(lease);
    answer(global, &project, ran, &volumes);
    Ok(0)
}

/// Removes all volumes and gives their names.
fn remove_volumes(project: &Project) -> Outcome<Vec<String>> {
    let entries = match std::fs::read_dir(project.volumes()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(Failure::environment(
                format!("{}: {error}", project.volumes().display()),
                "run the command as root",
            ));
        }
    };
    let names: BTreeSet<String> =
        entries.flatten().map(|entry| volume_of(&entry.file_name().to_string_lossy()).to_owned()).collect();
    Project::remove(&project.volumes())?;
    Ok(names.into_iter().collect())
}

/// The volume that this folder or file is: one with a size is a file, and one that is being made another.
fn volume_of(file: &str) -> &str {
    file.strip_suffix(".new").unwrap_or(file).strip_suffix(".ext4").unwrap_or(file)
}

fn answer(global: &Global, project: &Project, ran: bool, volumes: &[String]) {
    let name = &project.name;
    if !global.json {
        for volume in volumes {
            lines::print(format!("removed volume {}", lines::printable(volume.as_bytes())));
        }
    }
    match (global.json, ran) {
        (true, _) => lines::print(json!({"project": name, "stopped": ran, "removed_volumes": volumes})),
        (false, true) => lines::print(format!("project {name} is stopped")),
        (false, false) => lines::print(format!("project {name} does not run")),
    }
}

/// Stops the supervisor and waits for the lease.
pub(crate) fn stop(project: &Project, request: StopRequest) -> Outcome<Lease> {
    let grace = request.grace_ms.unwrap_or_else(|| inputs::longest_grace_ms(project));
    let bound = Duration::from_millis(grace).saturating_add(STOP_BOUND);
    // It may be on its way up and not listen yet, or on its way down and not listen any more.
    let tries = 50;
    for _ in 0..tries {
        if ask_to_stop(project, request) {
            break;
        }
        if let Some(lease) = Lease::wait(project, Duration::from_millis(100))? {
            return Ok(lease);
        }
    }
    Lease::wait(project, bound)?.ok_or_else(|| {
        Failure::environment(
            format!("project {} did not stop within {} s", project.name, bound.as_secs()),
            format!("read {}", project.program_log("supervisor").display()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_named_as_in_the_compose_file() {
        for file in ["kept", "kept.ext4", "kept.ext4.new"] {
            assert_eq!(volume_of(file), "kept");
        }
    }
}
