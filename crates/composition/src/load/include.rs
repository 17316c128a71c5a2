//! `include`: other compositions of the project, each with its own directory and variables.

use std::collections::BTreeMap;

use crate::problem::{At, Place, did_you_mean, printable};
use crate::yaml::{Member, Node, Value};

use super::dotenv::{self, Format, Layered};
use super::paths::{folder, join};
use super::resources::{Need, Role};
use super::{INCLUDES_MAX, Interpolation, Loader, Scope, take};

/// Sections whose members are copied.
const SECTIONS: [&str; 6] = ["services", "networks", "volumes", "secrets", "configs", "models"];

/// One entry of `include`.
struct Entry {
    place: Place,
    paths: Vec<At<String>>,
    directory: Option<At<String>>,
    env_files: Option<Vec<At<String>>>,
}

impl Loader<'_, '_, '_> {
    /// Copies what `include` names into `root`. `including` has the paths of the files around it.
    pub(super) fn include(&mut self, root: &mut Node, scope: &Scope, including: &mut Vec<String>) {
        let Some(written) = take(root, "include") else { return };
        let Value::List(items) = written.node.value else {
            let what = format!("`include` is {}, not a list", written.node.kind());
            return self.findings.problem(written.node.place, what, "write `- path` lines");
        };
        for item in items {
            let Some(entry) = self.entry(&item) else { continue };
            let place = entry.place;
            let before = including.len();
            let included = self.included(entry, scope, including);
            including.truncate(before);
            if let Some(included) = included {
                self.copy(root, included, place);
            }
        }
    }

    fn entry(&mut self, item: &Node) -> Option<Entry> {
        let mut entry = Entry { place: item.place, paths: Vec::new(), directory: None, env_files: None };
        if let Value::Map(members) = &item.value {
            for member in members {
                match member.key.as_str() {
                    "path" => entry.paths = self.path_texts(&member.node, "path"),
                    "project_directory" => {
                        entry.directory = Some(self.path_text(&member.node, "project_directory")?);
                    }
                    "env_file" => entry.env_files = Some(self.path_texts(&member.node, "env_file")),
                    other => {
                        let what = format!("unknown key `{}` in include", printable(other));
                        let todo = "write `path`, `project_directory` or `env_file`";
                        self.findings.problem(member.key_place, what, todo);
                    }
                }
            }
        } else {
            entry.paths = vec![self.path_text(item, "include")?];
        }
        if entry.paths.is_empty() {
            self.findings.problem(item.place, "`include` names no file", "write path: ./other.yaml");
            return None;
        }
        Some(entry)
    }

    fn path_texts(&mut self, node: &Node, key: &str) -> Vec<At<String>> {
        match &node.value {
            Value::List(items) => items.iter().filter_map(|item| self.path_text(item, key)).collect(),
            _ => self.path_text(node, key).into_iter().collect(),
        }
    }

    /// What an entry names, as one tree.
    fn included(&mut self, entry: Entry, around: &Scope, including: &mut Vec<String>) -> Option<Node> {
        if around.depth >= INCLUDES_MAX {
            let what = format!("`include` is nested deeper than {INCLUDES_MAX}");
            self.findings.problem(entry.place, what, "include the files from fewer places");
            return None;
        }
        let path = |loader: &mut Self, at: &At<String>, key: &str| {
            let written = join(&around.base, &at.value);
            loader.resources.path(&written, key, at.place, &mut loader.findings)
        };
        let mut paths = Vec::new();
        for at in &entry.paths {
            let path = path(self, at, "include")?;
            if let Some(seen) = including.iter().position(|other| *other == path) {
                let circle: Vec<String> =
                    including.iter().skip(seen).chain([&path]).map(|path| printable(path)).collect();
                let what = format!("`include` goes in a circle: {}", circle.join(" -> "));
                self.findings.problem(at.place, what, "break the circle");
                return None;
            }
            paths.push((path, at.place));
        }
        let base = match &entry.directory {
            Some(at) => path(self, at, "project_directory")?,
            None => folder(&paths.first()?.0).to_owned(),
        };
        let env_files = match &entry.env_files {
            Some(all) => {
                let paths =
                    all.iter().map(|at| Some((path(self, at, "env_file")?, at.place, Need::Required)));
                paths.collect::<Option<Vec<_>>>()?
            }
            None => {
                let default = if base.is_empty() { ".env".to_owned() } else { format!("{base}/.env") };
                vec![(default, entry.place, Need::Optional)]
            }
        };
        let variables = self.variables_below(env_files, &around.variables)?;
        let mut trees = Vec::new();
        for (path, place) in paths {
            let at = ("include", place);
            let file =
                self.resources.read(&path, Role::Compose, Need::Required, at, &mut self.findings).ok()??;
            trees.push(self.parse(file)?);
            including.push(path);
        }
        let mut scope =
            Scope { base, variables, trees: BTreeMap::new(), depth: around.depth.saturating_add(1) };
        let mut root = self.scope(&mut scope, trees, including)?;
        rebase_sections(&mut root, &scope.base);
        Some(root)
    }

    /// The variables of files, and over them those of the composition around.
    fn variables_below(
        &mut self,
        files: Vec<(String, Place, Need)>,
        around: &BTreeMap<String, String>,
    ) -> Option<BTreeMap<String, String>> {
        if self.request.interpolation == Interpolation::LeftOut {
            return Some(around.clone());
        }
        let mut layered = Layered { outside: around, own: BTreeMap::new() };
        for (path, place, need) in files {
            let at = ("env_file", place);
            if let Some(file) =
                self.resources.read(&path, Role::Variables, need, at, &mut self.findings).ok()?
            {
                dotenv::read(file, Format::Compose, &mut layered, &mut self.interpolator, &mut self.findings);
            }
        }
        let mut all = layered.own;
        all.extend(around.iter().map(|(name, value)| (name.clone(), value.clone())));
        Some(all)
    }

    /// Copies the resources of an included composition. Names that are there already are never merged.
    fn copy(&mut self, root: &mut Node, included: Node, place: Place) {
        let (Value::Map(members), Value::Map(more)) = (&mut root.value, included.value) else { return };
        for section in more {
            let key = section.key.clone();
            if matches!(key.as_str(), "name" | "version") || is_foreign(&key) {
                continue;
            }
            if key == "x-casemate" {
                // Whoever verifies reads the main files alone.
                let what = "`x-casemate` of an included file is not read";
                self.findings.problem(section.key_place, what, "write it in the file that includes this one");
                continue;
            }
            let Some(there) = members.iter_mut().find(|member| member.key == key) else {
                members.push(section);
                continue;
            };
            if there.node.is_null() && SECTIONS.contains(&key.as_str()) {
                *there = section;
                continue;
            }
            let (Value::Map(old), Value::Map(new)) = (&mut there.node.value, section.node.value) else {
                let what = format!(
                    "`{}` of an included file cannot stand beside the one of this file",
                    printable(&key)
                );
                self.findings.problem(place, what, "write it in one of the two files");
                continue;
            };
            let names: BTreeMap<String, usize> =
                old.iter().enumerate().map(|(at, member)| (member.key.clone(), at)).collect();
            for member in new {
                let Some(same_name) = names.get(&member.key).and_then(|at| old.get(*at)) else {
                    old.push(member);
                    continue;
                };
                if !same(&same_name.node, &member.node) {
                    let (name, at) = (printable(&member.key), same_name.key_place);
                    let what = format!(
                        "`{name}` of `{key}` is there already, in {}:{}:{}: names of included files are not merged",
                        printable(self.findings.sources().name(at.file)),
                        at.line,
                        at.column
                    );
                    self.findings.problem(member.key_place, what, "rename one of the two, or use `extends`");
                }
            }
        }
    }
}

/// Whether a top-level key is nobody's business here. A misspelt `x-casemate` is not.
fn is_foreign(key: &str) -> bool {
    key.starts_with("x-") && did_you_mean(key, ["x-casemate"]).is_empty()
}

/// Whether two values are the same, wherever they are written.
fn same(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::Scalar { .. }, Value::Scalar { .. }) => a.value == b.value,
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Map(a), Value::Map(b)) => {
            let of = |members: &[Member]| -> BTreeMap<String, Node> {
                members.iter().map(|member| (member.key.clone(), member.node.clone())).collect()
            };
            let (a, b) = (of(a), of(b));
            a.len() == b.len() && a.iter().zip(&b).all(|((ka, va), (kb, vb))| ka == kb && same(va, vb))
        }
        _ => false,
    }
}

/// Makes the relative paths of top-level `secrets` and `configs` start from the project directory.
fn rebase_sections(root: &mut Node, base: &str) {
    if base.is_empty() {
        return;
    }
    let Value::Map(members) = &mut root.value else { return };
    for section in members.iter_mut().filter(|member| matches!(member.key.as_str(), "secrets" | "configs")) {
        let Value::Map(all) = &mut section.node.value else { continue };
        all.iter_mut().for_each(|member| super::extends::rebase_key(&mut member.node, "file", base));
    }
}
