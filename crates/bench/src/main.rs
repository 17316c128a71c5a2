//! `casemate-bench`: measurements for `cargo xtask bench …`. Development only.
//!
//! What it is: one interleaved run of the product and its peers on the same input, told as medians and ratios. What it
//! is not: a test; no number here fails a build.

mod abuse;
mod compartments;
mod images;
mod launch;
mod machine;
mod measure;
mod native;
mod probe;
mod roots;
mod statistics;
mod verify;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["launch", launcher] => launch::run(std::path::Path::new(launcher)),
        ["compartments", programs, work, words @ ..] => compartments::run(programs, work, words),
        ["probe", programs, work, words @ ..] => probe::run(programs, work, words),
        ["abuse", bin, agent, names @ ..] => abuse::run(std::path::Path::new(bin), std::path::Path::new(agent), names),
        ["verify"] => verify::run().map_err(|error| error as _),
        ["repeat", case, count] => verify::repeat(case, count).map_err(|error| error as _),
        ["images", layout] => images::run(std::path::Path::new(layout)),
        ["images-import", tar, store] => images::import(tar, store),
        ["roots", tar] => roots::run(std::path::Path::new(tar)),
        ["roots-send", channel, root, seed, begin] => roots::send(channel, root, seed, begin),
        _ => Err("usage: casemate-bench launch LAUNCHER, compartments PROGRAMS WORK [--rounds N] [PART...], probe PROGRAMS WORK [--short] [TARGET...], abuse PROGRAMS AGENT [ABUSER...], roots TAR, images LAYOUT, or verify".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
