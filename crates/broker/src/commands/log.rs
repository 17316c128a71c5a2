//! `casemate-broker log`: every decision, and whether the chain is whole.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use crate::failure::Failure;
use crate::state_dir::StateDir;
use crate::store::Store;
use crate::store::decisions::{Chain, Row};

/// Prints the log, then what the check of its chain found.
pub(crate) fn run(state: &Path, json: bool) -> Result<ExitCode, Failure> {
    let mut store = Store::open(&StateDir::open(state)?)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut written = Ok(());
    let chain = store.walk_log(|row| {
        if written.is_ok() {
            written = if json { print_json(&mut out, row) } else { print_line(&mut out, row) };
        }
    })?;
    let written = written.and_then(|()| print_chain(&mut out, &chain, json)).and_then(|()| out.flush());
    written.map_err(|error| Failure::Io { what: String::from("standard output"), error })?;
    Ok(match chain {
        Chain::Intact { .. } => ExitCode::SUCCESS,
        Chain::Broken { .. } => ExitCode::FAILURE,
    })
}

fn print_line(out: &mut impl io::Write, row: &Row) -> io::Result<()> {
    write!(out, "{:>6} {} {:<8} {:<8}", row.seq, row.time, row.kind, row.decision)?;
    let number = |number: i64| if number == 0 { String::new() } else { number.to_string() };
    for (name, value) in [
        ("agent", &row.agent),
        ("instance", &number(row.instance)),
        ("resource", &row.resource),
        ("version", &number(row.secret_version)),
        ("standing", &row.standing),
    ] {
        if !value.is_empty() {
            write!(out, " {name}={value}")?;
        }
    }
    if !row.rule.is_empty() {
        write!(out, " rule={} expected={:?} found={:?}", row.rule, row.expected, row.found)?;
    }
    writeln!(out)
}

fn print_json(out: &mut impl io::Write, row: &Row) -> io::Result<()> {
    let mut value = serde_json::to_value(row)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("hash".into(), row.hash.clone().into());
    }
    writeln!(out, "{value}")
}

fn print_chain(out: &mut impl io::Write, chain: &Chain, json: bool) -> io::Result<()> {
    match (chain, json) {
        (Chain::Intact { rows, head }, false) => writeln!(out, "intact: {rows} decisions, head {head}"),
        (Chain::Broken { seq, what }, false) => writeln!(out, "BROKEN at decision {seq}: {what}"),
        (Chain::Intact { rows, head }, true) => {
            writeln!(out, "{}", serde_json::json!({"chain": "intact", "rows": rows, "head": head}))
        }
        (Chain::Broken { seq, what }, true) => {
            writeln!(out, "{}", serde_json::json!({"chain": "broken", "seq": seq, "what": what}))
        }
    }
}
