//! `cargo xtask layers`: an edge between crates only points down, programs never depend on programs, nothing
//! simulated is in a shipped program, and only one crate may hold unsafe code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::process::{capture, cargo, root};
use crate::trusted_lines;

/// What is linked on the platform that programs are built for.
const METADATA: [&str; 6] =
    ["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"];
/// Time for `cargo metadata`.
const METADATA_BOUND: Duration = Duration::from_secs(120);

/// Crate and layer, as in docs/architecture.md. Layer 9 is development only.
const LAYERS: [(&str, u8); 29] = [
    ("casemate-canon", FACTS),
    ("casemate-frame", FACTS),
    ("casemate-evidence", FACTS),
    ("casemate-composition", FACTS),
    ("casemate-protocol", FACTS),
    ("casemate-verifier", JUDGEMENT),
    ("casemate-jose", EFFECTS),
    ("casemate-endorsements", EFFECTS),
    ("casemate-images", EFFECTS),
    ("casemate-registry", EFFECTS),
    ("casemate-attester", EFFECTS),
    ("casemate-sys", EFFECTS),
    ("casemate-compartment", EFFECTS),
    ("casemate-probe", EFFECTS),
    ("casemate-client", EFFECTS),
    ("casemate-posture", EFFECTS),
    ("casemate", PROGRAM),
    ("casemate-warden", PROGRAM),
    ("casemate-launcher", PROGRAM),
    ("casemate-gateway", PROGRAM),
    ("casemate-courier", PROGRAM),
    ("casemate-broker", PROGRAM),
    ("casemate-emulator", DEVELOPMENT),
    ("casemate-testkit", DEVELOPMENT),
    ("casemate-bench", DEVELOPMENT),
    ("casemate-peers", DEVELOPMENT),
    ("casemate-fuzz", DEVELOPMENT),
    ("casemate-systemtest", DEVELOPMENT),
    ("xtask", DEVELOPMENT),
];
const FACTS: u8 = 0;
const JUDGEMENT: u8 = 1;
const EFFECTS: u8 = 2;
const PROGRAM: u8 = 3;
const DEVELOPMENT: u8 = 9;

/// The crate that may hold unsafe code.
const UNSAFE_CRATE: &str = "casemate-sys";
/// The only crates of ours that the launcher may use.
const LAUNCHER_DEPENDENCIES: [&str; 2] = ["casemate-frame", "casemate-sys"];
/// Crates that must not be in the launcher's tree: it holds privilege and no such surface.
const LAUNCHER_NEVER: [&str; 3] = ["tokio", "rustls", "serde_json"];

/// Crates that must not be in the warden's tree: it parses no byte from the network.
const WARDEN_NEVER: [&str; 4] = ["rustls", "hyper", "tokio-rustls", "casemate-client"];
/// The crate that speaks to registries, and the only program that may have it.
const REGISTRY_CRATE: &str = "casemate-registry";
const REGISTRY_USER: &str = "casemate";

/// The part of `cargo metadata` that matters: normal and build dependencies by crate name.
struct Graph {
    edges: BTreeMap<String, BTreeSet<String>>,
    /// Of this workspace.
    manifests: BTreeMap<String, String>,
    /// Of other people's crates.
    others: BTreeMap<String, String>,
}

/// Checks.
pub(crate) fn run() -> Result<(), String> {
    let graph = Graph::load()?;
    let mut problems = check_edges(&graph);
    problems.extend(check_trees(&graph));
    problems.extend(check_unsafe(&graph)?);
    let all = graph.manifests.clone().into_iter().chain(graph.others.clone()).collect();
    problems.extend(trusted_lines::check(
        |name| graph.tree(name),
        &all,
        |name| graph.manifests.contains_key(name),
    )?);
    if problems.is_empty() {
        println!("layers: {} crates, every edge points down", graph.manifests.len());
        return Ok(());
    }
    for problem in &problems {
        println!("layers: {problem}");
    }
    Err(format!("{} edges or lints are not allowed", problems.len()))
}

impl Graph {
    fn load() -> Result<Self, String> {
        let output = capture(&mut cargo(&METADATA), METADATA_BOUND)?;
        if !output.status.success() {
            return Err(format!("cargo metadata: {}", output.stderr.trim()));
        }
        let metadata: Value =
            serde_json::from_str(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
        Self::read(&metadata).ok_or_else(|| "cargo metadata: unknown shape".to_owned())
    }

    fn read(metadata: &Value) -> Option<Self> {
        let mut names = BTreeMap::new();
        let (mut manifests, mut others) = (BTreeMap::new(), BTreeMap::new());
        for package in metadata.get("packages")?.as_array()? {
            let name = package.get("name")?.as_str()?.to_owned();
            let of = if package.get("source")?.is_null() { &mut manifests } else { &mut others };
            of.insert(name.clone(), package.get("manifest_path")?.as_str()?.to_owned());
            names.insert(package.get("id")?.as_str()?.to_owned(), name);
        }
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in metadata.get("resolve")?.get("nodes")?.as_array()? {
            let from = names.get(node.get("id")?.as_str()?)?;
            for dependency in node.get("deps")?.as_array()? {
                let kinds = dependency.get("dep_kinds")?.as_array()?;
                let is_dev = |kind: &Value| kind.get("kind").and_then(Value::as_str) == Some("dev");
                if kinds.iter().all(is_dev) {
                    continue;
                }
                let to = names.get(dependency.get("pkg")?.as_str()?)?;
                edges.entry(from.clone()).or_default().insert(to.clone());
            }
        }
        Some(Self { edges, manifests, others })
    }

    fn direct(&self, name: &str) -> BTreeSet<String> {
        self.edges.get(name).cloned().unwrap_or_default()
    }

    fn tree(&self, name: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut next = vec![name.to_owned()];
        while let Some(name) = next.pop() {
            for dependency in self.direct(&name) {
                if found.insert(dependency.clone()) {
                    next.push(dependency);
                }
            }
        }
        found
    }
}

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer)
}

fn check_edges(graph: &Graph) -> Vec<String> {
    let mut problems = Vec::new();
    for name in graph.manifests.keys() {
        let Some(own) = layer(name) else {
            problems.push(format!("{name} is in no layer: add it to the table"));
            continue;
        };
        for dependency in graph.direct(name) {
            let Some(other) = layer(&dependency) else { continue };
            let beside = other == own && matches!(own, FACTS | EFFECTS | DEVELOPMENT);
            if other >= own && !beside {
                problems.push(format!("{name} (layer {own}) may not depend on {dependency} (layer {other})"));
            }
        }
    }
    problems
}

fn check_trees(graph: &Graph) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, own) in LAYERS {
        if own == DEVELOPMENT {
            continue;
        }
        for dependency in graph.tree(name) {
            if layer(&dependency) == Some(DEVELOPMENT) {
                problems.push(format!("{name} must not contain {dependency}: it is for development only"));
            }
            if dependency == REGISTRY_CRATE && name != REGISTRY_USER {
                problems.push(format!(
                    "{name} must not contain {dependency}: only {REGISTRY_USER} asks registries"
                ));
            }
        }
    }
    for dependency in graph.direct("casemate-launcher") {
        if layer(&dependency).is_some() && !LAUNCHER_DEPENDENCIES.contains(&dependency.as_str()) {
            problems.push(format!("casemate-launcher may not depend on {dependency}"));
        }
    }
    for dependency in graph.tree("casemate-launcher") {
        if LAUNCHER_NEVER.contains(&dependency.as_str()) {
            problems.push(format!("casemate-launcher must not contain {dependency}"));
        }
    }
    for dependency in graph.tree("casemate-warden") {
        if WARDEN_NEVER.contains(&dependency.as_str()) {
            problems.push(format!("casemate-warden must not contain {dependency}"));
        }
    }
    problems
}

/// The workspace forbids unsafe code, so each crate that takes the workspace's lints has none.
fn check_unsafe(graph: &Graph) -> Result<Vec<String>, String> {
    let read = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let mut problems = Vec::new();
    let workspace = read(&root().join("Cargo.toml").to_string_lossy())?;
    if !workspace.lines().any(|line| line.trim() == "unsafe_code = \"forbid\"") {
        problems.push("the workspace does not forbid unsafe code".to_owned());
    }
    for (name, manifest) in &graph.manifests {
        let text = read(manifest)?;
        let mut lines = text.lines().map(str::trim).skip_while(|line| *line != "[lints]");
        let takes_workspace_lints = lines.nth(1) == Some("workspace = true");
        if !takes_workspace_lints && name != UNSAFE_CRATE {
            problems.push(format!("{name} does not take the workspace's lints, which forbid unsafe code"));
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str)]) -> Graph {
        let mut graph = Graph { edges: BTreeMap::new(), manifests: BTreeMap::new(), others: BTreeMap::new() };
        for (from, to) in edges {
            graph.edges.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            graph.manifests.insert((*from).to_owned(), String::new());
        }
        graph
    }

    #[test]
    fn an_edge_up_or_between_programs_is_a_problem() {
        assert!(check_edges(&graph(&[("casemate-verifier", "casemate-evidence")])).is_empty());
        assert_eq!(check_edges(&graph(&[("casemate-evidence", "casemate-verifier")])).len(), 1);
        assert_eq!(check_edges(&graph(&[("casemate-warden", "casemate-broker")])).len(), 1);
        assert_eq!(check_edges(&graph(&[("casemate-new", "casemate-canon")])).len(), 1);
    }

    #[test]
    fn the_emulator_in_a_shipped_tree_is_a_problem() {
        let through = graph(&[("casemate-broker", "other"), ("other", "casemate-testkit")]);
        assert_eq!(check_trees(&through).len(), 1);
        assert!(check_trees(&graph(&[("casemate-emulator", "casemate-testkit")])).is_empty());
    }

    #[test]
    fn the_launcher_has_no_runtime_tls_or_json() {
        assert_eq!(check_trees(&graph(&[("casemate-launcher", "x"), ("x", "tokio")])).len(), 1);
        assert_eq!(check_trees(&graph(&[("casemate-launcher", "casemate-canon")])).len(), 1);
    }

    #[test]
    fn only_the_command_asks_registries_and_the_warden_has_no_tls() {
        assert!(
            check_trees(&graph(&[("casemate", "casemate-registry"), ("casemate-registry", "rustls")]))
                .is_empty()
        );
        assert_eq!(check_trees(&graph(&[("casemate-courier", "casemate-registry")])).len(), 1);
        assert_eq!(check_trees(&graph(&[("casemate-warden", "x"), ("x", "rustls")])).len(), 1);
    }
}
