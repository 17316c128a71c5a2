//! A machine with an image store of its own, and a registry on loopback.

use std::cell::RefCell;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest run of one command.
const BOUND: Duration = Duration::from_secs(120);

/// What a command did.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A folder that is home, working directory and image store of the command.
pub(crate) struct Machine {
    dir: tempfile::TempDir,
}

/// A command that runs.
pub(crate) struct Running {
    child: Child,
    outputs: PathBuf,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[])
    }

    pub(crate) fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        self.spawn_with(arguments, variables).wait()
    }

    pub(crate) fn succeeds(&self, arguments: &[&str]) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
        ran
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        self.spawn_with(arguments, &[])
    }

    fn spawn_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_casemate"));
        command.args(arguments).current_dir(self.dir.path()).env_clear().envs(variables.iter().copied());
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", self.dir.path()).env("CASEMATE_HOME", self.path("home"));
        spawn(&mut command, self.dir.path())
    }
}

impl Running {
    /// Sends SIGINT to the command alone, and waits.
    pub(crate) fn interrupt(self) -> Ran {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        self.wait()
    }

    fn wait(mut self) -> Ran {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > BOUND {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                panic!("a command takes more than {BOUND:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let read = |name: &str| std::fs::read_to_string(self.outputs.join(name)).unwrap();
        Ran { code: status.code(), stdout: read("stdout"), stderr: read("stderr") }
    }
}

/// A registry that ends with the test.
pub(crate) struct Registry {
    child: RefCell<Child>,
    machine: Machine,
    port: u16,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let machine = Machine::new();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let storage = machine.path("storage");
        machine.write(
            "config.yml",
            &format!(
                "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
                 http:\n  addr: 127.0.0.1:{port}\n",
                storage.display()
            ),
        );
        let log = File::create(machine.path("log")).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(machine.path("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("docker-registry starts: `cargo xtask setup` installs it");
        let registry = Self { child: RefCell::new(child), machine, port };
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(begun.elapsed() < BOUND, "the registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Puts an image with a file of this content there, and returns the digest of its manifest.
    pub(crate) fn publish(&self, content: &str, name: &str) -> String {
        self.machine.write("tree/content", content);
        let (tree, tar) = (self.machine.path("tree"), self.machine.path("content.tar"));
        let mut command = Command::new("tar");
        command.arg("--owner=0").arg("--group=0").arg("-C").arg(tree).arg("-cf").arg(&tar).arg(".");
        self.succeeds(&mut command);
        let tar = tar.display().to_string();
        let imported = self.machine.succeeds(&["image", "import", "local", "--tar", &tar]);
        let mut command = Command::new("skopeo");
        command.args([
            "--insecure-policy",
            "copy",
            "--quiet",
            "--preserve-digests",
            "--dest-tls-verify=false",
        ]);
        command.arg(format!("oci:{}:local", self.machine.path("home/images").display()));
        command.arg(format!("docker://{}/{name}", self.host()));
        self.succeeds(&mut command);
        imported.stdout.trim().strip_prefix("local@").unwrap().to_owned()
    }

    pub(crate) fn stop(&self) {
        let mut child = self.child.borrow_mut();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn succeeds(&self, command: &mut Command) {
        let ran = spawn(command, self.machine.dir.path()).wait();
        assert_eq!(ran.code, Some(0), "{command:?}: {}", ran.stderr);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn spawn(command: &mut Command, outputs: &Path) -> Running {
    let file = |name: &str| File::create(outputs.join(name)).unwrap();
    let child = command
        .stdin(Stdio::null())
        .stdout(file("stdout"))
        .stderr(file("stderr"))
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Running { child, outputs: outputs.to_owned() }
}
