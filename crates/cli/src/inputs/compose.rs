//! The Compose file, its lock, and what follows from them.

use std::path::{Path, PathBuf};

use casemate_canon::Sha384;
use casemate_composition::Lock;
use casemate_composition::lock::{AgentName, LOCK_BYTES_MAX};

use crate::cli::Global;
use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::lines;
use crate::project::{ComposeFile, Project};

/// Largest Compose file in bytes.
pub(crate) const COMPOSE_BYTES_MAX: usize = 1 << 20;
/// Grace time where the lock cannot be read.
const GRACE_MS_DEFAULT: u64 = 10_000;

/// What to do where the lock differs from the file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockChange {
    /// Write it, and say so.
    Write,
    /// Refuse.
    Refuse,
}

/// `name:` of a Compose file.
pub(crate) fn compose_name(_file: &ComposeFile) -> Outcome<Option<String>> {
    Ok(None)
}

/// The lock that a Compose file resolves to with the images of the local store.
pub(crate) fn resolve(_file: &ComposeFile, _project: &Project) -> Outcome<Lock> {
    Err(Failure::environment("Compose files cannot be read yet", "wait for the reader"))
}

/// Explains an edge.
pub(crate) fn explain(
    _global: &Global,
    _lock: &Lock,
    _agent: &AgentName,
    _host: &str,
    _port: u16,
) -> Outcome {
    Err(Failure::environment("edges cannot be explained yet", "wait for it"))
}

/// Writes `casemate.lock` beside the Compose file where it differs.
pub(crate) fn write_lock(file: &ComposeFile, lock: &Lock, change: LockChange) -> Outcome<()> {
    let path = lock_beside(file)?;
    let bytes = lock_bytes(lock)?;
    let old = if path.exists() {
        Some(inputs::read_bytes(&path, LOCK_BYTES_MAX, "remove the file; it is made anew")?)
    } else {
        None
    };
    if old.as_ref() == Some(&bytes) {
        return Ok(());
    }
    let what = if old.is_some() { "differs from the Compose file" } else { "is not there" };
    match change {
        LockChange::Write => {
            inputs::write_file(&path, &bytes)?;
            let what = if old.is_some() { "changed" } else { "made" };
            lines::note(format!("{} {what}: composition {}", path.display(), digest(lock)?));
            Ok(())
        }
        LockChange::Refuse => Err(Failure::input(
            format!("{}: the lock {what}, and must not change", path.display()),
            format!("look at the change, then run `casemate -f {} lock`", file.path.display()),
        )),
    }
}

/// The file form of a lock.
pub(crate) fn lock_bytes(lock: &Lock) -> Outcome<Vec<u8>> {
    lock.to_json()
        .map_err(|error| Failure::input(format!("lock: {error}"), "use smaller numbers in the Compose file"))
}

/// The composition digest.
pub(crate) fn digest(lock: &Lock) -> Outcome<Sha384> {
    lock.digest()
        .map_err(|error| Failure::input(format!("lock: {error}"), "use smaller numbers in the Compose file"))
}

/// Reads a lock.
pub(crate) fn read_lock(path: &Path) -> Outcome<Lock> {
    let todo = "make it anew with `casemate up`";
    let bytes = inputs::read_bytes(path, LOCK_BYTES_MAX, todo)?;
    Lock::from_json(&bytes).map_err(|error| Failure::input(format!("{}: {error}", path.display()), todo))
}

/// The longest grace time of an agent of the lock that runs.
pub(crate) fn longest_grace_ms(project: &Project) -> u64 {
    read_lock(&project.lock_file())
        .ok()
        .and_then(|lock| lock.agents.values().map(|agent| agent.stop.grace_ms).max())
        .unwrap_or(GRACE_MS_DEFAULT)
}

/// No agent has this name.
pub(crate) fn no_such_agent(agent: &AgentName, all: &[AgentName]) -> Failure {
    let names: Vec<&str> = all.iter().map(AgentName::as_str).collect();
    Failure::input(format!("no agent `{agent}`"), format!("agents are {}", names.join(", ")))
}

fn lock_beside(file: &ComposeFile) -> Outcome<PathBuf> {
    Ok(file.folder()?.join("casemate.lock"))
}
