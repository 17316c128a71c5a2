//! `cargo xtask bench`: measurements.

use std::process::Command;
use std::time::Duration;

use crate::process::{cargo, run as run_command, target_dir};
use crate::{dist, setup};

/// Time for building and for one run.
const BOUND: Duration = Duration::from_secs(900);

/// Runs a measurement.
pub(crate) fn run(args: &[&str]) -> Result<(), String> {
    if args != ["launch"] {
        return Err("there is one measurement: `cargo xtask bench launch`".into());
    }
    setup::run()?;
    let launcher = dist::launcher(dist::Profile::Release)?;
    run_command(&mut cargo(&["build", "--quiet", "--release", "--package", "casemate-bench"]), BOUND)?;
    run_command(Command::new(target_dir().join("release/casemate-bench")).arg("launch").arg(launcher), BOUND)
}
