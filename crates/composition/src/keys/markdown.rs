//! The tables as text for `docs/compose.md`.

use super::{Disposition, Key, TABLES, Table, WHOLES};

/// All tables, in Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::new();
    for table in TABLES {
        section(table, &mut out);
    }
    out.push_str("### Keys that share the fate of the key above them\n\n| mapping | keys | decided by |\n|---|---|---|\n");
    for whole in WHOLES {
        let names: Vec<String> = whole.names.iter().map(|name| format!("`{name}`")).collect();
        out.push_str(&format!("| `{}` | {} | `{}` |\n", whole.path, names.join(" "), whole.decided_by));
    }
    out
}

fn section(table: &Table, out: &mut String) {
    let heading = if table.path.is_empty() { "Top level".to_owned() } else { format!("`{}`", table.path) };
    out.push_str(&format!(
        "### {heading}\n\n| key | what happens | limits, reason, what to write instead |\n|---|---|---|\n"
    ));
    for key in table.keys {
        let (what, why) = words(key);
        out.push_str(&format!("| `{}` | {what} | {} |\n", key.name, why.replace('|', "\\|")));
    }
    out.push('\n');
}

fn words(key: &Key) -> (&'static str, String) {
    match key.disposition {
        Disposition::Honoured => ("honoured", String::new()),
        Disposition::Limited(limits) => ("honoured with limits", limits.to_owned()),
        Disposition::Refused { reason, instead } => {
            let values: Vec<String> = key.harmless.iter().map(|value| format!("`{value}`")).collect();
            let but = if values.is_empty() {
                String::new()
            } else {
                format!("; {} is accepted", values.join(" or "))
            };
            ("refused", format!("{reason}: {instead}{but}"))
        }
        Disposition::Ignored(reason) => ("ignored with a warning", reason.to_owned()),
        Disposition::NoEffect(reason) => ("no effect", reason.to_owned()),
    }
}
