//! `cargo xtask bench`: measurements.

use std::process::Command;
use std::time::Duration;

use crate::process::{capture, cargo, run as run_command, target_dir};
use crate::{dist, setup};

/// Time for building and for one run.
const BOUND: Duration = Duration::from_secs(900);
/// Time that a look may take.
const LOOK_BOUND: Duration = Duration::from_secs(30);
/// What `sev` needs for its faster way of computing.
const OPENSSL: [(&str, &str); 2] = [
    ("pkg-config", "finds OpenSSL for `sev`, a measure that `bench verify` compares with"),
    ("libssl-dev", "OpenSSL for it"),
];

/// Runs a measurement.
pub(crate) fn run(args: &[&str]) -> Result<(), String> {
    match args {
        ["launch"] => launch(),
        ["verify"] => verify(),
        _ => Err("the measurements are `cargo xtask bench launch` and `cargo xtask bench verify`".into()),
    }
}

fn launch() -> Result<(), String> {
    setup::run()?;
    let launcher = dist::launcher(dist::Profile::Release)?;
    build(&[])?;
    run_command(Command::new(program("casemate-bench")).arg("launch").arg(launcher), BOUND)
}

/// With OpenSSL where it is or can be installed, because `sev` is faster with it.
fn verify() -> Result<(), String> {
    if !has_openssl()
        && let Err(problem) = setup::install(&OPENSSL)
    {
        println!("bench: `sev` is measured without OpenSSL, and so slower than it can be: {problem}");
    }
    build(if has_openssl() { &["--no-default-features", "--features", "sev-openssl"] } else { &[] })?;
    run_command(Command::new(program("casemate-bench")).arg("verify"), BOUND)?;
    run_command(&mut Command::new(program("casemate-bench-memory")), BOUND)
}

fn build(features: &[&str]) -> Result<(), String> {
    let mut command = cargo(&["build", "--quiet", "--release", "--package", "casemate-bench"]);
    run_command(command.args(features), BOUND)
}

fn program(name: &str) -> std::path::PathBuf {
    target_dir().join("release").join(name)
}

fn has_openssl() -> bool {
    let looked = capture(Command::new("pkg-config").args(["--exists", "openssl"]), LOOK_BOUND);
    looked.is_ok_and(|output| output.status.success())
}
