//! One real project: Compose file, image, policy, and the `casemate` command, as a user has them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::docker::bounded_output;
use super::peers::{RUNSC_VARIABLE, Runtime};
use super::{Outcome, Setup};

/// Name of the image in Compose files.
pub(crate) const IMAGE: &str = "localhost/bench:1";
/// Mount of the hierarchy in which agents are found, by control group version.
const HIERARCHIES: [&str; 2] = ["/sys/fs/cgroup/memory/casemate", "/sys/fs/cgroup/casemate"];

/// A project with a root directory of its own. Dropping it stops it.
pub(crate) struct Project {
    programs: PathBuf,
    runsc: Option<PathBuf>,
    dir: tempfile::TempDir,
    name: String,
}

/// How a start went.
pub(crate) struct Started {
    /// From the call to its return.
    pub(crate) wall: Duration,
    /// Lines of progress.
    pub(crate) lines: Vec<serde_json::Value>,
}

impl Project {
    /// With the image in this archive.
    pub(crate) fn new(setup: &Setup, tar: &Path) -> Outcome<Self> {
        // A short path: the address of a Unix socket has 108 bytes.
        let dir = tempfile::Builder::new().prefix("cbp").tempdir_in("/tmp")?;
        let runsc = Runtime::runsc(&setup.work).ok().map(|runsc| runsc.program().to_owned());
        let project = Self { programs: setup.programs.clone(), runsc, dir, name: "bench".into() };
        project.run(&["image", "import", IMAGE, "--tar", &tar.display().to_string()])?;
        Ok(project)
    }

    /// Sets its services, under a project name of their own.
    pub(crate) fn services(&mut self, name: &str, services: &str, volumes: &str) -> Outcome<()> {
        self.name = name.to_owned();
        let text = format!("name: {name}\nservices:\n{services}{volumes}");
        std::fs::write(self.dir.path().join("compose.yaml"), text)?;
        self.run(&["policy", "write", "--force"]).map(drop)
    }

    fn casemate(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("casemate"));
        command.args(args).current_dir(self.dir.path()).env("CASEMATE_HOME", self.dir.path().join("h"));
        if let Some(runsc) = &self.runsc {
            command.env(RUNSC_VARIABLE, runsc);
        }
        command
    }

    /// Runs `casemate` to its end. What it said.
    pub(crate) fn run(&self, args: &[&str]) -> Outcome<String> {
        bounded_output(&mut self.casemate(args), &self.dir.path().join("said"))
    }

    /// Starts all agents and leaves them running.
    pub(crate) fn up(&self) -> Outcome<Started> {
        let said = self.dir.path().join("up");
        let began = Instant::now();
        let text = bounded_output(&mut self.casemate(&["--json", "up", "-d"]), &said)?;
        let wall = began.elapsed();
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Ok(Started { wall, lines })
    }

    /// Stops all of it.
    pub(crate) fn down(&self) -> Outcome<Duration> {
        let began = Instant::now();
        self.run(&["down", "-t", "0"])?;
        Ok(began.elapsed())
    }

    /// Where the project keeps what runs.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("h/projects").join(&self.name)
    }

    /// The processes in the compartments of all agents.
    pub(crate) fn agent_processes(&self) -> Vec<u32> {
        let box_name = casemate_sys::cgroup::box_name(&self.name, &self.state());
        let groups =
            HIERARCHIES.iter().filter_map(|top| std::fs::read_dir(Path::new(top).join(&box_name)).ok());
        let procs = groups
            .flatten()
            .flatten()
            .filter_map(|group| std::fs::read_to_string(group.path().join("cgroup.procs")).ok());
        let mut found: Vec<u32> = procs
            .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The one process of a program of the box, by its name: it, or who started it, names the project's folder.
    pub(crate) fn program(&self, name: &str) -> Option<u32> {
        let home = self.dir.path().display().to_string();
        let processes = std::fs::read_dir("/proc").ok()?.flatten();
        processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid: &u32| {
            let line = command_line(*pid);
            let is_it = line.split('\0').next().is_some_and(|first| first.ends_with(name));
            let parent = || Some(command_line(stat_field(*pid, PARENT)?.try_into().ok()?));
            is_it && (line.contains(&home) || parent().is_some_and(|parent| parent.contains(&home)))
        })
    }

    /// Processor time that a program of the box has used so far, in ms, with that of the children that it waited for.
    pub(crate) fn program_ms(&self, name: &str) -> Option<f64> {
        let pid = self.program(name)?;
        let ticks: u64 = TIMES.into_iter().filter_map(|field| stat_field(pid, field)).sum();
        #[expect(clippy::cast_precision_loss, reason = "a time")]
        Some(ticks as f64 * TICK_MS)
    }
}

/// Fields of `/proc/PID/stat` after the name (proc_pid_stat(5)): the parent, and times in user space and kernel, own and of
/// children that were waited for.
const PARENT: usize = 1;
const TIMES: [usize; 4] = [11, 12, 13, 14];
/// Length of the unit of these times (`USER_HZ`, which Linux fixes for user space).
const TICK_MS: f64 = 10.0;

fn stat_field(pid: u32, index: usize) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything.
    stat.rsplit_once(") ")?.1.split(' ').nth(index)?.parse().ok()
}

fn command_line(pid: u32) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

impl Drop for Project {
    fn drop(&mut self) {
        // Nothing runs, or nothing can be done about it here.
        let mut down = self.casemate(&["down", "-t", "0"]);
        let _ = down.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// A process of ours; dropping it ends it.
pub(crate) struct Process(pub(super) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An archive with `programs` under `/bin`, with the libraries that they are linked to.
pub(crate) fn small_image(tree: &Path, programs: &[&Path]) -> Outcome<PathBuf> {
    for folder in ["bin", "proc", "dev", "tmp", "run", "etc", "sys", "data"] {
        std::fs::create_dir_all(tree.join(folder))?;
    }
    for program in programs {
        put_program(tree, program)?;
    }
    for file in ["hosts", "hostname", "resolv.conf"] {
        std::fs::write(tree.join("etc").join(file), "")?;
    }
    pack(tree)
}

/// Copies a program to `/bin`, and its libraries to where it looks for them.
pub(crate) fn put_program(tree: &Path, program: &Path) -> Outcome<()> {
    let name = program.file_name().ok_or("a program without a name")?;
    std::fs::copy(program, tree.join("bin").join(name))?;
    let libraries = Command::new("ldd").arg(program).stdin(Stdio::null()).output()?;
    // `NAME => PATH (ADDRESS)` or `PATH (ADDRESS)`; a static program has none.
    for line in String::from_utf8_lossy(&libraries.stdout).lines() {
        let Some(library) = line.split_whitespace().find(|word| word.starts_with('/')) else { continue };
        let inside = tree.join(library.trim_start_matches('/'));
        std::fs::create_dir_all(inside.parent().ok_or("a library without a folder")?)?;
        if !inside.exists() {
            std::fs::copy(library, inside)?;
        }
    }
    Ok(())
}

/// A folder as an archive beside it.
fn pack(tree: &Path) -> Outcome<PathBuf> {
    let tar = tree.with_extension("tar");
    let mut command = Command::new("tar");
    command.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-cf"]);
    command.arg(&tar).arg("-C").arg(tree).arg(".");
    bounded_output(&mut command, &tree.with_extension("log"))?;
    Ok(tar)
}
