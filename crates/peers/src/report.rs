//! The tables that documents show: where verdicts differ, and our verdict on all real evidence.

use std::fmt::Write as _;
use std::path::Path;

use casemate_verifier::UnixTime;

use crate::differences::DIFFERENCES;
use crate::ours::{self, Outcome, Trust};
use crate::snp_cases::{self, CASES};
use crate::tdx_cases::{QUOTES, SETS, SGX_QUOTES, middle, windows};
use crate::vectors::{self, TdxSet, Unusable};

/// Heading of the section of docs/verification.md that [`differences`] is.
pub const DIFFERENCES_HEADING: &str = "## Differences from other verifiers";

/// The section on differences, with its heading.
#[must_use]
pub fn differences() -> String {
    let mut out = format!(
        "{DIFFERENCES_HEADING}\n\n\
         Tests compare our verdict with those of other verifiers on all real evidence, with every byte of quotes and reports\n\
         changed one at a time, with collateral and certificates changed, and with fields changed and signed again by a\n\
         development PKI (`crates/peers`). A difference that is not in this table fails them, and so does a row that no case\n\
         shows any more; `cargo xtask verdicts` writes it. `*` stands for any text. \"Both\" means: each for its purpose.\n\
         Of the 54 cases that the generator of `dcap-qvl` 0.5.2 made, both verifiers refuse all: its test certificates are not\n\
         of the form that 0.7.1 asks for either.\n\n\
         | peer | cases | ours | theirs | right | why |\n|---|---|---|---|---|---|\n"
    );
    for row in DIFFERENCES {
        let ours = if row.ours.is_empty() { "refuses" } else { row.ours };
        let ours = if ours.ends_with('.') { format!("{ours}*") } else { ours.to_owned() };
        // Writing to a String does not fail.
        let _ = writeln!(
            out,
            "| {} | `{}` | {} | {} | {} | {} |",
            row.peer.name(),
            row.case.replace('|', "\\|"),
            said(&ours),
            said(row.theirs),
            row.right.name(),
            row.why
        );
    }
    out
}

/// Rules and messages as code, verdicts as words.
fn said(text: &str) -> String {
    if text.starts_with("accepts") || text == "refuses" { text.to_owned() } else { format!("`{text}`") }
}

/// A document with its section on differences replaced.
///
/// # Errors
/// Where it has no such section.
pub fn with_differences(document: &str) -> Result<String, Unusable> {
    let (before, rest) = document.split_once(DIFFERENCES_HEADING).ok_or("no section on differences")?;
    let after = rest.find("\n## ").map_or("", |at| rest.get(at..).unwrap_or_default());
    Ok(format!("{before}{}{after}", differences()))
}

/// Our verdict on all real evidence, as a document.
///
/// # Errors
/// Where a vector cannot be read.
pub fn verdicts(folder: &Path) -> Result<String, Unusable> {
    let mut out = String::from(
        "# Verdicts on real evidence\n\n\
         Written by `cargo xtask verdicts` from evidence of real hardware, which is not in this repository; a test says when\n\
         this file is not what the verifier does. The policy is strict: production roots, TCB `UpToDate`, no advisory, no\n\
         optional attribute, collateral at most 30 days old, and every measured value as the evidence itself has it.\n\
         \"Vouched for\" means that the vendor's keys stand behind the statement at that time, whatever a policy thinks of it.\n",
    );
    tdx(&mut out, folder)?;
    snp(&mut out, folder)?;
    Ok(out)
}

fn tdx(out: &mut String, folder: &Path) -> Result<(), Unusable> {
    out.push_str(
        "\n## Intel TDX\n\nEvery quote with every set of collateral, in the middle of the time in which the set holds; where the quote is\n\
         vouched for, also a second before that time and a second after it.\n",
    );
    let windows = windows(folder)?;
    for file in QUOTES.iter().chain(&SGX_QUOTES) {
        let quote = vectors::read(folder, file)?;
        let _ = write!(
            out,
            "\n### {file}\n\n| collateral | time | vouched for, status | verdict | rules that do not hold |\n|---|---|---|---|---|\n"
        );
        for set_name in SETS {
            let set = TdxSet::read(folder, &format!("_assembled/{set_name}.json"))?;
            let window = windows.get(set_name).ok_or("no window")?;
            let at = |now: u64| {
                let mut handle = ours::tdx_handle(&set.ours, Trust::Production, now);
                ours::appraise_tdx(&quote, &mut handle, Trust::Production, now)
            };
            let now = middle(window.from, window.until);
            let outcome = at(now)?;
            let times: &[u64] =
                if outcome.is_verified() { &[window.from - 1, now, window.until + 1] } else { &[now] };
            for now in times {
                row(out, set_name, *now, &at(*now)?);
            }
        }
    }
    Ok(())
}

fn snp(out: &mut String, folder: &Path) -> Result<(), Unusable> {
    out.push_str(
        "\n## AMD SEV-SNP\n\nEvery report with its key, and some with another one. No CRL of AMD is among the vectors, so rule `platform.crl` never\n\
         holds; a report for which it is the only rule that does not hold is one that AMD's keys vouch for.\n",
    );
    for case in CASES {
        let report = case.report(folder)?;
        let set = case.collateral(folder)?;
        let _ = write!(
            out,
            "\n### {}\n\nWith `{}` and the {} of {}.\n\n| collateral | time | vouched for, status | verdict | rules that do not hold |\n|---|---|---|---|---|\n",
            case.report,
            case.vek,
            case.intermediate.to_uppercase(),
            case.product
        );
        for now in snp_cases::TIMES {
            let mut handle = ours::snp_handle(&set, Trust::Production, now);
            let outcome = ours::appraise_snp(&report, &mut handle, Trust::Production, now)?;
            row(out, "without CRL", now, &outcome);
        }
    }
    Ok(())
}

fn row(out: &mut String, collateral: &str, now: u64, outcome: &Outcome) {
    let status = match (outcome.is_verified(), outcome.claim("tcb-status")) {
        (false, _) => "no",
        (true, Some(status)) => status,
        (true, None) => "yes",
    };
    let verdict = if outcome.is_accepted() { "affirming" } else { "refused" };
    let mut rules: Vec<String> = Vec::new();
    for failed in &outcome.failed {
        let rule = format!("`{}`", failed.rule);
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    let _ =
        writeln!(out, "| {collateral} | {} | {status} | {verdict} | {} |", UnixTime(now), rules.join(" "));
}
