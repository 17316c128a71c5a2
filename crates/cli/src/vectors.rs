//! Where the tests find evidence of real hardware: `CASEMATE_VECTORS`, or `../shared/vectors` beside the workspace.

use std::path::{Path, PathBuf};

/// The folder of vectors. Without it a test says so by name and does not run; where CI is set it fails.
pub(crate) fn folder(test: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    let folder = std::env::var_os("CASEMATE_VECTORS").map_or(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{test}: vectors absent at {}", folder.display());
    eprintln!("{test}: not run: vectors absent at {}", folder.display());
    None
}

/// The content of a file there.
pub(crate) fn read(folder: &Path, file: &str) -> Vec<u8> {
    std::fs::read(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}
