//! A real Docker Compose below `target/`: for the tests that ask whether it still accepts our files.
//!
//! What it is: the newest Debian package of it that runs on this machine, downloaded by apt with a configuration of its
//! own (so that nothing of the system changes) and unpacked without running a script. What it is not: needed by the
//! product. Who trusts it: nobody. apt checks the archive's signatures. Without network the tests say that they did
//! not run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{capture, target_dir};

/// Debian suites, newest package first. Debian 12's own package is version 1, in Python, and has other rules.
const SUITES: [&str; 2] = ["forky", "trixie"];
const PACKAGE: &str = "docker-compose";
/// Where the package has its program.
const PROGRAM: &str = "usr/libexec/docker/cli-plugins/docker-compose";
/// Time for apt, which loads about 10 MB of lists and 14 MB of package.
const APT_BOUND: Duration = Duration::from_secs(120);
/// Time for a step without network.
const STEP_BOUND: Duration = Duration::from_secs(60);

/// Gets the program where it is not there yet, and says so. Without network this is no error: the tests name the reason.
pub(crate) fn setup() {
    let program = target_dir().join("docker-compose/docker-compose");
    if let Ok(version) = version_of(&program) {
        println!("setup: Docker Compose {version} is there");
        return;
    }
    for suite in SUITES {
        println!("setup: will download Docker Compose of Debian {suite} into target/docker-compose");
        match get(suite, &program) {
            Ok(version) => {
                println!("setup: Docker Compose {version} is there");
                return;
            }
            Err(problem) => println!("setup: Docker Compose of Debian {suite}: {problem}"),
        }
    }
    println!("setup: without Docker Compose, the tests that compare with it do not run");
}

fn get(suite: &str, program: &Path) -> Result<String, String> {
    let folder = program.parent().unwrap_or(Path::new("."));
    let work = folder.join("work");
    let result = unpack(suite, &work).and_then(|unpacked| {
        let version = version_of(&unpacked)?;
        fs::rename(&unpacked, program).map_err(|error| format!("{}: {error}", program.display()))?;
        Ok(version)
    });
    let _ = fs::remove_dir_all(&work);
    result
}

/// Downloads and unpacks the package of one suite, and gives the program.
fn unpack(suite: &str, work: &Path) -> Result<PathBuf, String> {
    let _ = fs::remove_dir_all(work);
    for folder in ["lists/partial", "cache/archives/partial", "parts", "root"] {
        let folder = work.join(folder);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let source = format!("deb [arch=amd64 signed-by={keyring}] http://deb.debian.org/debian {suite} main\n");
    fs::write(work.join("sources.list"), source).map_err(|error| format!("sources.list: {error}"))?;
    apt(work, &["update", "-q"])?;
    apt(work, &["download", "-q", PACKAGE])?;
    let package = fs::read_dir(work)
        .map_err(|error| format!("{}: {error}", work.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or("apt downloaded no package")?;
    succeed(Command::new("dpkg-deb").arg("-x").arg(package).arg(work.join("root")), STEP_BOUND)?;
    Ok(work.join("root").join(PROGRAM))
}

/// apt with lists, cache and sources below `work`, as if nothing were installed.
fn apt(work: &Path, args: &[&str]) -> Result<(), String> {
    let mut command = Command::new("apt-get");
    for (option, value) in [
        ("Dir::Etc::SourceList", "sources.list"),
        ("Dir::Etc::SourceParts", "parts"),
        ("Dir::State::Lists", "lists"),
        ("Dir::Cache", "cache"),
    ] {
        command.arg("-o").arg(format!("{option}={}", work.join(value).display()));
    }
    for option in [
        "Dir::State::status=/dev/null",
        "APT::Sandbox::User=root",
        "APT::Update::Error-Mode=any",
        "Acquire::Languages=none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
        "Acquire::Retries=2",
        "Acquire::http::Timeout=20",
    ] {
        command.args(["-o", option]);
    }
    command.args(args).current_dir(work).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    succeed(&mut command, APT_BOUND)
}

fn succeed(command: &mut Command, bound: Duration) -> Result<(), String> {
    let output = capture(command, bound)?;
    if output.status.success() {
        return Ok(());
    }
    let line = output.stderr.lines().last().unwrap_or_default();
    Err(format!("{} {}: {line}", command.get_program().display(), output.status))
}

/// What the program says of itself; an error where it does not run.
fn version_of(program: &Path) -> Result<String, String> {
    let output = capture(Command::new(program).args(["version", "--short"]), STEP_BOUND)?;
    let version = output.stdout.trim();
    if output.status.success() && version.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(version.to_owned());
    }
    Err(format!("{} does not run: {}", program.display(), output.stderr.trim()))
}
