//! `extends`: a service laid over another one, of the same file or of another local file.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::problem::{At, FileId, Place, did_you_mean, printable};
use crate::yaml::{Mark, Member, Node, Value};

use super::merge;
use super::paths::{folder, join};
use super::resources::{Need, Role};
use super::{EXTENDS_MAX, Interpolation, Loader, Scope, services, take};

/// The services of a file that others extend.
#[derive(Clone)]
pub(super) struct Tree {
    file: FileId,
    services: Rc<BTreeMap<String, Node>>,
}

/// A service with what it extends, and how long its chain is.
type Extended = Option<(Node, usize)>;

/// What is known while the services of one file are extended.
struct Walk<'s> {
    scope: &'s mut Scope,
    /// Each service once, so that a chain is walked once however many services end in it.
    done: BTreeMap<(FileId, String), Extended>,
    /// The chain that is being walked.
    chain: Vec<(FileId, String)>,
}

impl Loader<'_, '_, '_> {
    /// Lays every service of a file over what it extends.
    pub(super) fn extend_services(&mut self, root: &mut Node, scope: &mut Scope) {
        let file = root.place.file;
        let base = scope.base.clone();
        let Some(members) = services(root) else { return };
        if !base.is_empty() {
            members.iter_mut().for_each(|member| rebase(&mut member.node, &base));
        }
        if !members.iter().any(|member| member.node.get("extends").is_some()) {
            return;
        }
        let all = members.iter().map(|member| (member.key.clone(), member.node.clone())).collect();
        let tree = Tree { file, services: Rc::new(all) };
        let mut walk = Walk { scope, done: BTreeMap::new(), chain: Vec::new() };
        for member in members.iter_mut().filter(|member| member.node.get("extends").is_some()) {
            match self.extended(&tree, &member.key, &mut walk) {
                Some((node, _)) => member.node = node,
                // It has its problem.
                None => drop(take(&mut member.node, "extends")),
            }
        }
    }

    /// The service `name` of `tree` laid over what it extends. None where it has a problem, which is noted.
    fn extended(&mut self, tree: &Tree, name: &str, walk: &mut Walk<'_>) -> Extended {
        let id = (tree.file, name.to_owned());
        if let Some(done) = walk.done.get(&id) {
            return done.clone();
        }
        walk.chain.push(id.clone());
        let result = self.extend(tree, name, walk);
        walk.chain.pop();
        walk.done.insert(id, result.clone());
        result
    }

    fn extend(&mut self, tree: &Tree, name: &str, walk: &mut Walk<'_>) -> Extended {
        let mut node = tree.services.get(name)?.clone();
        if !self.count(node.count(), node.place) {
            return None;
        }
        let Some(Member { node: written, .. }) = take(&mut node, "extends") else { return Some((node, 0)) };
        if written.mark == Mark::Reset || written.is_null() {
            return Some((node, 0));
        }
        let (service, file) = self.target(&written)?;
        let parent_tree = match file {
            Some(file) => self.tree(&file, walk)?,
            None => tree.clone(),
        };
        if !parent_tree.services.contains_key(&service.value) {
            let guess = did_you_mean(&service.value, parent_tree.services.keys().map(String::as_str));
            let what =
                format!("`extends` names service `{}`, which is not there{guess}", printable(&service.value));
            self.findings.problem(service.place, what, "name a service of that file");
            return None;
        }
        let parent_id = (parent_tree.file, service.value.clone());
        if let Some(at) = walk.chain.iter().position(|id| *id == parent_id) {
            let circle = walk.chain.iter().skip(at).chain([&parent_id]);
            let names: Vec<String> = circle
                .map(|(file, name)| match self.findings.sources().name(*file) {
                    _ if *file == tree.file && parent_tree.file == tree.file => printable(name),
                    source => format!("{} of {}", printable(name), printable(source)),
                })
                .collect();
            let what = format!("`extends` goes in a circle: {}", names.join(" -> "));
            self.findings.problem(service.place, what, "break the circle");
            return None;
        }
        if walk.chain.len() > EXTENDS_MAX {
            return self.too_long(service.place);
        }
        let (mut parent, length) = self.extended(&parent_tree, &service.value, walk)?;
        // Every service that extends it has a copy.
        if !self.count(parent.count(), service.place) {
            return None;
        }
        if length >= EXTENDS_MAX {
            return self.too_long(service.place);
        }
        merge::settle(&mut parent, &mut self.findings);
        // The place stays that of the service that extends: it is what the file defines.
        let (place, mark) = (node.place, std::mem::take(&mut node.mark));
        let mut path = vec!["services".to_owned(), name.to_owned()];
        let merged = merge::merge(parent, node, &mut path, &mut self.findings);
        Some((Node { place, mark, ..merged }, length.saturating_add(1)))
    }

    fn too_long(&mut self, place: Place) -> Extended {
        let what = format!("chain of `extends` is longer than {EXTENDS_MAX}");
        self.findings.problem(place, what, "write the keys out in one of these services");
        None
    }

    /// The service and the file that `extends` names.
    fn target(&mut self, written: &Node) -> Option<(At<String>, Option<At<String>>)> {
        let (mut service, mut file) = (None, None);
        match &written.value {
            Value::Scalar { .. } => service = self.path_text(written, "extends"),
            Value::Map(members) => {
                for member in members {
                    match member.key.as_str() {
                        "service" => service = Some(self.path_text(&member.node, "service")?),
                        "file" => file = Some(self.path_text(&member.node, "file")?),
                        other => {
                            let what = format!("unknown key `{}` in extends", printable(other));
                            self.findings.problem(member.key_place, what, "write `service` and `file`");
                        }
                    }
                }
            }
            Value::List(_) => {}
        }
        if service.is_none() {
            let what = "`extends` names no service";
            self.findings.problem(
                written.place,
                what,
                "write `service: name`, and `file: ./common.yaml` for another file",
            );
        }
        Some((service?, file))
    }

    /// A text that names something, whole and not empty.
    pub(super) fn path_text(&mut self, node: &Node, key: &str) -> Option<At<String>> {
        match &node.value {
            Value::Scalar { text, .. }
                if self.request.interpolation == Interpolation::LeftOut && text.contains('$') =>
            {
                let what = format!("`{key}` is `{}`, and variables are not replaced now", printable(text));
                self.findings.problem(
                    node.place,
                    what,
                    "write a name without variables, or have them replaced",
                );
                None
            }
            Value::Scalar { text, .. } if !node.is_null() => {
                let whole = self.interpolator.faults.is_whole(node.place, &mut self.findings);
                whole.then(|| At { place: node.place, value: text.clone() })
            }
            _ => {
                let what = format!("`{key}` is {}, not a single value", node.kind());
                self.findings.problem(node.place, what, "write one value");
                None
            }
        }
    }

    fn tree(&mut self, file: &At<String>, walk: &mut Walk<'_>) -> Option<Tree> {
        let path = self.resources.path(&file.value, "extends", file.place, &mut self.findings)?;
        if let Some(tree) = walk.scope.trees.get(&path) {
            return tree.clone();
        }
        let tree = self.read_tree(&path, file.place, walk.scope);
        walk.scope.trees.insert(path, tree.clone());
        tree
    }

    fn read_tree(&mut self, path: &str, place: Place, scope: &Scope) -> Option<Tree> {
        let read =
            self.resources.read(path, Role::Compose, Need::Required, ("extends", place), &mut self.findings);
        let file = read.ok()??;
        let mut root = self.parse(file)?;
        self.interpolate(&mut root, &scope.variables);
        let base = folder(path).to_owned();
        let members = services(&mut root).map(std::mem::take).unwrap_or_default();
        let all = members.into_iter().map(|mut member| {
            rebase(&mut member.node, &base);
            (member.key, member.node)
        });
        Some(Tree { file, services: Rc::new(all.collect()) })
    }
}

/// Makes the relative paths of a service start from the project directory in place of `base`.
pub(super) fn rebase(service: &mut Node, base: &str) {
    if base.is_empty() {
        return;
    }
    let Value::Map(members) = &mut service.value else { return };
    for Member { key, node, .. } in members {
        match key.as_str() {
            "extends" => rebase_key(node, "file", base),
            "env_file" | "label_file" => each(node, |item| {
                rebase_text(item, base);
                rebase_key(item, "path", base);
            }),
            "build" => {
                rebase_text(node, base);
                rebase_key(node, "context", base);
            }
            "volumes" => each(node, |item| rebase_volume(item, base)),
            _ => {}
        }
    }
}

/// Each item of a list, or the one value in its place.
fn each(node: &mut Node, mut change: impl FnMut(&mut Node)) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(change),
        _ => change(node),
    }
}

pub(super) fn rebase_key(node: &mut Node, key: &str, base: &str) {
    let Value::Map(members) = &mut node.value else { return };
    members
        .iter_mut()
        .filter(|member| member.key == key)
        .for_each(|member| rebase_text(&mut member.node, base));
}

fn rebase_text(node: &mut Node, base: &str) {
    if let Value::Scalar { text, .. } = &mut node.value {
        *text = join(base, text);
    }
}

/// A bind mount names a path; a volume names a volume.
fn rebase_volume(node: &mut Node, base: &str) {
    match &mut node.value {
        Value::Scalar { text, .. } if text.starts_with('.') => *text = join(base, text),
        Value::Map(members) => {
            let is_bind = |member: &Member| {
                member.key == "type"
                    && matches!(&member.node.value, Value::Scalar { text, .. } if text == "bind")
            };
            if members.iter().any(is_bind) {
                rebase_key(node, "source", base);
            }
        }
        _ => {}
    }
}
