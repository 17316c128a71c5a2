//! The box as a drawing: compartments, edges, secrets, what is outside. Plain shapes, sizes in units of the view box.

use std::collections::BTreeMap;

use super::page::Page;
use crate::report::{AgentView, EdgeView, Report};

/// Most agents that are drawn.
const AGENTS_MAX: usize = 24;
/// Most secrets and endpoints that are drawn on a side.
const SIDE_MAX: usize = 24;
/// Most characters of a name.
const NAME_CHARS_MAX: usize = 22;

const WIDTH: i64 = 960;
const TOP: i64 = 64;
const CARD_HEIGHT: i64 = 52;
const CARD_STEP: i64 = 78;
const CARD_LEFT: i64 = 300;
const CARD_RIGHT: i64 = 520;
const BOX_LEFT: i64 = 214;
const BOX_RIGHT: i64 = 740;
const SIDE_WIDTH: i64 = 190;
const SIDE_STEP: i64 = 34;
const OUTSIDE_LEFT: i64 = 766;

/// Where the middle of something is, from the top.
type Places = BTreeMap<String, i64>;

/// Draws the box of a report.
pub(super) fn of_the_box(page: &mut Page, report: &Report) {
    let names: Vec<&String> = report.agents.keys().take(AGENTS_MAX).collect();
    let middle = |place: usize, step: i64| -> i64 { TOP + 24 + step * int(place) + CARD_HEIGHT / 2 };
    let agents: Places =
        names.iter().enumerate().map(|(place, name)| ((*name).clone(), middle(place, CARD_STEP))).collect();
    let secrets: Places = report
        .secrets
        .iter()
        .take(SIDE_MAX)
        .enumerate()
        .map(|(place, secret)| (secret.secret.clone(), middle(place, SIDE_STEP)))
        .collect();
    let mut outside: Vec<String> = report.edges.iter().filter(|edge| edge.outside).map(endpoint).collect();
    outside.extend(report.agents.values().flat_map(|agent| agent.ports.iter().map(|port| caller(port))));
    outside.sort();
    outside.dedup();
    let outside: Places = outside
        .into_iter()
        .take(SIDE_MAX)
        .enumerate()
        .map(|(place, name)| (name, middle(place, SIDE_STEP)))
        .collect();
    let rows = (int(agents.len()) * CARD_STEP).max(int(secrets.len().max(outside.len())) * SIDE_STEP);
    let bottom = TOP + 24 + rows + 60;
    let height = (bottom + 12).to_string();
    let title = "The box: agents in their compartments, edges between them, secrets and endpoints";
    page.open(
        "svg",
        &[("viewBox", &format!("0 0 {WIDTH} {height}")), ("role", "img"), ("aria-label", title)],
    );
    page.element("title", &[], title);
    heads(page);
    frame(page, report, bottom);
    for (name, at) in &secrets {
        side(page, 12, *at, name, "key");
    }
    for (name, at) in &outside {
        side(page, OUTSIDE_LEFT, *at, name, "small");
    }
    shares(page, report, &agents);
    for secret in &report.secrets {
        for holder in &secret.holders {
            if let (Some(from), Some(to)) = (secrets.get(&secret.secret), agents.get(holder)) {
                curve(page, "secret", (12 + SIDE_WIDTH, *from), (CARD_LEFT, *to), "url(#key)");
            }
        }
    }
    for (name, at) in &agents {
        if let Some(agent) = report.agents.get(name) {
            card(page, name, agent, *at);
        }
    }
    edges(page, report, &agents, &outside);
    page.close("svg");
}

fn int(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX >> 16)
}

fn endpoint(edge: &EdgeView) -> String {
    format!("{}:{}", edge.to, edge.port)
}

fn caller(port: &str) -> String {
    format!("callers of {port}")
}

/// A name in the room that there is; the whole of it is its title.
fn name(text: &str) -> String {
    if text.chars().count() <= NAME_CHARS_MAX {
        return text.to_owned();
    }
    let cut: String = text.chars().take(NAME_CHARS_MAX.saturating_sub(1)).collect();
    format!("{cut}\u{2026}")
}

/// Likewise, with the end of it: paths tell most there.
fn end_of(text: &str) -> String {
    let more = text.chars().count().saturating_sub(NAME_CHARS_MAX);
    if more == 0 {
        return text.to_owned();
    }
    format!("\u{2026}{}", text.chars().skip(more.saturating_add(1)).collect::<String>())
}

fn heads(page: &mut Page) {
    for (id, class) in [("head", "head"), ("key", "key")] {
        page.open(
            "marker",
            &[
                ("id", id),
                ("viewBox", "0 0 8 8"),
                ("refX", "7"),
                ("refY", "4"),
                ("markerWidth", "8"),
                ("markerHeight", "8"),
                ("orient", "auto"),
            ],
        );
        page.empty("path", &[("d", "M0 0 L8 4 L0 8 Z"), ("class", class)]);
        page.close("marker");
    }
}

fn words(page: &mut Page, x: i64, y: i64, class: &str, text: &str) {
    page.element("text", &[("x", &x.to_string()), ("y", &y.to_string()), ("class", class)], text);
}

fn rectangle(page: &mut Page, class: &str, (x, y): (i64, i64), (width, height): (i64, i64)) {
    let [x, y, width, height] = [x, y, width, height].map(|number| number.to_string());
    page.empty(
        "rect",
        &[("class", class), ("x", &x), ("y", &y), ("width", &width), ("height", &height), ("rx", "4")],
    );
}

fn frame(page: &mut Page, report: &Report, bottom: i64) {
    rectangle(page, "outline", (BOX_LEFT, 34), (BOX_RIGHT - BOX_LEFT, bottom - 34));
    words(page, 12, 22, "strong", "Secrets, from the broker");
    let kind = match (report.platform.kind, report.platform.simulated) {
        (Some(kind), true) => format!("The box: one VM ({kind}, simulated)"),
        (Some(kind), false) => format!("The box: one VM ({kind})"),
        (None, _) => "The box: one VM".to_owned(),
    };
    words(page, BOX_LEFT, 22, "strong", &kind);
    words(page, OUTSIDE_LEFT, 22, "strong", "Outside, seen by the host");
    let band = bottom - 40;
    rectangle(page, "card", (BOX_LEFT + 10, band), (BOX_RIGHT - BOX_LEFT - 20, 30));
    let kernel = report.local.part.kernel.as_deref().unwrap_or("version not seen");
    words(
        page,
        BOX_LEFT + 22,
        band + 20,
        "",
        &name_of(&format!("common to all: kernel {kernel}, warden, gateway, processor")),
    );
    let more = report.agents.len().saturating_sub(AGENTS_MAX);
    if more > 0 {
        words(page, CARD_LEFT, band - 8, "small", &format!("and {more} agents more, in the tables below"));
    }
}

fn name_of(text: &str) -> String {
    text.chars().take(70).collect()
}

fn side(page: &mut Page, x: i64, middle: i64, text: &str, class: &str) {
    page.open("g", &[]);
    page.element("title", &[], text);
    rectangle(page, "card", (x, middle - 13), (SIDE_WIDTH, 26));
    let shown = if class == "key" { end_of(text) } else { name(text) };
    words(page, x + 9, middle + 4, "", &shown);
    page.close("g");
}

fn card(page: &mut Page, text: &str, agent: &AgentView, middle: i64) {
    page.open("g", &[]);
    page.element("title", &[], text);
    let (width, top) = (CARD_RIGHT - CARD_LEFT, middle - CARD_HEIGHT / 2);
    rectangle(page, if agent.runs { "card" } else { "idle" }, (CARD_LEFT, top), (width, CARD_HEIGHT));
    if agent.backend == "gvisor" {
        rectangle(page, "inner", (CARD_LEFT + 4, top + 4), (width - 8, CARD_HEIGHT - 8));
    }
    words(page, CARD_LEFT + 12, middle - 4, "strong", &name(text));
    let state = match (agent.runs, agent.tainted) {
        (false, _) => ", does not run",
        (true, true) => ", TAINTED",
        (true, false) => "",
    };
    words(
        page,
        CARD_LEFT + 12,
        middle + 14,
        "small",
        &format!("{}, trust {}{state}", agent.backend, name(&agent.trust)),
    );
    page.close("g");
}

/// Agents that share a root, or of which the ledger counted something in common.
fn shares(page: &mut Page, report: &Report, agents: &Places) {
    for pair in &report.separation.part.pairs {
        let Some(shared) =
            pair.shared.as_ref().filter(|shared| !shared.is_apart() && !shared.files.is_empty())
        else {
            continue;
        };
        let (Some(a), Some(b)) = (agents.get(&pair.agents[0]), agents.get(&pair.agents[1])) else { continue };
        let x = CARD_LEFT - 30;
        let path = format!("M{CARD_LEFT} {} H{x} V{} H{CARD_LEFT}", a + 12, b - 12);
        page.empty("path", &[("class", "shared"), ("d", &path)]);
        let text = format!("{} files", shared.files.len());
        words(page, x - 44, i64::midpoint(*a, *b) + 4, "small", &text);
    }
}

fn curve(page: &mut Page, class: &'static str, from: (i64, i64), to: (i64, i64), head: &'static str) {
    let middle = i64::midpoint(from.0, to.0);
    let path = format!("M{} {} C{middle} {} {middle} {} {} {}", from.0, from.1, from.1, to.1, to.0, to.1);
    page.empty("path", &[("class", class), ("d", &path), ("marker-end", head)]);
}

fn edges(page: &mut Page, report: &Report, agents: &Places, outside: &Places) {
    for (lane, edge) in report.edges.iter().enumerate() {
        let Some(from) = agents.get(&edge.from) else { continue };
        let class = if edge.added { "edge added" } else { "edge" };
        if edge.outside {
            if let Some(to) = outside.get(&endpoint(edge)) {
                curve(page, class, (CARD_RIGHT, from + 14), (OUTSIDE_LEFT, *to), "url(#head)");
            }
            continue;
        }
        let Some(to) = agents.get(&edge.to) else { continue };
        // Longer ways bulge further, so that lines keep apart.
        let far = ((to - from).abs() / CARD_STEP).min(8) * 18 + 24 + int(lane % 3) * 6;
        let (bulge, start, end) = (CARD_RIGHT + far * 4 / 3, from - 8, to + 4);
        let path = format!("M{CARD_RIGHT} {start} C{bulge} {start} {bulge} {end} {CARD_RIGHT} {end}");
        page.empty("path", &[("class", class), ("d", &path), ("marker-end", "url(#head)")]);
        words(page, CARD_RIGHT + far + 4, i64::midpoint(start, end) + 4, "small", &format!(":{}", edge.port));
    }
    for (name, agent) in &report.agents {
        for port in &agent.ports {
            if let (Some(at), Some(from)) = (agents.get(name), outside.get(&caller(port))) {
                curve(page, "edge", (OUTSIDE_LEFT, *from), (CARD_RIGHT, at + 20), "url(#head)");
            }
        }
    }
}

/// Columns of the second drawing.
const COLUMNS: [&str; 5] =
    ["secret", "is given to", "could be passed to", "and from there to", "could leave the box to"];
const COLUMN_STEP: i64 = 192;
const COLUMN_WIDTH: i64 = 168;
const LINE: i64 = 17;
/// Most names in a cell.
const CELL_MAX: usize = 6;

/// Draws where each secret could go.
pub(super) fn of_secrets(page: &mut Page, report: &Report) {
    let rows: Vec<[Vec<String>; 5]> = report
        .secrets
        .iter()
        .take(SIDE_MAX)
        .map(|secret| {
            let list = |set: &std::collections::BTreeSet<String>| few(set.iter().cloned().collect());
            [
                vec![secret.secret.clone()],
                list(&secret.holders),
                list(&secret.next),
                list(&secret.further),
                list(&secret.outside),
            ]
        })
        .collect();
    let tall = |row: &[Vec<String>; 5]| int(row.iter().map(Vec::len).max().unwrap_or(1)) * LINE + 14;
    let height = 34 + rows.iter().map(|row| tall(row) + 14).sum::<i64>();
    let title = "What each secret could reach over open edges and common volumes";
    page.open(
        "svg",
        &[("viewBox", &format!("0 0 {WIDTH} {height}")), ("role", "img"), ("aria-label", title)],
    );
    page.element("title", &[], title);
    for (place, column) in COLUMNS.iter().enumerate() {
        words(page, 12 + COLUMN_STEP * int(place), 18, "small strong", column);
    }
    let mut top = 34;
    for row in &rows {
        let height = tall(row);
        for (place, names) in row.iter().enumerate() {
            let x = 12 + COLUMN_STEP * int(place);
            if place > 0 {
                let y = top + height / 2;
                let path = format!("M{} {y} H{}", x - (COLUMN_STEP - COLUMN_WIDTH) + 3, x - 3);
                let class = if names.is_empty() { "idle" } else { "secret" };
                let head = if names.is_empty() { "none" } else { "url(#key)" };
                page.empty("path", &[("class", class), ("d", &path), ("marker-end", head)]);
            }
            rectangle(page, if names.is_empty() { "idle" } else { "card" }, (x, top), (COLUMN_WIDTH, height));
            for (line, text) in names.iter().enumerate() {
                let shown = if place == 0 { end_of(text) } else { name(text) };
                words(page, x + 9, top + 20 + LINE * int(line), "", &shown);
            }
            if names.is_empty() {
                words(page, x + 9, top + height / 2 + 4, "small", "nobody");
            }
        }
        top += height + 14;
    }
    page.close("svg");
}

fn few(mut names: Vec<String>) -> Vec<String> {
    let more = names.len().saturating_sub(CELL_MAX);
    if more > 0 {
        names.truncate(CELL_MAX);
        names.push(format!("and {more} more"));
    }
    names
}
