//! The command line. A secret is never an argument.

use std::net::SocketAddr;
use std::path::PathBuf;

use casemate_canon::Sha256;
use clap::{Args, Parser, Subcommand};

/// Verifies evidence, decides by policy and releases secrets.
#[derive(Debug, Parser)]
#[command(name = "casemate-broker", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the key-broker protocol until SIGTERM. Prints one JSON line when ready.
    Serve(Serve),
    /// Store, list or remove secrets.
    Secret {
        #[command(flatten)]
        state: State,
        #[command(subcommand)]
        action: SecretAction,
    },
    /// Show the log of decisions and check its chain (exit code 1 where it is broken).
    Log {
        #[command(flatten)]
        state: State,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

/// Where the broker keeps its files.
#[derive(Debug, Args)]
pub(crate) struct State {
    /// State directory (mode 0700), made at first use.
    #[arg(long = "state", value_name = "DIR", global = true, default_value = "/var/lib/casemate-broker")]
    pub(crate) dir: PathBuf,
}

/// Options of `serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) state: State,
    /// Address and port; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8943")]
    pub(crate) listen: SocketAddr,
    /// Appraisal policy, read anew for each evidence.
    #[arg(long, value_name = "TOML")]
    pub(crate) policy: PathBuf,
    /// Endorsements, read anew for each evidence.
    #[arg(long, value_name = "JSON")]
    pub(crate) bundle: PathBuf,
    /// Use only bundles signed by this key: `sha256:` over its public key, as `casemate bundle keygen` prints it. Repeat
    /// for each. Without it any bundle is used: its parts are signed by the vendors, and are verified whoever made it.
    #[arg(long = "bundle-signer", value_name = "SHA256")]
    pub(crate) bundle_signers: Vec<Sha256>,
    /// Serve beside another broker of this state directory, with a policy of its own: what it has attested it forgets
    /// with its end, and what the other has attested it does not know. Without it, one broker serves a directory.
    #[arg(long)]
    pub(crate) beside: bool,
    /// Further name or address in the certificate made at first run.
    #[arg(long = "name", value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// What to do with a secret.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretAction {
    /// Store a secret, read from standard input or a file, byte for byte.
    Put {
        /// Resource path: three parts, for instance desk/secret/api_token.
        resource: String,
        /// Read from this file instead of standard input.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// List paths and versions.
    Ls,
    /// Remove a secret.
    Rm {
        /// Resource path.
        resource: String,
    },
}
