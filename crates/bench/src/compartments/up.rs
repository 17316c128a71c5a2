//! `up`: the whole start of 1, 10, 50 and 100 agents, each attested and appraised, as the user sees it.

use std::collections::BTreeMap;
use std::path::Path;

use super::project::{IMAGE, Project, small_image};
use super::report::{Asked, not_run};
use super::{Outcome, Setup};
use crate::statistics::quantile;

/// How many agents.
const COUNTS: [usize; 4] = [1, 10, 50, 100];
/// One run of this part for so many rounds of the others.
const ROUNDS_A_RUN: usize = 10;
/// "Does not grow": the time for each more agent from 50 to 100 against that from 10 to 50.
const ASKED: Asked = Asked::AtMost(1.1);

/// Times of one count.
#[derive(Default)]
struct Series {
    up: Vec<f64>,
    down: Vec<f64>,
    phases: BTreeMap<String, Vec<f64>>,
    programs: BTreeMap<&'static str, Vec<f64>>,
}

/// Programs whose processor time is told; the warden's has the launchers' in it.
const PROGRAMS: [&str; 5] =
    ["casemate-warden", "casemate-gateway", "casemate-courier", "casemate-broker", "casemate-emulator"];

pub(super) fn run(setup: &Setup) -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let tar = small_image(&dir.path().join("tree"), &[Path::new("/bin/busybox")])?;
    let mut project = Project::new(setup, &tar)?;
    let mut all: Vec<Series> = COUNTS.iter().map(|_| Series::default()).collect();
    let rounds = (setup.rounds / ROUNDS_A_RUN).max(1);
    for _ in 0..rounds {
        for (count, series) in COUNTS.iter().zip(&mut all) {
            if let Err(error) = round(&mut project, *count, series) {
                not_run(&format!("up of {count}"), error);
            }
        }
    }
    println!("`casemate up -d` of so many busybox agents without dependencies, ms; median of {rounds}");
    println!("{:>7} {:>10} {:>10} {:>12} {:>10}", "agents", "min", "median", "each more", "down");
    let at = |times: &[f64], q| quantile(times, q).unwrap_or(f64::NAN);
    let mut steps = Vec::new();
    let mut before: Option<(f64, f64)> = None;
    for (count, series) in COUNTS.iter().zip(&all) {
        #[expect(clippy::cast_precision_loss, reason = "a small count")]
        let (agents, median) = (*count as f64, at(&series.up, 0.5));
        let more = before.map_or(f64::NAN, |(fewer, less)| (median - less) / (agents - fewer));
        println!(
            "{count:>7} {:>10.0} {median:>10.0} {more:>12.1} {:>10.0}",
            at(&series.up, 0.0),
            at(&series.down, 0.5)
        );
        steps.push(more);
        before = Some((agents, median));
    }
    if let [_, _, fewer, more] = steps.as_slice() {
        println!("each more agent from 50 to 100, against from 10 to 50: {}", ASKED.judge(more / fewer));
    }
    println!("\nprocessor time of the box's programs, ms for each agent");
    for (count, series) in COUNTS.iter().zip(&all) {
        #[expect(clippy::cast_precision_loss, reason = "a small count")]
        let each = |times: &[f64]| at(times, 0.5) / *count as f64;
        let programs = series.programs.iter().map(|(name, times)| format!("{name} {:.1}", each(times)));
        println!("{count:>7} {}", programs.collect::<Vec<_>>().join(", "));
    }
    println!("\nwhere an agent's time goes, ms, waiting for others included; mean over agents");
    for (count, series) in COUNTS.iter().zip(&all) {
        let phases = series.phases.iter().map(|(phase, times)| format!("{phase} {:.0}", at(times, 0.5)));
        println!("{count:>7} {}", phases.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}

fn round(project: &mut Project, count: usize, series: &mut Series) -> Outcome<()> {
    let services: String = (0..count).map(service).collect();
    project.services(&format!("up{count}"), &services, "")?;
    let started = project.up()?;
    series.up.push(started.wall.as_secs_f64() * 1e3);
    for (phase, mean) in phases(&started.lines, count) {
        series.phases.entry(phase).or_default().push(mean);
    }
    for program in PROGRAMS {
        series.programs.entry(program).or_default().extend(project.program_ms(program));
    }
    series.down.push(project.down()?.as_secs_f64() * 1e3);
    Ok(())
}

fn service(number: usize) -> String {
    format!(
        "  a{number}:\n    image: {IMAGE}\n    command: [/bin/busybox, sleep, \"86400\"]\n    stop_signal: SIGKILL\n    \
         mem_limit: 32m\n    pids_limit: 16\n"
    )
}

/// Mean time that an agent was in each phase, numbered in their order.
fn phases(lines: &[serde_json::Value], count: usize) -> BTreeMap<String, f64> {
    let mut began: BTreeMap<(String, String), f64> = BTreeMap::new();
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    for line in lines {
        let text =
            |name: &str| line.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        let Some(at) = line.get("elapsed_ms").and_then(serde_json::Value::as_f64) else { continue };
        let (agent, phase, state) = (text("agent"), text("phase"), text("state"));
        if agent.is_empty() {
            continue;
        }
        if !order.contains(&phase) {
            order.push(phase.clone());
        }
        match state.as_str() {
            "started" => {
                began.insert((agent, phase), at);
            }
            "done" => {
                let from = began.remove(&(agent, phase.clone())).unwrap_or(at);
                *sums.entry(phase).or_default() += at - from;
            }
            _ => {}
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let count = count.max(1) as f64;
    let numbered = order.into_iter().enumerate();
    numbered
        .filter_map(|(place, phase)| Some((format!("{place}.{phase}"), sums.get(&phase)? / count)))
        .collect()
}
