//! Files with bounds, and failures that name them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Outcome, one_line};

/// Most names tried for a temporary file: those of earlier runs that were killed may be taken.
const TEMPORARY_NAMES_MAX: u32 = 100;

/// Reads a file of bounded size.
pub(crate) fn read_bytes(path: &Path, bytes_max: usize, todo: &str) -> Outcome<Vec<u8>> {
    let failed = |error: std::io::Error| Failure::input(format!("{}: {error}", path.display()), todo);
    let file = File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Failure::input(format!("{}: not a regular file", path.display()), todo));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > bytes_max {
        return Err(Failure::input(format!("{}: more than {bytes_max} bytes", path.display()), todo));
    }
    Ok(bytes)
}

/// Reads a text file of bounded size.
pub(crate) fn read_text(path: &Path, bytes_max: usize, todo: &str) -> Outcome<String> {
    let bytes = read_bytes(path, bytes_max, todo)?;
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        Failure::input(
            format!("{}:{line}:{column}: not UTF-8 text", path.display()),
            "save the file as UTF-8",
        )
    })
}

/// Makes a folder that only its owner may enter, unless it is there.
pub(crate) fn make_dir(path: &Path) -> Outcome<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        Failure::environment(
            format!("{}: {error}", path.display()),
            "run the command as root, or set CASEMATE_HOME to a folder that you may write",
        )
    })
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Outcome<()> {
    write_with_mode(path, bytes, 0o644)
}

/// Likewise, for its owner alone.
pub(crate) fn write_private_file(path: &Path, bytes: &[u8]) -> Outcome<()> {
    write_with_mode(path, bytes, 0o600)
}

/// Writes a file for its owner alone, where nothing is: neither a file nor a link that points nowhere.
pub(super) fn create_new_private_file(path: &Path, bytes: &[u8], todo: &str) -> Outcome<()> {
    let opened = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
    let mut file = opened.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            Failure::input(format!("{}: there is a file already", path.display()), todo)
        }
        _ => cannot_write(path, &error),
    })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| {
        // What is half written helps nobody.
        let _ = std::fs::remove_file(path);
        cannot_write(path, &error)
    })
}

/// Opens an empty file for its owner alone.
pub(crate) fn create_private_file(path: &Path) -> Outcome<File> {
    OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| cannot_write(path, &error))
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> Outcome<()> {
    let (temporary, mut file) = create_beside(path, mode).map_err(|error| cannot_write(path, &error))?;
    let mut write = || -> std::io::Result<()> {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        // What is half written helps nobody.
        let _ = std::fs::remove_file(&temporary);
        cannot_write(path, &error)
    })
}

/// A new file beside `path`. One that is there, a link that somebody laid among them, is never opened: another name is
/// tried.
fn create_beside(path: &Path, mode: u32) -> std::io::Result<(PathBuf, File)> {
    let mut tried = 0;
    loop {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.{tried}.tmp", std::process::id()));
        let temporary = path.with_file_name(name);
        match OpenOptions::new().create_new(true).write(true).mode(mode).open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && tried < TEMPORARY_NAMES_MAX => {
                tried += 1
            }
            Err(error) => return Err(error),
        }
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    if error.kind() == ErrorKind::NotFound {
        return Failure::input(format!("{}: {error}", path.display()), "name a file in a folder that exists");
    }
    Failure::environment(
        format!("{}: {error}", path.display()),
        "free some space, or make the folder writable",
    )
}

/// What happened and what to do, as the last failure in a log written by this program has it.
pub(crate) fn error_lines(log: &Path) -> Option<(String, String)> {
    let text = read_text(log, 1 << 20, "").ok()?;
    let what = text.lines().rev().find_map(|line| line.strip_prefix("error: "))?;
    let todo = text.lines().rev().find_map(|line| line.strip_prefix("to do: "))?;
    Some((one_line(what), one_line(todo)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    #[test]
    fn refuses_files_over_the_bound_missing_files_and_folders() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "1234").unwrap();
        assert_eq!(read_bytes(&path, 4, "t").unwrap(), b"1234");
        assert_eq!(read_bytes(&path, 3, "t").unwrap_err().kind, Kind::Input);
        assert_eq!(read_bytes(dir.path(), 3, "t").unwrap_err().kind, Kind::Input);
        assert_eq!(read_bytes(&dir.path().join("b"), 3, "t").unwrap_err().kind, Kind::Input);
    }

    #[test]
    fn says_where_text_is_not_utf8() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, b"ab\nc\xff").unwrap();
        let failure = read_text(&path, 100, "t").unwrap_err();
        assert!(failure.what.ends_with("a:2:2: not UTF-8 text"), "{}", failure.what);
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("folder");
        std::fs::create_dir(&target).unwrap();
        assert_eq!(write_file(&target, b"x").unwrap_err().kind, Kind::Environment);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_in_a_folder_that_does_not_exist_is_unusable_input() {
        let dir = tempfile::tempdir().unwrap();
        let failure = write_file(&dir.path().join("none/evidence.json"), b"x").unwrap_err();
        assert_eq!(
            (failure.kind, failure.todo.as_str()),
            (Kind::Input, "name a file in a folder that exists")
        );
    }

    #[test]
    fn a_link_laid_where_the_temporary_file_goes_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "keep").unwrap();
        for tried in ["", ".0", ".1"] {
            let laid = dir.path().join(format!("policy.toml.{}{tried}.tmp", std::process::id()));
            std::os::unix::fs::symlink(&victim, laid).unwrap();
        }
        write_file(&dir.path().join("policy.toml"), b"new").unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"keep");
        assert_eq!(std::fs::read(dir.path().join("policy.toml")).unwrap(), b"new");
    }

    #[test]
    fn finds_the_failure_in_a_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "noise\nerror: broker ended\nto do: read it\n").unwrap();
        assert_eq!(error_lines(&path), Some(("broker ended".into(), "read it".into())));
    }
}
