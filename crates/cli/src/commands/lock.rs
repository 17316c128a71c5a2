//! `casemate lock`: resolves the Compose file into `compose.lock` beside it.

use std::path::{Path, PathBuf};

use casemate_composition::Lock;
use casemate_composition::explain::{Change, diff};
use clap::Args;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::failure::{Failure, Outcome};
use crate::inputs::{self, LockFound, PullOptions};
use crate::lines;
use crate::project::{ComposeFile, Project};
use crate::replicas::ScaleOptions;

/// What `lock` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate lock --check")]
pub(crate) struct LockArgs {
    /// Write nothing; show what would change, and end with 3 where something would
    #[arg(long)]
    check: bool,
    /// Where the lock is, or goes [default: compose.lock beside the Compose file]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    pull: PullOptions,
    #[command(flatten)]
    scale: ScaleOptions,
}

/// Resolves, and writes or compares.
pub(crate) fn run(global: &Global, args: &LockArgs) -> Outcome {
    let outcome = lock(global, args);
    if args.check { outcome.map_err(Failure::in_comparison) } else { outcome }
}

fn lock(global: &Global, args: &LockArgs) -> Outcome {
    let file = ComposeFile::find(global)?.scaled(&args.scale);
    let project = Project::of(global, &file)?;
    inputs::pull_images(global, &file, &project, &args.pull)?;
    let lock = inputs::resolve(&file, &project)?;
    let bytes = inputs::lock_bytes(&lock)?;
    let path = match &args.output {
        Some(path) => path.clone(),
        None => inputs::lock_beside(&file)?,
    };
    let found = LockFound::at(&path, &bytes)?;
    if args.check {
        return check(global, &file, &path, &lock, &found);
    }
    if !matches!(found, LockFound::Same) {
        inputs::write_lock_to(&path, &lock, &bytes, &found)?;
    }
    show(global, &lock, None)
}

/// Shows what would change.
fn check(global: &Global, file: &ComposeFile, path: &Path, lock: &Lock, found: &LockFound) -> Outcome {
    let changes = match found {
        LockFound::Other(old) => diff(old, lock),
        _ => Vec::new(),
    };
    show(global, lock, Some((&changes, found)))?;
    if matches!(found, LockFound::Same) {
        return Ok(0);
    }
    let todo =
        format!("where the change is meant, run `casemate {} lock{}`", file.flags(), file.scale_flags());
    Err(Failure::differs(format!("{}: {}", path.display(), found.difference()), todo))
}

/// The digests, and in a comparison every change.
fn show(global: &Global, lock: &Lock, compared: Option<(&[Change], &LockFound)>) -> Outcome {
    let digest = inputs::digest(lock)?;
    let measurements = lock.measurements().map_err(|error| inputs::too_large(&error))?;
    if global.json {
        let agents: serde_json::Map<String, Value> =
            measurements.iter().map(|(name, m)| (name.to_string(), m.to_string().into())).collect();
        let mut answer = json!({"composition": digest, "agents": agents});
        if let (Some(members), Some((changes, found))) = (answer.as_object_mut(), compared) {
            members.insert("changed".to_owned(), (!matches!(found, LockFound::Same)).into());
            members.insert("changes".to_owned(), json!(changes));
        }
        lines::print(answer);
        return Ok(0);
    }
    for change in compared.map(|(changes, _)| changes).unwrap_or_default() {
        lines::print(change);
    }
    lines::print(format!("composition {digest}"));
    for (name, measurement) in measurements {
        lines::print(format!("agent {name} {measurement}"));
    }
    Ok(0)
}
