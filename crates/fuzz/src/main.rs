//! Runs targets; `cargo xtask fuzz` calls it, one process for each target.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use casemate_fuzz::runner::{Meter, Report, Run, fuzz, replay};
use casemate_fuzz::{Target, targets};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const METER: Meter = Meter {
    reset: || ALLOCATOR.reset_peak_usage(),
    current: || ALLOCATOR.current_usage(),
    peak: || ALLOCATOR.peak_usage(),
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["list"] => {
            targets().iter().for_each(|target| println!("{}\t{}", target.name, target.what));
            Ok(ExitCode::SUCCESS)
        }
        ["run", name, seconds, seed, out] => run(name, seconds, seed, Path::new(out)),
        ["replay", name, file] => replay_file(name, Path::new(file)),
        ["corpus", name, out] => write_corpus(name, Path::new(out)),
        _ => Err("usage: list | run TARGET SECONDS SEED DIR | replay TARGET FILE | corpus TARGET DIR".into()),
    };
    result.unwrap_or_else(|problem| {
        eprintln!("casemate-fuzz: {problem}");
        ExitCode::from(2)
    })
}

fn run(name: &str, seconds: &str, seed: &str, out: &Path) -> Result<ExitCode, String> {
    let target = target(name)?;
    let seconds: u64 = seconds.parse().map_err(|error| format!("seconds `{seconds}`: {error}"))?;
    let seed: u64 = seed.parse().map_err(|error| format!("seed `{seed}`: {error}"))?;
    let run = Run { time: Duration::from_secs(seconds), seed, out, meter: METER };
    let report = fuzz(&target, &run).map_err(|error| format!("{}: {error}", out.display()))?;
    print(name, seed, &report);
    Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(name: &str, seed: u64, report: &Report) {
    let milliseconds = report.time.as_millis().max(1);
    let rate = u128::from(report.executions) * 1000 / milliseconds;
    println!(
        "{name:16} {:>10} {rate:>8} {:>6.1} {:>6} {:>10} {seed:>6} {:>8}",
        report.executions,
        report.time.as_secs_f64(),
        report.corpus,
        report.peak_bytes,
        report.findings.len()
    );
    for finding in &report.findings {
        println!("FOUND {name}: {}: {}", finding.what, finding.file.display());
    }
}

fn replay_file(name: &str, file: &Path) -> Result<ExitCode, String> {
    let input = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let (text, finding) = replay(&target(name)?, &input, METER);
    println!("{text}");
    Ok(match finding {
        None => ExitCode::SUCCESS,
        Some(what) => {
            println!("FOUND {name}: {what}");
            ExitCode::FAILURE
        }
    })
}

fn write_corpus(name: &str, out: &Path) -> Result<ExitCode, String> {
    let write = |number: usize, seed: &[u8]| {
        std::fs::create_dir_all(out)?;
        std::fs::write(out.join(format!("seed-{number}")), seed)
    };
    for (number, seed) in (target(name)?.seeds)().iter().enumerate() {
        write(number, seed).map_err(|error| format!("{}: {error}", out.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn target(name: &str) -> Result<Target, String> {
    targets()
        .into_iter()
        .find(|target| target.name == name)
        .ok_or_else(|| format!("no target `{name}`; `list` names them"))
}
