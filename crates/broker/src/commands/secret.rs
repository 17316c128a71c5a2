//! `casemate-broker secret put|ls|rm`. A secret comes from standard input or a file, and is never printed.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::process::ExitCode;

use casemate_protocol::rcar::{SECRET_BYTES_MAX, is_resource_path};
use zeroize::Zeroizing;

use crate::arguments::SecretAction;
use crate::clock::now_s;
use crate::failure::Failure;
use crate::keys;
use crate::state_dir::StateDir;
use crate::store::Store;
use crate::vault::Vault;

/// Stores, lists or removes.
pub(crate) fn run(state: &Path, action: SecretAction) -> Result<ExitCode, Failure> {
    match action {
        SecretAction::Put { resource, file } => {
            require_path(&resource)?;
            let secret = read_secret(file.as_deref())?;
            let state = StateDir::open(state)?;
            let vault = Vault::new(&*keys::secrets_key(&state)?)?;
            let version = Store::open(&state)?.put_secret(&vault, &resource, &secret, now_s())?;
            print(&format!("stored {resource} (version {version})\n"))?;
        }
        SecretAction::Ls => {
            let listed = Store::open(&StateDir::open(state)?)?.list_secrets()?;
            let lines = listed.iter().map(|row| format!("{}\tversion {}\n", row.resource, row.version));
            print(&lines.collect::<String>())?;
        }
        SecretAction::Rm { resource } => {
            require_path(&resource)?;
            if !Store::open(&StateDir::open(state)?)?.remove_secret(&resource, now_s())? {
                return Err(Failure::NoSecret { resource });
            }
            print(&format!("removed {resource}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn require_path(resource: &str) -> Result<(), Failure> {
    if is_resource_path(resource) { Ok(()) } else { Err(Failure::Resource { found: resource.to_owned() }) }
}

fn read_secret(file: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match file {
        Some(path) => {
            let failed = |error| Failure::Io { what: path.display().to_string(), error };
            read_bounded(File::open(path).map_err(failed)?).map_err(failed)
        }
        None => read_bounded(io::stdin().lock())
            .map_err(|error| Failure::Io { what: String::from("standard input"), error }),
    }
    .and_then(|secret| {
        let found = secret.len();
        let max = SECRET_BYTES_MAX;
        if (1..=max).contains(&found) { Ok(secret) } else { Err(Failure::SecretLength { found, max }) }
    })
}

/// Reads one byte more than allowed at most, into a buffer that does not move (a move would leave a copy behind).
fn read_bounded(source: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let limit = SECRET_BYTES_MAX.saturating_add(1);
    let mut secret = Zeroizing::new(vec![0; limit]);
    let mut source = source;
    let mut length = 0;
    while let Some(rest) = secret.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(count) => length = length.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    secret.truncate(length);
    Ok(secret)
}

fn print(text: &str) -> Result<(), Failure> {
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::Io { what: String::from("standard output"), error })
}
