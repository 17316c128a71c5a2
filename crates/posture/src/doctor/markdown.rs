//! The checks as a table, for docs/doctor.md.

use std::fmt::Write as _;

use super::{Check, Heading, Verdict, checks};
use crate::sources;

/// All checks under their headings.
#[must_use]
pub fn markdown() -> String {
    let checks = checks();
    let mut out = String::new();
    for heading in Heading::ALL {
        let of_it: Vec<&Check> = checks.iter().filter(|check| check.heading == heading).collect();
        // Writing into a String cannot fail.
        let _ = write!(
            out,
            "## {}\n\n| id | looks at | expects | says | vantage | attack | fix | source |\n|---|---|---|---|---|---|---|---|\n",
            heading.title()
        );
        for check in of_it {
            let says: Vec<&str> = check.verdicts.iter().map(|verdict| Verdict::name(*verdict)).collect();
            let _ = writeln!(
                out,
                "| `{}` | {}: `{}` | {} | {} | {} | {} | {} | {} |",
                check.id,
                cell(check.what),
                check.place.replace('|', "\\|"),
                cell(check.expected),
                says.join(", "),
                check.vantage.name(),
                cell(check.attack),
                cell(check.fix),
                cell(&sources::words(check.id))
            );
        }
        out.push('\n');
    }
    out
}

/// Text of a cell: a bar or a star would end or change it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('*', "\\*").replace('<', "&lt;")
}
