//! `compartments`: what a compartment costs, next to what else one could have used, interleaved in one run.
//!
//! Parts: `start` (time to the first instruction), `up` (the whole start of 1 to 100 agents), `memory` (an idle Python
//! agent), `cost` (system calls and jobs, inside and outside), `edge` (traffic between two agents), `vm` (what a VM for each
//! agent takes). What is not there or
//! does not work is said as `not run: name: reason`. Needs root and a mount namespace of its own, because it hides a
//! control group hierarchy from a peer that cannot live with it.

mod cost;
pub(crate) mod docker;
mod edge;
mod gvisor;
mod memory;
pub(crate) mod peers;
pub(crate) mod project;
mod report;
mod start;
mod up;
mod vm;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::machine;

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Rounds that count where the command line names no other number.
const ROUNDS: usize = 30;
/// How long the machine is looked at before and after each part.
const LOOK: Duration = Duration::from_secs(1);
/// Version 2 hierarchy of a hybrid layout.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

type Part = (&'static str, fn(&Setup) -> Outcome<()>);
const PARTS: [Part; 6] = [
    ("start", start::run),
    ("up", up::run),
    ("memory", memory::run),
    ("cost", cost::run),
    ("edge", edge::run),
    ("vm", vm::run),
];

/// Where everything is.
pub(crate) struct Setup {
    /// Folder of Casemate's programs.
    pub(crate) programs: PathBuf,
    /// Folder for what is kept between runs; `docker`, `youki` and `tools.tar` lie there, if anywhere.
    pub(crate) work: PathBuf,
    /// Rounds that count.
    pub(crate) rounds: usize,
}

impl Setup {
    fn launcher(&self) -> PathBuf {
        self.programs.join("casemate-launcher")
    }

    /// The program that runs inside.
    fn inside() -> Outcome<PathBuf> {
        let path = std::env::current_exe()?.with_file_name("casemate-bench-inside");
        if path.is_file() { Ok(path) } else { Err(format!("{}: not built", path.display()).into()) }
    }
}

/// Words: folder of programs, work folder, `--rounds N` if wanted, parts if not all.
pub(crate) fn run(programs: &str, work: &str, words: &[&str]) -> Outcome<()> {
    let (rounds, parts) = match words {
        ["--rounds", rounds, parts @ ..] => (rounds.parse()?, parts),
        parts => (ROUNDS, parts),
    };
    if let Some(unknown) = parts.iter().find(|part| PARTS.iter().all(|(name, _)| name != *part)) {
        return Err(format!("no part `{unknown}`; there are start, up, memory, cost, edge and vm").into());
    }
    let setup = Setup {
        programs: Path::new(programs).canonicalize()?,
        work: Path::new(work).canonicalize()?,
        rounds,
    };
    hide_empty_hierarchy();
    println!("{}; medians of {rounds} interleaved rounds unless said otherwise", machine::describe());
    for (name, part) in PARTS {
        if parts.is_empty() || parts.contains(&name) {
            println!("\n== {name}; before it {}", machine::others_during(LOOK));
            if let Err(error) = part(&setup) {
                println!("not run: {name}: {error}");
            }
            println!("== end of {name}; after it {}", machine::others_during(LOOK));
        }
    }
    Ok(())
}

/// crun takes a version 2 hierarchy without controllers for the whole layout and refuses to run. Hidden for all candidates,
/// in this mount namespace alone.
fn hide_empty_hierarchy() {
    let controllers = std::fs::read_to_string(Path::new(UNIFIED).join("cgroup.controllers"));
    if controllers.is_ok_and(|text| !text.split_whitespace().any(|one| one == "memory")) {
        // Where it stays, crun says so itself.
        let _ = rustix::mount::unmount(UNIFIED, rustix::mount::UnmountFlags::DETACH);
    }
}
