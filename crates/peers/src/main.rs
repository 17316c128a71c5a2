//! `casemate-peers write DOCS`: writes the tables of docs/verdicts.md and docs/verification.md. Development only.

use std::path::Path;
use std::process::ExitCode;

use casemate_peers::report;
use casemate_peers::vectors::{self, Unusable};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write", docs] => write(Path::new(docs)),
        _ => Err("usage: casemate-peers write DOCS".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(docs: &Path) -> Result<(), Unusable> {
    let verification = docs.join("verification.md");
    let text = std::fs::read_to_string(&verification)?;
    std::fs::write(&verification, report::with_differences(&text)?)?;
    let folder =
        vectors::folder().ok_or("vectors absent: set CASEMATE_VECTORS to the folder that has them")?;
    Ok(std::fs::write(docs.join("verdicts.md"), report::verdicts(&folder)?)?)
}
