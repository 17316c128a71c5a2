//! What the inputs to begin with are made of: a stored development PKI, and real evidence where it is present.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use casemate_testkit::{DevPki, Tee};

/// 2026-06-01T00:00:00Z: when everything is made and appraised.
pub const NOW: u64 = 1_780_272_000;
/// Largest real file that is taken.
const REAL_BYTES_MAX: u64 = 64 << 10;
/// Most real files for one target.
const REAL_FILES_MAX: usize = 24;

/// A development PKI. Keys that are stored once make the same inputs next time.
///
/// # Panics
/// Where none can be made: there is nothing to run then.
#[expect(clippy::expect_used, reason = "without keys there is nothing to run")]
pub fn pki(tee: Tee) -> &'static DevPki {
    static TDX: OnceLock<DevPki> = OnceLock::new();
    static SNP: OnceLock<DevPki> = OnceLock::new();
    let (slot, name) = match tee {
        Tee::Tdx => (&TDX, "tdx"),
        Tee::Snp => (&SNP, "snp"),
    };
    slot.get_or_init(|| {
        let dir = target_dir().join("fuzz/pki").join(name);
        let stored =
            std::fs::create_dir_all(&dir).ok().and_then(|()| DevPki::load_or_generate(&dir, tee, NOW).ok());
        stored.unwrap_or_else(|| DevPki::generate(tee, NOW).expect("keys can be made"))
    })
}

/// Files of real evidence below `CASEMATE_VECTORS`, or `../shared/vectors` beside the workspace, of which `wanted` is
/// true of the path. None where there is no such folder.
#[must_use]
pub fn real(wanted: impl Fn(&str) -> bool) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    if let Some(folder) = casemate_testkit::vectors::find() {
        collect(&folder, &mut files);
    }
    files.sort();
    files
        .into_iter()
        .filter(|path| path.to_str().is_some_and(&wanted))
        .filter_map(|path| std::fs::read(path).ok())
        .take(REAL_FILES_MAX)
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => collect(&entry.path(), files),
            Ok(metadata) if metadata.is_file() && metadata.len() <= REAL_BYTES_MAX => {
                files.push(entry.path())
            }
            _ => {}
        }
    }
}

fn target_dir() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    std::env::var_os("CARGO_TARGET_DIR").map_or(beside, PathBuf::from)
}
