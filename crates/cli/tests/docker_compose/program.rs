//! The real Docker Compose, and how its `config` is asked.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Time for one `config`: it reads a few small files.
const BOUND: Duration = Duration::from_secs(60);

/// The program.
pub(crate) struct DockerCompose {
    path: PathBuf,
    /// What it says of itself.
    pub(crate) version: String,
}

impl DockerCompose {
    /// The program; none where there is none, which is said to whoever runs the tests.
    pub(crate) fn find(test: &str) -> Option<Self> {
        let target = Path::new(env!("CARGO_BIN_EXE_casemate")).ancestors().nth(2).unwrap();
        let path = std::env::var_os("CASEMATE_DOCKER_COMPOSE")
            .map_or_else(|| target.join("docker-compose/docker-compose"), PathBuf::from);
        if !path.is_file() {
            // Not with `eprintln`, which the test harness keeps to itself.
            let why = format!("not run: {test}: no {}: `cargo xtask setup` gets it\n", path.display());
            std::io::stderr().write_all(why.as_bytes()).unwrap();
            return None;
        }
        let version = run(Command::new(&path).args(["version", "--short"])).unwrap().trim().to_owned();
        // Version 1 has other rules.
        assert!(!version.starts_with("1."), "{} is version {version}", path.display());
        Some(Self { path, version })
    }

    /// What it makes of these files together, with every profile on, as JSON; or what it says against them.
    pub(crate) fn config(&self, files: &[&Path]) -> Result<String, String> {
        let mut command = Command::new(&self.path);
        for file in files {
            command.arg("-f").arg(file);
        }
        command.args(["--profile", "*", "config", "--format", "json"]);
        command.current_dir(files.first().and_then(|file| file.parent()).unwrap());
        run(&mut command)
    }
}

/// Standard output of a program that must end well; else standard error.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let [out, err] = ["out", "err"].map(|name| dir.path().join(name));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", dir.path());
    command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let mut child = command.spawn().unwrap();
    let end = Instant::now() + BOUND;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("no end within {} s", BOUND.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    if status.success() { Ok(text(&out)) } else { Err(text(&err)) }
}
