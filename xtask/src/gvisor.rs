//! gVisor's `runsc` below `target/`: for the tests of the backend `gvisor`.
//!
//! What it is: Debian's package from bookworm-backports, downloaded by apt with a configuration of its own (so that nothing
//! of the system changes) and unpacked without running a script. What it is not: installed. Who installs the package
//! instead gets the same program. Who trusts it: the tests. apt checks the archive's signatures.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::debian::{self, Wanted};
use crate::process::{capture, target_dir};

const PACKAGE: Wanted = Wanted { package: "runsc", suite: "bookworm-backports", program: "usr/bin/runsc" };
/// Time for a look.
const LOOK_BOUND: Duration = Duration::from_secs(60);

/// Where it is.
pub(crate) fn program() -> PathBuf {
    target_dir().join("gvisor/runsc")
}

/// Gets the program where it is not there yet, and says so.
pub(crate) fn setup() -> Result<(), String> {
    let program = program();
    if let Ok(version) = version_of(&program) {
        println!("setup: gVisor, {version}, is there");
        return Ok(());
    }
    println!("setup: will download gVisor's runsc of Debian bookworm-backports into target/gvisor");
    let version = debian::get(PACKAGE, &program, version_of)?;
    println!("setup: gVisor, {version}, is there");
    Ok(())
}

/// What the program says of itself; an error where it does not run.
fn version_of(program: &Path) -> Result<String, String> {
    let output = capture(Command::new(program).arg("--version"), LOOK_BOUND)?;
    let version = output.stdout.lines().next().unwrap_or_default();
    if output.status.success() && version.starts_with("runsc") {
        return Ok(version.to_owned());
    }
    Err(format!("{} does not run: {}", program.display(), output.stderr.trim()))
}
