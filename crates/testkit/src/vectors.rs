//! Where tests find evidence of real hardware: `CASEMATE_VECTORS`, or `../shared/vectors` beside the workspace.

use std::path::{Path, PathBuf};

/// The folder of vectors; none where it is not there.
#[must_use]
pub fn find() -> Option<PathBuf> {
    Some(place()).filter(|folder| folder.is_dir())
}

/// The folder of vectors. Without it a test says so by name and does not run.
///
/// # Panics
/// Without it where CI is set: there every test runs.
#[must_use]
pub fn folder(test: &str) -> Option<PathBuf> {
    let found = find();
    if found.is_none() {
        let place = place();
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "{test}: vectors absent at {}",
            place.display()
        );
        eprintln!("{test}: not run: vectors absent at {}", place.display());
    }
    found
}

/// The content of a file there.
///
/// # Panics
/// Where it cannot be read.
#[must_use]
#[expect(clippy::panic, reason = "a test without its vector fails")]
pub fn read(folder: &Path, file: &str) -> Vec<u8> {
    std::fs::read(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn place() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    std::env::var_os("CASEMATE_VECTORS").map_or(beside, PathBuf::from)
}
