//! The report as text of 100 columns.

use std::collections::BTreeMap;

use casemate_protocol::refusal::printable_line;

use super::components::grouped;
use super::pairs::battery;
use super::{Calls, Comparison, Layer, PairView, Report};
use crate::doctor::{Finding, Heading, Verdict, count};

/// Widest line.
const COLUMNS: usize = 100;
/// Where further lines of an entry begin.
const INDENT: usize = 6;
/// Most names in a line.
const NAMES_MAX: usize = 12;

/// Lines of the report.
#[must_use]
pub fn text(report: &Report) -> Vec<String> {
    let mut out = Out(Vec::new());
    out.entry(&format!("posture of project {} at {}", report.project, report.date));
    // The digits of a digest fill a line.
    let (kind, digits) = report.composition.split_once(':').unwrap_or(("digest", &report.composition));
    out.entry(&format!("composition, {kind}:"));
    out.entry(&format!("  {digits}"));
    if report.platform.simulated {
        out.entry("SIMULATED evidence: nothing below that evidence covers is vouched for by hardware");
    }
    separation(&mut out, report);
    attestation(&mut out, report);
    hypervisor(&mut out, report);
    local(&mut out, report);
    out.line("");
    out.line("Not seen in this run");
    for missing in &report.not_seen {
        out.item(&format!("not run: {}: {}", missing.name, missing.reason));
    }
    if report.not_seen.is_empty() {
        out.item("nothing besides what is said above");
    }
    out.line("");
    out.line("docs/posture.md says what this report does not say; --html FILE writes it as a page");
    out.0
}

/// Lines of a comparison.
#[must_use]
pub fn comparison(rows: &[Comparison]) -> Vec<String> {
    let mut out = Out(Vec::new());
    out.entry("The same composition under other boundaries");
    out.item(&format!("memory and time to the first instruction: {}", super::compare::MEASURED));
    for row in rows {
        out.line("");
        out.line(&format!("  {}", row.what));
        for figure in &row.figures {
            out.wrapped(&format!("    {:<12}{}", figure.choice.name(), figure.value), 16);
        }
    }
    out.0
}

struct Out(Vec<String>);

impl Out {
    fn line(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }

    fn entry(&mut self, text: &str) {
        self.wrapped(text, 2);
    }

    fn item(&mut self, text: &str) {
        self.wrapped(&format!("  {text}"), INDENT);
    }

    fn more(&mut self, name: &str, text: &str) {
        self.wrapped(&format!("      {name:<10}{text}"), 16);
    }

    fn heading(&mut self, number: usize, heading: Heading, not_protected: &[String]) {
        self.line("");
        self.line(&format!("{number}. {}", heading.title()));
        self.line("  Not protected:");
        for text in not_protected {
            self.wrapped(&format!("  - {text}"), 4);
        }
        self.line("");
    }

    /// Breaks text between words; spaces at its begin and between a name and its text stay. A word that is wider than a
    /// line is cut at the end of each.
    fn wrapped(&mut self, text: &str, indent: usize) {
        let mut line = String::new();
        let mut column = 0_usize;
        let mut pending = 0_usize;
        for part in printable_line(text).split_inclusive(' ') {
            let word = part.trim_end_matches(' ');
            let width = word.chars().count();
            if column.saturating_add(pending).saturating_add(width) > COLUMNS && column > indent {
                self.0.push(std::mem::take(&mut line));
                line.push_str(&" ".repeat(indent));
                (column, pending) = (indent, 0);
            }
            line.push_str(&" ".repeat(pending));
            column = column.saturating_add(pending);
            for c in word.chars() {
                if column >= COLUMNS {
                    self.0.push(std::mem::take(&mut line));
                    line.push_str(&" ".repeat(indent));
                    column = indent;
                }
                line.push(c);
                column = column.saturating_add(1);
            }
            pending = usize::from(part.ends_with(' '));
        }
        self.0.push(line);
    }
}

fn separation(out: &mut Out, report: &Report) {
    out.heading(1, Heading::Separation, &report.separation.not_protected);
    for pair in &report.separation.part.pairs {
        of_pair(out, report, pair);
    }
    if report.separation.part.pairs.is_empty() {
        out.item("one agent: it has no peer");
    }
    checks(out, &report.separation.checks);
}

fn of_pair(out: &mut Out, report: &Report, pair: &PairView) {
    out.item(&pair.agents.join(" + "));
    out.more("boundary", &pair.boundary);
    for (agent, weak) in &pair.weak_controls {
        let enforced = pair.enforced.get(agent).copied().unwrap_or_default();
        let weak: Vec<String> = weak.iter().map(|(control, status)| format!("{control} {status}")).collect();
        let rest = if weak.is_empty() { "no other".to_owned() } else { weak.join(", ") };
        out.more("controls", &format!("{agent}: {enforced} enforced; {rest}"));
    }
    out.more("trust", pair.trust.as_deref().map_or("two groups", |group| group));
    out.more("edges", &if pair.edges.is_empty() { "none".to_owned() } else { some_of(&pair.edges) });
    if let Some(shared) = &pair.shared {
        let files: Vec<String> = shared.files.iter().map(|file| file.name.clone()).collect();
        let mut parts = Vec::new();
        for (name, list) in [
            ("files", &files),
            ("mounts", &shared.mounts),
            ("open", &shared.open),
            ("namespaces", &shared.namespaces),
            ("users", &shared.users),
        ] {
            if !list.is_empty() {
                parts.push(format!("{name} {}", some_of(list)));
            }
        }
        let share = shared.share.as_ref().map(|group| format!("share: {group}; ")).unwrap_or_default();
        let parts = match (shared.is_apart(), parts.is_empty()) {
            (true, _) => "nothing of theirs".to_owned(),
            (false, true) => "nothing seen, and not all was counted".to_owned(),
            _ => parts.join("; "),
        };
        out.more("in common", &format!("{share}{parts}"));
        for missing in &shared.not_run {
            out.more("not seen", &format!("{}: {}", missing.name, missing.reason));
        }
    }
    for probe in &pair.probes {
        out.more("probe", &battery(report.made, probe));
    }
    for missing in &pair.not_seen {
        out.more("not seen", missing);
    }
}

fn attestation(out: &mut Out, report: &Report) {
    out.heading(2, Heading::AttestationScope, &report.attestation.not_protected);
    let kind = match (report.platform.kind, &report.platform.reason) {
        (Some(kind), _) if report.platform.simulated => format!("{kind}, SIMULATED"),
        (Some(kind), _) => kind.to_owned(),
        (None, reason) => format!("not seen: {}", reason.as_deref().unwrap_or("no evidence was made")),
    };
    out.item(&format!("evidence of this box: {kind}"));
    for layer in &report.attestation.part.layers {
        of_layer(out, report, layer);
    }
    checks(out, &report.attestation.checks);
}

fn of_layer(out: &mut Out, report: &Report, layer: &Layer) {
    out.item(&format!("[{}] {}", layer.cover_name(), layer.layer));
    if layer.cover == super::Cover::NotCovered {
        out.more("why", layer.measured);
        return;
    }
    out.more("measured", layer.measured);
    let bound = match report.platform.kind {
        Some("tdx") => format!("TDX: {}", layer.tdx),
        Some("snp") => format!("SEV-SNP: {}", layer.snp),
        _ => format!("TDX: {}; SEV-SNP: {}", layer.tdx, layer.snp),
    };
    out.more("bound", &bound);
    out.more("here", &layer.here);
}

fn hypervisor(out: &mut Out, report: &Report) {
    out.heading(3, Heading::HypervisorSurface, &report.hypervisor.not_protected);
    for row in &report.hypervisor.part.components {
        out.item(row.component);
        out.more("TDX", row.tdx);
        out.more("SEV-SNP", row.snp);
        out.more("remains", row.remains);
        out.more("source", &row.source_words());
        for (verdict, vantage, ids) in grouped(&row.here) {
            out.more("here", &format!("{} ({}): {}", verdict.name(), vantage.name(), ids.join(", ")));
        }
        let unknown: Vec<String> = row
            .here
            .iter()
            .filter(|shown| shown.verdict == Verdict::Unknown)
            .map(|shown| shown.id.clone())
            .collect();
        match (row.not_seen, unknown.is_empty()) {
            (Some(why), true) => out.more("not seen", why),
            (_, false) => out.more("not seen", &format!("{}: see below", unknown.join(", "))),
            _ => {}
        }
    }
    checks(out, &report.hypervisor.checks);
}

fn local(out: &mut Out, report: &Report) {
    out.heading(4, Heading::LocalSurface, &report.local.not_protected);
    let local = &report.local.part;
    for calls in &local.calls {
        of_calls(out, calls);
    }
    out.item(&format!(
        "shared by all: kernel {}",
        local.kernel.as_deref().unwrap_or("not seen: its version could not be read")
    ));
    for part in &local.runtime {
        out.wrapped(
            &format!("    {}: reached by {}; a bug opens {}", part.part, part.reached, part.opens),
            INDENT + 2,
        );
    }
    out.item(&format!(
        "ledger: {} of {} pairs have nothing of theirs in common{}",
        local.pairs_apart,
        local.pairs,
        if local.files.is_empty() {
            String::new()
        } else {
            format!("; others map {}", some_of(&local.files))
        }
    ));
    let leaks = if local.leaks.is_empty() {
        "no leaks".to_owned()
    } else {
        format!("leaks: {}", local.leaks.join(", "))
    };
    let seen = if local.probed == 0 { "not seen: nobody probed; `casemate probe`".to_owned() } else { leaks };
    out.item(&format!(
        "probe: {} of {} ways from one agent to another probed; {seen}",
        local.probed, local.ways
    ));
    checks(out, &report.local.checks);
}

fn of_calls(out: &mut Out, calls: &Calls) {
    let agents: Vec<String> = calls.agents.iter().cloned().collect();
    let agents = if agents.is_empty() { "no agent of this box".to_owned() } else { some_of(&agents) };
    out.item(&format!(
        "{} system calls reach the guest's kernel from {} ({}): {agents}",
        calls.reachable(),
        calls.of,
        calls.backend
    ));
    let list = |names: &std::collections::BTreeSet<&'static str>| {
        names.iter().copied().collect::<Vec<_>>().join(" ")
    };
    for (name, names) in [
        ("allowed", &calls.allowed),
        ("with conditions", &calls.conditional),
        ("pretended", &calls.pretended),
        ("refused", &calls.refused),
    ] {
        out.wrapped(&format!("    {} {name}: {}", names.len(), list(names)), INDENT + 2);
    }
    out.wrapped(
        &format!("    {} others that this program knows: as if the kernel had none", calls.unnamed),
        INDENT + 2,
    );
}

/// What is to be done at length, the rest as numbers. Unknown ones are told by reason.
fn checks(out: &mut Out, findings: &[Finding]) {
    let counts = count(findings).into_iter().map(|(verdict, n)| format!("{n} {}", verdict.name()));
    out.item(&format!("doctor: {}", counts.collect::<Vec<_>>().join(", ")));
    for group in alike(findings) {
        if let [first, ..] = group.as_slice() {
            let seen: Vec<String> = group.iter().map(|finding| seen_of(finding)).collect();
            let text = format!(
                "    {} {}: {}: {} ({})",
                first.verdict.name(),
                first.id,
                first.what,
                seen.join("; "),
                first.vantage.name()
            );
            out.wrapped(&text, INDENT + 2);
        }
    }
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for finding in findings.iter().filter(|finding| finding.verdict == Verdict::Unknown) {
        reasons.entry(&finding.observed).or_default().push(name(finding));
    }
    for (reason, names) in reasons {
        out.wrapped(&format!("    not seen: {}: {reason}", names.join(", ")), INDENT + 2);
    }
}

/// Findings that fail, then those that warn; what one check says of several agents together.
pub(super) fn alike(findings: &[Finding]) -> Vec<Vec<&Finding>> {
    let mut groups: Vec<Vec<&Finding>> = Vec::new();
    for verdict in [Verdict::Fail, Verdict::Warn] {
        for finding in findings.iter().filter(|finding| finding.verdict == verdict) {
            let is_like = |group: &&mut Vec<&Finding>| {
                group.first().is_some_and(|first| (&first.id, first.verdict) == (&finding.id, verdict))
            };
            match groups.iter_mut().find(is_like) {
                Some(group) => group.push(finding),
                None => groups.push(vec![finding]),
            }
        }
    }
    groups
}

/// What was seen, and of whom.
pub(super) fn seen_of(finding: &Finding) -> String {
    match &finding.about {
        Some(about) => format!("{about}: {}", finding.observed),
        None => finding.observed.clone(),
    }
}

fn name(finding: &Finding) -> String {
    let about = finding.about.as_ref().map(|about| format!(" {about}")).unwrap_or_default();
    format!("{}{about}", finding.id)
}

fn some_of(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMES_MAX);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let shown: Vec<&str> = names.iter().take(NAMES_MAX).map(String::as_str).collect();
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn no_line_is_wider_than_the_columns_and_no_name_moves_the_cursor() {
        let mut input = sample::input();
        input.project = format!("{}\u{1b}[2J", "x".repeat(300));
        let report = Report::new(input);
        let rows = super::super::compare(&report, &super::super::Choice::ALL, &[]);
        for line in text(&report).iter().chain(&comparison(&rows)) {
            assert!(line.chars().count() <= COLUMNS, "{line}");
            assert!(!line.contains('\u{1b}'), "{line:?}");
        }
    }

    #[test]
    fn each_heading_says_first_what_is_not_protected() {
        let lines = text(&Report::new(sample::input()));
        for (place, heading) in Heading::ALL.into_iter().enumerate() {
            let title = format!("{}. {}", place + 1, heading.title());
            let at =
                lines.iter().position(|line| *line == title).unwrap_or_else(|| panic!("{title}: {lines:#?}"));
            assert_eq!(lines[at + 1], "  Not protected:");
            assert!(lines[at + 2].starts_with("  - "), "{}", lines[at + 2]);
        }
    }

    #[test]
    fn a_pair_is_told_with_what_was_seen_of_it() {
        let lines = text(&Report::new(sample::input())).join("\n");
        for part in [
            "  alpha + beta\n      boundary  native | native",
            "      edges     alpha -> beta:80\n",
            "      in common share: kin; files /lib/libc.so.6\n",
            "      probe     alpha on beta: 2 blocked, 1 leaks (inode-numbers), 0 allowed, 0 inconclusive; short\n                battery, 5 min ago\n",
            "      not seen  attacks of beta on alpha: not probed; `casemate probe beta alpha`\n",
        ] {
            assert!(lines.contains(part), "{part}\n{lines}");
        }
    }
}
