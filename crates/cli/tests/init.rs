//! `casemate init`: what it asks, what it writes, and what it leaves alone.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

struct Output {
    code: i32,
    stdout: String,
    stderr: String,
}

fn run(command: &mut Command, dir: &Path, input: &str) -> Output {
    let [stdin, out, err] = ["in", "out", "err"].map(|name| dir.join(format!(".test-{name}")));
    fs::write(&stdin, input).unwrap();
    // A question that nobody answers would wait for ever.
    let mut bounded = Command::new("timeout");
    bounded.arg("30").arg(command.get_program()).args(command.get_args()).current_dir(dir);
    let status = bounded
        .stdin(if input.is_empty() { Stdio::null() } else { File::open(&stdin).unwrap().into() })
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap())
        .status()
        .unwrap();
    let text = |path| fs::read_to_string(path).unwrap();
    Output { code: status.code().unwrap(), stdout: text(&out), stderr: text(&err) }
}

fn casemate(dir: &Path, args: &[&str]) -> Output {
    run(Command::new(env!("CARGO_BIN_EXE_casemate")).args(args), dir, "")
}

/// On a pseudo-terminal, with these lines typed.
fn on_a_terminal(dir: &Path, args: &str, typed: &str) -> Output {
    let line = format!("{} {args}", env!("CARGO_BIN_EXE_casemate"));
    run(Command::new("script").args(["-qefc", &line, "/dev/null"]), dir, typed)
}

fn folder(name: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(name);
    fs::create_dir(&folder).unwrap();
    (dir, folder)
}

#[test]
fn without_terminal_and_flags_it_names_the_flags_and_writes_nothing() {
    let (_keep, dir) = folder("a");
    let output = casemate(&dir, &["init"]);
    assert_eq!(output.code, 2, "{}", output.stderr);
    assert_eq!(output.stderr.lines().next(), Some("error: no terminal to ask on"));
    for flag in ["--template", "--image", "--yes"] {
        assert!(output.stderr.contains(flag), "{}", output.stderr);
    }
    assert!(!dir.join("compose.yaml").exists());
}

#[test]
fn on_a_terminal_it_asks_two_questions_and_takes_the_answers() {
    let (_keep, dir) = folder("My Desk");
    let output = on_a_terminal(&dir, "init", "4\n2\nshell\n");
    assert_eq!(output.code, 0, "{}", output.stdout);
    assert_eq!(output.stdout.matches("What are your agents").count(), 2, "{}", output.stdout);
    assert_eq!(output.stdout.matches("What do they run").count(), 1, "{}", output.stdout);
    let text = fs::read_to_string(dir.join("compose.yaml")).unwrap();
    assert!(text.contains("name: mydesk\n") && text.contains("  answerer:\n"), "{text}");
    assert!(text.contains("image: localhost/shell:1"), "{text}");
}

#[test]
fn on_a_terminal_it_gives_up_after_three_answers_that_make_no_sense() {
    let (_keep, dir) = folder("a");
    let output = on_a_terminal(&dir, "init", "x\ny\nz\n");
    assert_eq!(output.code, 2, "{}", output.stdout);
    assert!(output.stdout.contains("to do: give the answers as flags"), "{}", output.stdout);
    assert!(!dir.join("compose.yaml").exists());
}

#[test]
fn on_a_terminal_yes_asks_nothing() {
    let (_keep, dir) = folder("a");
    let output = on_a_terminal(&dir, "init --yes", "\n");
    assert_eq!(output.code, 0, "{}", output.stdout);
    assert!(!output.stdout.contains('?'), "{}", output.stdout);
}

#[test]
fn it_says_three_commands_that_come_next() {
    let (_keep, dir) = folder("a");
    let output = casemate(&dir, &["-f", "b.yaml", "init", "--template", "team", "--image", "demo/a:1"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_eq!(
        output.stdout,
        "wrote b.yaml; next:\n  casemate image pull demo/a:1\n  \
         head -c 32 /dev/urandom | casemate -f b.yaml secret put signing_key\n  \
         casemate -f b.yaml policy write && casemate -f b.yaml up\n"
    );
}

#[test]
fn it_writes_over_a_file_only_when_told_and_hides_none() {
    let (_keep, dir) = folder("a");
    for there in ["compose.yaml", "docker-compose.yml"] {
        fs::write(dir.join(there), "mine").unwrap();
        let refused = casemate(&dir, &["init", "--yes"]);
        assert_eq!(refused.code, 2);
        assert!(refused.stderr.contains(there) && refused.stderr.contains("--force"), "{}", refused.stderr);
        assert_eq!(fs::read_to_string(dir.join(there)).unwrap(), "mine");
        assert_eq!(casemate(&dir, &["init", "--yes", "--force"]).code, 0);
        assert!(fs::read_to_string(dir.join("compose.yaml")).unwrap().contains("name: a\n"));
        fs::remove_file(dir.join("compose.yaml")).unwrap();
    }
    assert_eq!(fs::read_to_string(dir.join("docker-compose.yml")).unwrap(), "mine");
}

#[test]
fn a_folder_without_a_usable_name_gives_a_name_all_the_same() {
    let (_keep, dir) = folder("ÄÖ");
    assert_eq!(casemate(&dir, &["init", "--yes"]).code, 0);
    assert!(fs::read_to_string(dir.join("compose.yaml")).unwrap().contains("name: agents\n"));
}

#[test]
fn names_that_would_mean_something_else_in_the_file_are_refused() {
    let (_keep, dir) = folder("a");
    for args in [["--name", "a: b"], ["--name", "A"], ["--image", "x:1 # y"], ["--image", "${HOME}/a:1"]] {
        let output = casemate(&dir, &["init", "--yes", args[0], args[1]]);
        assert_eq!(output.code, 2, "{args:?}");
        assert!(!dir.join("compose.yaml").exists(), "{args:?}");
    }
}

/// A folder with the files of an example.
fn example(name: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let (keep, dir) = folder(name);
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/corpus").join(name);
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if !matches!(entry.file_name().to_str().unwrap(), "strict.yaml" | "override.yaml" | "problems.txt") {
            fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
        }
    }
    (keep, dir)
}

#[test]
fn of_an_existing_file_it_says_what_is_refused_and_writes_an_override_that_makes_it_strict() {
    let (_keep, dir) = example("web-redis-worker");
    let before = fs::read(dir.join("compose.yaml")).unwrap();
    let output = casemate(&dir, &["init", "--template", "existing"]);
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    assert!(output.stderr.contains("error: compose.yaml:8:5: `links` is refused"), "{}", output.stderr);
    assert!(output.stderr.contains("  8 |     links:\n"), "{}", output.stderr);
    assert!(
        output.stdout.contains("casemate -f compose.yaml -f compose.casemate.yaml up"),
        "{}",
        output.stdout
    );
    assert_eq!(fs::read(dir.join("compose.yaml")).unwrap(), before);
    let over = fs::read_to_string(dir.join("compose.casemate.yaml")).unwrap();
    assert!(over.contains("talks-to: [\"redis:6379\"]"), "{over}");
    let both = ["-f", "compose.yaml", "-f", "compose.casemate.yaml", "config", "--quiet"];
    let accepted = casemate(&dir, &both);
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);

    let again = casemate(&dir, &["init", "--template", "existing"]);
    assert_eq!(again.code, 2);
    assert!(again.stderr.contains("compose.casemate.yaml: there is a file already"), "{}", again.stderr);
    assert_eq!(casemate(&dir, &["init", "--template", "existing", "--force"]).code, 0);
}

#[test]
fn what_no_override_can_decide_is_left_and_the_exit_code_says_so() {
    let (_keep, dir) = example("workflow-queue");
    let output = casemate(&dir, &["init", "--template", "existing"]);
    assert_eq!(output.code, 2, "{}", output.stderr);
    assert!(output.stdout.contains("left to you"), "{}", output.stdout);
    assert_eq!(output.stderr.matches("`SECURE_COOKIE` is plain `no`").count(), 2, "{}", output.stderr);
    assert_eq!(output.stderr.matches("`external` is refused").count(), 1, "{}", output.stderr);
    assert!(dir.join("compose.casemate.yaml").exists());
}

#[test]
fn a_file_that_is_accepted_gets_no_override() {
    let (_keep, dir) = example("cron-job");
    let output = casemate(&dir, &["init", "--template", "existing"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stdout.starts_with("accepted as it is"), "{}", output.stdout);
    assert!(output.stderr.contains("warning: compose.yaml:"), "{}", output.stderr);
    assert!(!dir.join("compose.casemate.yaml").exists());
}

#[test]
fn on_a_terminal_the_second_question_is_which_file() {
    let (_keep, dir) = example("web-postgres");
    fs::rename(dir.join("compose.yaml"), dir.join("site.yaml")).unwrap();
    let output = on_a_terminal(&dir, "init", "3\nnone.yaml\nsite.yaml\n");
    assert_eq!(output.code, 0, "{}", output.stdout);
    assert!(output.stdout.contains("none.yaml is not there"), "{}", output.stdout);
    assert!(output.stdout.contains("casemate -f site.yaml -f compose.casemate.yaml up"), "{}", output.stdout);
}

#[test]
fn flags_that_say_nothing_about_an_existing_file_are_refused() {
    let (_keep, dir) = example("web-postgres");
    let output = casemate(&dir, &["init", "--template", "existing", "--image", "shell"]);
    assert_eq!(output.code, 2);
    assert!(!dir.join("compose.casemate.yaml").exists());
}
