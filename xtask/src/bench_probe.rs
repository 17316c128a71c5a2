//! `cargo xtask bench probe`: the peer probe's battery against six targets, in one table.
//!
//! Options: `--dev` measures a development build, `--short` plays the short battery; then names of targets, if not all:
//! plain, docker, runc, native, share, gvisor. Targets that cannot be got are left out, and the measurement says so.

use std::process::Command;
use std::time::Duration;

use crate::process::{cargo, run as run_command, target_dir};
use crate::{bench_compartments, dist, docker_compose, gvisor, setup};

/// Time for one run: six batteries.
const RUN_BOUND: Duration = Duration::from_secs(1800);
/// Time for a build.
const BUILD_BOUND: Duration = Duration::from_secs(3600);

/// Runs the measurement.
pub(crate) fn run(words: &[&str]) -> Result<(), String> {
    let work = target_dir().join("bench");
    std::fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    setup::run()?;
    for problem in [bench_compartments::docker(&work), gvisor::setup()].into_iter().filter_map(Result::err) {
        println!("bench: a target is missing: {problem}");
    }
    docker_compose::setup();
    let is_dev = words.contains(&"--dev");
    let (profile, folder) =
        if is_dev { (dist::Profile::Dev, "debug") } else { (dist::Profile::Release, "release") };
    let programs = dist::run_as(profile)?;
    let mut build = cargo(&["build", "--quiet", "--package", "casemate-bench", "--bin", "casemate-bench"]);
    if !is_dev {
        build.arg("--release");
    }
    run_command(&mut build, BUILD_BOUND)?;
    // Mounts end with the namespace, whatever happens.
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    command.arg(target_dir().join(folder).join("casemate-bench")).arg("probe").arg(programs).arg(&work);
    command.args(words.iter().filter(|word| **word != "--dev"));
    run_command(&mut command, RUN_BOUND)
}
