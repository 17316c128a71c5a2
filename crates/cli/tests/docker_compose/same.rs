//! Docker Compose and we make the same of the same files.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::program::{self, DockerCompose};

/// Files that are merged, included, extended and interpolated.
const FILES: [(&str, &str); 10] = [
    (
        "a.yaml",
        "name: t\ninclude: [inc/compose.yaml]\nservices:\n  a:\n    extends: {file: sub/base.yaml, service: base}\n    image: i:1\n    \
         environment: {A: \"1\", B: \"2\", SH: }\n    env_file: [one.env, {path: two.env, required: false}, {path: raw.env, format: raw}]\n    \
         command: [x, y]\n    expose: [\"1\", \"2\"]\n    depends_on: [b]\n    tmpfs: /a\n    labels: [l.a=1]\n    cap_drop: [ALL]\n  \
         b: {image: b:1, labels: {q: r}, tmpfs: [/x], user: \"1:1\"}\n  p: {image: p:1, profiles: [dbg]}\n",
    ),
    (
        "b.yaml",
        "services:\n  a:\n    environment: [\"B=3\", C=4]\n    command: [z]\n    expose: [\"3\", \"2\"]\n    \
         depends_on: {b: {condition: service_started, required: true}, c: {condition: service_started, required: true}}\n    \
         tmpfs: [/b]\n    labels: {l.a: \"2\"}\n    cap_drop: [ALL, CHOWN]\n  \
         b: {user: !reset null, labels: !override {s: t}, tmpfs: !override [/y]}\n",
    ),
    (
        "sub/base.yaml",
        "services:\n  base: {image: base:1, environment: [A=base, D=base], env_file: base.env, expose: [\"9\"], user: \"1:1\", \
         entrypoint: [e], labels: {l.b: \"1\"}}\n",
    ),
    ("sub/base.env", "FROMBASE=1\nX=base\n"),
    (
        "one.env",
        "X=one\nY=\"a $X\\n\"\nZ='$X it\\'s'\nW=v # c\nV=v#c\nSH=file\nexport E1=1\nK: colon\nQ=\"multi\nline\"\nEMPTY=\nT = spaced \n",
    ),
    ("raw.env", "R=\"$X\" # x\n"),
    ("inc/compose.yaml", "services:\n  c: {image: \"c:${TAG}\", env_file: c.env, environment: [TAG, SH]}\n"),
    ("inc/.env", "TAG=7\n"),
    ("inc/c.env", "FROMC=${TAG}\n"),
    (".env", "SH=shell\n"),
];

#[test]
fn several_files_become_the_same_composition() {
    let Some(docker) = DockerCompose::find("several_files_become_the_same_composition") else { return };
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in FILES {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let (a, b) = (dir.path().join("a.yaml"), dir.path().join("b.yaml"));
    let theirs = docker.config(&[&a, &b]).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_casemate"));
    command.arg("-f").arg(&a).arg("-f").arg(&b).args(["--profile", "*", "config", "--format", "json"]);
    let ours = program::run(&mut command).unwrap();
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap()["services"].take();
    let (ours, theirs) = (read(&ours), read(&theirs));
    let names = |all: &Value| -> Vec<String> { all.as_object().unwrap().keys().cloned().collect() };
    assert_eq!((names(&ours), names(&ours).len()), (names(&theirs), 4));
    for name in names(&ours) {
        let (ours, theirs) = (&ours[&name], &theirs[&name]);
        for key in
            ["image", "command", "entrypoint", "expose", "depends_on", "tmpfs", "labels", "cap_drop", "user"]
        {
            assert_eq!(ours[key], theirs[key], "{key} of {name}, Docker Compose {}", docker.version);
        }
        assert_eq!(variables(&ours["environment"]), variables(&theirs["environment"]), "{name}");
    }
}

/// Variables of a list or a mapping, by name.
fn variables(written: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    match written {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
        Value::Array(items) => items
            .iter()
            .map(|item| {
                text(item).split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap()
            })
            .collect(),
        _ => BTreeMap::new(),
    }
}
