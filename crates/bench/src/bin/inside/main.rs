//! `casemate-bench-inside`: what runs inside compartments, containers and plain processes while they are measured.
//!
//! What it is: jobs that tell their own time, a server that echoes or swallows, a client that does what a file in a
//! shared folder asks for, and a copying proxy. What it is not: part of the product. Who trusts it: nobody.

mod jobs;
mod traffic;

use std::process::ExitCode;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["job", name, count] => jobs::run(name, count),
        ["filtered-job", name, count] => jobs::allow_everything().and_then(|()| jobs::run(name, count)),
        ["serve", address] => traffic::serve(address),
        ["drive", folder] => traffic::drive(folder),
        ["proxy", listen, target] => traffic::proxy(listen, target),
        _ => Err("usage: casemate-bench-inside job NAME COUNT, serve ADDRESS, drive FOLDER, or proxy LISTEN TARGET".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
