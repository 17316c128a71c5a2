//! One project to test with.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::census::{Census, Owner, command_line, entries};
use crate::image;

/// Time for one command.
pub(crate) const COMMAND_BOUND: Duration = Duration::from_secs(60);
/// Time until nothing may be left, once a command returned.
const GONE_BOUND: Duration = Duration::from_secs(15);
/// Time for something to appear that should.
const APPEAR_BOUND: Duration = Duration::from_secs(20);
/// Time between two looks.
const POLL: Duration = Duration::from_millis(20);

/// A project with a root directory of its own.
pub(crate) struct Project {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) name: String,
    seen: RefCell<BTreeSet<u32>>,
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

/// A command that runs.
pub(crate) struct Spawned {
    child: Child,
    files: [PathBuf; 2],
    begun: Instant,
}

fn target() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_systemtest-agent")).parent().and_then(Path::parent).unwrap()
}

fn dist_named() -> PathBuf {
    std::env::var_os("CASEMATE_DIST").map_or_else(|| target().join("dist/bin"), PathBuf::from)
}

/// gVisor's program, which `cargo xtask setup` puts there.
pub(crate) fn runsc() -> PathBuf {
    target().join("gvisor/runsc")
}

/// The folder of programs.
pub(crate) fn dist() -> PathBuf {
    let bin = dist_named();
    let missing = "run `cargo xtask dist`, or name the folder of programs with CASEMATE_DIST";
    assert!(bin.join("casemate").is_file(), "{} holds no programs: {missing}", bin.display());
    assert!(
        rustix::process::geteuid().is_root(),
        "system tests make namespaces and mounts: run them as root"
    );
    bin.canonicalize().unwrap()
}

/// A command line of `casemate`.
pub(crate) fn casemate(args: &[&str]) -> Command {
    let mut command = Command::new(dist().join("casemate"));
    command.args(args);
    command
}

/// Compose text of one agent that does these steps.
pub(crate) fn agent(name: &str, steps: &[&str], more: &str) -> String {
    let steps: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
    let more: String = more.lines().map(|line| format!("    {}\n", line.trim_end())).collect();
    format!(
        "  {name}:\n    image: {}\n    user: \"1000:1000\"\n    command: [{}]\n    stop_signal: SIGKILL\n    mem_limit: 64m\n    pids_limit: 16\n{more}",
        image::IMAGE,
        steps.join(", ")
    )
}

impl Project {
    /// Compose file, image, secrets, policy.
    pub(crate) fn ready(name: &str, services: &str, secrets: &[(&str, &str)]) -> Self {
        let project = Self::new(name, services, &secrets.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (name, content) in secrets {
            project.put_secret(name, content);
        }
        project.write_policy(&[]);
        project
    }

    /// Compose file and image.
    pub(crate) fn new(name: &str, services: &str, secrets: &[&str]) -> Self {
        let project = Self::empty(name);
        project.write_compose(services, secrets);
        image::link_into(&project.home());
        project
    }

    /// Nothing yet.
    pub(crate) fn empty(name: &str) -> Self {
        // A short path: the address of a Unix socket has 108 bytes.
        let dir = tempfile::Builder::new().prefix("cst").tempdir_in("/tmp").unwrap();
        Self { dir, name: name.to_owned(), seen: RefCell::default() }
    }

    pub(crate) fn write_compose(&self, services: &str, secrets: &[&str]) {
        let mut text = format!("name: {}\nservices:\n{services}", self.name);
        if !secrets.is_empty() {
            text.push_str("secrets:\n");
        }
        for secret in secrets {
            text.push_str(&format!("  {secret}: {{ external: true }}\n"));
        }
        fs::write(self.file("compose.yaml"), text).unwrap();
    }

    pub(crate) fn put_secret(&self, name: &str, content: &str) {
        self.run_with(&["secret", "put", name], COMMAND_BOUND, Some(content)).assert_ok();
    }

    pub(crate) fn write_policy(&self, more: &[&str]) {
        self.run(&[&["policy", "write", "--force"], more].concat()).assert_ok();
    }

    /// A file in the Compose file's folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces text in a file of the Compose file's folder.
    pub(crate) fn edit(&self, file: &str, change: impl FnOnce(&str) -> String) {
        let path = self.file(file);
        let text = fs::read_to_string(&path).unwrap();
        let changed = change(&text);
        assert_ne!(text, changed, "nothing to change in {file}");
        fs::write(path, changed).unwrap();
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.file("h")
    }

    pub(crate) fn project_dir(&self) -> PathBuf {
        self.home().join("projects").join(&self.name)
    }

    /// Sets folder and environment of a command.
    pub(crate) fn place(&self, command: &mut Command) {
        command.current_dir(self.dir.path()).env("CASEMATE_HOME", self.home()).env("CASEMATE_RUNSC", runsc());
    }

    /// Runs `casemate`.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, COMMAND_BOUND, None)
    }

    /// Runs `casemate` with a time limit and standard input.
    pub(crate) fn run_with(&self, args: &[&str], bound: Duration, input: Option<&str>) -> Output {
        let mut command = casemate(args);
        self.place(&mut command);
        run_bounded(&mut command, self.dir.path(), bound, input)
    }

    /// Starts `casemate`.
    pub(crate) fn spawn(&self, args: &[&str]) -> Spawned {
        let mut command = casemate(args);
        self.place(&mut command);
        spawn(&mut command, self.dir.path(), None)
    }

    /// Starts all agents and leaves them running.
    pub(crate) fn up(&self) -> Output {
        self.up_with(&[])
    }

    /// Likewise, with further arguments.
    pub(crate) fn up_with(&self, more: &[&str]) -> Output {
        let output = self.try_up(more);
        output.assert_ok();
        self.processes();
        output
    }

    /// Likewise, whatever comes of it.
    pub(crate) fn try_up(&self, more: &[&str]) -> Output {
        self.run(&[&["up", "-d", "--progress", "plain"], more].concat())
    }

    pub(crate) fn down(&self) {
        self.run(&["down", "-t", "0"]).assert_ok();
        self.assert_nothing_left();
    }

    pub(crate) fn logs(&self, agent: &str) -> String {
        let output = self.run(&["logs", agent]);
        output.assert_ok();
        output.stdout
    }

    /// The log of an agent, once it has this text in it.
    pub(crate) fn logs_with(&self, agent: &str, text: &str) -> String {
        let end = Instant::now() + APPEAR_BOUND;
        loop {
            let logs = self.logs(agent);
            if logs.contains(text) {
                return logs;
            }
            assert!(Instant::now() < end, "`{text}` is not in the log of {agent}:\n{logs}");
            std::thread::sleep(POLL);
        }
    }

    /// `ps --json`.
    pub(crate) fn ps(&self) -> serde_json::Value {
        let output = self.run(&["--json", "ps"]);
        output.assert_ok();
        serde_json::from_str(&output.stdout).unwrap()
    }

    /// Waits until this holds of an agent's entry in `ps --json`.
    pub(crate) fn wait_for_agent(
        &self,
        agent: &str,
        what: &str,
        holds: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let end = Instant::now() + APPEAR_BOUND;
        loop {
            let all = self.ps();
            let one = &all["agents"][agent];
            if holds(one) {
                return one.clone();
            }
            assert!(Instant::now() < end, "{agent}: not {what}: {one}");
            std::thread::sleep(POLL);
        }
    }

    /// Evidence about an agent, in this file.
    pub(crate) fn attest(&self, agent: &str, nonce: &str, file: &str) -> Output {
        self.run(&["attest", agent, "--nonce", nonce, "-o", file])
    }

    /// Whose things are counted.
    pub(crate) fn owner(&self) -> Owner {
        Owner {
            home: self.home(),
            project_dir: self.project_dir(),
            box_name: casemate_sys::cgroup::box_name(&self.name, &self.project_dir()),
            bin: dist(),
        }
    }

    /// The project's processes now, and those seen before that are still there.
    pub(crate) fn processes(&self) -> BTreeSet<u32> {
        self.owner().processes(&mut self.seen.borrow_mut())
    }

    /// What the project has on the machine.
    pub(crate) fn census(&self) -> Census {
        self.owner().count(&mut self.seen.borrow_mut())
    }

    /// The project has nothing on the machine, or soon will have nothing.
    pub(crate) fn assert_nothing_left(&self) {
        let nothing = Census {
            processes: vec![],
            mounts: vec![],
            namespace_mounts: 0,
            cgroups: vec![],
            loop_devices: vec![],
            run: vec![],
        };
        let end = Instant::now() + GONE_BOUND;
        while self.census() != nothing && Instant::now() < end {
            std::thread::sleep(POLL);
        }
        assert_eq!(self.census(), nothing);
    }

    /// The id of the one process of a program, or of a hidden subcommand.
    pub(crate) fn pid_of(&self, program: &str) -> u32 {
        let found: Vec<u32> = self
            .processes()
            .into_iter()
            .filter(|pid| {
                let line = command_line(*pid);
                let mut words = line.split(' ');
                words.next().is_some_and(|first| first.ends_with(program))
                    || words.next().is_some_and(|second| second == program)
            })
            .collect();
        assert_eq!(found.len(), 1, "{program}: {found:?}");
        found[0]
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(&self, program: &str) {
        kill(self.pid_of(program), Signal::KILL);
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        // Nothing was started, and nothing could end it.
        if !dist_named().join("casemate").is_file() {
            return;
        }
        if std::thread::panicking() {
            for log in entries(&self.project_dir().join("logs")) {
                let text = fs::read_to_string(&log).unwrap_or_default();
                let last: Vec<&str> = text.lines().rev().take(20).collect();
                for line in last.iter().rev() {
                    eprintln!("{}: {line}", log.file_name().unwrap_or_default().display());
                }
            }
        }
        let mut down = casemate(&["-p", &self.name, "down", "-t", "0"]);
        self.place(&mut down);
        // In a drop nothing may panic: what `down` does not end is ended below.
        if let Ok(mut child) = down.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            let _ = wait_bounded(&mut child, COMMAND_BOUND);
        }
        for pid in self.processes() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Sends a signal to a process of ours.
pub(crate) fn kill(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, signal).unwrap();
}

static FILES: AtomicU32 = AtomicU32::new(0);

/// Starts a command: output into files in `dir`, a process group of its own.
pub(crate) fn spawn(command: &mut Command, dir: &Path, input: Option<&str>) -> Spawned {
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let files = [".out", ".err"].map(|kind| dir.join(format!("command-{number}{kind}")));
    let [stdout, stderr] = files.clone().map(|file| File::create(file).unwrap());
    command.stdout(stdout).stderr(stderr).process_group(0);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let begun = Instant::now();
    let mut child = command.spawn().unwrap();
    if let Some(input) = input {
        // A command may refuse before it has read all.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    }
    Spawned { child, files, begun }
}

/// Runs a command to its end, at most this long.
pub(crate) fn run_bounded(command: &mut Command, dir: &Path, bound: Duration, input: Option<&str>) -> Output {
    spawn(command, dir, input).wait(bound)
}

impl Spawned {
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.child.id(), signal);
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it wrote so far.
    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(&self.files[0]).unwrap()
    }

    /// Waits for its end, at most this long.
    pub(crate) fn wait(mut self, bound: Duration) -> Output {
        let status = wait_bounded(&mut self.child, bound);
        let took = self.begun.elapsed();
        let [stdout, stderr] =
            self.files.map(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned());
        let Some(status) = status else {
            panic!("no end within {} s\n{stdout}{stderr}", bound.as_secs());
        };
        Output { status, stdout, stderr, took }
    }
}

/// The status; none where the time was over and the process is killed.
fn wait_bounded(child: &mut Child, bound: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + bound;
    while Instant::now() < end {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

impl Output {
    pub(crate) fn assert_ok(&self) {
        assert!(self.status.success(), "{}\n{}{}", self.status, self.stdout, self.stderr);
    }

    /// The lines from `error:` on; remarks may come before it.
    pub(crate) fn report(&self) -> Vec<&str> {
        self.stderr.lines().skip_while(|line| !line.starts_with("error: ")).collect()
    }

    /// It failed with this exit code: one report of two lines, the first with `what` in it and the second with `todo`,
    /// and between them at most the line of a file and its marks.
    pub(crate) fn assert_fails(&self, code: i32, what: &str, todo: &str) {
        assert_eq!(self.status.code(), Some(code), "{}\n{}{}", self.status, self.stdout, self.stderr);
        let lines: Vec<&str> = self.report();
        let ([error, do_this] | [error, _, _, do_this]) = lines.as_slice() else {
            panic!("not one report:\n{}", self.stderr)
        };
        assert!(error.starts_with("error: ") && error.contains(what), "no `{what}` in:\n{}", self.stderr);
        assert!(do_this.starts_with("to do: ") && do_this.contains(todo), "no `{todo}` in:\n{}", self.stderr);
    }

    /// It was refused by this rule: exit code 1, and what was expected and found.
    pub(crate) fn assert_refused(&self, rule: &str) -> (String, String) {
        assert_eq!(self.status.code(), Some(1), "{}\n{}{}", self.status, self.stdout, self.stderr);
        let part = |name: &str| {
            let line = self.stderr.lines().find_map(|line| line.trim().strip_prefix(name));
            line.map(str::trim).unwrap_or_default().to_owned()
        };
        assert_eq!(part("rule "), rule, "{}{}", self.stdout, self.stderr);
        let (expected, found) = (part("expected "), part("found "));
        assert!(!expected.is_empty() && !found.is_empty() && expected != found, "{}", self.stderr);
        assert_eq!(self.report().len(), 5, "{}", self.stderr);
        (expected, found)
    }

    /// Ended by the signal of Ctrl-C, in whichever way.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.status.code() == Some(130) || self.status.signal() == Some(2)
    }
}
