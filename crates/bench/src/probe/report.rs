//! The table: attack by target, as text and as Markdown for docs/residual-surface.md.

use std::collections::BTreeMap;
use std::time::Duration;

use casemate_probe::attack::Kind;
use casemate_probe::attacks::by_name;
use casemate_probe::matrix::{Row, summary};
use casemate_probe::verdict::Verdict;

/// Targets whose verdicts name a control of ours, in the order in which they are asked for it.
const OURS: [&str; 3] = ["native", "share", "gvisor"];

/// What the battery came to in one target.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) rows: Vec<Row>,
    /// Time of the target's own runs.
    pub(super) played: Duration,
    /// Time of what was played in plain processes meanwhile, once for all.
    pub(super) controls: Duration,
}

/// Prints all of it.
pub(super) fn print(head: &str, columns: &[Column], missing: &[(&'static str, String)]) {
    let table = table(columns);
    println!();
    print_text(&table);
    println!("\n{head}\n");
    print_markdown(&table);
    println!();
    for column in columns {
        println!(
            "- `{}`: {}; {:.0} s, and {:.0} s of controls",
            column.name,
            summary(&column.rows),
            column.played.as_secs_f64(),
            column.controls.as_secs_f64()
        );
    }
    for (name, reason) in missing {
        println!("- `{name}`: not run: {reason}");
    }
    println!("\nInconclusive:\n");
    for ((attack, why), targets) in inconclusive(columns) {
        println!("- `{attack}`, {}: {why}", targets.join(", "));
    }
}

fn table(columns: &[Column]) -> Vec<Vec<String>> {
    let mut head = vec!["attack".to_owned()];
    head.extend(columns.iter().map(|column| column.name.to_owned()));
    head.push("what stops it here".to_owned());
    let mut table = vec![head];
    let names = columns.first().map_or(&[][..], |column| &column.rows).iter().map(|row| row.attack);
    for name in names {
        let found = |column: &'_ Column| column.rows.iter().find(|row| row.attack == name).cloned();
        let mut line = vec![format!("`{name}`")];
        line.extend(
            columns.iter().map(|column| found(column).map_or_else(|| "-".to_owned(), |row| cell(&row))),
        );
        let ours = columns.iter().filter(|column| OURS.contains(&column.name)).filter_map(found);
        line.push(controls(ours));
        table.push(line);
    }
    table
}

/// The controls that verdicts name.
fn controls(rows: impl Iterator<Item = Row>) -> String {
    let mut names: Vec<String> = Vec::new();
    for row in rows {
        if let Verdict::Blocked { control } = row.verdict
            && !names.contains(&control)
        {
            names.push(control);
        }
    }
    if names.is_empty() { "-".to_owned() } else { names.join("; ") }
}

/// The verdict in a word; of a channel, its rate and its errors. An interface of the kernel is reached, which harms no peer
/// by itself.
fn cell(row: &Row) -> String {
    let rate = || row.seen.split(" (").next().filter(|rate| rate.contains("bit/s"));
    let measured = rate().map_or_else(String::new, |rate| format!(" {rate}"));
    let is_interface = by_name(row.attack).is_some_and(|attack| matches!(attack.kind, Kind::Surface { .. }));
    match row.verdict {
        Verdict::Leak { .. } if is_interface => "**reached**".to_owned(),
        Verdict::Leak { .. } => format!("**leak**{measured}"),
        Verdict::Allowed { .. } => format!("allowed{measured}"),
        Verdict::Inconclusive { .. } => "?".to_owned(),
        Verdict::Blocked { .. } => "blocked".to_owned(),
    }
}

/// Targets by attack and reason.
fn inconclusive(columns: &[Column]) -> BTreeMap<(&'static str, String), Vec<&'static str>> {
    let mut all: BTreeMap<(&'static str, String), Vec<&'static str>> = BTreeMap::new();
    for column in columns {
        for row in &column.rows {
            if let Verdict::Inconclusive { why } = &row.verdict {
                all.entry((row.attack, why.clone())).or_default().push(column.name);
            }
        }
    }
    all
}

fn print_text(table: &[Vec<String>]) {
    let count = table.first().map_or(0, Vec::len);
    let plain = |cell: &String| cell.replace(['*', '`'], "");
    let width = |at: usize| table.iter().filter_map(|line| line.get(at)).map(|cell| plain(cell).len()).max();
    let widths: Vec<usize> = (0..count).map(|at| width(at).unwrap_or(0)).collect();
    for line in table {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{:<width$}", plain(cell)));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

fn print_markdown(table: &[Vec<String>]) {
    for (number, line) in table.iter().enumerate() {
        println!("| {} |", line.join(" | "));
        if number == 0 {
            println!("|{}", "---|".repeat(line.len()));
        }
    }
}
