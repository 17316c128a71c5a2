//! Programs of sandboxes that are not ours: where they are, and their digests.

use std::path::PathBuf;

use casemate_canon::Sha256;
use casemate_composition::Compose;
use casemate_composition::lock::{BackendKind, Lock};

use crate::failure::{Failure, Outcome};
use crate::programs::own_path;

/// Names gVisor's program, for machines that have it elsewhere.
const RUNSC_VARIABLE: &str = "CASEMATE_RUNSC";
/// Where it may be, besides the folder of this program.
const FOLDERS: [&str; 2] = ["/usr/local/bin", "/usr/bin"];
/// Largest program in bytes.
const PROGRAM_BYTES_MAX: u64 = 256 << 20;

/// The composition, with the digest of gVisor's program where an agent asks for gVisor and the program is there.
pub(crate) fn with_sandboxes(compose: Compose) -> Outcome<Compose> {
    if !compose.asks_for(BackendKind::Gvisor) {
        return Ok(compose);
    }
    let Some(program) = runsc()? else { return Ok(compose) };
    let failed = |error: std::io::Error| {
        Failure::environment(format!("{}: {error}", program.display()), "make the program readable")
    };
    let size = std::fs::metadata(&program).map_err(failed)?.len();
    if size > PROGRAM_BYTES_MAX {
        let what = format!("{}: {size} bytes, at most {PROGRAM_BYTES_MAX} allowed", program.display());
        return Err(Failure::input(what, format!("name gVisor's runsc with {RUNSC_VARIABLE}")));
    }
    Ok(compose.with_runsc(Sha256::of(&std::fs::read(&program).map_err(failed)?)))
}

/// The backends of this lock that need a program, with that program's file.
pub(crate) fn sandbox_programs(lock: &Lock) -> Outcome<Vec<(BackendKind, PathBuf)>> {
    let asked = lock.agents.iter().find(|(_, agent)| agent.backend.kind() == BackendKind::Gvisor);
    let Some((name, _)) = asked else { return Ok(Vec::new()) };
    let program = runsc()?.ok_or_else(|| {
        Failure::environment(
            format!("agent {name} asks for gVisor, and its program runsc was not found"),
            format!(
                "install Debian's runsc from bookworm-backports, or name the program with {RUNSC_VARIABLE}"
            ),
        )
    })?;
    Ok(vec![(BackendKind::Gvisor, program)])
}

/// Where gVisor's program is: where the variable says, else beside this program, else where packages put it.
fn runsc() -> Outcome<Option<PathBuf>> {
    if let Some(named) = std::env::var_os(RUNSC_VARIABLE) {
        let named = PathBuf::from(named);
        if named.is_absolute() && named.is_file() {
            return Ok(Some(named));
        }
        let what = format!("{RUNSC_VARIABLE} is {}, which is no file with an absolute path", named.display());
        return Err(Failure::environment(what, "name gVisor's program runsc, or unset the variable"));
    }
    let beside = own_path()?.with_file_name("runsc");
    let packaged = FOLDERS.iter().map(|folder| PathBuf::from(folder).join("runsc"));
    Ok(std::iter::once(beside).chain(packaged).find(|program| program.is_file()))
}
