//! Which files a composition is read from: flags, variables, and the names that are looked for.
//!
//! What is in them is the business of `casemate_composition`; this finds them, and hands it no file that lies outside
//! the project directory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use casemate_composition::compose::{self, RelyingParty};
use casemate_composition::load::{self, Files, Interpolation, Loaded, ReadError, Request, Text};
use casemate_composition::lock::AgentName;
use casemate_composition::problem::Problem;
use casemate_composition::{Problems, suggest};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::cli::Global;
use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::replicas::ScaleOptions;

/// Largest file in bytes.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Names that are looked for, in order (Compose specification, "Compose file").
pub(crate) const COMPOSE_NAMES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
/// Names of a file that is laid over it, likewise.
const OVERRIDE_NAMES: [&str; 4] = [
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yaml",
    "docker-compose.override.yml",
];
const NAME_IT: &str = "name the Compose file with `-f FILE` before the command";

/// The files of a composition, and what it is loaded with.
pub(crate) struct ComposeFile {
    /// The first file: lock and policy lie beside it.
    pub(crate) path: PathBuf,
    /// The main files with their content, in order.
    files: Vec<(PathBuf, String)>,
    /// The project directory.
    directory: PathBuf,
    variables: BTreeMap<String, String>,
    profiles: BTreeSet<String>,
    project: Option<String>,
    scale: BTreeMap<AgentName, u32>,
    /// What was noticed while the files were looked for.
    remarks: Vec<String>,
    warnings: Vec<Problem>,
}

impl ComposeFile {
    /// What the files say to whoever verifies; a later file wins. Nothing else of them is read.
    pub(crate) fn relying_party(&self) -> Result<RelyingParty, Problems> {
        self.files.iter().try_fold(RelyingParty::default(), |before, (path, text)| {
            let own = compose::relying_party(&path.display().to_string(), text, &self.variables)?;
            Ok(RelyingParty {
                policy: own.policy.or(before.policy),
                collateral_days_max: own.collateral_days_max.or(before.collateral_days_max),
            })
        })
    }

    /// The files that the flags or variables name, or the ones in the current folder.
    pub(crate) fn find(global: &Global) -> Outcome<Self> {
        let shell: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let here = match (&global.project_directory, global.file.first(), shell.get("COMPOSE_FILE")) {
            (Some(directory), _, _) => directory.clone(),
            (None, Some(file), _) => folder(file).to_owned(),
            (None, None, Some(files)) => {
                split_paths(files, &shell).first().map_or_else(PathBuf::new, |file| folder(file).to_owned())
            }
            (None, None, None) => PathBuf::new(),
        };
        let (variables, warnings) = read_variables(global, &shell, &here)?;
        let mut remarks = Vec::new();
        let of_shell = shell.contains_key("COMPOSE_FILE") || named_variables(global, &shell).is_some();
        let (paths, named) = match (global.file.as_slice(), variables.get("COMPOSE_FILE")) {
            ([], Some(files)) if !files.is_empty() => (split_paths(files, &variables), of_shell),
            ([], _) => (find_names(&here, &mut remarks)?, false),
            (files, _) => (files.to_vec(), true),
        };
        let mut files = Vec::new();
        for path in paths {
            if !named {
                require_below(&here, &path, NAME_IT)?;
            }
            let text = inputs::read_text(&path, FILE_BYTES_MAX, NAME_IT)?;
            files.push((path, text));
        }
        let Some((path, _)) = files.first() else {
            return Err(Failure::input("COMPOSE_FILE names no file", NAME_IT));
        };
        let path = path.clone();
        let directory = global.project_directory.clone().unwrap_or_else(|| folder(&path).to_owned());
        let listed = |text: &str| {
            text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
        };
        let profiles = if global.profile.is_empty() {
            variables.get("COMPOSE_PROFILES").map_or_else(BTreeSet::new, |all| listed(all))
        } else {
            global.profile.iter().cloned().collect()
        };
        let named = variables.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty());
        let project = global.project.clone().or_else(|| named.cloned());
        Ok(Self {
            path,
            files,
            directory,
            variables,
            profiles,
            project,
            scale: BTreeMap::new(),
            remarks,
            warnings,
        })
    }

    /// The folder that the first file is in.
    pub(crate) fn folder(&self) -> Outcome<PathBuf> {
        canonical(folder(&self.path))
    }

    /// The flags that find these files again, for what a message says to run.
    pub(crate) fn flags(&self) -> String {
        let files = self.files.iter().map(|(path, _)| format!("-f {}", path.display()));
        files
            .chain(self.profiles.iter().map(|profile| format!("--profile {profile}")))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The `--scale` that gives the same composition, for what a message says to run; a blank before each.
    pub(crate) fn scale_flags(&self) -> String {
        self.scale.iter().map(|(service, count)| format!(" --scale {service}={count}")).collect()
    }

    /// Says what deserves a second look.
    pub(crate) fn warn(&self, loaded: &Loaded) {
        self.remarks.iter().for_each(crate::lines::note);
        let of_model =
            loaded.compose().map_or_else(|| loaded.warnings(), |compose| compose.warnings.as_slice());
        for warning in self.warnings.iter().chain(of_model) {
            let (file, line, column) = (&warning.file, warning.line, warning.column);
            crate::lines::note(format!("warning: {file}:{line}:{column}: {}", warning.what));
            warning.excerpt_lines().iter().for_each(crate::lines::note);
            crate::lines::note(format!("to do: {}", warning.todo));
        }
    }

    /// Loads the composition. `Err(Ok(…))` has what is wrong with it.
    pub(crate) fn load(&self, interpolation: Interpolation) -> Result<Loaded, Result<Problems, Failure>> {
        self.requested(interpolation, |request, files| load::load(request, files)).map_err(Err)?.map_err(Ok)
    }

    /// An override that makes it strict, where there is something to change.
    pub(crate) fn suggest(&self) -> Outcome<Option<String>> {
        self.requested(Interpolation::Done, |request, files| suggest::overrides(request, files))
    }

    /// The same with as many agents as the command line asks for.
    pub(crate) fn scaled(self, scale: &ScaleOptions) -> Self {
        Self { scale: scale.by_service(), ..self }
    }

    /// The same with one agent of this service, however many the files ask for.
    pub(crate) fn with_one(self, service: &AgentName) -> Self {
        Self { scale: BTreeMap::from([(service.clone(), 1)]), ..self }
    }

    /// The same with one more file over it.
    pub(crate) fn with(mut self, path: &Path, text: &str) -> Self {
        self.files.push((path.to_owned(), text.to_owned()));
        self
    }

    /// Calls `take` with what is to be loaded and the folder that it is loaded from.
    fn requested<T>(
        &self,
        interpolation: Interpolation,
        take: impl FnOnce(&Request<'_>, &mut Folder) -> T,
    ) -> Outcome<T> {
        let directory = canonical(&self.directory)?;
        let shown: Vec<String> = self.files.iter().map(|(path, _)| path.display().to_string()).collect();
        let files = shown.iter().zip(&self.files).map(|(name, (_, text))| Text { name, text }).collect();
        let prefix = match self.directory.to_str() {
            None | Some("" | ".") => String::new(),
            Some(directory) => format!("{}/", directory.trim_end_matches('/')),
        };
        let default = directory.file_name().map(|name| normalised(&name.to_string_lossy()));
        let request = Request {
            files,
            directory: directory.to_str().unwrap_or_default().to_owned(),
            prefix,
            variables: self.variables.clone(),
            profiles: self.profiles.clone(),
            project: self.project.clone(),
            project_default: default.filter(|name| !name.is_empty()),
            interpolation,
            scale: self.scale.clone(),
        };
        Ok(take(&request, &mut Folder::open(&directory)?))
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn canonical(folder: &Path) -> Outcome<PathBuf> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    folder.canonicalize().map_err(|error| Failure::input(format!("{}: {error}", folder.display()), NAME_IT))
}

/// `COMPOSE_FILE`: paths with `COMPOSE_PATH_SEPARATOR` between them.
fn split_paths(text: &str, variables: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let separator =
        variables.get("COMPOSE_PATH_SEPARATOR").filter(|s| !s.is_empty()).map_or(":", String::as_str);
    text.split(separator).filter(|path| !path.is_empty()).map(PathBuf::from).collect()
}

/// The files of variables that flags or the shell name; none where `.env` is looked for.
fn named_variables(global: &Global, shell: &BTreeMap<String, String>) -> Option<Vec<PathBuf>> {
    let listed = shell.get("COMPOSE_ENV_FILES").map_or("", String::as_str);
    if !global.env_file.is_empty() {
        Some(global.env_file.clone())
    } else if !listed.is_empty() {
        Some(listed.split(',').map(PathBuf::from).collect())
    } else {
        None
    }
}

/// Refuses a file that nobody named, but that was found or that `.env` names, where it or its folder is not below the
/// folder that was looked in: a project of somebody else has no business with other files of this machine.
fn require_below(looked_in: &Path, path: &Path, todo: &str) -> Outcome<()> {
    // What is not there is said by whoever reads it.
    let Ok(file) = path.canonicalize() else { return Ok(()) };
    let (below, parent) = (canonical(looked_in)?, canonical(folder(path))?);
    if file.starts_with(&below) && parent.starts_with(&below) {
        return Ok(());
    }
    let what = format!("{}: leads to {}, out of {}", path.display(), file.display(), below.display());
    Err(Failure::input(what, todo))
}

/// The variables of the shell, and below them those of the files that flags name, or of `.env`.
fn read_variables(
    global: &Global,
    shell: &BTreeMap<String, String>,
    here: &Path,
) -> Outcome<(BTreeMap<String, String>, Vec<Problem>)> {
    const NAME_THEM: &str = "name a readable file with `--env-file FILE`";
    let disabled =
        shell.get("COMPOSE_DISABLE_ENV_FILE").is_some_and(|value| matches!(value.as_str(), "1" | "true"));
    let default = if here == Path::new(".") { PathBuf::from(".env") } else { here.join(".env") };
    let paths: Vec<PathBuf> = if let Some(named) = named_variables(global, shell) {
        named
    } else if !disabled && default.is_file() {
        require_below(here, &default, NAME_THEM)?;
        vec![default]
    } else {
        Vec::new()
    };
    let mut files = Vec::new();
    for path in paths {
        let text = inputs::read_text(&path, FILE_BYTES_MAX, NAME_THEM)?;
        files.push((path.display().to_string(), text));
    }
    let texts: Vec<Text<'_>> = files.iter().map(|(name, text)| Text { name, text }).collect();
    load::variables(shell, &texts).map_err(inputs::failure_of)
}

/// The Compose file of a folder, and the one that is laid over it.
fn find_names(here: &Path, remarks: &mut Vec<String>) -> Outcome<Vec<PathBuf>> {
    let there = |names: &[&str]| -> Vec<PathBuf> {
        names.iter().map(|name| here.join(name)).filter(|path| path.exists()).collect()
    };
    let mut first_of = |found: Vec<PathBuf>| {
        let mut found = found.into_iter();
        let first = found.next()?;
        for other in found {
            let (first, other) = (first.display(), other.display());
            remarks.push(format!("warning: {first} is read, {other} beside it is not"));
            remarks.push(format!("to do: remove one of the two, or name both with `-f {first} -f {other}`"));
        }
        Some(first)
    };
    let Some(main) = first_of(there(&COMPOSE_NAMES)) else {
        let what = match here.to_str() {
            None | Some("" | ".") => "no compose.yaml in this folder".to_owned(),
            Some(here) => format!("no compose.yaml in {here}"),
        };
        let todo = "name one with `casemate -f FILE COMMAND`, or write one with `casemate init`";
        return Err(Failure::input(what, todo));
    };
    Ok(std::iter::once(main).chain(first_of(there(&OVERRIDE_NAMES))).collect())
}

/// A folder name as project name (Compose specification, "Project name"): lower case, other characters dropped.
pub(crate) fn normalised(folder: &str) -> String {
    folder
        .to_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-' || *c == '_')
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(63)
        .collect()
}

/// The project directory. The kernel keeps every path below it, whatever links are in it (openat2(2),
/// `RESOLVE_BENEATH`).
struct Folder(OwnedFd);

impl Folder {
    fn open(path: &Path) -> Outcome<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        opened.map(Self).map_err(|error| Failure::input(format!("{}: {error}", path.display()), NAME_IT))
    }
}

impl Files for Folder {
    fn read(&mut self, path: &str, bytes_max: usize) -> Result<Vec<u8>, ReadError> {
        // A pipe must not hold the command up.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let path = if path.is_empty() { "." } else { path };
        let file = openat2(&self.0, path, flags, Mode::empty(), resolve).map_err(|error| match error {
            Errno::NOENT | Errno::NOTDIR => ReadError::NotFound,
            Errno::XDEV | Errno::LOOP => ReadError::Outside,
            Errno::ISDIR | Errno::NXIO => ReadError::NotAFile,
            error => ReadError::Other(error.to_string()),
        })?;
        let file = std::fs::File::from(file);
        let other = |error: std::io::Error| match error.kind() {
            ErrorKind::IsADirectory => ReadError::NotAFile,
            _ => ReadError::Other(error.to_string()),
        };
        if !file.metadata().map_err(other)?.is_file() {
            return Err(ReadError::NotAFile);
        }
        let mut bytes = Vec::new();
        let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
        file.take(limit).read_to_end(&mut bytes).map_err(other)?;
        if bytes.len() > bytes_max { Err(ReadError::TooLarge) } else { Ok(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names_become_project_names_as_compose_does() {
        assert_eq!(normalised("Research Desk.v2"), "researchdeskv2");
        assert_eq!(normalised("_-a_b"), "a_b");
    }

    #[test]
    fn what_nobody_named_stays_below_the_folder_that_is_looked_in() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("project");
        std::fs::create_dir_all(inside.join("sub")).unwrap();
        std::fs::write(dir.path().join("secret"), "A=1").unwrap();
        std::fs::write(inside.join("sub/a"), "{}").unwrap();
        std::os::unix::fs::symlink("../secret", inside.join(".env")).unwrap();
        std::os::unix::fs::symlink("sub/a", inside.join("compose.yaml")).unwrap();
        std::os::unix::fs::symlink("..", inside.join("up")).unwrap();
        for good in ["sub/a", "compose.yaml", "sub/../sub/a", "none"] {
            assert!(require_below(&inside, &inside.join(good), "t").is_ok(), "{good}");
        }
        for bad in [".env", "../secret", "up/secret", "up/project/../secret", "/proc/version"] {
            let failure = require_below(&inside, &inside.join(bad), "t").unwrap_err();
            assert!(failure.what.contains(": leads to /"), "{bad}: {}", failure.what);
        }
    }

    #[test]
    fn no_link_leads_out_of_the_project_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("project"), dir.path().join("secret"));
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(&outside, "x").unwrap();
        std::fs::write(inside.join("a"), "1234").unwrap();
        std::os::unix::fs::symlink("../secret", inside.join("relative")).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("absolute")).unwrap();
        std::os::unix::fs::symlink("a", inside.join("good")).unwrap();
        std::os::unix::fs::symlink("..", inside.join("up")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, inside.join("pipe"), Mode::RUSR).unwrap();
        let mut folder = Folder::open(&inside).unwrap();
        assert_eq!(folder.read("a", 4), Ok(b"1234".to_vec()));
        assert_eq!(folder.read("good", 4), Ok(b"1234".to_vec()));
        assert_eq!(folder.read("a", 3), Err(ReadError::TooLarge));
        assert_eq!(folder.read("b", 3), Err(ReadError::NotFound));
        assert_eq!(folder.read("a/b", 3), Err(ReadError::NotFound));
        for out in ["relative", "absolute", "up/secret", "/etc/passwd", "../secret"] {
            assert_eq!(folder.read(out, 9), Err(ReadError::Outside), "{out}");
        }
        assert_eq!(folder.read("pipe", 9), Err(ReadError::NotAFile));
        assert_eq!(folder.read("", 9), Err(ReadError::NotAFile));
    }
}
