//! One project to test with, and the count of what it left on the machine.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Time for one command.
const COMMAND_BOUND: Duration = Duration::from_secs(90);
/// Time until nothing may be left.
const GONE_BOUND: Duration = Duration::from_secs(20);
/// Image name in the Compose file below.
const IMAGE: &str = "localhost/system-test:1";
/// The secret's content: nothing else on the machine looks like it.
pub(crate) const MARKER: &str = "casemate-marker-7d1f0c5e9ab24c4f";

/// A project.
pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) name: String,
    bin: PathBuf,
    /// Processes of the project that were ever seen: an orphan no longer shows whose it was.
    seen: RefCell<HashSet<Pid>>,
}

/// What there is of a project on the machine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Remains {
    processes: Vec<String>,
    mounts: Vec<String>,
    cgroups: Vec<PathBuf>,
    sockets: Vec<PathBuf>,
}

impl Bench {
    /// A project with this name, with image, secret and policy.
    pub(crate) fn ready(name: &str) -> Self {
        let bench = Self::new(name);
        bench.prepare();
        bench
    }

    /// Puts the secret and writes the policy.
    pub(crate) fn prepare(&self) {
        assert_ok(&self.run(&["policy", "write"]));
        assert_ok(&self.run_with_input(&["secret", "put", "marker"], MARKER.as_bytes()));
    }

    /// What an agent wrote, once this is in it.
    pub(crate) fn wait_for_log(&self, agent: &str, text: &str) -> String {
        let end = Instant::now() + GONE_BOUND;
        loop {
            let logs = String::from_utf8(self.run(&["logs", agent]).stdout).unwrap();
            if logs.contains(text) {
                return logs;
            }
            assert!(Instant::now() < end, "{logs}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A project with image and Compose file alone.
    pub(crate) fn new(name: &str) -> Self {
        let bin =
            PathBuf::from(std::env::var_os("CASEMATE_BIN").expect("CASEMATE_BIN: run `cargo xtask test`"));
        let tar = std::env::var("CASEMATE_ROOTFS_TAR").expect("CASEMATE_ROOTFS_TAR: run `cargo xtask test`");
        let bench =
            Self { dir: tempfile::tempdir().unwrap(), name: name.to_owned(), bin, seen: RefCell::default() };
        fs::write(bench.dir.path().join("compose.yaml"), compose(name)).unwrap();
        bench.link_images(&tar);
        bench
    }

    /// The image store is made once and copied by hard links: importing takes seconds.
    fn link_images(&self, tar: &str) {
        let shared = Path::new(tar).with_file_name("system-test-store");
        if !shared.join("done").exists() {
            let output = self
                .command(&["image", "import", IMAGE, "--tar", tar])
                .env("CASEMATE_HOME", &shared)
                .output()
                .unwrap();
            assert_ok(&output);
            fs::write(shared.join("done"), "").unwrap();
        }
        fs::create_dir(self.home()).unwrap();
        let copied =
            Command::new("cp").arg("-al").arg(shared.join("images")).arg(self.home()).status().unwrap();
        assert!(copied.success());
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub(crate) fn project_dir(&self) -> PathBuf {
        self.home().join("projects").join(&self.name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.arg("--foreground").arg(COMMAND_BOUND.as_secs().to_string());
        command.arg(self.bin.join("casemate")).args(args);
        command.current_dir(self.dir.path()).env("CASEMATE_HOME", self.home()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub(crate) fn run_with_input(&self, args: &[&str], input: &[u8]) -> Output {
        use std::io::Write as _;
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Starts `up` without waiting for it, not through `timeout`, so that signals reach it.
    pub(crate) fn spawn(&self, args: &[&str]) -> Child {
        let mut command = Command::new(self.bin.join("casemate"));
        command.args(args).current_dir(self.dir.path()).env("CASEMATE_HOME", self.home());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command.spawn().unwrap()
    }

    pub(crate) fn up(&self) {
        assert_ok(&self.run(&["up", "-d"]));
        self.process_tree();
    }

    /// The one process of a program in this project.
    pub(crate) fn pid_of(&self, program: &str) -> Pid {
        let own = self.process_tree();
        let found: Vec<Pid> = own
            .into_iter()
            .filter(|pid| {
                let line = command_line(*pid);
                line.split('\0').next().is_some_and(|first| first.ends_with(program))
                    || line.contains(&format!("\0{program}\0"))
            })
            .collect();
        assert_eq!(found.len(), 1, "{program}: {found:?}");
        found[0]
    }

    pub(crate) fn kill(&self, program: &str) {
        kill_process(self.pid_of(program), Signal::KILL).unwrap();
    }

    /// All processes that name this project's folder, and their descendants.
    fn process_tree(&self) -> HashSet<Pid> {
        let home = self.home().to_string_lossy().to_string();
        let all: Vec<Pid> = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw))
            .collect();
        let mut tree: HashSet<Pid> =
            all.iter().copied().filter(|pid| command_line(*pid).contains(&home)).collect();
        loop {
            let before = tree.len();
            let children: Vec<Pid> =
                all.iter().copied().filter(|pid| parent(*pid).is_some_and(|p| tree.contains(&p))).collect();
            tree.extend(children);
            if tree.len() == before {
                break;
            }
        }
        // The machine does not give a number twice within one test.
        let mut seen = self.seen.borrow_mut();
        seen.retain(|pid| all.contains(pid));
        seen.extend(tree);
        seen.clone()
    }

    pub(crate) fn remains(&self) -> Remains {
        let home = self.home().to_string_lossy().to_string();
        let mark = format!("{}-", self.name);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let cgroups = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        let run = fs::read_dir(self.project_dir().join("run"));
        Remains {
            processes: self.process_tree().into_iter().map(command_line).collect(),
            mounts: mounts.lines().filter(|line| line.contains(&home)).map(str::to_owned).collect(),
            cgroups: cgroups
                .chain([PathBuf::from("/sys/fs/cgroup")])
                .filter_map(|top| fs::read_dir(top.join("casemate")).ok())
                .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
                .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&mark)))
                .collect(),
            sockets: run
                .map(|entries| entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>())
                .unwrap_or_default()
                .into_iter()
                .filter(|path| path.file_name().is_some_and(|name| name != "lock"))
                .collect(),
        }
    }

    /// Nothing is left, or soon will be.
    pub(crate) fn assert_gone(&self) {
        let nothing = Remains { processes: vec![], mounts: vec![], cgroups: vec![], sockets: vec![] };
        let end = Instant::now() + GONE_BOUND;
        while self.remains() != nothing && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = fs::read_to_string(self.project_dir().join("logs/box-supervisor.txt")).unwrap_or_default();
        assert_eq!(self.remains(), nothing, "{log}");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.run(&["-p", &self.name, "down", "-t", "0"]);
    }
}

fn command_line(pid: Pid) -> String {
    let bytes = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok().and_then(Pid::from_raw)
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn assert_ok(output: &Output) {
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), stderr(output));
}

/// The command failed with this exit code and one report of two lines.
pub(crate) fn assert_fails(output: &Output, code: i32, what: &str, todo: &str) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.iter().any(|l| l.starts_with("error: ") && l.contains(what)), "{text}");
    assert!(lines.iter().any(|l| l.starts_with("to do: ") && l.contains(todo)), "{text}");
}

fn compose(name: &str) -> String {
    format!(
        r#"name: {name}
services:
  keeper:
    image: {IMAGE}
    user: "1000:1000"
    command: ["python3", "-u", "-c", "import time; print(len(open('/run/secrets/marker').read())); time.sleep(600)"]
    secrets: [marker]
    stop_grace_period: 1s
    mem_limit: 64m
  other:
    image: {IMAGE}
    user: "1000:1000"
    command: ["python3", "-u", "-c", "import time; print('other'); time.sleep(600)"]
    stop_grace_period: 1s
    mem_limit: 64m
secrets:
  marker: {{ external: true }}
"#
    )
}
