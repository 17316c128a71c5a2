//! Runs one target for a time and reports what it found.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use casemate_canon::Sha256;
use rustix::time::{ClockId, clock_gettime};

use crate::mutate::mutated;
use crate::random::Random;
use crate::{Outcome, Target, Violation};

/// Most inputs that are kept.
const CORPUS_MAX: usize = 4096;
/// A target with this many findings is not run on.
const FINDINGS_MAX: usize = 8;
/// Of an outcome, about this many bytes are compared.
const SHAPE_BYTES_MAX: usize = 72;
/// A slow input is run this many times again, and its best time counts: others use the machine too.
const SLOW_REPEATS: u32 = 3;

/// Counts the bytes that are allocated. The program has the allocator; without one nothing is counted.
#[derive(Clone, Copy)]
pub struct Meter {
    /// Takes what is allocated now for the peak.
    pub reset: fn(),
    /// Bytes allocated now.
    pub current: fn() -> usize,
    /// Most bytes allocated at once since the last reset.
    pub peak: fn() -> usize,
}

/// How long, from which seed, and where findings go.
pub struct Run<'a> {
    /// How long.
    pub time: Duration,
    /// The same seed and the same inputs to begin with give the same mutations.
    pub seed: u64,
    /// Folder for findings and for the input that runs now.
    pub out: &'a Path,
    /// What counts allocations.
    pub meter: Meter,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Inputs run.
    pub executions: u64,
    /// How long it took.
    pub time: Duration,
    /// Inputs kept, those to begin with included.
    pub corpus: usize,
    /// Most bytes allocated at once by one input.
    pub peak_bytes: usize,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// An input that does what none may do.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What it does.
    pub what: String,
    /// The file that holds it.
    pub file: PathBuf,
}

/// What one input did.
struct Execution {
    result: Result<Result<Outcome, Violation>, String>,
    allocated: usize,
    time: Duration,
}

/// The last panic, as the hook saw it.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Runs `target` as `run` says.
///
/// # Errors
/// Where findings cannot be written.
pub fn fuzz(target: &Target, run: &Run<'_>) -> io::Result<Report> {
    let others = std::panic::take_hook();
    let own = std::thread::current().id();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().id() == own {
            *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string().replace('\n', " ");
        } else {
            others(info);
        }
    }));
    std::fs::create_dir_all(run.out)?;
    let running = File::create(running_file(run.out, target.name))?;
    let mut corpus = (target.seeds)();
    let mut random = Random::new(run.seed);
    let mut shapes = BTreeSet::new();
    let mut report =
        Report { executions: 0, time: Duration::ZERO, corpus: 0, peak_bytes: 0, findings: Vec::new() };
    // What is made once, keys for one, is not the first input's doing.
    for input in corpus.iter().take(1) {
        let _warm = execute(target, input, run.meter);
    }
    let begun = Instant::now();
    let mut first = 0;
    while begun.elapsed() < run.time && report.findings.len() < FINDINGS_MAX {
        let input = match corpus.get(first) {
            Some(seed) => seed.clone(),
            None => {
                let (Some(input), Some(other)) = (pick(&corpus, &mut random), pick(&corpus, &mut random))
                else {
                    break;
                };
                mutated(input, other, target.words, target.bound.input_bytes_max, &mut random)
            }
        };
        note(&running, &input)?;
        let execution = execute(target, &input, run.meter);
        report.executions += 1;
        report.peak_bytes = report.peak_bytes.max(execution.allocated);
        let is_seed = first < corpus.len();
        first += usize::from(is_seed);
        if let Some(what) = judge(target, &input, &execution, run.meter) {
            // The same once is enough: numbers in it do not make it another one.
            if shapes.insert(shape(&what)) {
                let file = write_finding(run.out, target.name, &input)?;
                report.findings.push(Finding { what, file });
            }
        } else if let Ok(Ok(Outcome(outcome))) = &execution.result
            && shapes.insert(shape(outcome))
            && !is_seed
            && corpus.len() < CORPUS_MAX
        {
            corpus.push(input);
            first += 1;
        }
    }
    report.time = begun.elapsed();
    report.corpus = corpus.len();
    drop(std::fs::remove_file(running_file(run.out, target.name)));
    drop(std::panic::take_hook());
    Ok(report)
}

/// Runs one input and says what is wrong with it, if anything.
#[must_use]
pub fn replay(target: &Target, input: &[u8], meter: Meter) -> (String, Option<String>) {
    for seed in (target.seeds)().iter().take(1) {
        let _warm = execute(target, seed, meter);
    }
    let execution = execute(target, input, meter);
    let text = format!(
        "{:?}, {} bytes allocated at once, {} us",
        execution.result,
        execution.allocated,
        execution.time.as_micros()
    );
    (text, judge(target, input, &execution, meter))
}

/// Where the input that runs now is noted: little-endian u32 length, then the input. It is there only while a target
/// runs, or after the process died of one.
#[must_use]
pub fn running_file(out: &Path, target: &str) -> PathBuf {
    out.join(format!("{target}.running"))
}

fn note(running: &File, input: &[u8]) -> io::Result<()> {
    let length = u32::try_from(input.len()).unwrap_or(u32::MAX).to_le_bytes();
    running.write_all_at(&[&length, input].concat(), 0)
}

fn pick<'a>(corpus: &'a [Vec<u8>], random: &mut Random) -> Option<&'a Vec<u8>> {
    random.pick(corpus)
}

fn execute(target: &Target, input: &[u8], meter: Meter) -> Execution {
    (meter.reset)();
    let before = (meter.current)();
    let begun = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let time = begun.elapsed();
    let allocated = (meter.peak)().saturating_sub(before);
    let result = result.map_err(|_| LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone());
    Execution { result, allocated, time }
}

fn judge(target: &Target, input: &[u8], execution: &Execution, meter: Meter) -> Option<String> {
    match &execution.result {
        Err(panic) => return Some(format!("panic: {panic}")),
        Ok(Err(Violation(what))) => return Some(format!("violation: {what}")),
        Ok(Ok(_)) => {}
    }
    let allowed = target.bound.allocation(input.len());
    if execution.allocated > allowed {
        let (found, length) = (execution.allocated, input.len());
        return Some(format!(
            "allocation: {found} bytes at once for {length} bytes, at most {allowed} allowed"
        ));
    }
    let allowed = Duration::from_nanos(target.bound.time_ns(input.len()));
    if execution.time > allowed {
        let best = best_time(target, input, meter);
        if best > allowed {
            return Some(format!(
                "time: {} us for {} bytes, at most {} us allowed",
                best.as_micros(),
                input.len(),
                allowed.as_micros()
            ));
        }
    }
    None
}

/// Least processor time of some runs.
fn best_time(target: &Target, input: &[u8], meter: Meter) -> Duration {
    let spent = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    (0..SLOW_REPEATS)
        .map(|_| {
            let before = spent();
            let _execution = execute(target, input, meter);
            spent().saturating_sub(before)
        })
        .min()
        .unwrap_or_default()
}

/// An outcome without what differs between inputs of one kind: what it quotes, every word with a digit, and its end.
fn shape(outcome: &str) -> String {
    let mut shape = String::new();
    for (index, text) in outcome.split(['`', '"']).enumerate() {
        // What has an odd number stands between two quotes.
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|_| index % 2 == 0);
        for word in words {
            shape.push(' ');
            shape.push_str(if word.bytes().all(|byte| byte.is_ascii_alphabetic()) { word } else { "#" });
            if shape.len() > SHAPE_BYTES_MAX {
                return shape.chars().take(SHAPE_BYTES_MAX).collect();
            }
        }
    }
    shape
}

fn write_finding(out: &Path, target: &str, input: &[u8]) -> io::Result<PathBuf> {
    let digest = Sha256::of(input).to_hex();
    let file = out.join(format!("{target}-{}.bin", digest.get(..16).unwrap_or_default()));
    std::fs::write(&file, input)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bound;

    const UNCOUNTED: Meter = Meter { reset: || (), current: || 0, peak: || 0 };
    const BOUND: Bound = Bound {
        input_bytes_max: 64,
        allocation_bytes: 1024,
        allocation_bytes_per_input_byte: 1,
        time_us: 3_000,
        time_ns_per_input_byte: 0,
    };

    fn target(run: fn(&[u8]) -> Result<Outcome, Violation>) -> Target {
        Target { name: "test", what: "", seeds: || vec![b"seed".to_vec()], words: &[], run, bound: BOUND }
    }

    fn found(target: &Target, meter: Meter) -> Vec<String> {
        let out = std::env::temp_dir().join(format!("casemate-fuzz-{}", std::process::id()));
        let run = Run { time: Duration::from_millis(800), seed: 1, out: &out, meter };
        let report = fuzz(target, &run).unwrap();
        assert!(!running_file(&out, "test").exists());
        for finding in &report.findings {
            let input = std::fs::read(&finding.file).unwrap();
            assert!(replay(target, &input, meter).1.is_some());
        }
        report.findings.into_iter().map(|finding| finding.what).collect()
    }

    // One test, because a panic hook belongs to the process.
    #[test]
    fn finds_panics_violations_slow_inputs_and_large_allocations_and_nothing_else() {
        assert_eq!(found(&target(|_| Ok(Outcome(String::new()))), UNCOUNTED), Vec::<String>::new());
        let bad = |input: &[u8]| {
            assert!(input.len() < 20, "long");
            Ok(Outcome(String::new()))
        };
        let panics = found(&target(bad), UNCOUNTED);
        assert!(panics.len() == 1 && panics[0].starts_with("panic: "), "{panics:?}");
        assert!(panics[0].contains("long"), "{panics:?}");
        let bad = |input: &[u8]| match input.first() {
            Some(b's') => Ok(Outcome(String::new())),
            _ => Err(Violation(format!("begins with {:?}", input.first()))),
        };
        let violations = found(&target(bad), UNCOUNTED);
        assert!(violations.iter().all(|what| what.starts_with("violation: begins")), "{violations:?}");
        assert!(!violations.is_empty() && violations.len() <= 3, "{violations:?}");
        let slow = |input: &[u8]| {
            let begun = Instant::now();
            while input.len() == 5 && begun.elapsed() < Duration::from_millis(60) {}
            Ok(Outcome(String::new()))
        };
        let slow = found(&target(slow), UNCOUNTED);
        assert!(slow.len() == 1 && slow[0].starts_with("time: "), "{slow:?}");
        let large = Meter { peak: || 5000, ..UNCOUNTED };
        let large = found(&target(|_| Ok(Outcome(String::new()))), large);
        assert!(
            !large.is_empty() && large.iter().all(|what| what.starts_with("allocation: 5000")),
            "{large:?}"
        );
    }

    #[test]
    fn outcomes_of_one_kind_have_one_shape() {
        assert_eq!(shape("Truncated { found: 12 }"), shape("Truncated { found: 999 }"));
        assert_eq!(shape("unknown `a` here"), shape("unknown `b c` here"));
        assert_ne!(shape("unknown `a` here"), shape("unknown `a` there"));
        assert_ne!(shape("Truncated { found: 12 }"), shape("TooLong { found: 12 }"));
    }
}
