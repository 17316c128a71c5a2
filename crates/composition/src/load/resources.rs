//! The files that a composition names: where they may be, how many, how large.

use std::collections::BTreeMap;
use std::fmt;

use crate::problem::{FileId, Findings, Place, printable};
use crate::yaml::FILE_BYTES_MAX;

use super::Request;
use super::paths::confine;

/// Most files of one composition, those of variables included.
pub const FILES_MAX: usize = 256;
/// Most bytes of all files together.
pub const BYTES_MAX: usize = 8 << 20;

/// Reads a file of the project.
pub trait Files {
    /// The content of the file at `path`, which is relative to the project directory and has no `.`, `..` or empty
    /// part. Reads at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`ReadError`]. Whoever implements this refuses links that lead out of the project directory.
    fn read(&mut self, path: &str, bytes_max: usize) -> Result<Vec<u8>, ReadError>;
}

/// No file but the ones that were handed in.
#[derive(Debug, Clone, Copy)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&mut self, _path: &str, _bytes_max: usize) -> Result<Vec<u8>, ReadError> {
        Err(ReadError::Other("no file but this one is read here".to_owned()))
    }
}

/// Why a file was not read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// There is none.
    NotFound,
    /// A link leads out of the project directory.
    Outside,
    /// It is larger than asked for.
    TooLarge,
    /// It is a folder, a device, a pipe.
    NotAFile,
    /// The system refused.
    Other(String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("is not there"),
            Self::Outside => f.write_str("is behind a link that leaves the project directory"),
            Self::TooLarge => f.write_str("is too large"),
            Self::NotAFile => f.write_str("is no regular file"),
            Self::Other(why) => write!(f, "cannot be read: {}", printable(why)),
        }
    }
}

/// What a file is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Compose,
    Variables,
}

/// Whether a file has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Required,
    Optional,
}

/// Files with their limits.
pub(super) struct Resources<'f> {
    files: &'f mut dyn Files,
    directory: String,
    prefix: String,
    count: usize,
    bytes_left: usize,
    /// Files of variables that were read: many services may name the same one. None where it is not there.
    variables: BTreeMap<String, Option<FileId>>,
}

impl<'f> Resources<'f> {
    pub(super) fn new(files: &'f mut dyn Files, request: &Request<'_>) -> Self {
        Self {
            files,
            directory: request.directory.clone(),
            prefix: request.prefix.clone(),
            count: 0,
            bytes_left: BYTES_MAX,
            variables: BTreeMap::new(),
        }
    }

    /// Counts a main file.
    pub(super) const fn count_main(&mut self, bytes: usize) {
        self.count = self.count.saturating_add(1);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
    }

    /// The path that `key` names at `place`, relative to the project directory.
    pub(super) fn path(
        &self,
        written: &str,
        key: &str,
        place: Place,
        f: &mut Findings<'_>,
    ) -> Option<String> {
        match confine(written, &self.directory) {
            Ok(path) => {
                if written.starts_with('/') {
                    let what = format!("`{key}` has the absolute path `{}`", printable(written));
                    f.warning(place, what, "write it relative to the file: it then works in every folder");
                }
                Some(path)
            }
            Err(fault) => {
                f.problem(
                    place,
                    format!("`{key}` names `{}`, which {fault}", printable(written)),
                    fault.todo(),
                );
                None
            }
        }
    }

    /// The file at `path`, which `key` names at `place`. `Ok(None)` where it is optional and not there.
    pub(super) fn read(
        &mut self,
        path: &str,
        role: Role,
        need: Need,
        (key, place): (&str, Place),
        f: &mut Findings<'_>,
    ) -> Result<Option<FileId>, ()> {
        let known = self.variables.get(path).copied().filter(|_| role == Role::Variables);
        let file = match known {
            Some(file) => file,
            None => self.open(path, role, (key, place), f)?,
        };
        if role == Role::Variables {
            self.variables.insert(path.to_owned(), file);
        }
        if file.is_none() && need == Need::Required {
            let what = format!("`{key}` names `{}`, which is not there", printable(path));
            f.problem(place, what, "correct the path, or make the file");
            return Err(());
        }
        Ok(file)
    }

    fn open(
        &mut self,
        path: &str,
        role: Role,
        (key, place): (&str, Place),
        f: &mut Findings<'_>,
    ) -> Result<Option<FileId>, ()> {
        if self.count >= FILES_MAX {
            f.problem(place, format!("more than {FILES_MAX} files"), "use fewer files");
            return Err(());
        }
        self.count = self.count.saturating_add(1);
        let bytes_max = self.bytes_left.min(FILE_BYTES_MAX);
        let shown = printable(path);
        let bytes = match self.files.read(path, bytes_max) {
            Ok(bytes) if bytes.len() <= bytes_max => bytes,
            Ok(_) | Err(ReadError::TooLarge) => {
                let what = format!(
                    "`{key}` names `{shown}`, which is larger than {FILE_BYTES_MAX} bytes, or all files together are \
                     larger than {BYTES_MAX}"
                );
                f.problem(place, what, "check that this is the right file, or split the composition");
                return Err(());
            }
            Err(ReadError::NotFound) => return Ok(None),
            Err(error) => {
                f.problem(
                    place,
                    format!("`{key}` names `{shown}`, which {error}"),
                    "name a file of the project",
                );
                return Err(());
            }
        };
        self.bytes_left = self.bytes_left.saturating_sub(bytes.len());
        let name = format!("{}{path}", self.prefix);
        match String::from_utf8(bytes) {
            Ok(text) if role == Role::Compose => Ok(Some(f.add(&name, &text))),
            Ok(text) => Ok(Some(f.add_variables(&name, &text))),
            Err(error) => {
                let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
                let line = good.iter().filter(|byte| **byte == b'\n').count().saturating_add(1);
                let what = format!("`{key}` names `{shown}`, which is not UTF-8 text in line {line}");
                f.problem(place, what, "save the file as UTF-8");
                Err(())
            }
        }
    }
}
