//! How a subcommand fails: what happened, what to do, an exit code.
//!
//! What it is: the one mapping of errors to two lines and an exit code. What it is not: the mapping to HTTP status
//! (`api::error`). Who trusts it: people and scripts at the command line.

use std::process::ExitCode;

use crate::inputs::InputsError;
use crate::keys::KeyError;
use crate::state_dir::StateError;
use crate::store::StoreError;
use crate::tls::TlsError;
use crate::vault::VaultError;

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Policy or bundle.
    #[error(transparent)]
    Inputs(#[from] InputsError),
    /// Not a resource path.
    #[error("`{found}` is not a resource path")]
    Resource {
        /// What was given.
        found: String,
    },
    /// The secret is empty or too long.
    #[error("secret of {found} bytes, at least 1 and at most {max} allowed")]
    SecretLength {
        /// Its length, as far as read.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// No such secret.
    #[error("no secret is stored under `{resource}`")]
    NoSecret {
        /// The path.
        resource: String,
    },
    /// State directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// Keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Encryption.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A restriction could not be applied.
    #[error("cannot give up core files: {0}")]
    Isolation(#[from] rustix::io::Errno),
    /// Reading a secret, writing a listing, or the listening socket.
    #[error("{what}: {error}")]
    Io {
        /// What was under way.
        what: String,
        /// What the system said.
        error: std::io::Error,
    },
}

impl Failure {
    /// Prints the two lines and gives the exit code: 2 for what the caller gave, 3 for the rest, as `casemate` has them.
    pub(crate) fn report(&self) -> ExitCode {
        let (code, todo) = match self {
            Self::Inputs(error) => (2, error.todo()),
            Self::Resource { .. } => {
                (2, "write three parts of letters, digits, `_`, `-`, `.`, like desk/secret/token")
            }
            Self::SecretLength { .. } => (2, "give the secret on standard input, or with --file"),
            Self::NoSecret { .. } => (2, "see `casemate-broker secret ls` for what is stored"),
            Self::State(StateError::Exposed { .. }) => {
                (3, "make it private (chmod go=), and replace what others may have read")
            }
            Self::State(StateError::Owner { .. }) => (3, "run the broker as the user whose files they are"),
            Self::State(StateError::Locked { .. }) => (3, "stop the other broker, or choose another --state"),
            Self::State(_) => (3, "check the path given with --state and its permissions"),
            Self::Key(_) => (3, "restore the state directory from a backup, or start a new one"),
            Self::Tls(TlsError::Name { .. }) => (2, "give names or addresses as they stand in the URL"),
            Self::Tls(TlsError::NameMissing { .. }) => (
                2,
                "remove tls.crt and tls.key from the state directory, and hand the new certificate to clients",
            ),
            Self::Tls(_) => (3, "restore tls.crt and tls.key, or remove both to make new ones"),
            Self::Store(StoreError::Locked) => (3, "try again when the other process is done"),
            Self::Store(StoreError::Full) => (3, "free space where the state directory lies"),
            Self::Store(StoreError::Schema { .. }) => {
                (3, "use the version that made it, or start with a new --state directory")
            }
            Self::Store(_) => (3, "restore broker.db from a backup, and check it with `casemate-broker log`"),
            Self::Vault(_) => (3, "put the secret again, or restore secrets.key"),
            Self::Isolation(_) => (3, "run it on Linux, without a filter that forbids prctl or setrlimit"),
            Self::Io { .. } => (3, "check file, permissions and address"),
        };
        eprintln!("error: {self}\nto do: {todo}");
        ExitCode::from(code)
    }
}
