//! The result as a signed token: EAR (draft-ietf-rats-ear-04) as JWT with ES256.

use std::path::{Path, PathBuf};

use casemate_jose::SigningKey;
use casemate_protocol::ear::{EAR_TYP, Ear};
use clap::Args;

use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::lines;

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
        Ok(Some(Writer { place, key: inputs::read_key(key, "casemate ear keygen")? }))
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
