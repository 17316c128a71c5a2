//! A Docker daemon for the time of a measurement: in a network and a mount namespace of its own, its data below the work
//! folder, so that nothing of the machine changes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Outcome;

/// Time for the daemon to answer.
const READY_BOUND: Duration = Duration::from_secs(60);
/// Time for the daemon to end.
const STOP_BOUND: Duration = Duration::from_secs(30);
/// Time for one command.
const COMMAND_BOUND: Duration = Duration::from_secs(120);
/// Between two looks.
const POLL: Duration = Duration::from_millis(50);
const CONFIG: &str = "daemon.json";

/// Who carries what comes in at a published port of a container on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// A process of Docker's for each port.
    ByProxy,
    /// The kernel, by rewriting addresses.
    ByKernel,
}

/// A running daemon. Dropping it ends it.
pub(crate) struct Docker {
    daemon: Child,
    client: PathBuf,
    path: String,
    dir: tempfile::TempDir,
}

impl Docker {
    /// Starts the daemon of the Debian package that is unpacked in `work/docker`.
    pub(crate) fn start(work: &Path, published: Published) -> Outcome<Self> {
        let unpacked = work.join("docker/usr");
        let client = unpacked.join("bin/docker");
        if !client.is_file() {
            return Err("Docker is not there: the packages docker.io and containerd could not be got".into());
        }
        let dir = tempfile::Builder::new().prefix("cbd").tempdir_in("/tmp")?;
        let at = |name: &str| dir.path().join(name).display().to_string();
        let config = serde_json::json!({
            "data-root": work.join(format!("docker-data-{published:?}").to_lowercase()), "exec-root": at("exec"), "pidfile": at("pid"),
            "hosts": [format!("unix://{}", at("s"))],
            "userland-proxy": published == Published::ByProxy,
        });
        std::fs::write(dir.path().join(CONFIG), serde_json::to_vec(&config)?)?;
        let path = format!("{0}/bin:{0}/sbin:/usr/sbin:/usr/bin:/sbin:/bin", unpacked.display());
        let log = std::fs::File::create(work.join("dockerd.log"))?;
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation", "private", "sh", "-c"]);
        // A resolver of the machine's is of no use in there; the kernel must route to loopback for published ports.
        command.arg("ip link set lo up; echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; exec dockerd --config-file \"$1\"");
        command.arg("sh").arg(dir.path().join(CONFIG)).env("PATH", &path);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut docker = Self { daemon: command.spawn()?, client, path, dir };
        let end = Instant::now() + READY_BOUND;
        while docker.run(&["version"]).is_err() {
            if let Some(status) = docker.daemon.try_wait()? {
                return Err(format!("dockerd ended ({status}); see {}/dockerd.log", work.display()).into());
            }
            if Instant::now() > end {
                return Err("dockerd did not answer in 60 s".into());
            }
            std::thread::sleep(POLL);
        }
        Ok(docker)
    }

    /// The client with these arguments.
    pub(crate) fn client(&self, args: &[&str]) -> Command {
        self.tool(&self.client, args)
    }

    /// Another program that speaks to the daemon.
    pub(crate) fn tool(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.env("DOCKER_HOST", format!("unix://{}/s", self.dir.path().display())).env("PATH", &self.path);
        command.env("DOCKER_CONFIG", self.dir.path()).args(args);
        command
    }

    /// Runs the client to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Outcome<String> {
        bounded_output(&mut self.client(args), &self.dir.path().join("said"))
    }

    /// The daemon's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// Makes an image of a folder.
    pub(crate) fn import(&self, tree: &Path, name: &str) -> Outcome<()> {
        let tar = self.dir.path().join("image.tar");
        let mut pack = Command::new("tar");
        bounded_output(
            pack.arg("-cf").arg(&tar).arg("-C").arg(tree).arg("."),
            &self.dir.path().join("said"),
        )?;
        self.run(&["import", &tar.display().to_string(), name])?;
        Ok(std::fs::remove_file(&tar)?)
    }

    /// A command in the daemon's network namespace.
    pub(crate) fn beside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.daemon.id())).arg(program);
        command
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let pid = i32::try_from(self.daemon.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
        let end = Instant::now() + STOP_BOUND;
        while matches!(self.daemon.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(POLL);
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        // It leaves its control groups, empty.
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(hierarchy.path().join("docker"));
        }
    }
}

/// Runs a command, output into a file, at most [`COMMAND_BOUND`]. What it said, also in the error.
pub(crate) fn bounded_output(command: &mut Command, said: &Path) -> Outcome<String> {
    let file = std::fs::File::create(said)?;
    let mut child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn()?;
    let end = Instant::now() + COMMAND_BOUND;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
            None => {
                child.kill()?;
                break child.wait()?;
            }
        }
    };
    let text = std::fs::read_to_string(said).unwrap_or_default();
    if status.success() {
        Ok(text)
    } else {
        Err(format!("{:?}: {status}: {}", command.get_program(), text.trim()).into())
    }
}
