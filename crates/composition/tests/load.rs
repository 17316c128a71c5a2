//! Compositions of several files: the rules of the Compose specification, case by case.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use casemate_composition::Problems;
use casemate_composition::load::{self, Files, Interpolation, Loaded, ReadError, Request, Text};

/// Files of a project directory, by path.
struct Project(BTreeMap<&'static str, String>);

impl Files for Project {
    fn read(&mut self, path: &str, _bytes_max: usize) -> Result<Vec<u8>, ReadError> {
        self.0.get(path).map(|text| text.clone().into_bytes()).ok_or(ReadError::NotFound)
    }
}

fn project(files: &[(&'static str, &str)]) -> Project {
    Project(files.iter().map(|(path, text)| (*path, (*text).to_owned())).collect())
}

fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn request<'t>(main: &[&'t str], profiles: &[&str]) -> Request<'t> {
    const NAMES: [&str; 3] = ["compose.yaml", "over.yaml", "third.yaml"];
    Request {
        files: main.iter().zip(NAMES).map(|(text, name)| Text { name, text }).collect(),
        directory: "/srv/desk".to_owned(),
        profiles: profiles.iter().map(|profile| (*profile).to_owned()).collect(),
        project_default: Some("desk".to_owned()),
        ..Request::of("", "", set(&[("SET", "outside")]))
    }
}

fn load(main: &[&str], others: &[(&'static str, &str)], profiles: &[&str]) -> Result<Loaded, Problems> {
    load::load(&request(main, profiles), &mut project(others))
}

/// What is merged, without reading it as a model: many keys of the specification are refused there.
fn merged(main: &[&str], others: &[(&'static str, &str)]) -> String {
    let request = Request { interpolation: Interpolation::LeftOut, ..request(main, &[]) };
    let loaded = load::load(&request, &mut project(others)).unwrap_or_else(|problems| panic!("{problems}"));
    loaded.to_yaml()
}

fn what(result: Result<Loaded, Problems>) -> String {
    let problems = result.map(|loaded| panic!("{}", loaded.to_yaml())).unwrap_err();
    let all = problems.into_iter().map(|p| format!("{}:{}:{}: {}", p.file, p.line, p.column, p.what));
    all.collect::<Vec<_>>().join("\n")
}

/// The keys of a service `a`, laid over one another.
fn service(layers: &[&str]) -> String {
    let files: Vec<String> = layers
        .iter()
        .map(|keys| {
            let keys: String = keys.lines().map(|line| format!("    {line}\n")).collect();
            format!("services:\n  a:\n{keys}")
        })
        .collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let yaml = merged(&files, &[]);
    let keys = yaml.split_once("  a:\n").unwrap().1;
    keys.lines().map(|line| format!("{}\n", line.strip_prefix("    ").unwrap())).collect()
}

#[test]
fn lays_one_service_over_another_as_the_specification_says() {
    let mut wrong = Vec::new();
    for (base, over, want) in [
        // Mappings are merged, single values replaced.
        ("image: i:1\nuser: \"1\"", "image: i:2\ntty: true", "image: i:2\ntty: true\nuser: \"1\"\n"),
        // Lists are appended; what is there already is not written twice.
        ("expose: [\"1\", \"2\"]", "expose: [\"3\", \"2\"]", "expose:\n  - \"1\"\n  - \"2\"\n  - \"3\"\n"),
        (
            "x-casemate: {egress: [a:1]}",
            "x-casemate: {egress: [b:2]}",
            "x-casemate:\n  egress:\n    - a:1\n    - b:2\n",
        ),
        // Commands are replaced.
        ("command: [a, b]", "command: [c]", "command:\n  - c\n"),
        ("command: a b", "command: [c]", "command:\n  - c\n"),
        ("entrypoint: [a]", "entrypoint: b", "entrypoint: b\n"),
        ("command: [a]", "command:", "command: null\n"),
        (
            "healthcheck: {test: [CMD, a], retries: 2}",
            "healthcheck: {test: b}",
            "healthcheck:\n  retries: 2\n  test: b\n",
        ),
        // Variables and labels by name, in both forms.
        (
            "environment: {A: \"1\", B: \"2\"}",
            "environment: [B=3, C]",
            "environment:\n  A: \"1\"\n  B: \"3\"\n  C: null\n",
        ),
        ("environment: [A=1=2]", "environment: {B: x}", "environment:\n  A: 1=2\n  B: x\n"),
        ("labels: [a.b=1]", "labels: [a.b=2]", "labels:\n  a.b: \"2\"\n"),
        (
            "extra_hosts: [\"h:1.2.3.4\"]",
            "extra_hosts: [\"h=5.6.7.8\", \"i=::1\"]",
            "extra_hosts:\n  h: 5.6.7.8\n  i: \"::1\"\n",
        ),
        ("sysctls: {a: 1}", "sysctls: [a=2]", "sysctls:\n  a: \"2\"\n"),
        ("build: .", "build: {args: [A=1]}", "build:\n  args:\n    - A=1\n  context: \".\"\n"),
        // Names in both forms.
        (
            "depends_on: [b]",
            "depends_on: {b: {condition: service_healthy}, c: {condition: service_started}}",
            "depends_on:\n  b:\n    condition: service_healthy\n  c:\n    condition: service_started\n",
        ),
        (
            "networks: [net]",
            "networks: {m: {aliases: [x]}}",
            "networks:\n  m:\n    aliases:\n      - x\n  net: null\n",
        ),
        (
            "networks: {net: {aliases: [x]}}",
            "networks: [net]",
            "networks:\n  net:\n    aliases:\n      - x\n",
        ),
        // One value or a list.
        ("dns: 1.1.1.1", "dns: [8.8.8.8]", "dns:\n  - 1.1.1.1\n  - 8.8.8.8\n"),
        ("tmpfs: /a", "tmpfs: /b", "tmpfs:\n  - /a\n  - /b\n"),
        // One item for each identity.
        (
            "volumes: [\"v:/desk\", \"u:/data\"]",
            "volumes: [\"w:/desk/:ro\"]",
            "volumes:\n  - w:/desk/:ro\n  - u:/data\n",
        ),
        (
            "volumes: [\"v:/desk\"]",
            "volumes: [{type: tmpfs, target: /desk}]",
            "volumes:\n  -\n    target: /desk\n    type: tmpfs\n",
        ),
        (
            "ports: [\"8080:80\"]",
            "ports: [\"8080:80\", \"8443:443\"]",
            "ports:\n  - \"8080:80\"\n  - \"8443:443\"\n",
        ),
        (
            "ports: [\"8080:80\"]",
            "ports: [{target: 80, published: \"8080\", protocol: tcp}]",
            "ports:\n  -\n    protocol: tcp\n    published: \"8080\"\n    target: 80\n",
        ),
        (
            "ports: [\"127.0.0.1:80:80\"]",
            "ports: [\"80:80\", \"80:80/udp\"]",
            "ports:\n  - \"127.0.0.1:80:80\"\n  - \"80:80\"\n  - \"80:80/udp\"\n",
        ),
        (
            "secrets: [s]",
            "secrets: [{source: t, target: s}]",
            "secrets:\n  -\n    source: t\n    target: s\n",
        ),
        (
            "configs: [s]",
            "configs: [{source: t, target: /s}]",
            "configs:\n  -\n    source: t\n    target: /s\n",
        ),
        ("devices: [\"/dev/a:/dev/x\"]", "devices: [\"/dev/b:/dev/x\"]", "devices:\n  - /dev/b:/dev/x\n"),
        // Logging options belong to a driver.
        ("logging: {driver: a, options: {x: y}}", "logging: {driver: b}", "logging:\n  driver: b\n"),
        (
            "logging: {driver: a, options: {x: y}}",
            "logging: {options: {z: w}}",
            "logging:\n  driver: a\n  options:\n    x: \"y\"\n    z: w\n",
        ),
        (
            "ulimits: {nofile: 10}",
            "ulimits: {nofile: {soft: 1, hard: 2}}",
            "ulimits:\n  nofile:\n    hard: 2\n    soft: 1\n",
        ),
        // Tags.
        ("image: i:1\nports: [\"80:80\"]", "ports: !reset []", "image: i:1\n"),
        ("environment: {A: \"1\", B: \"2\"}", "environment: {A: !reset null}", "environment:\n  B: \"2\"\n"),
        ("ports: [\"80:80\"]", "ports: !override [\"443:443\"]", "ports:\n  - \"443:443\"\n"),
        (
            "logging: {driver: a, options: {x: y}}",
            "logging: !override {driver: a}",
            "logging:\n  driver: a\n",
        ),
    ] {
        let found = service(&[base, over]);
        if found != want {
            wrong.push(format!("{base}\n{over}\nwanted\n{want}found\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_a_tag_removed_can_be_written_again() {
    assert_eq!(service(&["expose: [\"1\"]", "expose: !reset []", "expose: [\"2\"]"]), "expose:\n  - \"2\"\n");
    assert_eq!(service(&["tty: true", "tty: !reset null\nimage: x"]), "image: x\n");
}

#[test]
fn refuses_two_forms_that_cannot_be_merged_and_an_empty_value() {
    let both = |base: &str, over: &str| {
        let file = |key: &str| format!("services:\n  a:\n    {key}\n");
        what(load(&[&file(base), &file(over)], &[], &[])).lines().next_back().unwrap().to_owned()
    };
    assert_eq!(
        both("image: x\n    expose: [\"1\"]", "expose: {a: b}"),
        "over.yaml:3:13: `expose` is a mapping, and a list in compose.yaml:4:13"
    );
    assert_eq!(
        both("image: x\n    environment: {A: b}", "environment:"),
        "over.yaml:3:16: `environment` is empty here, and has a value in compose.yaml:4:18"
    );
    assert_eq!(both("image: x\n    expose: [!reset \"1\"]", "{}").lines().count(), 1);
}

const COMMON: &str =
    "services:\n  base:\n    image: i:1\n    environment: {A: base, B: base}\n    expose: [\"80\"]\n";

#[test]
fn extends_a_service_of_the_same_file_and_of_another() {
    let main = "services:\n  a:\n    extends: {file: sub/common.yaml, service: base}\n    environment: [B=mine]\n  \
                b: {extends: a, user: \"5:5\"}\n  c: {extends: {service: b}, expose: !override [\"81\"]}\n";
    let loaded = load(&[main], &[("sub/common.yaml", COMMON)], &[]).unwrap();
    assert_eq!(
        loaded.to_yaml(),
        "name: desk\nservices:\n  a:\n    environment:\n      A: base\n      B: mine\n    expose:\n      - \"80\"\n    \
         image: i:1\n  b:\n    environment:\n      A: base\n      B: mine\n    expose:\n      - \"80\"\n    \
         image: i:1\n    user: \"5:5\"\n  c:\n    environment:\n      A: base\n      B: mine\n    expose:\n      \
         - \"81\"\n    image: i:1\n    user: \"5:5\"\n"
    );
}

#[test]
fn paths_of_an_extended_service_start_from_its_own_file() {
    let common = "services:\n  base:\n    image: i:1\n    env_file: [base.env]\n    volumes: [\"./data:/data\", \"named:/n\"]\n    build: ctx\n    \
                  extends: {file: ../more.yaml, service: root}\n";
    let main =
        "services:\n  a:\n    extends: {file: sub/common.yaml, service: base}\n    env_file: own.env\n";
    let more = "services:\n  root: {user: \"1:1\"}\n";
    let yaml = merged(&[main], &[("sub/common.yaml", common), ("more.yaml", more)]);
    for line in [
        "      - \"./sub/base.env\"\n      - own.env\n",
        "- \"./sub/data:/data\"",
        "- named:/n",
        "build: \"./sub/ctx\"",
        "user: \"1:1\"",
    ] {
        assert!(yaml.contains(line), "no {line} in\n{yaml}");
    }
}

#[test]
fn a_chain_of_extends_has_an_end() {
    for (file, want) in [
        ("services:\n  a: {extends: a}\n", "compose.yaml:2:16: `extends` goes in a circle: a -> a"),
        (
            "services:\n  a: {extends: b}\n  b: {extends: {service: c}}\n  c: {extends: a}\n",
            "compose.yaml:4:16: `extends` goes in a circle: a -> b -> c -> a",
        ),
        (
            "services:\n  a: {extends: bb}\n  bbb: {image: x}\n",
            "compose.yaml:2:16: `extends` names service `bb`, which is not there, did you mean `bbb`?",
        ),
        (
            "services:\n  a: {extends: {file: none.yaml, service: x}}\n",
            "compose.yaml:2:23: `extends` names `none.yaml`, which is not there",
        ),
        (
            "services:\n  a: {extends: {file: ../x.yaml, service: x}}\n",
            "compose.yaml:2:23: `extends` names `../x.yaml`, which leaves the project directory",
        ),
        (
            "services:\n  a: {extends: {file: \"oci://x/y\", service: x}}\n",
            "compose.yaml:2:23: `extends` names `oci://x/y`, which is not a local file",
        ),
        ("services:\n  a: {extends: {file: x}}\n", "compose.yaml:2:16: `extends` names no service"),
        (
            "services:\n  a: {extends: {service: b, fiel: x}}\n",
            "compose.yaml:2:29: unknown key `fiel` in extends",
        ),
    ] {
        let found = what(load(&[file], &[], &[]));
        assert!(found.lines().any(|line| line == want), "{file}\nwanted {want}\nfound\n{found}");
    }
    let two = "services:\n  x: {extends: {file: other.yaml, service: y}}\n";
    let found = what(load(
        &[two],
        &[
            (
                "other.yaml",
                &two.replace("other.yaml, service: y", "third.yaml, service: x").replace("x:", "y:"),
            ),
            ("third.yaml", two),
        ],
        &[],
    ));
    assert!(
        found.contains("goes in a circle: y of other.yaml -> x of third.yaml -> y of other.yaml"),
        "{found}"
    );
    let chain = |links: usize, order: &dyn Fn(usize) -> usize| {
        let services = (0..=links).map(order).map(|n| match n {
            0 => "  s0: {image: x}\n".to_owned(),
            n => format!("  s{n}: {{extends: s{}}}\n", n - 1),
        });
        format!("services:\n{}", services.collect::<String>())
    };
    for order in [&|n| n, &|n| load::EXTENDS_MAX - n] as [&dyn Fn(usize) -> usize; 2] {
        load(&[&chain(load::EXTENDS_MAX, order)], &[], &[]).unwrap();
    }
    for order in [&|n| n, &|n| load::EXTENDS_MAX + 1 - n] as [&dyn Fn(usize) -> usize; 2] {
        assert!(what(load(&[&chain(load::EXTENDS_MAX + 1, order)], &[], &[])).contains("longer than 32"));
    }
}

#[test]
fn extends_cannot_multiply_a_large_service_without_bound() {
    let big: String = (0..20_000).map(|n| format!("V{n}: x, ")).collect();
    let copies: String = (0..10).map(|n| format!("  c{n}: {{extends: a}}\n")).collect();
    let file = format!("services:\n  a: {{image: x, labels: {{{big}}}}}\n{copies}");
    assert!(what(load(&[&file], &[], &[])).contains("more than 100000 values in all files together"));
}

#[test]
fn includes_other_compositions_with_their_own_directory_and_variables() {
    let main = "include:\n  - team/compose.yaml\n  - path: [x.yaml, y.yaml]\n    project_directory: team\n    env_file: other.env\n\
                services:\n  a: {image: i:1, depends_on: [b]}\n";
    let team = "name: team\nx-other: 1\nservices:\n  b: {image: \"i:${TAG}\", env_file: b.env, environment: [TAG, SET]}\nvolumes: {data: }\n";
    let files = [
        ("team/compose.yaml", team),
        ("team/.env", "TAG=7\nSET=lower\n"),
        ("team/b.env", "FROM=${TAG}\n"),
        ("x.yaml", "services:\n  c: {image: \"i:${TAG}\", env_file: b.env}\n"),
        ("y.yaml", "services:\n  c: {user: \"1:1\"}\n"),
        ("other.env", "TAG=8\n"),
    ];
    assert_eq!(
        load(&[main], &files, &[]).unwrap().to_yaml(),
        "name: desk\nservices:\n  a:\n    depends_on:\n      - b\n    image: i:1\n  b:\n    environment:\n      \
         FROM: \"7\"\n      SET: outside\n      TAG: \"7\"\n    image: i:7\n  c:\n    environment:\n      FROM: \"8\"\n    \
         image: i:8\n    user: \"1:1\"\nvolumes:\n  data: null\n"
    );
}

#[test]
fn an_included_name_that_is_taken_is_refused_unless_it_is_the_same() {
    let same = "services: {b: {image: i:1}}\n";
    load(
        &["include: [x.yaml, y.yaml]\nservices: {a: {image: i:1}}\n"],
        &[("x.yaml", same), ("y.yaml", same)],
        &[],
    )
    .unwrap();
    let found = what(load(&["include: [x.yaml]\nservices: {b: {image: i:2}}\n"], &[("x.yaml", same)], &[]));
    assert_eq!(
        found,
        "x.yaml:1:12: `b` of `services` is there already, in compose.yaml:2:12: names of included files are not merged"
    );
    let found = what(load(
        &["include: [x.yaml]\nservices: {a: {image: i:2}}\n"],
        &[("x.yaml", "include: [y.yaml]\n"), ("y.yaml", "include: [x.yaml]\n")],
        &[],
    ));
    assert_eq!(found, "y.yaml:1:11: `include` goes in a circle: x.yaml -> y.yaml -> x.yaml");
    let found = what(load(
        &["include: [{path: [], dir: x}, \"https://x/y\"]\nservices: {a: {image: i:2}}\n"],
        &[],
        &[],
    ));
    assert_eq!(
        found,
        "compose.yaml:1:11: `include` names no file\ncompose.yaml:1:22: unknown key `dir` in include\n\
         compose.yaml:1:31: `include` names `https://x/y`, which is not a local file"
    );
    // A misspelt extension of an included file is not lost.
    let found = what(load(
        &["include: [x.yaml]\nservices: {a: {image: i:2}}\n"],
        &[("x.yaml", "x-casmate: 1\nservices: {b: {image: x}}\n")],
        &[],
    ));
    assert!(found.starts_with("x.yaml:1:1: unknown key `x-casmate`"), "{found}");
}

#[test]
fn files_of_variables_stand_below_what_the_service_writes() {
    let main = "services:\n  a:\n    image: i:1\n    env_file:\n      - one.env\n      - {path: two.env, required: true}\n      \
                - {path: none.env, required: false}\n      - {path: raw.env, format: raw}\n    environment: {B: mine, SET: }\n    \
                label_file: labels\n    labels: [x=1]\n";
    let files = [
        ("one.env", "A=1\nB=1\nC=1\n"),
        ("two.env", "C=${A}2\nD=\"$SET\"\n"),
        ("raw.env", "E=\"$A\"\n"),
        ("labels", "x=2\ny.z=3\n"),
    ];
    assert_eq!(
        load(&[main], &files, &[]).unwrap().to_yaml(),
        "name: desk\nservices:\n  a:\n    environment:\n      A: \"1\"\n      B: mine\n      C: \"12\"\n      D: outside\n      \
         E: \"\\\"$$A\\\"\"\n      SET: outside\n    image: i:1\n    labels:\n      x: \"1\"\n      y.z: \"3\"\n"
    );
    let found = what(load(&[main], &[("one.env", "A=1\nB='x\n"), ("two.env", ""), ("raw.env", "")], &[]));
    assert_eq!(
        found,
        "compose.yaml:10:17: `label_file` names `labels`, which is not there\none.env:2:3: value has no closing `'`"
    );
}

#[test]
fn no_problem_shows_a_value_of_a_file_of_variables() {
    let main = "services:\n  a: {image: i:1, env_file: [a.env]}\n";
    let problems = load(&[main], &[("a.env", "TOKEN=\"hunter2\nX=1\n")], &[]).unwrap_err().to_string();
    assert!(problems.contains("a.env:1:7: ") && !problems.contains("hunter2"), "{problems}");
}

#[test]
fn services_of_profiles_that_are_not_active_are_left_out() {
    let main = "services:\n  a: {image: i:1}\n  b: {image: i:1, profiles: [debug, test]}\n  c: {image: \"i:${UNSET}\", profiles: [other]}\n";
    let names = |profiles: &[&str]| {
        let loaded = load(&[main], &[], profiles).unwrap();
        let names: Vec<String> = loaded.compose().unwrap().agents().map(ToString::to_string).collect();
        assert!(!loaded.to_yaml().contains("profiles"));
        (names.join(" "), loaded.warnings().len())
    };
    assert_eq!(names(&[]), ("a".to_owned(), 0));
    assert_eq!(names(&["test"]), ("a b".to_owned(), 0));
    assert_eq!(names(&["test", "tset"]), ("a b".to_owned(), 1));
    assert_eq!(what(load(&[main], &[], &["*"])), "compose.yaml:4:14: variable `UNSET` is not set");
    let all: Vec<_> = load(&[main], &[], &[]).unwrap().profiles().iter().cloned().collect();
    assert_eq!(all, ["debug", "other", "test"]);
}

#[test]
fn nothing_depends_on_a_service_that_is_left_out() {
    let main = "services:\n  a: {image: i:1, depends_on: [b]}\n  b: {image: i:1, expose: [\"80\"], profiles: [debug]}\n  \
                c: {image: i:1, x-casemate: {talks-to: [\"b:80\"]}}\n  d: {image: i:1, depends_on: {b: {condition: service_started, required: false}}}\n";
    let reason = "which is left out: none of its profiles is active (`debug`)";
    assert_eq!(
        what(load(&[main], &[], &[])),
        format!(
            "compose.yaml:2:32: `depends_on` names `b`, {reason}\ncompose.yaml:4:43: `talks-to` names `b`, {reason}"
        )
    );
    assert_eq!(
        what(load(&["services: {a: {image: x, profiles: [p, \"-q\"]}}\n"], &[], &[])).lines().next().unwrap(),
        "compose.yaml:1:1: every service is left out: each has profiles, and none of them is active"
    );
}

#[test]
fn the_name_comes_from_the_caller_the_last_file_or_the_default() {
    let (one, two) =
        ("name: one\nservices: {a: {image: \"i:$COMPOSE_PROJECT_NAME\"}}\n", "name: ${NONE:-two}\n");
    let name = |request: Request<'_>| {
        let loaded = load::load(&request, &mut project(&[])).unwrap();
        let image = loaded.compose().unwrap().images().into_iter().next().unwrap().to_owned();
        (loaded.project().unwrap().to_owned(), image)
    };
    let got = |name: &str| (name.to_owned(), format!("i:{name}"));
    assert_eq!(name(request(&[one], &[])), got("one"));
    assert_eq!(name(request(&[one, two], &[])), got("two"));
    assert_eq!(name(Request { project: Some("cli".to_owned()), ..request(&[one, two], &[]) }), got("cli"));
    assert_eq!(name(request(&["services: {a: {image: \"i:$COMPOSE_PROJECT_NAME\"}}\n"], &[])), got("desk"));
}

#[test]
fn a_value_that_another_file_replaces_needs_no_variable() {
    let base = "services:\n  a: {image: \"$UNSET\"}\n";
    let over = "services:\n  a: {image: i:1}\n";
    assert_eq!(what(load(&[base], &[], &[])), "compose.yaml:2:14: variable `UNSET` is not set");
    load(&[base, over], &[], &[]).unwrap();
}

#[test]
fn the_output_is_a_compose_file_with_the_same_model() {
    let main = "services:\n  a:\n    image: i:1\n    user: \"1:1\"\n    command: [\"$$HOME\", \"a: b\", \"# x\", \"\", \"yes\", \"1\", \"1:30\", \"l\\nm\", \"\\u00e9\\u2028\", \" x \", \"- x\"]\n    \
                environment: {A: 1, B: \"1\", C: true, D: \"$$$${X}\", \"E F\": ~x}\n    pids_limit: 0x10\n    restart: no\n";
    let main = main.replace("    pids_limit: 0x10\n", "");
    let loaded = load(&[&main], &[], &[]).unwrap();
    for text in [loaded.to_yaml(), loaded.to_json()] {
        let again = load(&[&text], &[], &[]).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        assert_eq!(again.to_yaml(), loaded.to_yaml());
        assert_eq!(again.to_json(), loaded.to_json());
    }
    let left = Request {
        interpolation: Interpolation::LeftOut,
        ..request(&["services: {a: {image: \"${X:-y}\"}}\n"], &[])
    };
    let left = load::load(&left, &mut project(&[])).unwrap();
    assert!(left.compose().is_none() && left.to_yaml().contains("image: \"${X:-y}\""), "{}", left.to_yaml());
}

/// A small generator (Numerical Recipes' constants): the same sequence on every machine.
struct Random(u32);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % bound
    }
}

/// A mapping of YAML in flow style with its members in any order.
fn shuffled(value: &serde_json::Value, random: &mut Random) -> String {
    match value {
        serde_json::Value::Object(members) => {
            let mut all: Vec<_> = members.iter().collect();
            for at in (1..all.len()).rev() {
                all.swap(at, random.below(at + 1));
            }
            let all: Vec<String> =
                all.into_iter().map(|(key, value)| format!("{key:?}: {}", shuffled(value, random))).collect();
            format!("{{{}}}", all.join(", "))
        }
        serde_json::Value::Array(items) => {
            let all: Vec<String> = items.iter().map(|item| shuffled(item, random)).collect();
            format!("[{}]", all.join(", "))
        }
        other => other.to_string(),
    }
}

#[test]
fn the_order_of_keys_never_matters_and_the_output_reads_the_same() {
    let main: serde_json::Value = serde_json::json!({
        "include": ["inc/compose.yaml"],
        "services": {
            "a": {"extends": {"service": "base", "file": "base.yaml"}, "environment": {"A": "1", "B": "${SET}"},
                  "env_file": [{"path": "a.env", "required": false}], "depends_on": ["b", "c"], "expose": ["80"]},
            "b": {"extends": "a", "depends_on": "!reset", "labels": ["x=1"]},
            "c": {"image": "i:3", "profiles": ["on", "x"], "command": ["a", "b"], "tmpfs": "/x"},
            "d": {"image": "i:4", "profiles": ["off"]},
        },
        "volumes": {"v": null, "w": null},
    });
    let over: serde_json::Value = serde_json::json!({
        "services": {"c": {"command": ["d"], "tmpfs": ["/y"], "environment": ["Z=1"]}, "a": {"expose": ["81"], "environment": ["A=2"]}},
        "volumes": {"w": null, "u": null},
    });
    let others = [
        (
            "base.yaml",
            "services: {base: {image: i:1, environment: [B=x, C=y], user: \"1:1\", volumes: [\"v:/v\"]}}\n",
        ),
        ("a.env", "D=4\nE=$D\n"),
        ("inc/compose.yaml", "services: {e: {image: i:5, environment: {F: \"$G\"}}}\n"),
        ("inc/.env", "G=g\n"),
    ];
    let mut random = Random(7);
    let mut first: Option<String> = None;
    for round in 0..200 {
        let texts = [&main, &over].map(|value| {
            let text = shuffled(value, &mut random);
            // What one extends, its own `depends_on` leaves out: `a` would otherwise depend on itself through `b`.
            format!("{}\n", text.replace("\"!reset\"", "!reset []"))
        });
        let loaded =
            load(&[&texts[0], &texts[1]], &others, &["on"]).unwrap_or_else(|problems| panic!("{problems}"));
        let yaml = loaded.to_yaml();
        assert_eq!(first.get_or_insert_with(|| yaml.clone()), &yaml, "round {round}");
        for text in [&yaml, &loaded.to_json()] {
            let again = load(&[text], &[], &[]).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
            assert_eq!(&again.to_yaml(), &yaml);
        }
    }
    let yaml = first.unwrap();
    assert!(yaml.contains("F: g") && yaml.contains("E: \"4\"") && !yaml.contains("i:4"), "{yaml}");
}

#[test]
fn a_config_takes_the_text_of_its_file_as_it_is() {
    let main = "services: {a: {image: 'i:1', configs: [{source: c, target: /run/c}]}}\nconfigs: {c: {file: ./c.conf}}\n";
    let loaded = load(&[main], &[("c.conf", "price: $5 ${SET}\n")], &[]).unwrap();
    assert!(loaded.to_yaml().contains("content: \"price: $$5 $${SET}\\n\""), "{}", loaded.to_yaml());
    // Read back, it is the same.
    let again = loaded.to_yaml();
    assert_eq!(load(&[&again], &[], &[]).unwrap().to_yaml(), again);
    let included = "include: [sub/compose.yaml]\nservices: {b: {image: 'i:1'}}\n";
    let loaded = load(&[included], &[("sub/compose.yaml", main), ("sub/c.conf", "below")], &[]).unwrap();
    assert!(loaded.to_yaml().contains("content: below"), "{}", loaded.to_yaml());
}

#[test]
fn a_config_file_that_cannot_be_taken_is_a_problem() {
    let main = |file: &str| format!("services: {{a: {{image: 'i:1'}}}}\nconfigs: {{c: {file}}}\n");
    for (config, want) in [
        ("{file: ./none}", "compose.yaml:2:21: `file` names `none`, which is not there"),
        ("{file: ../c}", "compose.yaml:2:21: `file` names `../c`, which leaves the project directory"),
        (
            "{file: /etc/passwd}",
            "compose.yaml:2:21: `file` names `/etc/passwd`, which leaves the project directory",
        ),
        ("{file: ./c, content: x}", "compose.yaml:2:11: config `c` has two contents"),
        ("{file: ./large}", "compose.yaml:2:21: `content` is longer than 65536 bytes"),
    ] {
        let others = [("c", "text"), ("large", &*"x".repeat(65_537))];
        assert_eq!(what(load(&[&main(config)], &others, &[])), want, "{config}");
    }
}

fn warnings(loaded: &Loaded) -> Vec<String> {
    loaded.warnings().iter().map(|w| format!("{}:{}:{}: {}", w.file, w.line, w.column, w.what)).collect()
}

#[test]
fn a_secret_of_the_shell_under_another_name_is_noticed() {
    let said = "value of variable `AWS_SECRET_KEY`, which looks like a secret, goes into this: the lock may hold it \
                in clear";
    let own = "variable `API_TOKEN` looks like a secret, and the lock holds it in clear";
    for (keys, others, want) in [
        ("    environment: { A: \"${AWS_SECRET_KEY}\" }\n", None, vec![format!("compose.yaml:5:23: {said}")]),
        ("    environment: [\"A=$AWS_SECRET_KEY\"]\n", None, vec![format!("compose.yaml:5:19: {said}")]),
        ("    command: [x, \"${B:-$AWS_SECRET_KEY}\"]\n", None, vec![format!("compose.yaml:5:18: {said}")]),
        ("    env_file: a.env\n", Some("A=$AWS_SECRET_KEY"), vec![format!("a.env:1:1: {said}")]),
        (
            "    configs: [c]\nconfigs: { c: { environment: AWS_SECRET_KEY } }\n",
            None,
            vec![format!("compose.yaml:6:30: {said}")],
        ),
        // One that is called like a secret has one warning.
        (
            "    environment: { API_TOKEN: $AWS_SECRET_KEY }\n",
            None,
            vec![format!("compose.yaml:5:20: {own}")],
        ),
        (
            "    environment: [\"API_TOKEN=$AWS_SECRET_KEY\"]\n",
            None,
            vec![format!("compose.yaml:5:19: {own}")],
        ),
        ("    environment: { A: \"${SET}${EMPTY_TOKEN}\" }\n", None, vec![]),
    ] {
        let text = format!("name: t\nservices:\n  a:\n    image: x:1\n{keys}");
        let variables = set(&[("AWS_SECRET_KEY", "hunter2"), ("EMPTY_TOKEN", ""), ("SET", "x")]);
        let request = Request { variables, ..request(&[&text], &[]) };
        let others: Vec<_> = others.into_iter().map(|text| ("a.env", text)).collect();
        let loaded = load::load(&request, &mut project(&others)).unwrap_or_else(|p| panic!("{text}\n{p}"));
        assert_eq!(warnings(&loaded), want, "{text}");
    }
}

#[test]
fn what_an_included_file_says_to_whoever_verifies_is_refused_and_not_lost() {
    let main = "include: [b.yaml]\nservices: { a: { image: x } }\n";
    let included = "x-casemate: { policy: p.toml }\nservices: { b: { image: x } }\n";
    assert_eq!(
        what(load(&[main], &[("b.yaml", included)], &[])),
        "b.yaml:1:1: `x-casemate` of an included file is not read"
    );
}

#[test]
fn warnings_that_are_not_shown_are_counted() {
    let many: String = (0..150).map(|n| format!("  a{n}: {{ image: x, attach: true }}\n")).collect();
    let loaded = load(&[&format!("services:\n{many}")], &[], &[]).unwrap();
    assert!(
        warnings(&loaded).last().unwrap().ends_with("50 more warnings are not shown"),
        "{:?}",
        warnings(&loaded).last()
    );
}
