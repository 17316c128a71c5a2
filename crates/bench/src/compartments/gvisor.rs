//! The gVisor backend against a bare `runsc run` of the same root file system.
//!
//! Ours is measured through the warden: the steps of an agent's start that build and release its compartment, as `up` tells
//! them. Where this build has no such backend, or runsc is absent, it is not run.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use super::peers::Runtime;
use super::project::{IMAGE, Project, small_image};
use super::report::{Asked, not_run};
use super::start::{interleave, time_runtime};
use super::{Outcome, Setup};
use crate::launch::Bench;
use crate::statistics::quantile;

const ASKED: Asked = Asked::AtMost(1.1);
const OURS: &str = "casemate gvisor";
const PEER: &str = "runsc run";
/// The steps that are the backend's.
const STEPS: [&str; 2] = ["compartment", "run"];
/// One run of this comparison for so many rounds of the others: a start takes ten times as long.
const ROUNDS_A_RUN: usize = 2;

pub(super) fn start(setup: &Setup, bench: &Bench) -> Outcome<()> {
    let runsc = match Runtime::runsc(&setup.work) {
        Ok(runsc) => runsc,
        Err(reason) => {
            not_run("gvisor", reason);
            return Ok(());
        }
    };
    let dir = tempfile::tempdir()?;
    let tar = small_image(&dir.path().join("tree"), &[Path::new("/bin/busybox")])?;
    let mut project = Project::new(setup, &tar)?;
    let service = format!(
        "  a:\n    image: {IMAGE}\n    command: [/bin/busybox, sleep, \"86400\"]\n    stop_signal: SIGKILL\n    \
         x-casemate: {{ backend: gvisor }}\n"
    );
    if let Err(error) = project.services("gvisor", &service, "") {
        not_run(OURS, error);
        return Ok(());
    }
    let failed = Cell::new(0);
    let series = interleave(
        vec![
            (PEER, Box::new(|round| time_runtime(bench, &runsc, round, &failed))),
            (OURS, Box::new(|_| ours(&project))),
        ],
        setup.rounds.div_ceil(ROUNDS_A_RUN),
    );
    let median = |name: &str| {
        let times = series.iter().find(|(known, _)| *known == name);
        times.and_then(|(_, times)| quantile(times, 0.5)).unwrap_or(f64::NAN)
    };
    println!("\ngVisor, ms, with {}", runsc.program().display());
    println!(
        "{PEER:<28} {:>8.1}\n{OURS:<28} {:>8.1}  ours / it {}",
        median(PEER),
        median(OURS),
        ASKED.judge(median(OURS) / median(PEER))
    );
    if failed.get() > 0 {
        println!("runsc did not end by itself in {} runs, and was ended", failed.get());
    }
    Ok(())
}

/// Time of the backend's steps in one start.
fn ours(project: &Project) -> Outcome<Duration> {
    let started = project.up()?;
    project.down()?;
    let at = |phase: &str, state: &str| {
        let has = |line: &serde_json::Value, name: &str, text: &str| {
            line.get(name).is_some_and(|value| value == text)
        };
        let line = started.lines.iter().find(|line| has(line, "phase", phase) && has(line, "state", state));
        line.and_then(|line| line.get("elapsed_ms")?.as_u64()).ok_or("a step is missing in what `up` told")
    };
    let mut sum = 0;
    for step in STEPS {
        sum += at(step, "done")?.saturating_sub(at(step, "started")?);
    }
    Ok(Duration::from_millis(sum))
}
