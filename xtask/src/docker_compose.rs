//! A real Docker Compose below `target/`: for the tests that ask whether it still accepts our files.
//!
//! What it is: the newest Debian package of it that runs on this machine, downloaded by apt with a configuration of its
//! own (so that nothing of the system changes) and unpacked without running a script. What it is not: needed by the
//! product. Who trusts it: nobody. apt checks the archive's signatures. Without network the tests say that they did
//! not run.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::debian::{self, Wanted};
use crate::process::{capture, target_dir};

/// Debian suites, newest package first. Debian 12's own package is version 1, in Python, and has other rules.
const SUITES: [&str; 2] = ["forky", "trixie"];
const PACKAGE: &str = "docker-compose";
/// Where the package has its program.
const PROGRAM: &str = "usr/libexec/docker/cli-plugins/docker-compose";
/// Time for a step without network.
const STEP_BOUND: Duration = Duration::from_secs(60);

/// Gets the program where it is not there yet, and says so. Without network this is no error: the tests name the reason.
pub(crate) fn setup() {
    let program = target_dir().join("docker-compose/docker-compose");
    if let Ok(version) = version_of(&program) {
        println!("setup: Docker Compose {version} is there");
        return;
    }
    for suite in SUITES {
        println!("setup: will download Docker Compose of Debian {suite} into target/docker-compose");
        let wanted = Wanted { package: PACKAGE, suite, program: PROGRAM };
        match debian::get(wanted, &program, version_of) {
            Ok(version) => {
                println!("setup: Docker Compose {version} is there");
                return;
            }
            Err(problem) => println!("setup: Docker Compose of Debian {suite}: {problem}"),
        }
    }
    println!("setup: without Docker Compose, the tests that compare with it do not run");
}

/// What the program says of itself; an error where it does not run.
fn version_of(program: &Path) -> Result<String, String> {
    let output = capture(Command::new(program).args(["version", "--short"]), STEP_BOUND)?;
    let version = output.stdout.trim();
    if output.status.success() && version.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(version.to_owned());
    }
    Err(format!("{} does not run: {}", program.display(), output.stderr.trim()))
}
