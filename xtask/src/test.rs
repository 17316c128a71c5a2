//! `cargo xtask test`: everything that CI checks, with a summary.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::process::{cargo, run as run_command, stream, target_dir};
use crate::{demo, dist, fuzz, layers, setup};

/// Time for one check.
const CHECK_BOUND: Duration = Duration::from_secs(1800);
/// The crate whose tests run the real programs.
const SYSTEM_TESTS: &str = "casemate-systemtest";
/// Time for each fuzz target; two run at a time.
const FUZZ_SECONDS: &str = "30";
/// How many of the last lines are shown where tests fail.
const SHOWN_LINES: usize = 200;

/// Counts of one run.
#[derive(Default)]
struct Summary {
    passed: u64,
    failed: u64,
    failures: Vec<String>,
    not_run: Vec<String>,
}

/// Checks everything.
pub(crate) fn run() -> Result<(), String> {
    let begun = Instant::now();
    let mut summary = Summary::default();
    summary.check("setup", setup::run_for_tests);
    summary.check("fmt", || run_command(&mut cargo(&["fmt", "--all", "--check"]), CHECK_BOUND));
    summary.check("layers", layers::run);
    let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    summary.check("clippy", || run_command(&mut cargo(&clippy), CHECK_BOUND));
    let doc = ["doc", "--quiet", "--workspace", "--no-deps", "--locked"];
    summary.check("docs", || run_command(cargo(&doc).env("RUSTDOCFLAGS", "-D warnings"), CHECK_BOUND));
    summary.check("build", || dist::run().map(drop));
    summary.check("demo", || demo::run(demo::After::Stop));
    if summary.failures.iter().any(|failure| failure.starts_with("build")) {
        summary.not_run.push("tests: the build failed".into());
    } else {
        let unit = ["test", "--workspace", "--exclude", SYSTEM_TESTS, "--locked", "--no-fail-fast"];
        summary.tests("tests", &unit);
        // One at a time: they count what is left on the machine, and kill.
        let system =
            ["test", "--package", SYSTEM_TESTS, "--locked", "--no-fail-fast", "--", "--test-threads=1"];
        summary.tests("system tests", &system);
        // After everything that the machine's processors would slow down.
        summary.check("fuzz", || fuzz::run(&["--seconds", FUZZ_SECONDS]));
    }
    summary.report(begun.elapsed())
}

impl Summary {
    fn check(&mut self, name: &str, check: impl FnOnce() -> Result<(), String>) {
        println!("== {name}");
        match check() {
            Ok(()) => self.passed += 1,
            Err(problem) => {
                println!("FAILED {name}: {problem}");
                self.failed += 1;
                self.failures.push(format!("{name}: {problem}"));
            }
        }
    }

    fn tests(&mut self, name: &str, args: &[&str]) {
        println!("== {name}");
        let log = target_dir().join(format!("xtask-{}.log", name.replace(' ', "-")));
        let mut file = std::fs::File::create(&log).ok();
        let mut last = std::collections::VecDeque::new();
        let failed_before = self.failed;
        let mut command = cargo(args);
        // System tests find the programs there.
        command.env("CASEMATE_DIST", target_dir().join("dist/bin"));
        let status = stream(&mut command, CHECK_BOUND, |line| {
            if let Some(file) = &mut file {
                let _ = writeln!(file, "{line}");
            }
            if last.len() == SHOWN_LINES {
                last.pop_front();
            }
            last.push_back(line.to_owned());
            self.take(name, line);
        });
        let ended_well = matches!(&status, Ok(status) if status.success());
        if ended_well {
            return;
        }
        last.iter().for_each(|line| println!("{line}"));
        if self.failed == failed_before {
            // Nothing was counted: it did not compile, or took too long.
            self.failed += 1;
            let why = status.map_or_else(|problem| problem, |status| status.to_string());
            self.failures.push(format!("{name}: {why}"));
        }
    }

    /// A line of libtest's output.
    fn take(&mut self, suite: &str, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            let number = |what: &str| {
                let part = counts.split("; ").find_map(|part| part.strip_suffix(what)).unwrap_or_default();
                part.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
            };
            self.passed += number(" passed");
            self.failed += number(" failed");
        } else if let Some((test, result)) = line.strip_prefix("test ").and_then(|l| l.split_once(" ... ")) {
            if result == "FAILED" {
                println!("FAILED {test}");
                self.failures.push(format!("{suite}: {test}"));
            } else if let Some(reason) = result.strip_prefix("ignored")
                // Another test runs it, in a process of its own.
                && !reason.starts_with(", run by ")
            {
                self.not_run.push(format!("{test}: {}", reason.trim_start_matches(", ")));
            }
        } else if let Some((_, rest)) = line.split_once("not run: ") {
            self.not_run.push(rest.to_owned());
        } else if line.trim_start().starts_with("Running ") {
            println!("{}", line.trim());
        }
    }

    fn report(self, took: Duration) -> Result<(), String> {
        println!("== summary after {} s", took.as_secs());
        for failure in &self.failures {
            println!("FAILED {failure}");
        }
        for reason in &self.not_run {
            println!("not run: {reason}");
        }
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 { Ok(()) } else { Err("not everything passed".into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_results_failures_and_tests_not_run() {
        let mut summary = Summary::default();
        for line in [
            "test a ... ok",
            "test b ... FAILED",
            "test c ... ignored, needs a TPM",
            "test d ... ignored, run by `a` in a process of its own",
            "test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ] {
            summary.take("tests", line);
        }
        assert_eq!((summary.passed, summary.failed), (1, 1));
        assert_eq!(summary.failures, ["tests: b"]);
        assert_eq!(summary.not_run, ["c: needs a TPM"]);
    }
}
