//! Every key of the Compose specification, and what happens to it here: data, in the files below this one.
//!
//! A key is honoured, honoured within limits, refused with a reason and what to write instead, or has no effect and
//! says so. Only what describes (labels and the like) has no effect silently. Nothing is dropped. A test compares the
//! names with the specification's, and `docs/compose.md` is written from the same tables.

mod markdown;
mod resources;
mod service;
mod storage;
mod top;

pub use markdown::markdown;
pub use resources::{
    BLKIO, BLKIO_DEVICE, DEPLOY, HEALTHCHECK, LOGGING, RESERVATIONS, RESOURCE_LIMITS, RESOURCES,
    RESTART_POLICY, ULIMIT, ULIMITS,
};
pub use service::{DEPENDENCY, PORT, POST_START, PRE_STOP, SERVICE, SERVICE_NETWORK, X_CASEMATE, X_ENDPOINT};
pub(crate) use storage::INSTEAD_OF_BIND;
pub use storage::{
    CONFIG, MOUNT, MOUNT_TMPFS, MOUNT_VOLUME, SECRET, SERVICE_CONFIG, SERVICE_SECRET, VOLUME, VOLUME_OPTIONS,
    VOLUME_X_CASEMATE,
};
pub use top::{ENV_FILE, EXTENDS, INCLUDE, TOP, TOP_X_CASEMATE, WHOLES};

/// A key and what happens to it.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// As written in the file.
    pub name: &'static str,
    /// What happens to it.
    pub disposition: Disposition,
    /// Values that ask for what is so anyway, and are accepted although the key is refused.
    pub harmless: &'static [&'static str],
}

/// What happens to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It does what the Compose specification says.
    Honoured,
    /// It does so within these limits.
    Limited(&'static str),
    /// It would weaken the boundary, has no meaning here, or is not supported yet.
    Refused {
        /// Why.
        reason: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// It has no effect, and a warning says so.
    Ignored(&'static str),
    /// It only describes: no effect on what runs, silently. The text says why that is right.
    NoEffect(&'static str),
}

/// The keys of one mapping.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// The mapping, for messages: `service`.
    pub of: &'static str,
    /// Where it stands in a file: `services.NAME`.
    pub path: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
    /// Whether `x-` keys of others may stand here.
    pub extensions: Extensions,
}

/// A mapping whose keys share the fate of the key above it: nothing looks at them one by one.
#[derive(Debug, Clone, Copy)]
pub struct Whole {
    /// Where it stands in a file.
    pub path: &'static str,
    /// Its keys.
    pub names: &'static [&'static str],
    /// Path of the key that decides.
    pub decided_by: &'static str,
}

/// What happens to `x-` keys that are not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extensions {
    /// They are somebody else's: no effect.
    Allowed,
    /// They are unknown keys like any other.
    Unknown,
}

/// All tables, in the order of the document.
pub const TABLES: [&Table; 34] = [
    &TOP,
    &SERVICE,
    &X_CASEMATE,
    &X_ENDPOINT,
    &PORT,
    &TOP_X_CASEMATE,
    &INCLUDE,
    &EXTENDS,
    &ENV_FILE,
    &DEPENDENCY,
    &POST_START,
    &PRE_STOP,
    &SERVICE_NETWORK,
    &HEALTHCHECK,
    &LOGGING,
    &DEPLOY,
    &RESOURCES,
    &RESOURCE_LIMITS,
    &RESERVATIONS,
    &RESTART_POLICY,
    &BLKIO,
    &BLKIO_DEVICE,
    &ULIMITS,
    &ULIMIT,
    &MOUNT,
    &MOUNT_VOLUME,
    &MOUNT_TMPFS,
    &SERVICE_CONFIG,
    &SERVICE_SECRET,
    &VOLUME,
    &VOLUME_OPTIONS,
    &VOLUME_X_CASEMATE,
    &CONFIG,
    &SECRET,
];

impl Table {
    /// The key called `name`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// Reason of keys that would do no harm and that this version does not have.
pub const NOT_YET: &str = "not supported yet";
const FALSE: &[&str] = &["false"];

const fn honoured(name: &'static str) -> Key {
    Key { name, disposition: Disposition::Honoured, harmless: &[] }
}

const fn limited(name: &'static str, limits: &'static str) -> Key {
    Key { name, disposition: Disposition::Limited(limits), harmless: &[] }
}

const fn refused(name: &'static str, reason: &'static str, instead: &'static str) -> Key {
    Key { name, disposition: Disposition::Refused { reason, instead }, harmless: &[] }
}

const fn ignored(name: &'static str, reason: &'static str) -> Key {
    Key { name, disposition: Disposition::Ignored(reason), harmless: &[] }
}

const fn no_effect(name: &'static str, reason: &'static str) -> Key {
    Key { name, disposition: Disposition::NoEffect(reason), harmless: &[] }
}

const fn unless(key: Key, harmless: &'static [&'static str]) -> Key {
    Key { harmless, ..key }
}
