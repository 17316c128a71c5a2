//! `casemate config` and the flags that choose what a composition is read from.

#![expect(clippy::unwrap_used, reason = "a test that cannot start the command must fail")]

use std::path::Path;
use std::process::{Command, Stdio};

struct Project(tempfile::TempDir);

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            let path = project.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        project
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Exit code, standard output, standard error. Words with `=` before the first without are variables.
    fn run(&self, words: &str) -> (i32, String, String) {
        let words: Vec<&str> = words.split_whitespace().collect();
        let variables = words.iter().take_while(|word| word.contains('=')).count();
        let mut command = Command::new(env!("CARGO_BIN_EXE_casemate"));
        command
            .current_dir(self.path())
            .stdin(Stdio::null())
            .env_clear()
            .env("CASEMATE_HOME", self.path().join("home"));
        for variable in words.iter().take(variables) {
            let (name, value) = variable.split_once('=').unwrap();
            command.env(name, value);
        }
        let output = command.args(words.iter().skip(variables)).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn printed(&self, words: &str) -> String {
        let (code, stdout, stderr) = self.run(words);
        assert_eq!((code, stderr.as_str()), (0, ""), "{words}");
        stdout
    }
}

const MAIN: &str = "name: t\nservices:\n  a: {image: \"a:${TAG:-none}\"}\n  b: {image: b:1, profiles: [p]}\n  c: {image: c:1, profiles: [q]}\n";

#[test]
fn the_files_are_found_by_name_by_flag_and_by_variable() {
    let over = "services: {a: {image: a:over}}\n";
    let project =
        Project::new(&[("compose.yaml", MAIN), ("compose.override.yml", over), ("more/x.yaml", over)]);
    assert_eq!(project.printed("config --images"), "a:over\n");
    assert_eq!(project.printed("-f compose.yaml config --images"), "a:none\n");
    assert_eq!(project.printed("-f compose.yaml -f more/x.yaml config --images"), "a:over\n");
    assert_eq!(project.printed("COMPOSE_FILE=compose.yaml:more/x.yaml config --images"), "a:over\n");
    assert_eq!(project.printed("COMPOSE_FILE=compose.yaml config --images"), "a:none\n");
    assert_eq!(project.printed("--project-directory . config --images"), "a:over\n");
    let (code, _, stderr) = project.run("--project-directory more config");
    assert_eq!((code, stderr.lines().next().unwrap()), (2, "error: no compose.yaml in more"));
}

#[test]
fn of_two_spellings_the_first_is_read_and_the_other_is_named() {
    let project = Project::new(&[("compose.yaml", MAIN), ("docker-compose.yml", MAIN)]);
    let (code, stdout, stderr) = project.run("config --services");
    assert_eq!((code, stdout.as_str()), (0, "a\n"));
    assert_eq!(
        stderr,
        "warning: compose.yaml is read, docker-compose.yml beside it is not\n\
         to do: remove one of the two, or name both with `-f compose.yaml -f docker-compose.yml`\n"
    );
}

#[test]
fn variables_come_from_the_shell_then_from_files() {
    let project = Project::new(&[
        ("compose.yaml", MAIN),
        (".env", "TAG=env\nCOMPOSE_PROFILES=p\nCOMPOSE_PROJECT_NAME=fromenv\n"),
        ("x.env", "TAG=x\n"),
        ("y.env", "TAG=${TAG}y\n"),
        ("sub/compose.yaml", "services: {a: {image: \"i:$TAG\"}}\n"),
        ("sub/.env", "TAG=sub\n"),
        ("bad.env", "TOKEN='hunter2\n"),
    ]);
    assert_eq!(project.printed("config --images"), "a:env\nb:1\n");
    assert_eq!(project.printed("TAG=shell config --images"), "a:shell\nb:1\n");
    assert_eq!(project.printed("--env-file x.env config --images"), "a:x\n");
    assert_eq!(project.printed("config --env-file x.env --env-file y.env --images"), "a:xy\n");
    assert_eq!(project.printed("COMPOSE_ENV_FILES=x.env,y.env config --images"), "a:xy\n");
    assert_eq!(project.printed("COMPOSE_DISABLE_ENV_FILE=1 config --images"), "a:none\n");
    assert_eq!(project.printed("-f sub/compose.yaml config --images"), "i:sub\n");
    assert!(project.printed("config").starts_with("name: fromenv\n"));
    assert!(project.printed("-p mine config").starts_with("name: mine\n"));
    let (code, _, stderr) = project.run("--env-file bad.env config");
    assert_eq!(code, 2);
    assert!(
        stderr.starts_with("error: bad.env:1:7: value has no closing `'`\n") && !stderr.contains("hunter2"),
        "{stderr}"
    );
}

#[test]
fn profiles_are_activated_by_flag_or_variable() {
    let project = Project::new(&[("compose.yaml", MAIN)]);
    assert_eq!(project.printed("config --services"), "a\n");
    assert_eq!(project.printed("--profile p config --services"), "a\nb\n");
    assert_eq!(project.printed("config --profile p --profile q --services"), "a\nb\nc\n");
    assert_eq!(project.printed("--profile * config --services"), "a\nb\nc\n");
    assert_eq!(project.printed("COMPOSE_PROFILES=q,p config --services"), "a\nb\nc\n");
    assert_eq!(project.printed("COMPOSE_PROFILES=q --profile p config --services"), "a\nb\n");
    assert_eq!(project.printed("config --profiles"), "p\nq\n");
    let (code, _, stderr) = project.run("--profile r config --services");
    assert!(code == 0 && stderr.contains("profile `r` is active, and no service has it"), "{stderr}");
}

#[test]
fn the_output_read_again_is_the_same_output() {
    let project = Project::new(&[("compose.yaml", MAIN)]);
    for format in ["yaml", "json"] {
        let text = project.printed(&format!("TAG=7 --profile p config --format {format}"));
        std::fs::write(project.path().join("again.yaml"), &text).unwrap();
        assert_eq!(project.printed(&format!("-f again.yaml config --format {format}")), text);
    }
    assert!(project.printed("config --no-interpolate").contains("image: \"a:${TAG:-none}\""));
    assert_eq!(project.printed("config --quiet"), "");
}

#[test]
fn a_file_behind_a_link_that_leads_out_is_refused() {
    let project = Project::new(&[
        ("in/compose.yaml", "services: {a: {image: i:1, env_file: l.env}}\n"),
        ("out.env", "A=1\n"),
    ]);
    std::os::unix::fs::symlink("../out.env", project.path().join("in/l.env")).unwrap();
    let (code, _, stderr) = project.run("-f in/compose.yaml config");
    assert_eq!(code, 2);
    assert!(stderr.starts_with("error: in/compose.yaml:1:"), "{stderr}");
    assert!(stderr.contains("which is behind a link that leaves the project directory"), "{stderr}");
}

#[test]
fn problems_are_json_where_json_is_asked_for() {
    let project = Project::new(&[("compose.yaml", "name: t\nservices:\n  a: {image: i:1, imgae: x}\n")]);
    let (code, stdout, stderr) = project.run("--json config");
    let said: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let problem = &said["problems"][0];
    assert_eq!((code, &problem["line"], &problem["column"]), (2, &3.into(), &19.into()));
    assert_eq!(problem["excerpt"]["text"], "  a: {image: i:1, imgae: x}");
    assert_eq!((&problem["excerpt"]["before"], &problem["excerpt"]["marked"]), (&18.into(), &5.into()));
    assert!(
        stderr.contains("\n  3 |   a: {image: i:1, imgae: x}\n    |                   ^^^^^\n"),
        "{stderr}"
    );
}

#[test]
fn measurements_need_the_images() {
    let project = Project::new(&[("compose.yaml", MAIN)]);
    let (code, stdout, stderr) = project.run("config --hash");
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.starts_with("error: compose.yaml:3:14: image `a:none` is not in the store\n"), "{stderr}");
}
