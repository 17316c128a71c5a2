//! The demo's root file system: Python 3 and what it needs, from this machine's own Debian packages.
//!
//! What it is: a tar for `casemate image import`, made by `apt-get download` and `dpkg-deb -x`
//! without running any package script, with the agents of the example under `/agents`. What it is
//! not: a general image builder. Who trusts it: nobody; the import pins what comes out by digest.
//! Which package versions go in is decided by the machine's apt sources at the first build; the
//! result is kept until the recipe changes or its folder below `target/` is removed.
//! Needs, all part of every Debian: apt, dpkg, tar, coreutils.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Changes whenever the steps below do.
const RECIPE: &str = "demo rootfs 1";
/// What the agents need; everything that these depend on is added.
const PACKAGES: [&str; 2] = ["python3", "dash"];
/// Only package scripts need these, and none is run.
const PACKAGES_LEFT_OUT: [&str; 2] = ["dpkg", "tar"];
/// What no agent reads.
const PATHS_LEFT_OUT: [&str; 7] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/bug",
    "var/lib/dpkg",
];
/// Files that package scripts would have made: path, content.
const FILES: [(&str, &str); 4] = [
    ("etc/passwd", "root:x:0:0:root:/:/bin/sh\nagent:x:1000:1000:agent:/data:/bin/sh\n"),
    ("etc/group", "root:x:0:\nagent:x:1000:\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    ("etc/hosts", "127.0.0.1 localhost\n"),
];
/// Directories the compartment mounts on, with their modes.
const DIRECTORIES: [(&str, u32); 7] = [
    ("data", 0o755),
    ("tmp", 0o1777),
    ("proc", 0o555),
    ("sys", 0o555),
    ("dev", 0o755),
    ("run", 0o755),
    ("agents", 0o755),
];

const AGENT_FILES_MAX: usize = 64;
const AGENT_FILE_BYTES_MAX: u64 = 1 << 20;
const UPDATE_SECONDS_MAX: u64 = 120;
const DOWNLOAD_SECONDS_MAX: u64 = 120;
const STEP_SECONDS_MAX: u64 = 60;

/// Makes the tar at `out` from Debian packages and the `*.py` files in `agents_dir`. Returns at once
/// if `out` was made from the same inputs before. Must run as root, to keep the files root's.
pub(crate) fn build_rootfs_tar(out: &Path, agents_dir: &Path) -> Result<(), String> {
    let agents = read_agents(agents_dir)?;
    let key_path = beside(out, ".key");
    let key = key_of(&agents);
    if out.is_file() && fs::read(&key_path).is_ok_and(|found| found == key) {
        return Ok(());
    }
    let _ = fs::remove_file(&key_path);
    let work = beside(out, ".work");
    let base = work.join("base");
    let base_done = work.join("base.done");
    if !fs::read(&base_done).is_ok_and(|found| found == RECIPE.as_bytes()) {
        build_base(&work, &base)?;
        write(&base_done, RECIPE.as_bytes())?;
    }
    put_agents(&base.join("agents"), &agents)?;
    let partial = beside(out, ".partial");
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--mtime=@0", "--numeric-owner", "--format=gnu", "-C"]);
    tar.arg(&base).arg("-cf").arg(&partial).arg(".");
    run(tar, &work.join("log"), STEP_SECONDS_MAX)?;
    fs::rename(&partial, out).map_err(|error| format!("cannot write {}: {error}", out.display()))?;
    write(&key_path, &key)
}

fn build_base(work: &Path, base: &Path) -> Result<(), String> {
    if work.exists() {
        fs::remove_dir_all(work).map_err(|error| format!("cannot clear {}: {error}", work.display()))?;
    }
    let downloads = work.join("packages");
    for directory in [work, base, &downloads] {
        fs::create_dir_all(directory)
            .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
    }
    let log = work.join("log");
    let packages = match closure(&log) {
        Ok(packages) => packages,
        // Without package lists apt knows no package: get them once.
        Err(_) => {
            let mut update = Command::new("apt-get");
            update.args(["update", "-q"]);
            run(update, &log, UPDATE_SECONDS_MAX)?;
            closure(&log)?
        }
    };
    let mut download = Command::new("apt-get");
    download.args(["download", "-q", "-o", "APT::Sandbox::User=root"]).args(&packages);
    download.current_dir(&downloads);
    run(download, &log, DOWNLOAD_SECONDS_MAX)?;
    for package in sorted_files(&downloads)? {
        let mut extract = Command::new("dpkg-deb");
        extract.arg("-x").arg(&package).arg(base);
        run(extract, &log, STEP_SECONDS_MAX)?;
    }
    let _ = fs::remove_dir_all(&downloads);
    for path in PATHS_LEFT_OUT {
        let _ = fs::remove_dir_all(base.join(path));
    }
    for (path, mode) in DIRECTORIES {
        let path = base.join(path);
        fs::create_dir_all(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        set_mode(&path, mode)?;
    }
    for (path, content) in FILES {
        write(&base.join(path), content.as_bytes())?;
        set_mode(&base.join(path), 0o644)?;
    }
    compile_python(base, &log)
}

/// The packages and all that they depend on, as apt would install them on an empty system.
fn closure(log: &Path) -> Result<Vec<String>, String> {
    let mut simulate = Command::new("apt-get");
    simulate.args([
        "install",
        "-s",
        "-y",
        "-q",
        "--no-install-recommends",
        "-o",
        "Dir::State::status=/dev/null",
    ]);
    simulate.args(PACKAGES);
    run(simulate, log, STEP_SECONDS_MAX)?;
    let text = fs::read_to_string(log).map_err(|error| format!("cannot read {}: {error}", log.display()))?;
    let mut packages: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next())
        .filter(|name| !PACKAGES_LEFT_OUT.contains(name))
        .map(str::to_owned)
        .collect();
    packages.sort();
    if PACKAGES.iter().all(|wanted| packages.iter().any(|found| found == wanted)) {
        Ok(packages)
    } else {
        Err(format!("apt knows no {}; run apt-get update", PACKAGES.join(" or no ")))
    }
}

/// Byte code for the standard library: the root is read-only, so Python could never write it itself.
/// It is bound to no file time, because the tar has none.
fn compile_python(base: &Path, log: &Path) -> Result<(), String> {
    let library = fs::read_dir(base.join("usr/lib"))
        .map_err(|error| format!("cannot read usr/lib of the image: {error}"))?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .find(|name| name.starts_with("python3."))
        .ok_or("the packages hold no python3 library")?;
    let mut compile = Command::new("chroot");
    compile.arg(base).args(["/usr/bin/python3", "-I", "-m", "compileall", "-q"]);
    compile.args(["--invalidation-mode", "unchecked-hash"]).arg(format!("/usr/lib/{library}"));
    compile.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("PYTHONHASHSEED", "0");
    run(compile, log, STEP_SECONDS_MAX)
}

fn read_agents(agents_dir: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut agents = Vec::new();
    for path in sorted_files(agents_dir)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if !name.ends_with(".py") {
            continue;
        }
        let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        if agents.len() >= AGENT_FILES_MAX || bytes > AGENT_FILE_BYTES_MAX {
            return Err(format!("too many or too large agent files in {}", agents_dir.display()));
        }
        let content = fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        agents.push((name.to_owned(), content));
    }
    if agents.is_empty() {
        return Err(format!("no agent (*.py) in {}", agents_dir.display()));
    }
    Ok(agents)
}

fn put_agents(directory: &Path, agents: &[(String, Vec<u8>)]) -> Result<(), String> {
    for old in sorted_files(directory)? {
        fs::remove_file(&old).map_err(|error| format!("cannot remove {}: {error}", old.display()))?;
    }
    for (name, content) in agents {
        let path = directory.join(name);
        write(&path, content)?;
        set_mode(&path, 0o755)?;
    }
    Ok(())
}

/// All inputs, one after the other: equal keys are equal inputs.
fn key_of(agents: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut key = format!("{RECIPE}\n").into_bytes();
    for (name, content) in agents {
        key.extend(format!("{name} {}\n", content.len()).into_bytes());
        key.extend(content);
    }
    key
}

/// Runs a command without input; what it says goes to `log`, and its end into the error.
fn run(mut command: Command, log: &Path, seconds_max: u64) -> Result<(), String> {
    const LOG_END_CHARS: usize = 600;
    let name = command.get_program().to_string_lossy().into_owned();
    let output = File::create(log).map_err(|error| format!("cannot write {}: {error}", log.display()))?;
    let errors = output.try_clone().map_err(|error| format!("cannot write {}: {error}", log.display()))?;
    command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    let mut child = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
    let deadline = Instant::now() + Duration::from_secs(seconds_max);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{name} did not end within {seconds_max} s"));
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let skipped = text.chars().count().saturating_sub(LOG_END_CHARS);
    let end: String = text.chars().skip(skipped).collect();
    Err(format!("{name} failed ({status}): {}", end.trim()))
}

fn sorted_files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries =
        fs::read_dir(directory).map_err(|error| format!("cannot read {}: {error}", directory.display()))?;
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    Ok(files)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn set_mode(path: &Path, mode: u32) -> Result<(), String> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| format!("cannot change {}: {error}", path.display()))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
