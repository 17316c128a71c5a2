//! An override file that makes a composition strict: a start, for a person to read and to finish.
//!
//! For each key that is refused by its name, a line that takes it out; for each connection that the files only imply,
//! a line of `x-casemate`. What it is not: a decision. Nothing is accepted because of it; the composition with it is
//! read as strictly as any other. It never adds a host, a port or a file that the composition does not name, but the
//! usual port of a well-known image.

mod patch;
mod reach;

use crate::keys::{self, Disposition, Table};
use crate::load::{Files, Request, tree};
use crate::problem::printable;
use crate::yaml::{Member, Node, Value};

use patch::{Patch, flow, quoted};

/// What stands before the file's text.
const HEAD: &str = "\
# Laid over the Compose files before it, this makes them strict. Written as a start: read every line of it.
# `!reset` takes out what the line above it is about. Plain Docker Compose needs the other files only.
";
/// A user of the image that is not root, where the file names one by a name.
const USER: &str = "1000:1000";

/// The text of an override file for what `request` loads; none where there is nothing to change, or where the files
/// are too broken to say.
pub fn overrides(request: &Request<'_>, files: &mut dyn Files) -> Option<String> {
    let root = tree(request, files)?;
    let mut patch = Patch::default();
    take_out(&root, "", &mut Vec::new(), &mut patch);
    for member in members(root.get("services")) {
        service(member, patch.below(&["services", &member.key]));
    }
    for member in members(root.get("secrets")) {
        secret(member, &mut patch);
    }
    reach::declare(&root, &mut patch);
    (!patch.is_empty()).then(|| format!("{HEAD}{}", patch.text()))
}

/// Takes out every key that its table refuses, at any depth but below lists. `pattern` is the place as tables name
/// theirs, `path` the place itself.
fn take_out(node: &Node, pattern: &str, path: &mut Vec<String>, patch: &mut Patch) {
    let table = keys::TABLES.iter().find(|table| table.path == pattern);
    for member in members(Some(node)) {
        let name = if table.is_some() { member.key.as_str() } else { "NAME" };
        path.push(member.key.clone());
        match table.and_then(|table| refusal(table, member)) {
            Some(why) => {
                let keys: Vec<&str> = path.iter().map(String::as_str).collect();
                patch.reset(&keys, &why);
            }
            None => {
                let below = if pattern.is_empty() { name.to_owned() } else { format!("{pattern}.{name}") };
                take_out(&member.node, &below, path, patch);
            }
        }
        path.pop();
    }
}

/// Why a key is refused, and what to write instead.
fn refusal(table: &Table, member: &Member) -> Option<String> {
    let key = table.find(&member.key)?;
    let Disposition::Refused { reason, instead } = key.disposition else { return None };
    let is_harmless =
        matches!(&member.node.value, Value::Scalar { text, .. } if key.harmless.contains(&text.as_str()));
    // What is to be removed is gone already.
    let instead = instead
        .strip_prefix("remove it")
        .map_or(instead, |rest| rest.trim_start_matches([';', ':', ',', ' ']));
    let more = if instead.is_empty() { String::new() } else { format!(": {instead}") };
    (!is_harmless).then(|| format!("{reason}{more}"))
}

/// What no table says: values of a service that are refused.
fn service(member: &Member, patch: &mut Patch) {
    let node = &member.node;
    if node.get("build").is_some() && node.get("image").is_none() {
        let image = format!("localhost/{}:1", member.key.to_lowercase());
        patch.put(&["image"], &quoted(&image), Some("build this image and import it"));
    }
    if let Some(user) = node.get("user").and_then(text)
        && !user.bytes().all(|b| b.is_ascii_digit() || b == b':')
    {
        let why = format!("was `{}`: `id` in a container of the image shows its numbers", printable(user));
        patch.put(&["user"], &quoted(USER), Some(&why));
    }
    if node.get("read_only").and_then(text) == Some("false") {
        patch.put(&["read_only"], "true", Some("mount a tmpfs or a volume where the program writes"));
    }
    let options = items(node.get("security_opt"));
    if options.iter().any(|option| text(option).is_none_or(|text| !text.starts_with("no-new-privileges"))) {
        patch.put(
            &["security_opt"],
            "!override [\"no-new-privileges:true\"]",
            Some("the rules are the box's"),
        );
    }
    if let Some((host, _)) = node.get("hostname").and_then(text).and_then(|name| name.split_once('.')) {
        patch.put(&["hostname"], &quoted(host), Some("an agent has no domain"));
    }
    let hosts = items(node.get("extra_hosts"));
    let is_engine = |item: &&Node| text(item).is_some_and(|text| text.ends_with("host-gateway"));
    if hosts.iter().any(|item| is_engine(&item)) {
        let kept: Vec<Node> = hosts.iter().filter(|item| !is_engine(item)).cloned().collect();
        let why = "no agent reaches the host that the engine runs on; another host is named under `x-casemate: egress`";
        patch.put(&["extra_hosts"], &format!("!override {}", list(&kept)), Some(why));
    }
    mounts(node, patch);
    let secrets = items(node.get("secrets"));
    let is_plain = |item: &Node| {
        members(Some(item)).iter().all(|member| refusal(&keys::SERVICE_SECRET, member).is_none())
    };
    if !secrets.iter().all(is_plain) {
        let kept: Vec<Node> = secrets.iter().map(|item| without(item, &keys::SERVICE_SECRET)).collect();
        let why = "a secret is always mode 0400 and the agent's own";
        patch.put(&["secrets"], &format!("!override {}", list(&kept)), Some(why));
    }
}

/// `volumes` of a service without files of the host and without volumes that have no name.
fn mounts(node: &Node, patch: &mut Patch) {
    let all = items(node.get("volumes"));
    let kept: Vec<Node> = all.iter().filter(|mount| !is_refused(mount)).cloned().collect();
    if kept.len() == all.len() {
        return;
    }
    let gone: Vec<String> = all.iter().filter(|mount| is_refused(mount)).map(shown).collect();
    let why = format!("not mounted: {}. Instead: {}", gone.join(", "), keys::INSTEAD_OF_BIND);
    if kept.is_empty() {
        patch.reset(&["volumes"], &why);
    } else {
        patch.put(&["volumes"], &format!("!override {}", list(&kept)), Some(&why));
    }
}

fn is_refused(mount: &Node) -> bool {
    match text(mount) {
        Some(text) => text.starts_with(['/', '.', '~']) || !text.contains(':'),
        None => !matches!(mount.get("type").and_then(text), Some("volume" | "tmpfs")),
    }
}

fn shown(mount: &Node) -> String {
    let source = text(mount).or_else(|| mount.get("source").and_then(text)).unwrap_or("a mount");
    format!("`{}`", printable(source))
}

/// A secret from a file or a variable becomes the broker's.
fn secret(member: &Member, patch: &mut Patch) {
    if member.node.get("external").and_then(text) != Some("true") {
        let why = format!("casemate secret put {} < FILE", printable(&member.key));
        patch.put(&["secrets", &member.key, "external"], "true", Some(&why));
    }
}

/// `node` without the keys that `table` refuses.
fn without(node: &Node, table: &Table) -> Node {
    let Value::Map(members) = &node.value else { return node.clone() };
    let kept = members.iter().filter(|member| refusal(table, member).is_none()).cloned().collect();
    Node { value: Value::Map(kept), ..node.clone() }
}

fn list(items: &[Node]) -> String {
    let all: Vec<String> = items.iter().map(flow).collect();
    format!("[{}]", all.join(", "))
}

fn members(node: Option<&Node>) -> &[Member] {
    match node.map(|node| &node.value) {
        Some(Value::Map(members)) => members,
        _ => &[],
    }
}

fn items(node: Option<&Node>) -> &[Node] {
    match node.map(|node| &node.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}
