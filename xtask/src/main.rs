//! Project tasks: `cargo xtask` lists them. Development only; nothing here ships.

mod bench;
mod bench_compartments;
mod bench_probe;
mod debian;
mod demo;
mod demo_api;
mod demo_image;
mod demo_refusals;
mod dist;
mod docker_compose;
mod faults;
mod fuzz;
mod gvisor;
mod layers;
mod process;
mod setup;
mod test;
mod trusted_lines;

use std::process::ExitCode;

const TASKS: [(&str, &str); 10] = [
    (
        "setup",
        "install what the other tasks need: Debian packages (as root), Docker Compose and gVisor below target/",
    ),
    ("demo", "three agents, their answer, and six refusals; --keep leaves them running"),
    ("test", "everything that CI checks"),
    (
        "fuzz",
        "hostile input for every parser: [--seconds 30] [--seed 1] [TARGET...]; `list`, `replay TARGET FILE`",
    ),
    ("faults", "kill programs of a box at random moments and look what is left: [--rounds 200] [--seed 1]"),
    ("layers", "check which crate may depend on which"),
    ("dist", "build all programs into target/dist/bin"),
    (
        "bench",
        "`bench launch`: time to the first instruction of an agent; `compartments`: start, memory, cost and traffic, against \
         peers; `probe`: attacks between two agents, against Compose, runc and plain processes; `abuse`: an agent beside others that take all they can get; `verify`: evidence, against peers; `roots`: what \
         two agents of one image leak and cost; `images`: import, against peers",
    ),
    ("docs", "write the tables of docs/compose.md and docs/doctor.md from the tables that the programs read"),
    ("verdicts", "write docs/verdicts.md, and the table of differences in docs/verification.md"),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["setup"] => setup::run_for_tests(),
        ["demo"] => demo::run(demo::After::Stop),
        ["demo", "--keep"] => demo::run(demo::After::Keep),
        ["test"] => test::run(),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["faults", rest @ ..] => faults::run(rest),
        ["layers"] => layers::run(),
        ["dist"] => dist::run().map(|dir| println!("programs are in {}", dir.display())),
        ["bench", rest @ ..] => bench::run(rest),
        ["docs"] => docs(),
        ["verdicts"] => verdicts(),
        [] => {
            for (name, what) in TASKS {
                println!("cargo xtask {name:8} {what}");
            }
            Ok(())
        }
        [unknown, ..] => Err(format!("no task `{unknown}`; `cargo xtask` lists them")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// The test that finds the document stale also writes it.
fn docs() -> Result<(), String> {
    for (package, test) in [("casemate-composition", "docs"), ("casemate-posture", "doctor")] {
        let args = ["test", "--quiet", "--locked", "--package", package, "--test", test];
        let mut command = process::cargo(&args);
        process::run(command.env("CASEMATE_BLESS", "1"), DOCS_BOUND)?;
    }
    Ok(())
}

/// Time for building and for writing.
const DOCS_BOUND: std::time::Duration = std::time::Duration::from_secs(900);
/// Time for building and for writing.
const VERDICTS_BOUND: std::time::Duration = std::time::Duration::from_secs(900);

fn verdicts() -> Result<(), String> {
    let docs = process::root().join("docs");
    let mut command =
        process::cargo(&["run", "--quiet", "--locked", "--package", "casemate-peers", "--", "write"]);
    process::run(command.arg(docs), VERDICTS_BOUND)
}
