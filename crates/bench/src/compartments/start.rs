//! `start`: time from the call to the first byte that a program inside prints, on one root file system.
//!
//! The program has 160 bytes, so that the time is that of the compartment. Ours includes the control group, the private
//! root, Landlock, the filter, the sockets of its edges and the wait for the warden's byte; the peers include what they
//! include by default.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::docker::{Docker, Published};
use super::peers::Runtime;
use super::report::{Asked, not_run};
use super::{Outcome, Setup, gvisor};
use crate::launch::{Bench, time_command};
use crate::statistics::quantile;

/// Rounds before those that count.
const WARM_UP: usize = 3;
/// Time for a runtime to end, once its program has.
const END_BOUND: Duration = Duration::from_secs(5);
/// Time for a runtime to print.
const IMAGE: &str = "casemate-bench:1";
/// What is asked of ours against each peer.
const ASKED: [(&str, Asked); 5] = [
    ("bwrap --unshare-all", Asked::AtMost(1.1)),
    ("crun run", Asked::AtMost(0.5)),
    ("runc run", Asked::AtMost(0.2)),
    ("youki run", Asked::AtMost(0.2)),
    ("docker run", Asked::AtMost(0.03)),
];
const OURS: &str = "casemate native";

type Candidate<'a> = (&'static str, Box<dyn FnMut(usize) -> Outcome<Duration> + 'a>);

pub(super) fn run(setup: &Setup) -> Outcome<()> {
    let mut bench = Bench::prepare(&setup.launcher())?;
    bench.set_command(["/bin/tiny", "x"])?;
    let docker = Docker::start(&setup.work, Published::ByProxy)
        .and_then(|docker| docker.import(&bench.tree, IMAGE).map(|()| docker));
    let docker = docker.map_err(|error| not_run("docker run", error)).ok();
    let youki_failed = std::cell::Cell::new(0_usize);
    let mut candidates: Vec<Candidate<'_>> = vec![
        ("plain process", Box::new(|_| time_command(&mut bench.plain()))),
        ("unshare, all namespaces", Box::new(|_| time_command(&mut bench.unshare()))),
        ("bwrap --unshare-all", Box::new(|_| time_command(&mut bench.bwrap()))),
        (OURS, Box::new(|round| bench.native(round))),
    ];
    let runtimes = [
        ("crun run", Runtime::crun()),
        ("runc run", Runtime::runc()),
        ("youki run", Runtime::youki(&setup.work)),
    ];
    for (name, runtime) in runtimes {
        match runtime {
            Err(reason) => not_run(name, reason),
            Ok(runtime) => {
                let (bench, failed) = (&bench, &youki_failed);
                candidates.push((name, Box::new(move |round| time_runtime(bench, &runtime, round, failed))));
            }
        }
    }
    if let Some(docker) = &docker {
        let command = bench.command();
        let start = move |network: &str| {
            let [program, argument] = command;
            time_command(&mut docker.client(&["run", "--rm", "--network", network, IMAGE, program, argument]))
        };
        candidates.push(("docker run", Box::new(move |_| start("none"))));
        candidates.push(("docker run, on a bridge", Box::new(move |_| start("bridge"))));
    }
    let series = interleave(candidates, setup.rounds);
    table(&series)?;
    if youki_failed.get() > 0 {
        println!("youki did not end by itself in {} runs, and was ended", youki_failed.get());
    }
    drop(docker);
    gvisor::start(setup, &bench)
}

/// Times of each candidate, in ms; one that fails is left out from then on, and said.
pub(super) fn interleave(mut candidates: Vec<Candidate<'_>>, rounds: usize) -> Vec<(&'static str, Vec<f64>)> {
    let mut series: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    let order: Vec<&'static str> = candidates.iter().map(|(name, _)| *name).collect();
    for round in 0..WARM_UP + rounds {
        candidates.retain_mut(|(name, time)| match time(round) {
            Ok(time) => {
                if round >= WARM_UP {
                    series.entry(name).or_default().push(time.as_secs_f64() * 1e3);
                }
                true
            }
            Err(error) => {
                not_run(name, format!("round {round}: {error}"));
                series.remove(name);
                false
            }
        });
    }
    order.into_iter().filter_map(|name| series.remove(name).map(|times| (name, times))).collect()
}

fn table(series: &[(&'static str, Vec<f64>)]) -> Outcome<()> {
    let median = |name: &str| {
        let times = series.iter().find(|(known, _)| *known == name);
        times.and_then(|(_, times)| quantile(times, 0.5))
    };
    let ours = median(OURS).ok_or("no times of ours")?;
    println!("time to the first instruction, ms; a program of 160 bytes");
    println!("{:<28} {:>8} {:>8} {:>8} {:>14}", "", "min", "median", "p90", "ours / it");
    for (name, times) in series {
        let at = |q| quantile(times, q).unwrap_or(f64::NAN);
        let ratio = ours / at(0.5);
        let asked = ASKED.iter().find(|(known, _)| known == name);
        let verdict = asked.map_or_else(|| format!("{ratio:>7.3}"), |(_, asked)| asked.judge(ratio));
        println!("{name:<28} {:>8.2} {:>8.2} {:>8.2}        {verdict}", at(0.0), at(0.5), at(0.9));
    }
    Ok(())
}

/// Like [`time_command`], and ends a runtime that does not end.
pub(super) fn time_runtime(
    bench: &Bench,
    runtime: &Runtime,
    round: usize,
    failed: &std::cell::Cell<usize>,
) -> Outcome<Duration> {
    let id = format!("bench-{}-{}-{round}", runtime.name, std::process::id());
    let mut command = runtime.run(&bench.state(), &bench.bundle(), &id);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn()?;
    let mut output = child.stdout.take().ok_or("no output")?;
    let read = std::io::Read::read_exact(&mut output, &mut [0; 1]);
    let time = began.elapsed();
    let end = Instant::now() + END_BOUND;
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            failed.set(failed.get() + 1);
            child.kill()?;
            child.wait()?;
            quiet(&mut runtime.delete(&bench.state(), &id));
        } else {
            std::thread::sleep(Duration::from_micros(500));
        }
    }
    if let Err(error) = read {
        let mut said = String::new();
        if let Some(mut errors) = child.stderr.take() {
            let _ = std::io::Read::read_to_string(&mut errors, &mut said);
        }
        return Err(format!("{error}: {}", said.trim()).into());
    }
    Ok(time)
}

/// Runs a command of which nothing is asked.
fn quiet(command: &mut Command) {
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}
