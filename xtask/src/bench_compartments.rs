//! `cargo xtask bench compartments`: what the measurement compares with, and what runs inside.
//!
//! Options: `--dev` measures a development build, `--build-youki` builds a peer that Debian does not have, `--rounds N`,
//! and names of parts. Peers that cannot be got are left out, and the measurement says so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{capture, cargo, run as run_command, target_dir};
use crate::{dist, setup};

/// Time for one run: thirty rounds of everything.
const RUN_BOUND: Duration = Duration::from_secs(3600);
/// Time for a build.
const BUILD_BOUND: Duration = Duration::from_secs(3600);
/// Time for one step.
const STEP_BOUND: Duration = Duration::from_secs(600);
/// What only this measurement needs of Debian, installed.
const INSTALLED: [(&str, &str); 2] = [
    ("crun", "an OCI runtime that `bench compartments` compares with"),
    ("qemu-system-x86", "starts the VM that `bench compartments` compares with"),
];
/// The package that depends on Debian's newest kernel for VMs.
const VM_KERNEL: &str = "linux-image-cloud-amd64";
/// What is unpacked beside the build, so that no daemon is installed.
const UNPACKED: [&str; 2] = ["docker.io", "containerd"];
/// The peer that Debian does not have, with what it needs on every kernel.
const YOUKI: [&str; 7] = ["youki", "--version", "0.7.0", "--locked", "--features", "v1,v2,seccomp", "--root"];
/// What the tools of the measured jobs are, with all that they depend on.
const TOOLS: [&str; 5] = ["python3", "gcc", "libc6-dev", "dash", "coreutils"];
/// What no job reads.
const LEFT_OUT: [&str; 6] = [
    "/usr/share/doc",
    "/usr/share/man",
    "/usr/share/info",
    "/usr/share/locale",
    "/usr/share/lintian",
    "/etc/cron",
];
/// What the compartment mounts on, and links that a merged `/usr` has.
const FOLDERS: [&str; 6] = ["proc", "sys", "dev", "tmp", "run", "etc"];
const LINKS: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Runs the measurement.
pub(crate) fn run(words: &[&str]) -> Result<(), String> {
    let option = |name: &str| words.contains(&name);
    let work = target_dir().join("bench");
    std::fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    setup::run()?;
    for problem in
        [setup::install(&INSTALLED), docker(&work), vm_kernel(&work)].into_iter().filter_map(Result::err)
    {
        println!("bench: a peer is missing: {problem}");
    }
    if option("--build-youki") {
        youki(&work)?;
    }
    tools(&work)?;
    let profile = if option("--dev") { dist::Profile::Dev } else { dist::Profile::Release };
    let programs = dist::run_as(profile)?;
    let mut build = cargo(&["build", "--quiet", "--package", "casemate-bench", "--bins"]);
    if profile == dist::Profile::Release {
        build.arg("--release");
    }
    run_command(&mut build, BUILD_BOUND)?;
    let folder = if profile == dist::Profile::Release { "release" } else { "debug" };
    // Mounts end with the namespace, whatever happens.
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    command
        .arg(target_dir().join(folder).join("casemate-bench"))
        .arg("compartments")
        .arg(programs)
        .arg(&work);
    command.args(words.iter().filter(|word| !matches!(**word, "--dev" | "--build-youki")));
    run_command(&mut command, RUN_BOUND)
}

/// Debian's Docker, unpacked.
pub(crate) fn docker(work: &Path) -> Result<(), String> {
    let place = work.join("docker");
    if place.join("usr/sbin/dockerd").is_file() { Ok(()) } else { unpack(work, &UNPACKED, &place) }
}

/// Debian's kernel for VMs, unpacked: what the newest one's package depends on.
fn vm_kernel(work: &Path) -> Result<(), String> {
    let place = work.join("vm-kernel");
    if place.join("boot").is_dir() {
        return Ok(());
    }
    let told = capture(Command::new("apt-cache").args(["depends", VM_KERNEL]), STEP_BOUND)?;
    let name = told.stdout.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let name = name.ok_or_else(|| format!("`apt-cache depends {VM_KERNEL}` names no kernel"))?;
    unpack(work, &[&format!("linux-image-{name}")], &place)
}

/// Downloads packages and unpacks them in a folder.
fn unpack(work: &Path, names: &[&str], place: &Path) -> Result<(), String> {
    let packages = work.join("packages");
    std::fs::create_dir_all(&packages).map_err(|error| format!("{}: {error}", packages.display()))?;
    let mut download = Command::new("apt-get");
    download.args(["download", "-q", "-o", "APT::Sandbox::User=root"]).args(names).current_dir(&packages);
    run_command(&mut download, STEP_BOUND)?;
    for entry in std::fs::read_dir(&packages).map_err(|error| error.to_string())?.flatten() {
        run_command(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(place), STEP_BOUND)?;
    }
    std::fs::remove_dir_all(&packages).map_err(|error| format!("{}: {error}", packages.display()))
}

fn youki(work: &Path) -> Result<(), String> {
    if work.join("youki/bin/youki").is_file() {
        return Ok(());
    }
    setup::install(&[("libseccomp-dev", "youki is built with it"), ("pkg-config", "likewise")])?;
    let mut install = cargo(&["install", "--quiet"]);
    install.args(YOUKI).arg(work.join("youki")).env("CARGO_TARGET_DIR", work.join("youki-build"));
    run_command(&mut install, BUILD_BOUND)
}

/// Files of this machine's own packages, as an archive; made once.
fn tools(work: &Path) -> Result<(), String> {
    let tar = work.join("tools.tar");
    if tar.is_file() {
        return Ok(());
    }
    let root = Path::new("/");
    let list = work.join("tools.list");
    let mut names = files_of(&closure()?)?;
    names.extend(FOLDERS.iter().chain(&LINKS).map(|name| root.join(name)));
    let text: String = names
        .iter()
        .filter_map(|path| path.strip_prefix(root).ok()?.to_str())
        .filter(|name| !name.is_empty())
        .map(|name| format!("{name}\n"))
        .collect();
    std::fs::write(&list, text).map_err(|error| format!("{}: {error}", list.display()))?;
    let partial = work.join("tools.partial");
    let mut pack = Command::new("tar");
    pack.args(["--no-recursion", "--mtime=@0", "--numeric-owner", "--format=gnu", "-C", "/", "-cf"]);
    run_command(pack.arg(&partial).arg("-T").arg(&list), STEP_BOUND)?;
    let _ = std::fs::remove_file(work.join("tools.done"));
    std::fs::rename(&partial, &tar).map_err(|error| format!("{}: {error}", tar.display()))
}

/// The packages and all installed ones that they depend on.
fn closure() -> Result<Vec<String>, String> {
    let mut ask = Command::new("apt-cache");
    ask.args(["depends", "--recurse", "--installed", "--no-recommends", "--no-suggests", "--no-conflicts"]);
    ask.args(["--no-breaks", "--no-replaces", "--no-enhances"]).args(TOOLS);
    let output = capture(&mut ask, STEP_BOUND)?;
    let names = output.stdout.lines().filter(|line| !line.starts_with([' ', '<']));
    let names: Vec<String> = names.map(str::to_owned).collect();
    if names.is_empty() { Err("apt-cache knows no package that is installed".into()) } else { Ok(names) }
}

/// Their files and folders by their real paths: packages name some through links such as `/lib`.
fn files_of(packages: &[String]) -> Result<BTreeSet<PathBuf>, String> {
    let output = capture(Command::new("dpkg-query").arg("-L").args(packages), STEP_BOUND)?;
    let mut found = BTreeSet::new();
    for path in output.stdout.lines().filter(|line| line.starts_with('/')).map(Path::new) {
        if LEFT_OUT.iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
        let Ok(parent) = parent.canonicalize() else { continue };
        let path = parent.join(name);
        let is_link_of_the_root = LINKS.iter().any(|link| path == Path::new("/").join(link));
        if path.symlink_metadata().is_ok() && !is_link_of_the_root {
            found.extend(path.ancestors().map(Path::to_owned));
        }
    }
    Ok(found)
}
