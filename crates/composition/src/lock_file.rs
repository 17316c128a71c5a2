//! The file form of a lock, `compose.lock`: exactly one byte form, made to be read in a difference of two versions.
//!
//! What it is: RFC 8785 JSON with line ends and indentation, and an `about` at its head that is not measured: a note for
//! the reader, and the digests that the rest gives. They are compared with the rest whenever a lock is read, so that
//! nobody is shown a digest that is another. What it is not: what is measured. That is the RFC 8785 form of each part;
//! see `docs/measurement.md`. Who trusts it: nobody who has not read it with [`Lock::from_json`].

use std::collections::BTreeMap;

use casemate_canon::{CanonicalError, Sha384, value_to_readable_json};
use serde::{Deserialize, Serialize};

use crate::lock::{AGENTS_MAX, Agent, AgentName, LOCK_BYTES_MAX, LOCK_VERSION, Lock, Volume};
use crate::problem::printable;

/// What the file says of itself.
pub const LOCK_NOTE: &str = "Made by `casemate lock` from the Compose file and its images: do not edit it, run that \
    again. Everything but `about` is measured, and gives the digests in `about`. How, and a script that recomputes \
    them: docs/measurement.md of Casemate.";

/// Why bytes are not a lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Larger than [`LOCK_BYTES_MAX`].
    #[error("lock of {found} bytes, at most {LOCK_BYTES_MAX} allowed")]
    TooLong {
        /// Its size.
        found: usize,
    },
    /// Not JSON of the lock's shape.
    #[error("not a lock: {reason}")]
    Shape {
        /// What the parser said, with line and column.
        reason: String,
    },
    /// Another version.
    #[error("lock has version {found}, this program reads version {LOCK_VERSION}")]
    Version {
        /// The version.
        found: u32,
    },
    /// No agents, or more than [`AGENTS_MAX`].
    #[error("lock has {found} agents, 1 to {AGENTS_MAX} are possible")]
    AgentCount {
        /// How many.
        found: usize,
    },
    /// Agents that share a root are not of one trust group. No Compose file gives that.
    #[error(
        "agents of the group `{group}` of `share` have the trust groups `{first}` and `{second}`, one is allowed"
    )]
    ShareTrust {
        /// The group of `share`.
        group: AgentName,
        /// The trust group of one agent.
        first: AgentName,
        /// The trust group of another.
        second: AgentName,
    },
    /// Replicas of a service are not numbered as a Compose file gives them.
    #[error("`replica_of` names `{service}`, and {found}: replicas are {service}-1 and so on, two at least")]
    Replicas {
        /// The service.
        service: AgentName,
        /// What is wrong.
        found: String,
    },
    /// A number has no canonical form.
    #[error("lock: {0}")]
    Number(#[from] CanonicalError),
    /// A digest at the head is not that of the content: one of the two was edited.
    #[error("`{field}` says {found}, and the content gives {expected}")]
    Digest {
        /// Path of the field at the head.
        field: String,
        /// What the content gives; `nothing` where there is no such agent.
        expected: String,
        /// What the head says; `nothing` where it has no such field.
        found: String,
    },
    /// The values in another form than the one that they have: edited by hand, or a member twice.
    #[error("line {line} is not as `casemate lock` writes it: expected `{expected}`, found `{found}`")]
    Form {
        /// First line that differs, from 1.
        line: usize,
        /// That line in the one form.
        expected: String,
        /// That line as found.
        found: String,
    },
}

/// The head of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    /// The composition digest.
    composition: Sha384,
    /// The measurement of each agent.
    measurements: BTreeMap<AgentName, Sha384>,
    /// [`LOCK_NOTE`].
    note: String,
}

/// A lock and its head, as read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    about: About,
    version: u32,
    project: AgentName,
    agents: BTreeMap<AgentName, Agent>,
    volumes: BTreeMap<AgentName, Volume>,
}

/// A lock and its head, to be written.
#[derive(Serialize)]
struct FileOf<'a> {
    about: About,
    #[serde(flatten)]
    lock: &'a Lock,
}

impl Lock {
    /// The lock in a file.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, LockError> {
        if bytes.len() > LOCK_BYTES_MAX {
            return Err(LockError::TooLong { found: bytes.len() });
        }
        let File { about, version, project, agents, volumes } =
            serde_json::from_slice(bytes).map_err(|e| LockError::Shape { reason: e.to_string() })?;
        if version != LOCK_VERSION {
            return Err(LockError::Version { found: version });
        }
        if agents.is_empty() || agents.len() > AGENTS_MAX {
            return Err(LockError::AgentCount { found: agents.len() });
        }
        let lock = Self { version, project, agents, volumes };
        lock.require_one_trust()?;
        lock.require_numbered_replicas()?;
        let computed = About::of(&lock)?;
        about.compare(&computed)?;
        let expected = lock.file(computed)?;
        if expected == bytes { Ok(lock) } else { Err(first_difference(&expected, bytes)) }
    }

    /// What agents read of a shared root leaks between them. The owner of one agent sees its own entry alone, and knows
    /// by this of what trust group the others are.
    fn require_one_trust(&self) -> Result<(), LockError> {
        let mut trusts = BTreeMap::new();
        for agent in self.agents.values() {
            let Some(group) = &agent.share else { continue };
            let first: &AgentName = trusts.entry(group).or_insert(&agent.trust);
            if *first != agent.trust {
                let (group, first, second) = (group.clone(), first.clone(), agent.trust.clone());
                return Err(LockError::ShareTrust { group, first, second });
            }
        }
        Ok(())
    }

    /// The file form.
    ///
    /// # Errors
    /// [`CanonicalError`] where a number is 2^53 or more.
    pub fn to_json(&self) -> Result<Vec<u8>, CanonicalError> {
        self.file(About::of(self)?)
    }

    fn file(&self, about: About) -> Result<Vec<u8>, CanonicalError> {
        let value = serde_json::to_value(FileOf { about, lock: self })
            .map_err(|e| CanonicalError::NotJson { reason: e.to_string() })?;
        value_to_readable_json(&value)
    }
}

impl About {
    fn of(lock: &Lock) -> Result<Self, CanonicalError> {
        let measurements = lock.measurements()?;
        let composition = lock.digest_over(&measurements)?;
        Ok(Self { composition, measurements, note: LOCK_NOTE.to_owned() })
    }

    /// Whether the digests that a file states are those of its content.
    fn compare(&self, computed: &Self) -> Result<(), LockError> {
        let text = |digest: Option<&Sha384>| digest.map_or_else(|| "nothing".to_owned(), Sha384::to_string);
        let differs = |field: String, found: Option<&Sha384>, expected: Option<&Sha384>| {
            if found == expected {
                return Ok(());
            }
            Err(LockError::Digest { field, expected: text(expected), found: text(found) })
        };
        // Agents first: they say more than that the whole is another.
        for name in self.measurements.keys().chain(computed.measurements.keys()) {
            let field = format!("about.measurements.{name}");
            differs(field, self.measurements.get(name), computed.measurements.get(name))?;
        }
        differs("about.composition".to_owned(), Some(&self.composition), Some(&computed.composition))
    }
}

/// The first line in which two different texts differ.
fn first_difference(expected: &[u8], found: &[u8]) -> LockError {
    let mut lines = (expected.split_inclusive(|b| *b == b'\n'), found.split_inclusive(|b| *b == b'\n'));
    let mut line = 0_usize;
    let text = |bytes: Option<&[u8]>| match bytes.map(|bytes| (bytes, bytes.strip_suffix(b"\n"))) {
        Some((_, Some(line))) => printable(&String::from_utf8_lossy(line)),
        Some((line, None)) => printable(&String::from_utf8_lossy(line)) + " without a line end",
        None => "the end of the file".to_owned(),
    };
    loop {
        line = line.saturating_add(1);
        let (a, b) = (lines.0.next(), lines.1.next());
        if a != b || a.is_none() {
            return LockError::Form { line, expected: text(a), found: text(b) };
        }
    }
}
