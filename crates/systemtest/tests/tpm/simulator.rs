//! A TPM in a process of its own, and commands to it, each with a time bound.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Seconds that one command may take. Making an RSA key takes up to a few.
const COMMAND_BOUND_S: &str = "60";
/// Seconds that the TPM lives, whatever happens to the test.
const LIFE_BOUND_S: &str = "300";
/// Time in which it must listen.
const START_BOUND: Duration = Duration::from_secs(20);
/// Programs, and the Debian package of each.
const PROGRAMS: [(&str, &str); 2] = [("swtpm", "swtpm"), ("tpm2_quote", "tpm2-tools")];

/// A running TPM. Ends when it is dropped.
pub(crate) struct Simulator {
    dir: TempDir,
    process: Child,
}

impl Simulator {
    /// Starts a TPM with empty state. Without its programs the test says so and does not run; where CI is set it fails.
    pub(crate) fn start(test: &str) -> Option<Self> {
        for (program, package) in PROGRAMS {
            if !is_there(program) {
                let reason = format!("{program} is not installed (package {package})");
                assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{test}: {reason}");
                eprintln!("not run: {test}: {reason}");
                return None;
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let socket = |name: &str| format!("type=unixio,path={}", dir.path().join(name).display());
        // The tools look for the control socket at this name beside the other one.
        let process = Command::new("timeout")
            .args(["-k", "5", LIFE_BOUND_S, "swtpm", "socket", "--tpm2"])
            .args(["--tpmstate", &format!("dir={}", dir.path().display())])
            .args(["--server", &socket("tpm"), "--ctrl", &socket("tpm.ctrl")])
            .args(["--flags", "not-need-init,startup-clear"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let simulator = Self { dir, process };
        let begun = Instant::now();
        while !simulator.path("tpm.ctrl").exists() || !simulator.path("tpm").exists() {
            assert!(begun.elapsed() < START_BOUND, "swtpm does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(simulator)
    }

    /// Runs a command that must succeed.
    pub(crate) fn run(&self, program: &str, args: &[&str]) {
        // A TPM holds three objects at a time, and the tools leave theirs behind.
        self.output("tpm2_flushcontext", &["-t"]);
        let output = self.output(program, args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {}: {text}", output.status);
    }

    /// Runs a command that the TPM must refuse.
    pub(crate) fn run_refused(&self, program: &str, args: &[&str]) {
        self.output("tpm2_flushcontext", &["-t"]);
        let output = self.output(program, args);
        assert_eq!(output.status.code(), Some(1), "{program} {args:?}: {output:?}");
    }

    fn output(&self, program: &str, args: &[&str]) -> Output {
        Command::new("timeout")
            .args(["-k", "5", COMMAND_BOUND_S, program])
            .args(args)
            .current_dir(self.dir.path())
            .env("TPM2TOOLS_TCTI", format!("swtpm:path={}", self.path("tpm").display()))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// A file that a command wrote.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Writes a file for a command.
    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        // `timeout` passes the signal on and then ends itself.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| Path::new(&dir).join(program).is_file())
}
