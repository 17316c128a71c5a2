//! The result as a signed token: EAR (draft-ietf-rats-ear-04) as JWT with ES256.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use casemate_jose::SigningKey;
use casemate_protocol::ear::{EAR_TYP, Ear};
use clap::Args;

use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::lines;

/// Permission bits of everybody but the owner.
const MODE_OTHERS: u32 = 0o077;
/// What to do about a key.
const KEY_TODO: &str =
    "give a P-256 key as PKCS #8 or JWK, readable by its owner alone; `casemate ear keygen` makes one";

/// Where the token goes, and who signs it.
#[derive(Args, Debug)]
pub(super) struct EarArgs {
    /// Write the result as a signed token too, for a refusal as for a pass; `-` is standard output, in place of the text
    #[arg(long, value_name = "FILE", requires = "ear_key")]
    ear: Option<PathBuf>,
    /// Key that signs the token: `casemate ear keygen` makes one
    #[arg(long, value_name = "FILE", requires = "ear")]
    ear_key: Option<PathBuf>,
}

/// A key and a place.
pub(super) struct Writer<'a> {
    place: &'a Path,
    key: SigningKey,
}

/// Where a token went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    ToStandardOutput,
    ToFile,
}

impl EarArgs {
    /// Reads the key, before anything is appraised.
    pub(super) fn writer(&self, files: usize) -> Outcome<Option<Writer<'_>>> {
        let (Some(place), Some(key)) = (&self.ear, &self.ear_key) else { return Ok(None) };
        if files != 1 {
            return Err(Failure::input(
                "--ear is for one FILE",
                "verify each FILE by itself, with a token of its own",
            ));
        }
        Ok(Some(Writer { place, key: read_key(key)? }))
    }
}

impl Writer<'_> {
    /// Signs and writes.
    pub(super) fn write(&self, ear: &Ear) -> Outcome<Written> {
        let token = self.key.sign_jwt(EAR_TYP, ear);
        let token = token.map_err(|error| Failure::environment(format!("token: {error}"), "try again"))?;
        if self.place == Path::new("-") {
            lines::print(token);
            return Ok(Written::ToStandardOutput);
        }
        inputs::write_file(self.place, format!("{token}\n").as_bytes())?;
        Ok(Written::ToFile)
    }
}

/// A signing key whose file nobody else may read.
pub(crate) fn read_key(path: &Path) -> Outcome<SigningKey> {
    let failed = |error: std::io::Error| Failure::input(format!("{}: {error}", path.display()), KEY_TODO);
    let mode = std::fs::metadata(path).map_err(failed)?.mode();
    if mode & MODE_OTHERS != 0 {
        return Err(Failure::input(
            format!(
                "{}: others than its owner may use this key (mode {:04o})",
                path.display(),
                mode & 0o7777
            ),
            format!("make it its owner's alone: `chmod 600 {}`; or make another one", path.display()),
        ));
    }
    let bytes = inputs::read_bytes(path, casemate_endorsements::KEY_BYTES_MAX, KEY_TODO)?;
    casemate_endorsements::read_signing_key(&bytes)
        .map_err(|error| Failure::input(format!("{}: {error}", path.display()), KEY_TODO))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::failure::Kind;

    #[test]
    fn a_key_that_others_may_read_is_refused_before_it_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        let key = SigningKey::generate().unwrap();
        std::fs::write(&path, casemate_endorsements::signing_key_pem(&key).unwrap()).unwrap();
        for (mode, usable) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            match read_key(&path) {
                Ok(read) => assert!(usable && read.jwk() == key.jwk(), "{mode:o}"),
                Err(failure) => {
                    assert!(!usable, "{mode:o}: {failure}");
                    assert_eq!(failure.kind, Kind::Input);
                    assert!(failure.todo.contains("chmod 600"), "{failure}");
                }
            }
        }
        assert_eq!(read_key(&dir.path().join("none")).err().unwrap().kind, Kind::Input);
        std::fs::write(&path, "no key").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read_key(&path).err().unwrap().what.contains("not a private P-256 key"));
    }
}
