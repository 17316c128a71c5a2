//! Interleaved measurement by processor time of the thread, and what else the machine did meanwhile.
//!
//! Thread CPU time (`CLOCK_THREAD_CPUTIME_ID`), not wall time: on a machine that is shared, time in which another process
//! ran is not counted.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::statistics::quantile;

/// Processor time of one batch.
const BATCH: Duration = Duration::from_millis(4);
/// Batches of every candidate before those that count.
const WARM_UP_ROUNDS: usize = 3;

/// Processor time that this thread has used.
pub(crate) fn thread_time() -> Duration {
    time_of(ClockId::ThreadCPUTime)
}

/// Processor time that this process has used.
pub(crate) fn process_time() -> Duration {
    time_of(ClockId::ProcessCPUTime)
}

fn time_of(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Something to measure: `run(n)` does it `n` times and gives the processor time that counts.
pub(crate) struct Candidate<'a> {
    pub(crate) name: &'static str,
    run: Box<dyn FnMut(u32) -> Duration + 'a>,
    batch: u32,
    series: Vec<f64>,
}

impl<'a> Candidate<'a> {
    /// From what to do once.
    pub(crate) fn new(name: &'static str, mut once: impl FnMut() + 'a) -> Self {
        Self::prepared(name, move |count| {
            let began = thread_time();
            for _ in 0..count {
                once();
            }
            thread_time().saturating_sub(began)
        })
    }

    /// From what to do `count` times, which takes its own time and may prepare outside of it.
    pub(crate) fn prepared(name: &'static str, run: impl FnMut(u32) -> Duration + 'a) -> Self {
        Self { name, run: Box::new(run), batch: 1, series: Vec::new() }
    }

    fn calibrate(&mut self) {
        while self.batch < 1 << 16 && (self.run)(self.batch) < BATCH {
            self.batch *= 2;
        }
    }

    /// The `q`-quantile of the time for one, in µs.
    pub(crate) fn us(&self, q: f64) -> f64 {
        quantile(&self.series, q).unwrap_or(f64::NAN)
    }
}

/// Runs every candidate once a round, `rounds` times.
pub(crate) fn interleave(candidates: &mut [Candidate<'_>], rounds: usize) {
    for candidate in candidates.iter_mut() {
        candidate.calibrate();
    }
    for round in 0..WARM_UP_ROUNDS + rounds {
        for candidate in candidates.iter_mut() {
            let time = (candidate.run)(candidate.batch);
            if round >= WARM_UP_ROUNDS {
                candidate.series.push(time.as_secs_f64() * 1e6 / f64::from(candidate.batch));
            }
        }
    }
}
