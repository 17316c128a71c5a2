//! `cargo xtask faults`: the fault campaign of the system tests, as long as wanted.

use std::time::Duration;

use crate::process::{cargo, run as run_command, target_dir};
use crate::{dist, setup};

/// Time for one round, and for building.
const ROUND_BOUND: Duration = Duration::from_secs(60);
const BUILD_BOUND: Duration = Duration::from_secs(1800);
const ROUNDS: u32 = 200;
/// The test.
const CAMPAIGN: &str = "campaign::";

/// Words: `--rounds N` and `--seed N`, both at will.
pub(crate) fn run(words: &[&str]) -> Result<(), String> {
    let usage = || "usage: cargo xtask faults [--rounds 200] [--seed 1]".to_owned();
    let (mut rounds, mut seed) = (ROUNDS, 1);
    for pair in words.chunks(2) {
        match pair {
            ["--rounds", number] => rounds = number.parse().map_err(|_| usage())?,
            ["--seed", number] => seed = number.parse().map_err(|_| usage())?,
            _ => return Err(usage()),
        }
    }
    setup::run()?;
    let programs = dist::run()?;
    let mut test =
        cargo(&["test", "--quiet", "--locked", "--package", "casemate-systemtest", "--test", "system"]);
    test.args([CAMPAIGN, "--", "--nocapture", "--test-threads=1"]);
    test.env("CASEMATE_DIST", programs.as_os_str()).env("CARGO_TARGET_DIR", target_dir());
    test.env("CASEMATE_FAULTS_ROUNDS", rounds.to_string()).env("CASEMATE_FAULTS_SEED", seed.to_string());
    run_command(&mut test, BUILD_BOUND + ROUND_BOUND * rounds)
}
