//! One program out of a Debian package that is not installed.
//!
//! What it is: apt with a configuration of its own, so that nothing of the system changes, and `dpkg-deb -x`, which runs no
//! script. apt checks the archive's signatures.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::capture;

/// Time for apt, which loads some 10 MB of lists and 14 MB of package.
const APT_BOUND: Duration = Duration::from_secs(120);
/// Time for a step without network.
const STEP_BOUND: Duration = Duration::from_secs(60);

/// A program of a package.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) package: &'static str,
    pub(crate) suite: &'static str,
    /// Its path in the package.
    pub(crate) program: &'static str,
}

/// Puts the program at `target`, once `version_of` told what it is, and gives that.
pub(crate) fn get(
    wanted: Wanted,
    target: &Path,
    version_of: impl Fn(&Path) -> Result<String, String>,
) -> Result<String, String> {
    let folder = target.parent().unwrap_or(Path::new("."));
    let work = folder.join("work");
    let result = unpack(wanted, &work).and_then(|unpacked| {
        let version = version_of(&unpacked)?;
        fs::rename(&unpacked, target).map_err(|error| format!("{}: {error}", target.display()))?;
        Ok(version)
    });
    let _ = fs::remove_dir_all(&work);
    result
}

/// Downloads and unpacks the package, and gives the program.
fn unpack(wanted: Wanted, work: &Path) -> Result<PathBuf, String> {
    let _ = fs::remove_dir_all(work);
    for folder in ["lists/partial", "cache/archives/partial", "parts", "root"] {
        let folder = work.join(folder);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let suite = wanted.suite;
    let source = format!("deb [arch=amd64 signed-by={keyring}] http://deb.debian.org/debian {suite} main\n");
    fs::write(work.join("sources.list"), source).map_err(|error| format!("sources.list: {error}"))?;
    apt(work, &["update", "-q"])?;
    apt(work, &["download", "-q", wanted.package])?;
    let package = fs::read_dir(work)
        .map_err(|error| format!("{}: {error}", work.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or("apt downloaded no package")?;
    succeed(Command::new("dpkg-deb").arg("-x").arg(package).arg(work.join("root")), STEP_BOUND)?;
    Ok(work.join("root").join(wanted.program))
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
