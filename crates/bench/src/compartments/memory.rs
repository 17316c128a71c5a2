//! `memory`: what one more idle Python agent takes, by how its root is mounted, next to a plain process.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::project::{IMAGE, Process, Project};
use super::report::not_run;
use super::{Outcome, Setup, cost};

/// Agents of the smaller and of the larger of two runs. A group that shares has two at least.
const FEW: usize = 2;
const AGENTS: usize = 8;
/// What an idle agent is: a Python that has loaded what most have.
pub(super) const PROGRAM: &str = "import os,re,collections,functools,traceback,time; time.sleep(86400)";
/// Time for agents to become idle.
const SETTLE: Duration = Duration::from_secs(2);

/// What is seen of some agents.
struct Seen {
    used: f64,
    proportional: f64,
    warden: f64,
    gateway: f64,
}

pub(super) fn run(setup: &Setup) -> Outcome<()> {
    let tools = cost::Tools::unpacked(setup)?;
    println!(
        "one idle Python agent, MiB. Machine: what each of agents 3 to {AGENTS} takes of the machine's memory, with"
    );
    println!(
        "the page cache that is in use, the kernel's own, and what warden and gateway keep for it. PSS: its processes."
    );
    println!("{:<40} {:>9} {:>9} {:>16} {:>17}", "", "machine", "PSS", "warden, each", "gateway, each");
    let kinds = [
        ("casemate native, private root", "      trust: t"),
        ("casemate native, share: one group", "      trust: t\n      share: g"),
        ("casemate gvisor", "      backend: gvisor"),
    ];
    match plain(&tools) {
        Ok((few, many)) => row("plain process", &few, &many),
        Err(error) => not_run("plain process", error),
    }
    let mut project = Project::new(setup, tools.tar())?;
    for (name, keys) in kinds {
        match (agents(&mut project, FEW, keys), agents(&mut project, AGENTS, keys)) {
            (Ok(few), Ok(many)) => row(name, &few, &many),
            (Err(error), _) | (_, Err(error)) => not_run(name, error),
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a small count")]
fn row(name: &str, few: &Seen, many: &Seen) {
    let each = |few: f64, many: f64| (many - few) / (AGENTS - FEW) as f64;
    println!(
        "{name:<40} {:>9.1} {:>9.1} {:>16.2} {:>17.2}",
        each(few.used, many.used),
        many.proportional / AGENTS as f64,
        each(few.warden, many.warden),
        each(few.gateway, many.gateway)
    );
}

fn agents(project: &mut Project, count: usize, keys: &str) -> Outcome<Seen> {
    let services: String = (0..count)
        .map(|number| {
            format!(
                "  a{number}:\n    image: {IMAGE}\n    command: [/usr/bin/python3, -I, -S, -c, \"{PROGRAM}\"]\n    \
                 stop_signal: SIGKILL\n    mem_limit: 128m\n    pids_limit: 64\n    x-casemate:\n{keys}\n"
            )
        })
        .collect();
    project.services("memory", &services, "")?;
    project.up()?;
    std::thread::sleep(SETTLE);
    let of = |program: &str| {
        project.program(program).map_or(f64::NAN, |pid| proportional(pid).unwrap_or(f64::NAN))
    };
    let seen = Seen {
        used: used()?,
        proportional: project.agent_processes().into_iter().filter_map(|pid| proportional(pid).ok()).sum(),
        warden: of("casemate-warden"),
        gateway: of("casemate-gateway"),
    };
    project.down()?;
    Ok(seen)
}

fn plain(tools: &cost::Tools) -> Outcome<(Seen, Seen)> {
    let start = || -> Outcome<Process> {
        let mut command = Command::new("chroot");
        command.arg(tools.tree()).args(["/usr/bin/python3", "-I", "-S", "-c", PROGRAM]).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        Ok(Process(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    };
    let look = |all: &[Process]| -> Outcome<Seen> {
        std::thread::sleep(SETTLE);
        let sum = all.iter().map(|one| proportional(one.0.id())).sum::<Outcome<f64>>()?;
        Ok(Seen { used: used()?, proportional: sum, warden: 0.0, gateway: 0.0 })
    };
    let mut all = (0..FEW).map(|_| start()).collect::<Outcome<Vec<_>>>()?;
    let few = look(&all)?;
    for _ in FEW..AGENTS {
        all.push(start()?);
    }
    let many = look(&all)?;
    Ok((few, many))
}

/// Memory of the machine that is in use, without cached pages that nobody maps.
fn used() -> Outcome<f64> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    let text = fs::read_to_string("/proc/meminfo")?;
    Ok(field(&text, "MemTotal:")? - field(&text, "MemFree:")?)
}

/// Proportional set size of a process, MiB.
pub(super) fn proportional(pid: u32) -> Outcome<f64> {
    field(&fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("smaps_rollup"))?, "Pss:")
}

/// A field in kB.
fn field(text: &str, name: &str) -> Outcome<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("a field of /proc is missing")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
