//! The report as one page: no script, and nothing that it asks for elsewhere. Its policy for browsers forbids both.
//!
//! Names of agents, files, hosts and whatever checks observed come from images and Compose files: all of it goes through
//! [`page::Page::text`].

mod diagram;
mod page;

use std::collections::BTreeMap;

use self::page::Page;
use super::components::grouped;
use super::pairs::battery;
use super::text::{alike, seen_of};
use super::{Comparison, Cover, PairView, Report};
use crate::doctor::{Finding, Heading, Verdict, count};

const HEAD: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n",
    "<meta name=\"referrer\" content=\"no-referrer\">\n",
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>\n",
    include_str!("html/style.css"),
    "</style>\n"
);

/// The page.
#[must_use]
pub fn html(report: &Report, compared: &[Comparison]) -> String {
    let mut page = Page::default();
    page.raw(HEAD);
    page.element("title", &[], &format!("Posture of {}", report.project));
    page.raw("</head>\n<body>\n");
    head(&mut page, report);
    separation(&mut page, report);
    attestation(&mut page, report);
    hypervisor(&mut page, report);
    local(&mut page, report);
    if !compared.is_empty() {
        comparison(&mut page, compared);
    }
    not_seen(&mut page, report);
    page.raw("</body>\n</html>\n");
    page.finish()
}

fn head(page: &mut Page, report: &Report) {
    page.element("h1", &[], &format!("Posture of {}", report.project));
    page.element(
        "p",
        &[("class", "soft")],
        &format!("Looked at on {}, by the clock of the box. Composition:", report.date),
    );
    page.element("p", &[("class", "mono")], &report.composition);
    if report.platform.simulated {
        page.element(
            "p",
            &[("class", "banner")],
            "SIMULATED evidence: an emulator signs it. Nothing that it covers is vouched for by hardware.",
        );
    }
    page.open("figure", &[]);
    diagram::of_the_box(page, report);
    page.element(
        "figcaption",
        &[],
        "Arrows between agents are open edges, with the port that is called; a dashed one was opened by hand. Dotted: files that two agents both have mapped. A dashed inner frame is a kernel in user space (gVisor).",
    );
    page.close("figure");
    if !report.secrets.is_empty() {
        page.open("figure", &[]);
        diagram::of_secrets(page, report);
        page.element(
            "figcaption",
            &[],
            "Nobody reads what passes over an edge, so whoever holds a secret can pass it on, in both directions. This is what could happen, not what did.",
        );
        page.close("figure");
    }
}

/// A heading, and first of all what is not protected.
fn heading(page: &mut Page, number: usize, heading: Heading, open: &[String]) {
    page.element("h2", &[("id", &format!("part-{number}"))], &format!("{number}. {}", heading.title()));
    page.open("div", &[("class", "open")]);
    page.element("h3", &[], "Not protected");
    page.open("ul", &[]);
    for text in open {
        page.element("li", &[], text);
    }
    page.close("ul");
    page.close("div");
}

fn table_head(page: &mut Page, class: &str, columns: &[&str]) {
    page.open("table", &[("class", class)]);
    page.open("thead", &[]);
    page.open("tr", &[]);
    for column in columns {
        page.element("th", &[], column);
    }
    page.close("tr");
    page.close("thead");
    page.open("tbody", &[]);
}

fn table_end(page: &mut Page) {
    page.close("tbody");
    page.close("table");
}

fn cell(page: &mut Page, paragraphs: &[String]) {
    page.open("td", &[]);
    for text in paragraphs {
        page.element("p", &[], text);
    }
    page.close("td");
}

fn separation(page: &mut Page, report: &Report) {
    heading(page, 1, Heading::Separation, &report.separation.not_protected);
    table_head(page, "pairs", &["Pair and boundary", "Controls", "Between them", "Probe"]);
    for pair in &report.separation.part.pairs {
        page.open("tr", &[]);
        of_pair(page, report, pair);
        page.close("tr");
    }
    table_end(page);
    checks(page, &report.separation.checks);
}

fn of_pair(page: &mut Page, report: &Report, pair: &PairView) {
    let trust = pair
        .trust
        .as_ref()
        .map_or_else(|| "two trust groups".to_owned(), |group| format!("one trust group: {group}"));
    cell(page, &[pair.agents.join(" + "), pair.boundary.clone(), trust]);
    let controls = pair.weak_controls.iter().map(|(agent, weak)| {
        let weak: Vec<String> = weak.iter().map(|(control, status)| format!("{control} {status}")).collect();
        let enforced = pair.enforced.get(agent).copied().unwrap_or_default();
        let rest = if weak.is_empty() { "no other".to_owned() } else { weak.join(", ") };
        format!("{agent}: {enforced} enforced; {rest}")
    });
    cell(page, &controls.collect::<Vec<_>>());
    let edges = if pair.edges.is_empty() { "no edge".to_owned() } else { pair.edges.join(", ") };
    let mut between = vec![edges];
    match &pair.shared {
        Some(shared) if shared.is_apart() => between.push("nothing of theirs in common".into()),
        Some(shared) => {
            between.extend(shared.share.iter().map(|group| format!("share: {group}")));
            let files: Vec<String> = shared.files.iter().map(|file| file.name.clone()).collect();
            for (name, list) in [
                ("files", &files),
                ("mounts", &shared.mounts),
                ("open", &shared.open),
                ("namespaces", &shared.namespaces),
                ("users", &shared.users),
            ] {
                if !list.is_empty() {
                    between.push(format!("{name} in common: {}", list.join(", ")));
                }
            }
            between
                .extend(shared.not_run.iter().map(|one| format!("not seen: {}: {}", one.name, one.reason)));
        }
        None => {}
    }
    cell(page, &between);
    let probes = pair.probes.iter().map(|probe| battery(report.made, probe));
    let missing = pair.not_seen.iter().map(|text| format!("not seen: {text}"));
    cell(page, &probes.chain(missing).collect::<Vec<_>>());
}

fn attestation(page: &mut Page, report: &Report) {
    heading(page, 2, Heading::AttestationScope, &report.attestation.not_protected);
    table_head(
        page,
        "layers",
        &["Layer", "Covered by", "Measured", "Bound (TDX)", "Bound (SEV-SNP)", "Seen here"],
    );
    for layer in &report.attestation.part.layers {
        page.open("tr", &[]);
        page.element("td", &[], layer.layer);
        let class = match layer.cover {
            Cover::NotCovered => "not-covered",
            Cover::Part => "part",
            // Nothing real covers it.
            _ if layer.simulated => "part",
            Cover::Hardware | Cover::Box => "pass",
        };
        word(page, class, &layer.cover_name());
        for text in [layer.measured, layer.tdx, layer.snp, &layer.here] {
            page.element("td", &[], text);
        }
        page.close("tr");
    }
    table_end(page);
    checks(page, &report.attestation.checks);
}

fn word(page: &mut Page, class: &str, text: &str) {
    page.open("td", &[]);
    page.element("span", &[("class", &format!("word {class}"))], text);
    page.close("td");
}

fn hypervisor(page: &mut Page, report: &Report) {
    heading(page, 3, Heading::HypervisorSurface, &report.hypervisor.not_protected);
    table_head(page, "surface", &["Part", "TDX protects", "SEV-SNP protects", "Remains", "This box"]);
    for row in &report.hypervisor.part.components {
        page.open("tr", &[]);
        page.element("td", &[], row.component);
        page.element("td", &[], row.tdx);
        page.element("td", &[], row.snp);
        cell(page, &[row.remains.to_owned(), format!("Source: {}", row.source_words())]);
        page.open("td", &[]);
        for (verdict, vantage, ids) in grouped(&row.here) {
            page.open("p", &[]);
            page.element("span", &[("class", &format!("word {}", verdict.name()))], verdict.name());
            page.element("span", &[("class", "soft")], &format!(" ({}) ", vantage.name()));
            page.element("code", &[], &ids.join(", "));
            page.close("p");
        }
        let unknown: Vec<&str> = row
            .here
            .iter()
            .filter(|shown| shown.verdict == Verdict::Unknown)
            .map(|shown| shown.id.as_str())
            .collect();
        if !unknown.is_empty() {
            page.element("p", &[("class", "soft")], &format!("not seen: {}", unknown.join(", ")));
        } else if let Some(why) = row.not_seen {
            page.element("p", &[("class", "soft")], &format!("not seen: {why}"));
        }
        page.close("td");
        page.close("tr");
    }
    table_end(page);
    checks(page, &report.hypervisor.checks);
}

fn local(page: &mut Page, report: &Report) {
    heading(page, 4, Heading::LocalSurface, &report.local.not_protected);
    let local = &report.local.part;
    for calls in &local.calls {
        page.element(
            "h3",
            &[],
            &format!(
                "{} system calls reach the guest's kernel from {} ({})",
                calls.reachable(),
                calls.of,
                calls.backend
            ),
        );
        page.element(
            "p",
            &[("class", "soft")],
            &format!("Behind this filter: {}", calls.agents.iter().cloned().collect::<Vec<_>>().join(", ")),
        );
        for (name, names) in [
            ("allowed", &calls.allowed),
            ("with conditions", &calls.conditional),
            ("answered with success and not made", &calls.pretended),
            ("refused by name", &calls.refused),
        ] {
            page.element("p", &[], &format!("{} {name}:", names.len()));
            page.element("p", &[("class", "names")], &names.iter().copied().collect::<Vec<_>>().join(" "));
        }
        page.element(
            "p",
            &[],
            &format!("{} others that this program knows answer as if the kernel had none.", calls.unnamed),
        );
    }
    page.element("h3", &[], "What serves more than one agent");
    table_head(page, "runtime", &["Part", "Reached by", "A bug opens"]);
    for part in &local.runtime {
        page.open("tr", &[]);
        for text in [part.part, part.reached, part.opens] {
            page.element("td", &[], text);
        }
        page.close("tr");
    }
    table_end(page);
    page.element("h3", &[], "Ledger and probe");
    let files = if local.files.is_empty() {
        String::new()
    } else {
        format!(" Files in common: {}.", local.files.join(", "))
    };
    page.element(
        "p",
        &[],
        &format!("{} of {} pairs have nothing of theirs in common.{files}", local.pairs_apart, local.pairs),
    );
    let leaks = match (local.probed, local.leaks.is_empty()) {
        (0, _) => "not seen: nobody probed".to_owned(),
        (_, true) => "no leaks".to_owned(),
        _ => format!("leaks: {}", local.leaks.join(", ")),
    };
    page.element(
        "p",
        &[],
        &format!("{} of {} ways from one agent to another were probed; {leaks}.", local.probed, local.ways),
    );
    checks(page, &report.local.checks);
}

/// Checks of doctor: what fails and what is weak at length, what is unknown by reason, what passes by name.
fn checks(page: &mut Page, findings: &[Finding]) {
    let counts = count(findings).into_iter().map(|(verdict, n)| format!("{n} {}", verdict.name()));
    page.element("h3", &[], &format!("Checks of doctor: {}", counts.collect::<Vec<_>>().join(", ")));
    let shown = |finding: &&Finding| matches!(finding.verdict, Verdict::Fail | Verdict::Warn);
    if findings.iter().any(|finding| shown(&finding)) {
        table_head(page, "checks", &["Check", "", "Seen", "Expected", "Attack", "To do"]);
        for group in alike(findings) {
            let Some(first) = group.first() else { continue };
            page.open("tr", &[]);
            cell(page, &[first.id.to_string(), first.what.to_string()]);
            word(page, first.verdict.name(), first.verdict.name());
            let seen = group.iter().map(|finding| seen_of(finding));
            cell(page, &seen.chain([format!("({})", first.vantage.name())]).collect::<Vec<_>>());
            page.element("td", &[], &first.expected);
            cell(page, &[first.attack.to_string(), format!("Source: {}", first.source)]);
            page.element("td", &[], &first.fix);
            page.close("tr");
        }
        table_end(page);
    }
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for finding in findings.iter().filter(|finding| finding.verdict == Verdict::Unknown) {
        reasons.entry(&finding.observed).or_default().push(name(finding));
    }
    for (reason, names) in reasons {
        page.element("p", &[("class", "unknown")], &format!("Not seen: {}: {reason}", names.join(", ")));
    }
    let passed: Vec<String> =
        findings.iter().filter(|finding| finding.verdict == Verdict::Pass).map(name).collect();
    if !passed.is_empty() {
        page.element("p", &[("class", "names")], &format!("pass: {}", passed.join(", ")));
    }
}

fn name(finding: &Finding) -> String {
    let about = finding.about.as_ref().map(|about| format!(" ({about})")).unwrap_or_default();
    format!("{}{about}", finding.id)
}

fn comparison(page: &mut Page, rows: &[Comparison]) {
    page.element("h2", &[("id", "comparison")], "The same composition under other boundaries");
    page.element(
        "p",
        &[("class", "soft")],
        &format!("Memory and time to the first instruction: {}.", super::compare::MEASURED),
    );
    let names: Vec<&str> = rows
        .first()
        .map(|row| row.figures.iter().map(|figure| figure.choice.name()).collect())
        .unwrap_or_default();
    table_head(page, "comparison", &[&[""][..], &names].concat());
    for row in rows {
        page.open("tr", &[]);
        page.element("td", &[], row.what);
        for figure in &row.figures {
            page.element("td", &[], &figure.value);
        }
        page.close("tr");
    }
    table_end(page);
}

fn not_seen(page: &mut Page, report: &Report) {
    page.element("h2", &[("id", "not-seen")], "Not seen in this run");
    if report.not_seen.is_empty() {
        page.element("p", &[], "Nothing besides what is said above.");
    }
    for missing in &report.not_seen {
        page.element("p", &[], &format!("not run: {}: {}", missing.name, missing.reason));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Choice, compare, sample};
    use super::*;

    fn page(project: &str) -> String {
        let mut input = sample::input();
        input.project = project.to_owned();
        let calls = input.calls.clone();
        let report = Report::new(input);
        html(&report, &compare(&report, &Choice::ALL, &calls))
    }

    #[test]
    fn the_page_has_each_heading_its_drawings_and_asks_for_nothing() {
        let page = page("sample");
        for number in 1..=4 {
            assert!(page.contains(&format!("<h2 id=\"part-{number}\">")), "{number}");
        }
        assert_eq!(page.matches("<svg ").count(), 2);
        assert!(page.contains("default-src 'none'"));
        // The page names no address but those of hosts that agents may call, as text.
        for never in ["<script", "<link", "<img", "src=", "href=", "url(http", "@import", "http:", "https:"] {
            assert!(!page.contains(never), "{never}");
        }
    }

    #[test]
    fn tags_are_closed_in_their_order() {
        let page = page("sample");
        let mut open = Vec::new();
        let body = page.split("</style>").nth(1).unwrap().split("</head>").nth(1).unwrap();
        for part in body.split('<').skip(1) {
            let tag = part.split('>').next().unwrap();
            let word = tag.split([' ', '/']).find(|word| !word.is_empty()).unwrap();
            match (tag.starts_with('/'), tag.ends_with('/')) {
                (true, _) if word == "html" => {}
                (true, _) => assert_eq!(open.pop().as_deref(), Some(word), "{tag}"),
                (false, true) => {}
                (false, false) => open.push(word.to_owned()),
            }
        }
        assert_eq!(open, [] as [String; 0]);
    }

    #[test]
    fn nothing_that_an_image_or_a_file_names_becomes_markup() {
        const BAD: &str = "x\"'><script>alert(1)</script><img src=x>";
        let mut input = sample::input();
        let bad = || BAD.to_owned();
        let mut agent = input.agents.remove("alpha").unwrap();
        (agent.trust, agent.share) = (bad(), Some(bad()));
        agent.secrets = [bad()].into();
        agent.volumes = [bad()].into();
        agent.ports = vec![bad()];
        agent.cores_with = vec![bad()];
        input.agents.insert(bad(), agent);
        for edge in &mut input.edges {
            edge.from = bad();
        }
        input.edges[2].to = bad();
        input.probes[0].attacker = bad();
        input.probes[0].seen.leaks = [bad()].into();
        let pair = &mut input.ledger.pairs[0];
        pair.agents = [bad(), "beta".into()];
        pair.files[0].name = bad();
        (pair.mounts, pair.open, pair.users) = (vec![bad()], vec![bad()], vec![bad()]);
        for finding in &mut input.findings {
            (finding.about, finding.observed) = (Some(bad()), bad());
        }
        input.ledger.kernel = Some(bad());
        input.not_seen[0].reason = bad();
        (input.project, input.composition, input.date) = (bad(), bad(), bad());
        input.platform.reason = Some(bad());
        let page = html(&Report::new(input), &[]);
        for never in ["<script", "<img", "\"'>"] {
            assert!(!page.contains(never), "{never}");
        }
        assert!(page.matches("&lt;script&gt;").count() > 10);
    }
}
