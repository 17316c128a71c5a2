//! Edges as text and as a graph in the language of Graphviz.

use casemate_composition::lock::TrafficLimits;
use casemate_protocol::edges::{EdgeState, EdgeStatus, Origin, Traffic};
use casemate_protocol::gateway::Target;

/// One line an edge, grouped by who calls.
pub(super) fn text(edges: &[EdgeStatus], running: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if edges.is_empty() {
        lines.push("no edge: no agent may call anybody, and nobody may call an agent".to_owned());
    }
    let mut sorted: Vec<&EdgeStatus> = edges.iter().collect();
    sorted.sort_by(|a, b| (&a.from, &a.target).cmp(&(&b.from, &b.target)));
    let mut before = None;
    for edge in sorted {
        if before != Some(&edge.from) {
            lines.push(edge.from.to_string());
            before = Some(&edge.from);
        }
        let kind = match edge.target {
            Target::Agent { .. } => "agent",
            Target::Service { .. } => "replicas",
            Target::Socket { .. } => "socket",
            Target::Host { .. } => "outside",
        };
        let mut parts = vec![format!("  -> {:32} {kind:8}", edge.target.to_string())];
        parts.extend(state_name(edge.state).map(str::to_owned));
        parts.extend(edge.limits.as_ref().map(limits));
        parts.extend(edge.traffic.as_ref().map(traffic));
        lines.push(parts.join("  ").trim_end().to_owned());
    }
    if !running {
        lines.push("the box does not run: this is what the composition declares".to_owned());
    }
    lines
}

/// A directed graph.
pub(super) fn dot(edges: &[EdgeStatus]) -> Vec<String> {
    let mut lines = vec!["digraph edges {".to_owned(), "  rankdir=LR;".to_owned()];
    for edge in edges {
        let (from, from_shape) = match &edge.from {
            Origin::Agent(agent) => (agent.to_string(), "box"),
            Origin::Port(address) => (address.to_string(), "house"),
        };
        let (to, to_shape, end) = match &edge.target {
            Target::Agent { agent: name, port } | Target::Service { service: name, port, .. } => {
                (name.to_string(), "box", port.to_string())
            }
            Target::Socket { agent, path } => (agent.to_string(), "box", path.to_string()),
            Target::Host { host, port, .. } => (host.clone(), "ellipse", port.to_string()),
        };
        let (from, to) = (quoted(&from), quoted(&to));
        lines.push(format!("  {from} [shape={from_shape}];"));
        lines.push(format!("  {to} [shape={to_shape}];"));
        let mut label = end;
        if let Some(limited) = &edge.limits {
            label.push('\n');
            label.push_str(&limits(limited));
        }
        let style = match edge.state {
            EdgeState::Declared => "",
            EdgeState::Denied => ", style=dashed, color=red",
            EdgeState::Added => ", style=bold, color=orange",
        };
        lines.push(format!("  {from} -> {to} [label={}{style}];", quoted(&label)));
    }
    lines.push("}".to_owned());
    lines
}

/// A string of the language: quotes and backslashes are escaped, other characters stand for themselves.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

const fn state_name(state: EdgeState) -> Option<&'static str> {
    match state {
        EdgeState::Declared => None,
        EdgeState::Denied => Some("CLOSED by hand"),
        EdgeState::Added => Some("ADDED by hand"),
    }
}

/// Limits in words.
pub(super) fn limits(limits: &TrafficLimits) -> String {
    let parts = [
        limits.connections.map(|count| format!("{count} connections")),
        limits.rate_bytes.map(|bytes| format!("{}/s", size(bytes))),
        limits.total_bytes.map(|bytes| format!("{} in all", size(bytes))),
    ];
    format!("limits: {}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

/// What passed, in words.
pub(super) fn traffic(traffic: &Traffic) -> String {
    let mut text = format!("{} open, {} ever, {}", traffic.open, traffic.connections, size(traffic.bytes));
    if traffic.refused > 0 {
        text.push_str(&format!(", {} refused", traffic.refused));
        if let Some(rule) = &traffic.last_refusal {
            text.push_str(&format!(" (last by rule {rule})"));
        }
    }
    text
}

/// Bytes in the largest unit that keeps them whole or nearly so.
fn size(bytes: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = UNITS.iter().find(|(shift, _)| bytes >> shift > 0);
    match unit {
        None => format!("{bytes} B"),
        Some((shift, name)) => {
            let tenths = (bytes >> (shift - 10)).saturating_mul(10) >> 10;
            if tenths.is_multiple_of(10) {
                format!("{} {name}", tenths / 10)
            } else {
                format!("{}.{} {name}", tenths / 10, tenths % 10)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges() -> Vec<EdgeStatus> {
        let from = Origin::Agent("asker".parse().unwrap());
        let agent = Target::Agent { agent: "answerer".parse().unwrap(), port: 8080 };
        let host = Target::Host { host: "h.example".into(), port: 443, address: None };
        let limits =
            TrafficLimits { connections: Some(3), rate_bytes: Some(1 << 20), total_bytes: Some(3 << 29) };
        let traffic = Traffic {
            open: 1,
            connections: 7,
            bytes: 2048,
            refused: 2,
            last_refusal: Some("edge.connections".into()),
        };
        vec![
            EdgeStatus {
                from: from.clone(),
                target: agent.clone(),
                state: EdgeState::Denied,
                limits: Some(limits),
                traffic: Some(traffic),
            },
            EdgeStatus { from, target: host, state: EdgeState::Added, limits: None, traffic: None },
            EdgeStatus {
                from: Origin::Port("127.0.0.1:80".parse().unwrap()),
                target: agent,
                state: EdgeState::Declared,
                limits: None,
                traffic: None,
            },
        ]
    }

    #[test]
    fn text_has_a_line_for_each_edge_under_its_caller() {
        assert_eq!(
            text(&edges(), true),
            [
                "asker",
                "  -> answerer:8080                    agent     CLOSED by hand  limits: 3 connections, 1 MiB/s, 1.5 GiB \
                 in all  1 open, 7 ever, 2 KiB, 2 refused (last by rule edge.connections)",
                "  -> h.example:443                    outside   ADDED by hand",
                "127.0.0.1:80 of the box",
                "  -> answerer:8080                    agent",
            ]
        );
    }

    #[test]
    fn the_graph_names_each_end_and_marks_what_was_changed() {
        let graph = dot(&edges()).join("\n");
        assert!(graph.starts_with("digraph edges {\n") && graph.ends_with("\n}"), "{graph}");
        for line in [
            "  \"asker\" -> \"answerer\" [label=\"8080\\nlimits: 3 connections, 1 MiB/s, 1.5 GiB in all\", style=dashed, color=red];",
            "  \"asker\" -> \"h.example\" [label=\"443\", style=bold, color=orange];",
            "  \"127.0.0.1:80\" -> \"answerer\" [label=\"8080\"];",
            "  \"127.0.0.1:80\" [shape=house];",
        ] {
            assert!(graph.contains(line), "{line}\n{graph}");
        }
    }

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 1023, 1024, 1536, 1 << 20, (1 << 40) - 1].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1 KiB", "1.5 KiB", "1 MiB", "1023.9 GiB"]);
    }
}
