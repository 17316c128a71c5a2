//! A composition from its files: `extends`, `include`, `env_file` and profiles done, variables replaced, all merged.
//!
//! The result is one tree of values that each know their file and line; [`crate::compose`] reads it. What it is not:
//! a reader of files. The caller hands in the main files and a way to read the others ([`Files`]), which are always
//! below the project directory. Implements the Compose specification's chapters on merging, including, profiles,
//! interpolation, `extends` and `env_file`; docs/compose-files.md says where it is stricter.

mod configs;
mod dotenv;
mod environment;
mod extends;
mod include;
mod merge;
mod output;
mod paths;
mod profiles;
mod resources;

use std::collections::{BTreeMap, BTreeSet};

use crate::compose::{self, Compose};
use crate::interpolate::Interpolator;
use crate::lock::AgentName;
use crate::problem::{Findings, Place, Problem, Problems};
use crate::source::FileId;
use crate::yaml::{self, Member, Node, Value};

pub use environment::variables;
pub use resources::{BYTES_MAX, FILES_MAX, Files, NoFiles, ReadError};

use profiles::LeftOut;
use resources::Resources;

/// Longest chain of `extends`.
pub const EXTENDS_MAX: usize = 32;
/// Deepest nesting of `include`.
pub const INCLUDES_MAX: usize = 16;
/// Most values of all files together, those that `extends` and `include` bring included.
pub const NODES_MAX: usize = yaml::NODES_MAX;

/// A file that was read already: as messages name it, and its content.
#[derive(Debug, Clone, Copy)]
pub struct Text<'t> {
    /// Its name in messages.
    pub name: &'t str,
    /// Its content.
    pub text: &'t str,
}

/// Whether `${VAR}` is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// It is.
    Done,
    /// It stays as written. Such a composition can be shown, and not run.
    LeftOut,
}

/// What to load.
#[derive(Debug, Clone)]
pub struct Request<'t> {
    /// The main files; each is laid over those before it. At least one.
    pub files: Vec<Text<'t>>,
    /// Absolute path of the project directory, for absolute paths in files. Empty where none is allowed.
    pub directory: String,
    /// What messages write before the names of further files: empty, or the project directory with a `/` at its end.
    pub prefix: String,
    /// Variables for `${VAR}` and for `environment` entries without value. [`variables`] makes them.
    pub variables: BTreeMap<String, String>,
    /// The active profiles. `*` stands for all.
    pub profiles: BTreeSet<String>,
    /// Project name that wins over `name:` of the files.
    pub project: Option<String>,
    /// Project name where nothing else names the project.
    pub project_default: Option<String>,
    /// Whether variables are replaced.
    pub interpolation: Interpolation,
    /// How many agents run a service, whatever the files say.
    pub scale: BTreeMap<AgentName, u32>,
}

impl<'t> Request<'t> {
    /// One file alone, without profiles.
    #[must_use]
    pub fn of(name: &'t str, text: &'t str, variables: BTreeMap<String, String>) -> Self {
        Self {
            files: vec![Text { name, text }],
            directory: String::new(),
            prefix: String::new(),
            variables,
            profiles: BTreeSet::new(),
            project: None,
            project_default: None,
            interpolation: Interpolation::Done,
            scale: BTreeMap::new(),
        }
    }
}

/// A composition, loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    root: Node,
    compose: Option<Compose>,
    warnings: Vec<Problem>,
    profiles: BTreeSet<String>,
    interpolation: Interpolation,
}

/// Loads a composition.
///
/// # Errors
/// [`Problems`]: everything that is wrong, each with file, line and column.
pub fn load(request: &Request<'_>, files: &mut dyn Files) -> Result<Loaded, Problems> {
    let mut loader = Loader::new(request, files);
    let root = loader.main();
    let Loader { mut findings, profiles, .. } = loader;
    let interpolation = request.interpolation;
    // What is wrong with the model is said together with what is wrong with the files.
    let read = root.map(|(root, variables)| {
        let done = interpolation == Interpolation::Done;
        let model =
            if done { compose::model(&root, &variables, &request.scale, &mut findings) } else { None };
        (root, model)
    });
    let ((root, compose), warnings) = findings.finish(read)?;
    let compose = compose.map(|compose| Compose { warnings: warnings.clone(), ..compose });
    Ok(Loaded { root, compose, warnings, profiles, interpolation })
}

/// The tree alone, whatever is wrong with what it says; none where it cannot be read or merged.
pub(crate) fn tree(request: &Request<'_>, files: &mut dyn Files) -> Option<Node> {
    Loader::new(request, files).main().map(|(root, _)| root)
}

impl Loaded {
    /// The typed model. None where variables were left in it.
    #[must_use]
    pub const fn compose(&self) -> Option<&Compose> {
        self.compose.as_ref()
    }

    /// The typed model, likewise.
    #[must_use]
    pub fn into_compose(self) -> Option<Compose> {
        self.compose
    }

    /// What has no effect or deserves a second look.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The profiles that services name, active or not.
    #[must_use]
    pub const fn profiles(&self) -> &BTreeSet<String> {
        &self.profiles
    }

    /// The project's name, where it has one.
    #[must_use]
    pub fn project(&self) -> Option<&str> {
        match &self.root.get("name")?.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }
}

/// One project directory and its variables: the main one, or that of an `include`.
struct Scope {
    /// Folder that relative paths start from, relative to the project directory.
    base: String,
    variables: BTreeMap<String, String>,
    /// Trees that `extends` read, by path; none where a file could not be read.
    trees: BTreeMap<String, Option<extends::Tree>>,
    /// How many `include` are around it.
    depth: usize,
}

/// Loads one composition.
struct Loader<'r, 'f, 'x> {
    request: &'r Request<'r>,
    resources: Resources<'f>,
    findings: Findings<'x>,
    interpolator: Interpolator,
    left_out: LeftOut,
    /// All profiles that were named.
    profiles: BTreeSet<String>,
    nodes_left: usize,
}

impl<'r, 'f> Loader<'r, 'f, '_> {
    fn new(request: &'r Request<'r>, files: &'f mut dyn Files) -> Self {
        Self {
            request,
            resources: Resources::new(files, request),
            findings: Findings::default(),
            interpolator: Interpolator::new(),
            left_out: LeftOut::default(),
            profiles: BTreeSet::new(),
            nodes_left: NODES_MAX,
        }
    }

    fn main(&mut self) -> Option<(Node, BTreeMap<String, String>)> {
        let mut trees = Vec::new();
        for Text { name, text } in &self.request.files {
            self.resources.count_main(text.len());
            let file = self.findings.add(name, text);
            trees.push(self.parse(file));
        }
        // What follows a file that cannot be parsed would be noise.
        let trees: Vec<Node> = trees.into_iter().collect::<Option<_>>()?;
        let mut variables = self.request.variables.clone();
        let name = self.project_name(&trees, &variables);
        if let Some(name) = &name {
            variables.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
        }
        let mut scope = Scope { base: String::new(), variables, trees: BTreeMap::new(), depth: 0 };
        let mut root = self.scope(&mut scope, trees, &mut Vec::new())?;
        if let (Some(name), Value::Map(members)) = (name, &mut root.value) {
            name_project(members, name);
        }
        self.read_configs(&mut root);
        self.check_profiles(&mut root);
        self.interpolator.faults.report(&root, &mut self.findings);
        Some((root, scope.variables))
    }

    /// The tree of a file, counted.
    fn parse(&mut self, file: FileId) -> Option<Node> {
        let root = yaml::parse(file, &mut self.findings)?;
        if let Value::Map(_) = root.value {
            return self.count(root.count(), Place::start_of(file)).then_some(root);
        }
        let what = format!("file is {}, not a mapping", root.kind());
        let todo = "write a composition: `name:`, `services:` and what they need";
        self.findings.problem(root.place, what, todo);
        None
    }

    /// Whether there is room for `nodes` more values.
    fn count(&mut self, nodes: usize, place: Place) -> bool {
        match self.nodes_left.checked_sub(nodes) {
            Some(left) => self.nodes_left = left,
            None => {
                let what = format!("more than {NODES_MAX} values in all files together");
                self.findings.problem(
                    place,
                    what,
                    "use fewer aliases and `extends`, or split the composition",
                );
                return false;
            }
        }
        true
    }

    fn interpolate(&mut self, node: &mut Node, variables: &BTreeMap<String, String>) {
        if self.request.interpolation == Interpolation::Done {
            self.interpolator.tree(node, variables);
        }
    }

    /// The files of one scope as one tree. `including` has the paths of the files around it.
    fn scope(&mut self, scope: &mut Scope, trees: Vec<Node>, including: &mut Vec<String>) -> Option<Node> {
        let mut merged: Option<Node> = None;
        for mut tree in trees {
            self.interpolate(&mut tree, &scope.variables);
            self.extend_services(&mut tree, scope);
            merged = Some(match merged {
                Some(base) => merge::merge(base, tree, &mut Vec::new(), &mut self.findings),
                None => tree,
            });
        }
        let mut root = merged?;
        merge::settle(&mut root, &mut self.findings);
        self.leave_out(&mut root);
        self.read_variables(&mut root, scope);
        self.include(&mut root, scope, including);
        Some(root)
    }

    /// The name that the caller asks for, or the last `name:` of the main files, or the default.
    fn project_name(&mut self, trees: &[Node], variables: &BTreeMap<String, String>) -> Option<String> {
        if let Some(name) = &self.request.project {
            return Some(name.clone());
        }
        let written = trees.iter().rev().find_map(|tree| tree.get("name"));
        match written.map(|node| &node.value) {
            Some(Value::Scalar { text, .. }) if self.request.interpolation == Interpolation::Done => {
                // A fault of the name is found where all values are interpolated.
                self.interpolator.text(text, variables).ok().map(|expanded| expanded.text)
            }
            Some(Value::Scalar { text, .. }) => Some(text.clone()),
            Some(_) => None,
            None => self.request.project_default.clone(),
        }
    }
}

/// Makes `name` the project's name. One that is written so already keeps its form.
fn name_project(members: &mut Vec<Member>, name: String) {
    let there = members.iter_mut().find(|member| member.key == "name");
    match there {
        Some(member) => {
            if !matches!(&member.node.value, Value::Scalar { text, .. } if *text == name) {
                member.node = Node::text(member.node.place, name);
            }
        }
        None => {
            let node = Node::text(Place::START, name);
            members.insert(0, Member { key: "name".to_owned(), key_place: Place::START, node });
        }
    }
}

/// The services of a tree.
fn services(root: &mut Node) -> Option<&mut Vec<Member>> {
    let Value::Map(members) = &mut root.value else { return None };
    let services = members.iter_mut().find(|member| member.key == "services")?;
    match &mut services.node.value {
        Value::Map(services) => Some(services),
        _ => None,
    }
}

/// Takes `key` out of a mapping.
fn take(node: &mut Node, key: &str) -> Option<Member> {
    let Value::Map(members) = &mut node.value else { return None };
    let at = members.iter().position(|member| member.key == key)?;
    Some(members.remove(at))
}
