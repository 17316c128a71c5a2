//! A real Docker Compose still accepts our files: what is ours are `x-` keys, which it passes over.
//!
//! The program is the one that `cargo xtask setup` unpacks below `target/`, or the one that `CASEMATE_DOCKER_COMPOSE`
//! names. Only its `config` runs: no engine, no network.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod model;
mod program;
mod same;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use program::DockerCompose;

/// Compose files of the repository, each in its folder.
fn examples() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").canonicalize().unwrap();
    let folders = |dir: &Path| -> Vec<PathBuf> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
    };
    let all = folders(&root).into_iter().chain(folders(&root.join("corpus")));
    let files = all.flat_map(|folder| [folder.join("compose.yaml"), folder.join("strict.yaml")]);
    let mut files: Vec<PathBuf> = files.filter(|file| file.exists()).collect();
    files.sort();
    assert!(files.len() > 20, "only {} files", files.len());
    files
}

#[test]
fn it_accepts_every_example() {
    let Some(docker) = DockerCompose::find("it_accepts_every_example") else { return };
    let refused: Vec<String> = examples()
        .iter()
        .filter_map(|file| Some(format!("{}: {}", file.display(), docker.config(&[file]).err()?)))
        .collect();
    assert!(refused.is_empty(), "Docker Compose {}:\n{}", docker.version, refused.join("\n"));
}

#[test]
fn it_accepts_what_init_writes() {
    let Some(docker) = DockerCompose::find("it_accepts_what_init_writes") else { return };
    for template in ["agent", "team"] {
        for image in ["python", "shell", "demo/a:1"] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("compose.yaml");
            let mut init = Command::new(env!("CARGO_BIN_EXE_casemate"));
            init.arg("-f").arg(&file).args(["init", "--template", template, "--image", image]);
            program::run(&mut init).unwrap();
            docker.config(&[&file]).unwrap();
        }
    }
}

/// Where the two models of an example differ, and why that is meant.
const DIFFERENCES: [(&str, &str, &str); 2] = [
    ("cron-job", "report.expose", "a list without items is kept here and left out there"),
    ("mcp-servers", "assistant.extra_hosts", "likewise"),
];

/// Each example, and each with the override that was suggested for it.
fn compositions() -> Vec<Vec<PathBuf>> {
    let files = examples();
    let with_override = files.iter().filter(|file| file.ends_with("compose.yaml"));
    let pairs = with_override.map(|file| vec![file.clone(), file.with_file_name("override.yaml")]);
    let pairs = pairs.filter(|pair| pair[1].exists());
    files.iter().map(|file| vec![file.clone()]).chain(pairs).collect()
}

fn casemate_config(files: &[&Path], format: &str) -> Result<String, String> {
    let mut config = Command::new(env!("CARGO_BIN_EXE_casemate"));
    for file in files {
        config.arg("-f").arg(file);
    }
    config.args(["--profile", "*", "config", "--format", format]);
    program::run(config.current_dir(files[0].parent().unwrap()))
}

#[test]
fn it_accepts_what_config_prints_and_the_suggested_overrides() {
    let Some(docker) = DockerCompose::find("it_accepts_what_config_prints") else { return };
    let mut printed = 0;
    for files in compositions() {
        let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        docker.config(&files).unwrap();
        // What is refused is not printed.
        let Ok(text) = casemate_config(&files, "yaml") else { continue };
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("compose.yaml");
        fs::write(&copy, text).unwrap();
        docker.config(&[&copy]).unwrap();
        printed += 1;
    }
    assert!(printed > 20, "only {printed} compositions are accepted");
}

#[test]
fn it_understands_our_examples_as_we_do() {
    let Some(docker) = DockerCompose::find("it_understands_our_examples_as_we_do") else { return };
    let mut found = Vec::new();
    let mut compared = 0;
    for files in compositions() {
        let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        let Ok(ours) = casemate_config(&files, "json") else { continue };
        let ours = model::values(&ours);
        let theirs = model::values(&docker.config(&files).unwrap());
        let folder = files[0].parent().unwrap().file_name().unwrap().to_str().unwrap();
        for key in ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key))) {
            compared += 1;
            let (ours, theirs) = (ours.get(key), theirs.get(key));
            let is_known = DIFFERENCES.iter().any(|(of, at, _)| *of == folder && at == key);
            if (ours != theirs) != is_known {
                found.push(format!("{folder} {key}: ours {ours:?}, Docker Compose {theirs:?}"));
            }
        }
    }
    assert!(compared > 200, "only {compared} values");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn it_refuses_a_misspelt_key_so_that_its_consent_means_something() {
    let Some(docker) = DockerCompose::find("it_refuses_a_misspelt_key") else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("compose.yaml");
    fs::write(&file, "name: a\nservices:\n  a:\n    image: a\n    casemate: { egress: [] }\n").unwrap();
    let said = docker.config(&[&file]).unwrap_err();
    assert!(said.contains("casemate"), "{said}");
}
