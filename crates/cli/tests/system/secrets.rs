//! Secrets: delivered to one agent, and on no disk.

use std::fs;
use std::path::Path;

use crate::bench::{Bench, MARKER, assert_ok};

#[test]
#[ignore = "system test"]
fn a_secret_reaches_its_agent_and_no_disk() {
    let bench = Bench::ready("t-marker");
    bench.up();
    bench.wait_for_log("keeper", &MARKER.len().to_string());
    assert_eq!(files_with_marker(bench.dir.path()), Vec::<String>::new());
    bench.kill("casemate-warden");
    bench.assert_gone();
    assert_eq!(files_with_marker(bench.dir.path()), Vec::<String>::new());
    bench.up();
    assert_ok(&bench.run(&["down"]));
    assert_eq!(files_with_marker(bench.dir.path()), Vec::<String>::new());
    for shared in ["/var/lib/casemate", "/run/casemate", "/dev/shm", "/var/tmp"] {
        assert_eq!(files_with_marker(Path::new(shared)), Vec::<String>::new());
    }
}

fn files_with_marker(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            // The image is not written to, and is the same file for all tests.
            if !path.ends_with("home/images") {
                found.extend(files_with_marker(&path));
            }
        } else if metadata.is_file()
            && fs::read(&path).is_ok_and(|bytes| bytes.windows(MARKER.len()).any(|w| w == MARKER.as_bytes()))
        {
            found.push(path.display().to_string());
        }
    }
    found
}
