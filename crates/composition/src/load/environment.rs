//! Variables from files: those of the project, and `env_file` and `label_file` of services.

use std::collections::{BTreeMap, BTreeSet};

use crate::interpolate::Interpolator;
use crate::problem::{At, Findings, Place, Problem, Problems, printable};
use crate::yaml::{Member, Node, Value};

use super::dotenv::{self, Format, Layered, Variable};
use super::merge::pairs;
use super::resources::{Need, Role};
use super::{Interpolation, Loader, Scope, Text, services, take};

/// The variables that a composition is loaded with: those of the shell, and below them those of `files`, of which
/// later ones win. Also what deserves a second look.
///
/// # Errors
/// [`Problems`]: a line of a file cannot be read. No value of it is shown.
pub fn variables(
    shell: &BTreeMap<String, String>,
    files: &[Text<'_>],
) -> Result<(BTreeMap<String, String>, Vec<Problem>), Problems> {
    let mut f = Findings::default();
    let mut layered = Layered { outside: shell, own: BTreeMap::new() };
    let mut interpolator = Interpolator::new();
    for Text { name, text } in files {
        let file = f.add_variables(name, text);
        for variable in dotenv::read(file, Format::Compose, &mut layered, &mut interpolator, &mut f) {
            warn_of_nothing(&variable, shell, &mut f);
        }
    }
    let mut all = layered.own;
    all.extend(shell.iter().map(|(name, value)| (name.clone(), value.clone())));
    f.finish(Some(all))
}

fn warn_of_nothing(variable: &Variable, outside: &BTreeMap<String, String>, f: &mut Findings<'_>) {
    if variable.value.is_none() && !outside.contains_key(&variable.name) {
        let name = printable(&variable.name);
        let what = format!("variable `{name}` has no value here, and none is set outside: it is left out");
        f.warning(variable.place, what, format!("write {name}=value"));
    }
}

/// A file that a service names.
struct Named {
    path: At<String>,
    need: Need,
    format: Format,
}

impl Loader<'_, '_, '_> {
    /// Puts what `env_file` and `label_file` hold below `environment` and `labels` of every service.
    pub(super) fn read_variables(&mut self, root: &mut Node, scope: &Scope) {
        if self.request.interpolation == Interpolation::LeftOut {
            return;
        }
        for service in services(root).map(Vec::as_mut_slice).unwrap_or_default() {
            for (file_key, key) in [("env_file", "environment"), ("label_file", "labels")] {
                if let Some(written) = take(&mut service.node, file_key) {
                    let variables = self.variables_of(&written, file_key, scope);
                    put_below(&mut service.node, key, written.key_place, variables);
                }
            }
            if let Value::Map(members) = &mut service.node.value {
                let environment = members.iter_mut().filter(|member| member.key == "environment");
                environment.for_each(|member| pass_through(&mut member.node, &scope.variables));
            }
        }
    }

    /// The variables of all files that `written` names, by name; of two with one name, the later.
    fn variables_of(&mut self, written: &Member, key: &str, scope: &Scope) -> BTreeMap<String, Variable> {
        let mut layered = Layered { outside: &scope.variables, own: BTreeMap::new() };
        let mut all = BTreeMap::new();
        for Named { path, need, format } in self.named_files(&written.node, key) {
            let Some(relative) = self.resources.path(&path.value, key, path.place, &mut self.findings) else {
                continue;
            };
            let at = (key, path.place);
            let read = self.resources.read(&relative, Role::Variables, need, at, &mut self.findings);
            let Ok(Some(file)) = read else { continue };
            let f = &mut self.findings;
            for mut variable in dotenv::read(file, format, &mut layered, &mut self.interpolator, f) {
                if variable.value.is_none() {
                    warn_of_nothing(&variable, &scope.variables, f);
                    variable.value = scope.variables.get(&variable.name).cloned();
                }
                all.insert(variable.name.clone(), variable);
            }
        }
        all
    }

    fn named_files(&mut self, node: &Node, key: &str) -> Vec<Named> {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        items.iter().filter_map(|item| self.named_file(item, key)).collect()
    }

    fn named_file(&mut self, item: &Node, key: &str) -> Option<Named> {
        let (mut path, mut need, mut format) = (None, Need::Required, Format::Compose);
        let Value::Map(members) = &item.value else {
            let path = self.path_text(item, key)?;
            return Some(Named { path, need, format });
        };
        for member in members {
            let text = self.path_text(&member.node, &member.key)?;
            match (member.key.as_str(), text.value.as_str()) {
                ("path", _) => path = Some(text),
                ("required", "true") => need = Need::Required,
                ("required", "false") => need = Need::Optional,
                ("required", other) => {
                    let what = format!("`required` wants true or false, found `{}`", printable(other));
                    self.findings.problem(text.place, what, "write true or false");
                }
                ("format", "raw") => format = Format::Raw,
                ("format", other) => {
                    let what = format!("`format` `{}` is not known", printable(other));
                    self.findings.problem(
                        text.place,
                        what,
                        "write raw, or leave it out for the format of Compose",
                    );
                }
                (other, _) => {
                    let what = format!("unknown key `{}` in {key}", printable(other));
                    self.findings.problem(member.key_place, what, "write `path`, `required` or `format`");
                }
            }
        }
        if path.is_none() {
            self.findings.problem(item.place, format!("`{key}` names no file"), "write path: ./file.env");
        }
        Some(Named { path: path?, need, format })
    }
}

/// Adds variables to the mapping `key` of a service; names that it has already win.
fn put_below(service: &mut Node, key: &str, place: Place, variables: BTreeMap<String, Variable>) {
    let Value::Map(members) = &mut service.value else { return };
    if !members.iter().any(|member| member.key == key) {
        let node = Node::new(place, Value::Map(Vec::new()));
        members.push(Member { key: key.to_owned(), key_place: place, node });
    }
    for member in members.iter_mut().filter(|member| member.key == key) {
        let node = std::mem::replace(&mut member.node, Node::new(place, Value::Map(Vec::new())));
        let node = if node.is_null() { Node::new(place, Value::Map(Vec::new())) } else { node };
        member.node = if is_pairs(&node) { pairs(node, &['=']) } else { node };
        // What is no mapping has its problem when it is read.
        let Value::Map(written) = &mut member.node.value else { continue };
        let there: BTreeSet<String> = written.iter().map(|member| member.key.clone()).collect();
        let more = variables.values().filter(|variable| !there.contains(&variable.name));
        written.extend(more.filter_map(|variable| {
            let node = Node::text(variable.place, variable.value.clone()?);
            Some(Member { key: variable.name.clone(), key_place: variable.place, node })
        }));
    }
}

/// Whether every item of a list can be a pair.
fn is_pairs(node: &Node) -> bool {
    match &node.value {
        Value::List(items) => items.iter().all(|item| matches!(item.value, Value::Scalar { .. })),
        _ => false,
    }
}

/// Gives `NAME` alone the value that is set outside. One without stays, and has its problem when it is read.
fn pass_through(environment: &mut Node, variables: &BTreeMap<String, String>) {
    match &mut environment.value {
        Value::Map(members) => {
            for member in members.iter_mut().filter(|member| member.node.is_null()) {
                if let Some(value) = variables.get(&member.key) {
                    member.node = Node::text(member.key_place, value.clone());
                }
            }
        }
        Value::List(items) => {
            for item in items {
                let Value::Scalar { text, .. } = &item.value else { continue };
                if let Some(value) = variables.get(text).filter(|_| !text.contains('=')) {
                    *item = Node::text(item.place, format!("{text}={value}"));
                }
            }
        }
        Value::Scalar { .. } => {}
    }
}
