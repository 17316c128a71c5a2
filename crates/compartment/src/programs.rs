//! Programs that backends need and that are not ours: opened and measured before anything starts.

use std::path::PathBuf;
use std::sync::Arc;

use casemate_canon::Sha256;
use casemate_composition::lock::{Backend, BackendKind, Lock};
use casemate_protocol::Refusal;

use crate::CompartmentError;
use crate::gvisor::Program;

/// The programs of the backends that a lock asks for.
#[derive(Debug, Default)]
pub struct Programs {
    gvisor: Option<Arc<Program>>,
}

impl Programs {
    /// Opens what the agents of this lock need. `named` has entries `BACKEND=FILE`.
    ///
    /// # Errors
    /// [`CompartmentError`]: one is not named, cannot be read, or is another one than the lock says.
    pub fn open(lock: &Lock, named: &[String]) -> Result<Self, CompartmentError> {
        let mut programs = Self::default();
        let mut seen: Option<Sha256> = None;
        for agent in lock.agents.values() {
            let Backend::Gvisor { runsc } = agent.backend else { continue };
            match seen {
                Some(opened) if opened != runsc => {
                    return Err(Refusal::new("gvisor.runsc", opened, runsc).into());
                }
                Some(_) => {}
                None => {
                    let file = file_of(named, BackendKind::Gvisor)?;
                    programs.gvisor = Some(Arc::new(Program::open(&file, runsc)?));
                    seen = Some(runsc);
                }
            }
        }
        Ok(programs)
    }

    pub(crate) fn gvisor(&self) -> Option<Arc<Program>> {
        self.gvisor.clone()
    }
}

fn file_of(named: &[String], kind: BackendKind) -> Result<PathBuf, CompartmentError> {
    let of_kind = |entry: &String| {
        let (name, file) = entry.split_once('=')?;
        (name == kind.name()).then(|| PathBuf::from(file))
    };
    named.iter().find_map(of_kind).ok_or(CompartmentError::NoProgram { backend: kind })
}
