//! One program that the supervisor starts: it dies with the supervisor, says `ready`, and is stopped within a bound.
//!
//! Each is started through `casemate box-child`, which asks the kernel for a signal at the supervisor's death and
//! then becomes the program. Its output goes to a file of its own.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::failure::{Failure, Outcome};
use crate::programs::{Program, own_path};

/// Time between two looks for the `ready` line.
const READY_POLL: Duration = Duration::from_millis(10);
/// How much of a program's output is searched for the `ready` line, in bytes.
const READY_BYTES_MAX: u64 = 1 << 20;
/// Time a killed program has to be gone.
const KILLED_BOUND: Duration = Duration::from_secs(10);

/// What `box-child` takes.
#[derive(Args, Debug)]
pub(crate) struct ChildArgs {
    /// Process id of the supervisor.
    #[arg(long)]
    parent: i32,
    /// Whether the program gets SIGTERM, not SIGKILL, when the supervisor dies.
    #[arg(long)]
    gentle: bool,
    /// Program and arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes the program.
pub(crate) fn become_program(args: ChildArgs) -> Outcome {
    let signal = if args.gentle { Signal::TERM } else { Signal::KILL };
    let failed = |what: String| Failure::environment(what, "start the project again with `casemate up`");
    set_parent_process_death_signal(Some(signal))
        .map_err(|error| failed(format!("death signal: {error}")))?;
    // The supervisor may have died before the line above.
    if rustix::process::getppid().map(Pid::as_raw_nonzero).map(i32::from) != Some(args.parent) {
        return Err(failed("the supervisor is gone".to_owned()));
    }
    let Some((program, rest)) = args.command.split_first() else {
        return Err(failed("no program named".to_owned()));
    };
    let error = std::process::Command::new(program).args(rest).exec();
    Err(failed(format!("{}: {error}", Path::new(program).display())))
}

/// A program that runs.
pub(super) struct Running {
    /// Which.
    pub(super) program: Program,
    log: PathBuf,
    child: tokio::process::Child,
}

impl Running {
    /// Starts a program. Must be called inside the runtime.
    pub(super) fn start(program: Program, args: &[OsString], log: PathBuf) -> Outcome<Self> {
        let failed = |error: std::io::Error| {
            Failure::environment(
                format!("{}: {error}", log.display()),
                "free some space, or make the folder writable",
            )
        };
        let output = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&log)
            .map_err(failed)?;
        let errors = output.try_clone().map_err(failed)?;
        let mut command = tokio::process::Command::new(own_path()?);
        command.arg("box-child").arg("--parent").arg(std::process::id().to_string());
        if program == Program::Warden {
            command.arg("--gentle");
        }
        command.arg("--").arg(program.path()?).args(args);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().map_err(|error| {
            Failure::environment(
                format!("{}: {error}", program.name()),
                "free some memory or processes, then try again",
            )
        })?;
        Ok(Self { program, log, child })
    }

    /// Waits for the line that says that it is ready, and gives what else the line says.
    pub(super) async fn ready(&mut self, timeout: Duration) -> Outcome<String> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(rest) = head(&self.log).and_then(|text| ready_line(&text)) {
                return Ok(rest);
            }
            let ended = self.child.try_wait().ok().flatten();
            if let Some(status) = ended {
                return Err(self.ended(status));
            }
            if Instant::now() >= end {
                return Err(Failure::environment(
                    format!("{} was not ready within {} s", self.program.name(), timeout.as_secs()),
                    format!("read {}", self.log.display()),
                ));
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    /// Waits until it ends.
    pub(super) async fn wait(&mut self) -> Option<ExitStatus> {
        self.child.wait().await.ok()
    }

    /// The failure that its end is.
    pub(super) fn ended(&self, status: ExitStatus) -> Failure {
        // Who was killed had no last word: what it wrote before says nothing of its end.
        let last = if status.signal().is_some() { String::new() } else { last_line(&self.log) };
        let (said, todo) = match report(&last) {
            Some((what, todo)) => (what, todo.to_owned()),
            None => (last.as_str(), format!("read {}", self.log.display())),
        };
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        Failure::environment(format!("{} ended ({status}){said}", self.program.name()), todo)
    }

    /// Asks it to end, and kills it when it has not ended within the bound.
    pub(super) async fn stop(&mut self, bound: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(bound, self.child.wait()).await.is_err() {
            self.signal(Signal::KILL);
            // A process in an uninterruptible wait cannot be helped from here.
            let _ = tokio::time::timeout(KILLED_BOUND, self.child.wait()).await;
        }
    }

    /// Waits for its end, at most this long. Whether it ended.
    pub(super) async fn ends_within(&mut self, bound: Duration) -> bool {
        tokio::time::timeout(bound, self.child.wait()).await.is_ok()
    }

    /// The process is our child and not yet reaped while `id` gives a number, so the number is its own.
    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
    }
}

/// A whole line `ready`, or the broker's: a JSON object with its URL.
fn ready_line(text: &str) -> Option<String> {
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).find_map(|line| {
        let is_object = line.starts_with("{\"") && line.contains("\"url\"");
        (line == "ready" || is_object).then(|| line.trim_start_matches("ready").to_owned())
    })
}

/// What happened and what to do, where the last words are a report of our programs.
fn report(last: &str) -> Option<(&str, &str)> {
    last.strip_prefix("error: ")?.split_once("; to do: ")
}

fn last_line(log: &Path) -> String {
    let text = head(log).unwrap_or_default();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && ready_line(&format!("{line}\n")).is_none())
        .collect();
    let from = lines.len().saturating_sub(2);
    lines.get(from..).unwrap_or_default().join("; ")
}

fn head(log: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    File::open(log).ok()?.take(READY_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_our_programs_are_told_as_they_mean_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, "ready\nsomething\nerror: no disk\nto do: add one\n").unwrap();
        assert_eq!(report(&last_line(&log)), Some(("no disk", "add one")));
        assert_eq!(report("something; error: no disk"), None);
    }

    #[test]
    fn only_a_whole_line_that_says_ready_counts() {
        let object = "{\"certificate\":\"/c\",\"url\":\"https://127.0.0.1:1\"}";
        for (text, expected) in [
            ("", None),
            ("ready", None),
            ("already\n", None),
            ("readyness\n", None),
            ("starting\nready\n", Some("")),
            (object, None),
            (&format!("{object}\nmore"), Some(object)),
        ] {
            assert_eq!(ready_line(text).as_deref(), expected, "{text:?}");
        }
    }
}
