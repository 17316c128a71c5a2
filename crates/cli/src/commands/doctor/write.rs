//! Findings as text in 96 columns, and as JSON.

use casemate_posture::doctor::{Finding, Heading, Vantage, Verdict, count};
use serde_json::{Map, Value, json};

use crate::lines;

/// Widest line.
const COLUMNS: usize = 96;
/// Where the text of a finding begins.
const INDENT: usize = 6;

/// What is to be done comes first.
const ORDER: [Verdict; 5] =
    [Verdict::Fail, Verdict::Warn, Verdict::Unknown, Verdict::Pass, Verdict::NotApplicable];

/// One line of JSON with all findings.
pub(super) fn json(findings: &[Finding]) {
    lines::print(json!({ "findings": findings, "summary": summary_json(findings) }));
}

fn summary_json(findings: &[Finding]) -> Value {
    let counts = count(findings).into_iter();
    Value::Object(counts.map(|(verdict, n)| (verdict.name().to_owned(), json!(n))).collect::<Map<_, _>>())
}

/// Findings under their headings: what fails and what is weak at length, the rest in a line each or in a number.
pub(super) fn text(findings: &[Finding], about: &str, host: bool, all: bool) {
    lines::print(format!("doctor: {about}"));
    for heading in Heading::ALL {
        let of_it: Vec<&Finding> = findings.iter().filter(|finding| finding.heading == heading).collect();
        if of_it.is_empty() {
            continue;
        }
        lines::print("");
        lines::print(if host { "Setting up a host" } else { heading.title() });
        for verdict in ORDER {
            let of_it: Vec<&&Finding> = of_it.iter().filter(|finding| finding.verdict == verdict).collect();
            let is_quiet = matches!(verdict, Verdict::Pass | Verdict::NotApplicable);
            if is_quiet && !all {
                if !of_it.is_empty() {
                    lines::print(format!("  {} {}", of_it.len(), verdict.name()));
                }
                continue;
            }
            if verdict == Verdict::Unknown {
                unknown(&of_it).iter().for_each(lines::print);
            } else {
                of_it.iter().flat_map(|finding| written(finding, host)).for_each(lines::print);
            }
        }
    }
    lines::print("");
    let counts = count(findings).into_iter().map(|(verdict, n)| format!("{n} {}", verdict.name()));
    lines::print(counts.collect::<Vec<_>>().join(", "));
    if !all {
        lines::print("`--all` shows each; docs/doctor.md says what doctor cannot see");
    }
}

/// What is not known, by reason: often one reason stands for many checks.
fn unknown(findings: &[&&Finding]) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for finding in findings {
        let about = finding.about.as_ref().map(|about| format!(" ({about})")).unwrap_or_default();
        let name = format!("{}{about}", finding.id);
        match reasons.iter_mut().find(|(reason, _)| *reason == finding.observed) {
            Some((_, names)) => names.push(name),
            None => reasons.push((&finding.observed, vec![name])),
        }
    }
    let line = |(reason, names): &(&str, Vec<String>)| {
        wrapped(&format!("  unknown {}: {}", lines::printable(reason.as_bytes()), names.join(", ")), INDENT)
    };
    reasons.iter().flat_map(line).collect()
}

/// The lines of a finding. Of a host, all is its own word.
fn written(finding: &Finding, host: bool) -> Vec<String> {
    let about = finding.about.as_ref().map(|about| format!(" {about}")).unwrap_or_default();
    let vantage = match finding.vantage {
        Vantage::GuestObserved => String::new(),
        _ if host => String::new(),
        other => format!(" ({})", other.name()),
    };
    let observed = lines::printable(finding.observed.as_bytes());
    let mark = if finding.verdict == Verdict::NotApplicable { "-" } else { finding.verdict.name() };
    let mut out =
        wrapped(&format!("  {mark} {}{about}: {}{vantage}: {observed}", finding.id, finding.what), INDENT);
    if matches!(finding.verdict, Verdict::Fail | Verdict::Warn) {
        for (name, text) in [
            ("expected", &finding.expected),
            (if host { "else" } else { "attack" }, &finding.attack),
            ("to do", &finding.fix),
            ("source", &finding.source),
        ] {
            out.extend(wrapped(&format!("{:INDENT$}{name}: {text}", ""), INDENT + 2));
        }
    }
    out
}

/// Text broken between words; further lines begin at `indent`.
pub(crate) fn wrapped(text: &str, indent: usize) -> Vec<String> {
    let lead: String = text.chars().take_while(|c| *c == ' ').collect();
    let mut out = Vec::new();
    let mut line = lead;
    let mut is_empty = true;
    for word in text.split_whitespace() {
        let room = line.chars().count() + word.chars().count() + usize::from(!is_empty);
        if room > COLUMNS && !is_empty {
            out.push(std::mem::replace(&mut line, " ".repeat(indent)));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    out.push(line);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(verdict: Verdict) -> Finding {
        Finding {
            id: "D01.x".into(),
            heading: Heading::Separation,
            about: Some("a + b".into()),
            what: "what".into(),
            observed: "seen\u{1b}[2J".into(),
            expected: "word ".repeat(40).trim().to_owned().into(),
            verdict,
            vantage: Vantage::HostClaimed,
            attack: "attack".into(),
            fix: "fix".into(),
            source: "source".into(),
        }
    }

    #[test]
    fn a_failure_tells_what_to_do_within_the_columns() {
        let lines = written(&finding(Verdict::Fail), false);
        assert_eq!(lines[0], "  fail D01.x a + b: what (host-claimed): seen\u{fffd}[2J");
        assert!(lines.iter().all(|line| line.chars().count() <= COLUMNS), "{lines:?}");
        assert!(lines[1].starts_with("      expected: word") && lines[2].starts_with("        word"));
        assert_eq!(lines.last().unwrap(), "      source: source");
    }

    #[test]
    fn what_is_unknown_for_one_reason_is_told_together() {
        let one = Finding { about: None, observed: "no box runs".into(), ..finding(Verdict::Unknown) };
        let other = Finding { id: "D02.y".into(), about: Some("a".into()), ..one.clone() };
        let third = Finding { observed: "absent".into(), ..one.clone() };
        assert_eq!(
            unknown(&[&&one, &&other, &&third]),
            ["  unknown no box runs: D01.x, D02.y (a)", "  unknown absent: D01.x"]
        );
    }

    #[test]
    fn what_passes_is_one_line() {
        assert_eq!(written(&finding(Verdict::Pass), false).len(), 1);
    }
}
