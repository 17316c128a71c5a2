//! Why the last box of a project ended, where nobody asked it to: kept for whoever looks afterwards.

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome, one_line};
use crate::inputs;
use crate::project::Project;

/// Longest such file in bytes.
const BYTES_MAX: usize = 16 << 10;

/// The end of a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LastEnd {
    /// What happened.
    pub(crate) what: String,
    /// What to read.
    pub(crate) todo: String,
    /// When, as RFC 3339 has it.
    pub(crate) at: String,
}

impl LastEnd {
    /// Keeps a failure. Where that cannot be written, the supervisor's log has it.
    pub(super) fn keep(project: &Project, failure: &Failure) {
        let at = jiff::Timestamp::now()
            .round(jiff::Unit::Second)
            .map_or_else(|_| String::new(), |at| at.to_string());
        let end = Self { what: failure.what.clone(), todo: failure.todo.clone(), at };
        if let Ok(bytes) = serde_json::to_vec(&end) {
            let _ = inputs::write_private_file(&project.last_end(), &bytes);
        }
    }

    /// Forgets it: a new box starts, or somebody has stopped the project.
    pub(crate) fn forget(project: &Project) -> Outcome<()> {
        Project::remove(&project.last_end())
    }

    /// The last end that nobody asked for; none where there is none.
    pub(crate) fn read(project: &Project) -> Option<Self> {
        let bytes = inputs::read_bytes(&project.last_end(), BYTES_MAX, "").ok()?;
        let end: Self = serde_json::from_slice(&bytes).ok()?;
        Some(Self { what: one_line(&end.what), todo: one_line(&end.todo), at: one_line(&end.at) })
    }
}
