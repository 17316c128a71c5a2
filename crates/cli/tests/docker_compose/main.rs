//! A real Docker Compose still accepts our files: what is ours are `x-` keys, which it passes over.
//!
//! The program is the one that `cargo xtask setup` unpacks below `target/`, or the one that `CASEMATE_DOCKER_COMPOSE`
//! names. Only its `config` runs: no engine, no network.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

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

#[test]
fn it_refuses_a_misspelt_key_so_that_its_consent_means_something() {
    let Some(docker) = DockerCompose::find("it_refuses_a_misspelt_key") else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("compose.yaml");
    fs::write(&file, "name: a\nservices:\n  a:\n    image: a\n    casemate: { egress: [] }\n").unwrap();
    let said = docker.config(&[&file]).unwrap_err();
    assert!(said.contains("casemate"), "{said}");
}
