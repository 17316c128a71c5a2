//! `probe`: the peer probe's whole battery against everything in which one could run two agents, in one table.
//!
//! What it is: one battery, whose positive controls (plain processes) are played once and hold for all targets of the run;
//! and six targets: plain processes of one user, two services of Docker Compose, two bundles of runc, and two agents of
//! ours: native, native with one `share` group, and gVisor. What is not there is said as `not run: name: reason`. What it is
//! not: a test; nothing here fails a build. Needs root, and a mount namespace of its own.

mod containers;
mod ours;
mod report;
mod tree;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use casemate_probe::attack::{Attack, Kind, Length};
use casemate_probe::battery::{Allowed, Battery, Choice};
use casemate_probe::matrix::{Row, summary};
use casemate_probe::plain::{Plain, User};
use casemate_probe::target::{Side, Streams, Target, TargetError};
use casemate_probe::verdict::Verdict;

use crate::compartments::{Outcome, Setup};
use crate::machine;
use containers::{DockerPair, RuncPair};
use ours::{Agents, Way};
use report::Column;
use tree::Tree;

/// What stops an attack where no control of ours does: the target as a whole.
const BY_THE_TARGET: &str = "the target";
/// Targets by their names in the table.
const PLAIN: &str = "plain";
const DOCKER: &str = "docker";
const RUNC: &str = "runc";
const TARGETS: [&str; 6] = [PLAIN, DOCKER, RUNC, Way::Native.name(), Way::Share.name(), Way::Gvisor.name()];

/// Words: folder of programs, work folder, `--short` if wanted, targets if not all.
pub(crate) fn run(programs: &str, work: &str, words: &[&str]) -> Outcome<()> {
    let (length, wanted) = match words {
        ["--short", wanted @ ..] => (Length::Short, wanted),
        wanted => (Length::Full, wanted),
    };
    if let Some(unknown) = wanted.iter().find(|name| !TARGETS.contains(name)) {
        return Err(format!("no target `{unknown}`; there are {}", TARGETS.join(", ")).into());
    }
    let setup = Setup {
        programs: Path::new(programs).canonicalize()?,
        work: Path::new(work).canonicalize()?,
        rounds: 1,
    };
    let head = format!("{}, {}", today()?, machine::describe());
    println!("{head}");
    let dir = tempfile::Builder::new().prefix("cbq").tempdir_in("/tmp")?;
    let program = setup.programs.join("casemate-probe");
    let tree = Tree::new(dir.path(), &program)?;
    // What the battery's controls take for a socket that is not for them.
    let socket = dir.path().join("box.sock");
    let _listener = UnixListener::bind(&socket)?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
    let battery = Battery::new(Choice { length, only: Vec::new() }, &program, &socket)?;
    let mut bench = Bench { battery, columns: Vec::new(), missing: Vec::new() };
    let watch = machine::Watch::begin();
    for name in TARGETS {
        if wanted.is_empty() || wanted.contains(&name) {
            let played = match name {
                PLAIN => bench.plain(&program),
                DOCKER => bench.docker(&setup, &tree),
                RUNC => bench.runc(&setup, &tree),
                _ => bench.ours(&setup, &tree, name),
            };
            if let Err(error) = played {
                println!("not run: {name}: {error}");
                bench.missing.push((name, error.to_string()));
            }
        }
    }
    println!("\n{}", watch.tell());
    report::print(&head, &bench.columns, &bench.missing);
    Ok(())
}

/// What is played, and what it came to.
struct Bench {
    battery: Battery,
    columns: Vec<Column>,
    missing: Vec<(&'static str, String)>,
}

impl Bench {
    fn play(&mut self, name: &'static str, target: &dyn Target, allowed: &Allowed) -> Outcome<()> {
        println!("\n{name}: {}", target.name());
        let begun = Instant::now();
        let told = &mut |row: &Row| println!("  {:<24} {}", row.attack, judged(row.clone()).verdict);
        let rows = self.battery.run(target, allowed, told)?;
        let rows: Vec<Row> = rows.into_iter().map(judged).collect();
        let played = Duration::from_millis(rows.iter().map(|row| row.took_ms).sum());
        let controls = begun.elapsed().saturating_sub(played);
        println!(
            "  {} ({:.0} s, and {:.0} s of controls)",
            summary(&rows),
            played.as_secs_f64(),
            controls.as_secs_f64()
        );
        self.columns.push(Column { name, rows, played, controls });
        Ok(())
    }

    fn plain(&mut self, program: &Path) -> Outcome<()> {
        let target = OneUser(Plain::of(program, User::Nobody)?);
        self.play(PLAIN, &target, &Allowed::default())
    }

    fn docker(&mut self, setup: &Setup, tree: &Tree) -> Outcome<()> {
        let pair = DockerPair::start(setup, tree)?;
        self.play(DOCKER, &pair, &Allowed::default())
    }

    fn runc(&mut self, _: &Setup, tree: &Tree) -> Outcome<()> {
        let pair = RuncPair::new(tree)?;
        self.play(RUNC, &pair, &Allowed::default())
    }

    fn ours(&mut self, setup: &Setup, tree: &Tree, name: &str) -> Outcome<()> {
        let way = Way::ALL.into_iter().find(|way| way.name() == name).ok_or("no such way")?;
        let agents = Agents::start(setup, tree, way)?;
        self.play(way.name(), &agents, &agents.allowed())
    }
}

/// Of a channel that was played and not heard, nothing is said where no control is known to stop it.
fn judged(mut row: Row) -> Row {
    let by_the_target = matches!(&row.verdict, Verdict::Blocked { control } if control == BY_THE_TARGET);
    if by_the_target && row.seen.contains("bit/s") {
        let why = format!("not heard here, and nothing is known to stop it: {}", row.seen);
        row.verdict = Verdict::Inconclusive { why };
    }
    row
}

/// Plain processes as a target: what the kernel keeps for root is all that it stops.
struct OneUser(Plain);

impl Target for OneUser {
    fn name(&self) -> String {
        self.0.name()
    }

    fn start(&self, side: Side) -> Result<Streams, TargetError> {
        self.0.start(side)
    }

    /// A silent channel between those between which it was heard before tells nothing.
    fn stops(&self, attack: &Attack, _: &'static str) -> Option<String> {
        matches!(attack.kind, Kind::Surface { .. }).then(|| BY_THE_TARGET.to_owned())
    }

    fn file(&self) -> Option<String> {
        self.0.file()
    }

    fn folder(&self) -> Option<String> {
        self.0.folder()
    }

    fn small(&self) -> Option<String> {
        self.0.small()
    }

    fn secret(&self) -> Option<(String, String)> {
        self.0.secret()
    }
}

/// Where a file of this run lies.
fn file_in(dir: &Path, name: &str, content: &str) -> Outcome<PathBuf> {
    let path = dir.join(name);
    std::fs::write(&path, content)?;
    Ok(path)
}

fn today() -> Outcome<String> {
    let output = Command::new("date").arg("+%Y-%m-%d").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
