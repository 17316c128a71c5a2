//! Compose files as people have them (`examples/corpus`): what is said to each, and the file that it becomes.
//!
//! `problems.txt` beside each holds the messages; with `UPDATE_GOLDEN=1` the test writes them anew, for review.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use casemate_canon::Sha256;
use casemate_composition::load::{Files, ReadError, Request, Text, load, variables};
use casemate_composition::lock::{ImagePin, Lock, User};
use casemate_composition::{Compose, ImageFacts, Problems, suggest};

fn folders() -> Vec<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/corpus");
    let entries = fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(folders.len() > 11, "only {} folders", folders.len());
    folders
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// The files beside a Compose file.
struct Beside<'f>(&'f Path);

impl Files for Beside<'_> {
    fn read(&mut self, path: &str, _bytes_max: usize) -> Result<Vec<u8>, ReadError> {
        fs::read(self.0.join(path)).map_err(|_| ReadError::NotFound)
    }
}

/// What these files together say, whatever is active.
fn read_all(folder: &Path, files: &[(&str, &str)]) -> Result<Compose, Problems> {
    with_request(folder, files, |request| Ok(load(request, &mut Beside(folder))?.into_compose().unwrap()))
}

fn read(folder: &Path, file: &str) -> Result<Compose, Problems> {
    read_all(folder, &[(file, &fs::read_to_string(folder.join(file)).unwrap())])
}

fn with_request<T>(folder: &Path, files: &[(&str, &str)], use_it: impl FnOnce(&Request<'_>) -> T) -> T {
    let env = fs::read_to_string(folder.join(".env")).unwrap_or_default();
    let (variables, _) = variables(&BTreeMap::new(), &[Text { name: ".env", text: &env }]).unwrap();
    let (name, text) = files[0];
    use_it(&Request {
        files: files.iter().map(|(name, text)| Text { name, text }).collect(),
        project_default: Some(self::name(folder).to_owned()),
        profiles: ["*".to_owned()].into(),
        ..Request::of(name, text, variables)
    })
}

/// The messages as a person reads them.
fn messages(result: &Result<Compose, Problems>) -> String {
    let mut out = String::new();
    let (kind, all) = match result {
        Ok(compose) => ("warning: ", compose.warnings.as_slice()),
        Err(problems) => ("", problems.as_slice()),
    };
    for problem in all {
        let _ = writeln!(out, "{kind}{problem}");
    }
    out
}

fn facts() -> ImageFacts {
    let pin = Sha256::of(b"an image that does not exist");
    ImageFacts {
        pin: ImagePin { manifest: pin, config: pin, rootfs: pin },
        entrypoint: Vec::new(),
        command: vec!["/app".into()],
        environment: BTreeMap::new(),
        working_dir: String::new(),
        user: User { uid: 1000, gid: 1000 },
    }
}

#[test]
fn each_file_gets_its_messages() {
    let mut wrong = Vec::new();
    for folder in folders() {
        let found = messages(&read(&folder, "compose.yaml"));
        let golden = folder.join("problems.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(golden, found).unwrap();
        } else if let expected = fs::read_to_string(golden).unwrap_or_default()
            && expected != found
        {
            wrong.push(format!("{}: expected\n{expected}found\n{found}", name(&folder)));
        }
    }
    assert!(wrong.is_empty(), "{}\nUPDATE_GOLDEN=1 takes what was found", wrong.join("\n"));
}

#[test]
fn each_refused_file_has_a_strict_form_that_resolves_without_a_warning() {
    for folder in folders() {
        let file = match read(&folder, "compose.yaml") {
            // Accepted and warned about: a person may have made more of it.
            Ok(compose) if !compose.warnings.is_empty() && folder.join("strict.yaml").exists() => {
                "strict.yaml"
            }
            Ok(_) => {
                assert!(!folder.join("strict.yaml").exists(), "{} needs no strict form", name(&folder));
                "compose.yaml"
            }
            Err(_) => "strict.yaml",
        };
        let strict = read(&folder, file);
        let compose = strict.as_ref().unwrap_or_else(|problems| panic!("{}: {problems}", name(&folder)));
        if file == "strict.yaml" {
            assert_eq!(messages(&strict), "", "{}", name(&folder));
        }
        let images = compose.images().into_iter().map(|image| (image.to_owned(), facts())).collect();
        let lock = compose.resolve(&images).unwrap();
        assert_eq!(Lock::from_json(&lock.to_json().unwrap()), Ok(lock));
    }
}

/// What no override can decide.
const LEFT_TO_PEOPLE: [(&str, &str); 2] = [
    ("llm-gpu", "variable `HF_TOKEN` has no value here, and none is set outside"),
    ("workflow-queue", "`SECURE_COOKIE` is plain `no`, which YAML readers turn into different values"),
];

#[test]
fn the_suggested_override_leaves_only_what_a_person_must_decide() {
    for folder in folders() {
        let text = fs::read_to_string(folder.join("compose.yaml")).unwrap();
        let file = ("compose.yaml", text.as_str());
        let over =
            with_request(&folder, &[file], |request| suggest::overrides(request, &mut Beside(&folder)));
        let golden = folder.join("override.yaml");
        let Some(over) = over else {
            assert!(!golden.exists() && read(&folder, "compose.yaml").is_ok(), "{}", name(&folder));
            continue;
        };
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &over).unwrap();
        }
        assert_eq!(
            over,
            fs::read_to_string(golden).unwrap_or_default(),
            "UPDATE_GOLDEN=1 takes what was found"
        );
        let left = read_all(&folder, &[file, ("compose.casemate.yaml", &over)]).err();
        let left: Vec<(&str, String)> = left
            .into_iter()
            .flat_map(|problems| problems.into_iter().map(|problem| (name(&folder), problem.what)))
            .collect();
        let expected = LEFT_TO_PEOPLE.iter().filter(|(of, _)| *of == name(&folder));
        let expected: Vec<(&str, String)> = expected.map(|(of, what)| (*of, (*what).to_owned())).collect();
        assert_eq!(left, expected, "{over}");
    }
}
