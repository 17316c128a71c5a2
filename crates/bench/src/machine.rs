//! The machine that a measurement ran on, and what else it did meanwhile.

use std::time::{Duration, Instant};

use crate::measure::process_time;

/// Share of one core that other processes may use before a run is called disturbed.
const OTHERS_MAX: f64 = 0.10;
/// Units of `/proc/stat` in a second (`USER_HZ`, which Linux fixes for user space).
const TICKS_A_SECOND: f64 = 100.0;

/// Processor, cores, kernel and load.
pub(crate) fn describe() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, value)| value).to_owned()
    };
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    format!(
        "{} cores of {} (family {} model {}), Linux {}, load {}",
        cores(),
        field("model name"),
        field("cpu family"),
        field("model\t"),
        kernel.trim(),
        load.join(" ")
    )
}

/// How many threads run at once.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What the machine's processors did since a moment.
pub(crate) struct Watch {
    began: Instant,
    own: Duration,
    all: f64,
}

impl Watch {
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), own: process_time(), all: busy_seconds() }
    }

    /// How many cores other processes kept busy on average.
    pub(crate) fn others(&self) -> f64 {
        let wall = self.began.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
        let own = process_time().saturating_sub(self.own).as_secs_f64();
        ((busy_seconds() - self.all - own) / wall).max(0.0)
    }

    /// That in words, with a warning where it is too much.
    pub(crate) fn tell(&self) -> String {
        let others = self.others();
        let warning = if others > OTHERS_MAX {
            "; WARNING: the machine was busy, ratios hold better than times"
        } else {
            ""
        };
        format!("other processes used {:.0} % of a core during the run{warning}", others * 100.0)
    }
}

/// How busy the machine is while this program does nothing, in words.
pub(crate) fn others_during(time: Duration) -> String {
    let watch = Watch::begin();
    std::thread::sleep(time);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?").to_owned();
    let others = watch.others();
    let warning = if others > OTHERS_MAX { " WARNING: busy, ratios hold better than times" } else { "" };
    format!("other processes use {:.0} % of a core, load {load}{warning}", others * 100.0)
}

/// Seconds in which a processor did something, over all processors since start: all but idle and waiting for disks.
fn busy_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user time already.
    let busy = ticks.iter().take(8).enumerate().filter(|(index, _)| !matches!(index, 3 | 4));
    busy.map(|(_, ticks)| ticks).sum::<f64>() / TICKS_A_SECOND
}
