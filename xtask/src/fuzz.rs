//! `cargo xtask fuzz`: hostile input for every parser and for whole verifications, on a stable compiler.
//!
//! Each target runs in a process of its own, so that one that dies or hangs is a finding like any other and its
//! input is known. Two run at a time where there are two processors or more.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::process::{capture, cargo, root, run as run_command, target_dir};

/// Time for building.
const BUILD_BOUND: Duration = Duration::from_secs(1200);
/// Time beyond its own that a target may take: keys are made, and a slow input is run again.
const GRACE: Duration = Duration::from_secs(120);
/// Seconds for each target where none are given.
const SECONDS: u64 = 30;
/// Seed where none is given.
const SEED: u64 = 1;
/// Most targets at a time.
const PARALLEL_MAX: usize = 2;
/// Exit code of a target with findings.
const FOUND: i32 = 1;

/// What to run.
struct Options {
    seconds: u64,
    seed: u64,
    targets: Vec<String>,
}

/// Runs targets, or one input of one again.
pub(crate) fn run(args: &[&str]) -> Result<(), String> {
    let program = build()?;
    if let ["replay", target, file] = args {
        return run_command(Command::new(program).args(["replay", target, file]), GRACE);
    }
    let known = known_targets(&program)?;
    if args == ["list"] {
        known.iter().for_each(|(name, what)| println!("{name:16} {what}"));
        return Ok(());
    }
    let options = options(args, &known)?;
    let out = target_dir().join("fuzz/findings");
    println!(
        "{:16} {:>10} {:>8} {:>6} {:>6} {:>10} {:>6} {:>8}",
        "target", "executions", "exec/s", "s", "corpus", "peak bytes", "seed", "findings"
    );
    let begun = Instant::now();
    let queue = Mutex::new(options.targets.iter().map(String::as_str).collect::<VecDeque<_>>());
    let bad = Mutex::new(Vec::new());
    let parallel = std::thread::available_parallelism().map_or(1, usize::from).min(PARALLEL_MAX);
    std::thread::scope(|scope| {
        for _ in 0..parallel {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(target) = next else { return };
                    if let Err(problem) = run_target(&program, target, &options, &out) {
                        bad.lock().unwrap_or_else(PoisonError::into_inner).push(problem);
                    }
                }
            });
        }
    });
    let bad = bad.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "fuzz: {} targets, {} s each, {} s",
        options.targets.len(),
        options.seconds,
        begun.elapsed().as_secs()
    );
    if bad.is_empty() { Ok(()) } else { Err(bad.join("; ")) }
}

fn options(args: &[&str], known: &[(String, String)]) -> Result<Options, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is not a number"));
    let mut options = Options { seconds: SECONDS, seed: SEED, targets: Vec::new() };
    let mut args = args;
    loop {
        args = match args {
            ["--seconds", seconds, rest @ ..] => {
                options.seconds = number(seconds)?;
                rest
            }
            ["--seed", seed, rest @ ..] => {
                options.seed = number(seed)?;
                rest
            }
            [name, rest @ ..] if known.iter().any(|(target, _)| target == name) => {
                options.targets.push((*name).to_owned());
                rest
            }
            [] => break,
            [other, ..] => return Err(format!("no target `{other}`; `cargo xtask fuzz list` names them")),
        };
    }
    if options.targets.is_empty() {
        options.targets = known.iter().map(|(name, _)| name.clone()).collect();
    }
    Ok(options)
}

fn build() -> Result<PathBuf, String> {
    run_command(&mut cargo(&["build", "--quiet", "--locked", "--package", "casemate-fuzz"]), BUILD_BOUND)?;
    Ok(target_dir().join("debug/casemate-fuzz"))
}

fn known_targets(program: &Path) -> Result<Vec<(String, String)>, String> {
    let listed = capture(Command::new(program).arg("list"), GRACE)?;
    let targets = listed.stdout.lines().filter_map(|line| line.split_once('\t'));
    Ok(targets.map(|(name, what)| (name.to_owned(), what.to_owned())).collect())
}

fn run_target(program: &Path, target: &str, options: &Options, out: &Path) -> Result<(), String> {
    let (seconds, seed) = (options.seconds.to_string(), options.seed.to_string());
    let mut command = Command::new(program);
    command.args(["run", target, &seconds, &seed]).arg(out).current_dir(root());
    let ended = capture(&mut command, Duration::from_secs(options.seconds) + GRACE);
    if let Ok(output) = &ended {
        print!("{}", output.stdout);
    }
    match ended {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) if output.status.code() == Some(FOUND) => {
            let found: Vec<&str> =
                output.stdout.lines().filter_map(|line| line.strip_prefix("FOUND ")).collect();
            Err(found.join("; "))
        }
        Ok(output) => Err(died(target, out, &format!("{}: {}", output.status, output.stderr.trim()))),
        Err(problem) => Err(died(target, out, &problem)),
    }
}

/// The process ended before it could say why: the input that ran is the finding.
fn died(target: &str, out: &Path, how: &str) -> String {
    let running = std::fs::read(out.join(format!("{target}.running"))).unwrap_or_default();
    let (length, rest) = running.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let file = out.join(format!("{target}-died.bin"));
    let input = rest.get(..length).unwrap_or(rest);
    match std::fs::write(&file, input) {
        Ok(()) => format!("{target}: {how}: {}", file.display()),
        Err(error) => format!("{target}: {how} (input not written: {error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_seconds_seed_and_known_targets_only() {
        let known = [("a".to_owned(), String::new()), ("b".to_owned(), String::new())];
        let all = options(&["--seconds", "5", "--seed", "7"], &known).unwrap();
        assert_eq!((all.seconds, all.seed, all.targets.len()), (5, 7, 2));
        assert_eq!(options(&["b"], &known).unwrap().targets, ["b"]);
        assert!(options(&["c"], &known).is_err());
        assert!(options(&["--seconds", "x"], &known).is_err());
    }

    #[test]
    fn keeps_the_input_of_a_process_that_died() {
        let out = std::env::temp_dir().join(format!("casemate-xtask-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&out).unwrap();
        std::fs::write(out.join("t.running"), b"\x02\x00\x00\x00abrest of a longer one").unwrap();
        assert!(died("t", &out, "signal 11").starts_with("t: signal 11: "));
        assert_eq!(std::fs::read(out.join("t-died.bin")).unwrap(), b"ab");
        std::fs::remove_dir_all(&out).unwrap();
    }
}
