//! All cores: whether as many threads, each with a handle of its own, verify as many times as much.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::Outcome;
use super::inputs::Case;
use crate::machine::{self, Watch};
use crate::measure::thread_time;

/// Wall time of one run.
const RUN: Duration = Duration::from_secs(2);
/// Runs with one thread and with all, in turn.
const ROUNDS: usize = 3;
/// What is asked of each core.
const TARGET: f64 = 0.9;

/// Verifications in a second: by the clock on the wall, and by the processor time that the threads were given.
#[derive(Clone, Copy)]
struct Rate {
    wall: f64,
    processor: f64,
}

/// Measures and prints.
pub(super) fn run(case: &Case) -> Outcome<()> {
    let cores = machine::cores();
    println!("\n{cores} threads against one, with known platform and QE binding; verifications in a second");
    let watch = Watch::begin();
    let mut best: Option<(f64, f64)> = None;
    for _ in 0..ROUNDS {
        let one = rate(case, 1)?;
        let all = rate(case, cores)?;
        #[expect(clippy::cast_precision_loss, reason = "a number of cores")]
        let per_core = |all: f64, one: f64| all / one / cores as f64;
        let (wall, processor) = (per_core(all.wall, one.wall), per_core(all.processor, one.processor));
        println!(
            "one {:.0}, all {:.0}: {wall:.2} per core by wall time, {processor:.2} by processor time",
            one.wall, all.wall
        );
        if best.is_none_or(|(known, _)| processor > known) {
            best = Some((processor, wall));
        }
    }
    let (processor, _) = best.unwrap_or((f64::NAN, f64::NAN));
    let met = if processor >= TARGET { "met" } else { "MISSED" };
    println!("best {processor:.2} per core by processor time, at least {TARGET}: {met}");
    println!("{}", watch.tell());
    Ok(())
}

fn rate(case: &Case, threads: usize) -> Outcome<Rate> {
    let barrier = Barrier::new(threads);
    let counted = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| count(case, &barrier))).collect();
        running
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a thread ended early"))
            .collect::<Vec<_>>()
    });
    let mut rate = Rate { wall: 0.0, processor: 0.0 };
    for counted in counted {
        let (done, wall, processor) = counted??;
        rate.wall += f64::from(done) / wall.as_secs_f64();
        rate.processor += f64::from(done) / processor.as_secs_f64();
    }
    Ok(rate)
}

fn count(case: &Case, barrier: &Barrier) -> Result<(u32, Duration, Duration), String> {
    let mut handle = case.handle();
    let warm = case.appraise(&mut handle);
    barrier.wait();
    warm?;
    let (began, processor) = (Instant::now(), thread_time());
    let mut done = 0;
    while began.elapsed() < RUN {
        for _ in 0..16 {
            case.appraise(&mut handle)?;
            done += 1;
        }
    }
    Ok((done, began.elapsed(), thread_time().saturating_sub(processor)))
}
