//! `abuse`: a well-behaved agent beside one that takes all it can get, against the same agent beside an idle one.
//!
//! Three agents: the *peer* does a little work again and again and calls the *server*, its trust group's other agent, over
//! an edge; the *abuser* is of another trust group. Where the machine has two cores, the peer's group and the abuser have
//! one each, by the warden's own placement. Everything is the shipped product: `casemate up`, gateway and all.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::machine;
use crate::statistics::quantile;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Interleaved runs of each abuser.
const ROUNDS: usize = 3;
/// Seconds that the peer measures.
const SECONDS: u32 = 5;
/// Time for one command of the product.
const COMMAND_BOUND: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);
const IMAGE: &str = "localhost/bench:1";
/// Directories that a compartment mounts on.
const DIRECTORIES: [&str; 6] = ["data", "tmp", "proc", "dev", "run", "etc"];

/// Name, what the abuser does, and further keys of it.
type Abuser = (&'static str, &'static str, &'static str);
/// What the others are compared with.
const IDLE: &str = "idle";
const ABUSERS: [Abuser; 13] = [
    (IDLE, r#""wait""#, ""),
    ("spins", r#""spin""#, ""),
    ("forks", r#""bomb""#, ""),
    ("allocates until killed, again and again", r#""eat 256""#, "restart: always"),
    ("writes to its log", r#""flood-on""#, ""),
    ("fills its tmpfs", r#""exhaust disk /tmp", "wait""#, ""),
    ("fills its volume", r#""exhaust disk /data", "wait""#, "volumes: [\"full:/data\"]"),
    ("opens files", r#""exhaust files", "wait""#, ""),
    ("makes inotify instances", r#""exhaust inotify", "wait""#, ""),
    ("makes large pipes", r#""exhaust pipes", "wait""#, ""),
    ("makes timers (queued signals)", r#""exhaust timers", "wait""#, "ulimits: { sigpending: 10000 }"),
    ("fills sockets until killed, again and again", r#""exhaust sockets""#, "restart: always"),
    ("connects", r#""exhaust connections server:8080", "wait""#, "TALKS"),
];

/// What the peer told of one run: rounds; µs of work at the median and at 99 of 100; likewise of calls.
type Pulse = [f64; 5];

/// Measures with the programs in `bin` and the agent's program, beside the named abusers, or all.
pub(crate) fn run(bin: &Path, agent: &Path, names: &[&str]) -> Outcome<()> {
    if let Some(unknown) = names.iter().find(|name| ABUSERS.iter().all(|(known, ..)| known != *name)) {
        let known: Vec<&str> = ABUSERS.iter().map(|(known, ..)| *known).collect();
        return Err(format!("no abuser `{unknown}`; there are: {}", known.join("; ")).into());
    }
    let is_wanted = |name: &str| name == IDLE || names.is_empty() || names.contains(&name);
    let abusers: Vec<_> = ABUSERS.iter().filter(|(name, ..)| is_wanted(name)).collect();
    let watch = machine::Watch::begin();
    println!("{}", machine::describe());
    let dir = tempfile::Builder::new().prefix("cba").tempdir_in("/tmp")?;
    let bench = Bench { bin: bin.canonicalize()?, home: dir.path().join("h"), dir, runs: Cell::new(0) };
    bench.import(agent)?;
    let mut all = vec![Vec::<Pulse>::new(); abusers.len()];
    for _ in 0..ROUNDS {
        for ((name, steps, more), pulses) in abusers.iter().zip(&mut all) {
            let pulse = bench.pulse(steps, more).map_err(|error| format!("{name}: {error}"))?;
            pulses.push(pulse);
        }
    }
    print(&abusers, &all);
    println!("{}", watch.tell());
    Ok(())
}

fn print(abusers: &[&Abuser], all: &[Vec<Pulse>]) {
    let median = |pulses: &[Pulse], field: usize| {
        let series: Vec<f64> = pulses.iter().filter_map(|pulse| pulse.get(field).copied()).collect();
        quantile(&series, 0.5).unwrap_or(f64::NAN)
    };
    println!(
        "The peer beside an agent that …; median of {ROUNDS} interleaved runs of {SECONDS} s; ratios to idle."
    );
    println!(
        "{:<44} {:>8} {:>6} {:>9} {:>6} {:>9} {:>6} {:>9} {:>6} {:>9} {:>6}",
        "", "rounds", "", "work p50", "", "work p99", "", "call p50", "", "call p99", ""
    );
    for ((name, ..), pulses) in abusers.iter().zip(all) {
        let mut line = format!("{name:<44}");
        for field in 0..5 {
            let (own, idle) = (median(pulses, field), median(all.first().map_or(&[], Vec::as_slice), field));
            let width = if field == 0 { 8 } else { 9 };
            line.push_str(&format!(" {own:>width$.0} {:>6.2}", own / idle));
        }
        println!("{line}");
    }
}

struct Bench {
    bin: PathBuf,
    home: PathBuf,
    dir: tempfile::TempDir,
    /// Runs so far: each is a project of its own, because logs outlive a box.
    runs: Cell<u32>,
}

impl Bench {
    fn import(&self, agent: &Path) -> Outcome<()> {
        let tree = self.dir.path().join("tree");
        for directory in DIRECTORIES {
            std::fs::create_dir_all(tree.join(directory))?;
        }
        for file in ["etc/hosts", "etc/hostname", "etc/resolv.conf"] {
            std::fs::write(tree.join(file), "")?;
        }
        std::fs::write(tree.join("etc/nsswitch.conf"), "hosts: files dns\n")?;
        std::fs::copy(agent, tree.join("agent"))?;
        // `NAME => PATH (ADDRESS)` or `PATH (ADDRESS)`.
        let ldd = String::from_utf8(Command::new("ldd").arg(agent).output()?.stdout)?;
        let libraries =
            ldd.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
        for library in libraries {
            let inside = tree.join(library.trim_start_matches('/'));
            std::fs::create_dir_all(inside.parent().ok_or("a library without a folder")?)?;
            std::fs::copy(library, inside)?;
        }
        let tar = self.dir.path().join("root.tar");
        let mut command = Command::new("tar");
        command.args(["--owner=0", "--group=0", "-cf"]).arg(&tar).arg("-C").arg(&tree).arg(".");
        run_bounded(&mut command, &self.dir.path().join("tar.txt"))?;
        let tar = tar.display().to_string();
        self.casemate(&["image", "import", IMAGE, "--entrypoint", "/agent", "--tar", &tar]).map(drop)
    }

    /// One run of the whole product.
    fn pulse(&self, steps: &str, more: &str) -> Outcome<Pulse> {
        let (more, talks) = if more == "TALKS" { ("", ", talks-to: [\"server:8080\"]") } else { (more, "") };
        let common = format!(
            "image: {IMAGE}\n    user: \"1000:1000\"\n    stop_signal: SIGKILL\n    mem_limit: 64m\n    pids_limit: 64"
        );
        let run = self.runs.get().saturating_add(1);
        self.runs.set(run);
        let text = format!(
            "name: abuse{run}\nservices:\n  \
             server:\n    {common}\n    command: [\"serve 8080 answer\", \"wait\"]\n    expose: [\"8080\"]\n    healthcheck: {{ test: [\"CMD\", \"/agent\", \"reach 8080\"], interval: 60s, start_interval: 100ms }}\n    x-casemate: {{ trust: good }}\n  \
             peer:\n    {common}\n    command: [\"sleep 1000\", \"pulse {SECONDS} server:8080\", \"wait\"]\n    depends_on: {{ server: {{ condition: service_healthy }} }}\n    \
             x-casemate: {{ trust: good, talks-to: [\"server:8080\"] }}\n  \
             abuser:\n    {common}\n    command: [{steps}]\n    x-casemate: {{ trust: bad{talks} }}\n    {more}\n\
             volumes:\n  full: {{ x-casemate: {{ size: 256m }} }}\n"
        );
        std::fs::write(self.dir.path().join("compose.yaml"), text)?;
        self.casemate(&["policy", "write", "--force"])?;
        let pulse = self.casemate(&["up", "-d", "--progress", "plain"]).and_then(|_| self.await_pulse());
        let down = self.casemate(&["down", "-t", "0", "--volumes"]);
        down.and(pulse)
    }

    fn await_pulse(&self) -> Outcome<Pulse> {
        let end = Instant::now() + COMMAND_BOUND;
        while Instant::now() < end {
            let logs = self.casemate(&["logs", "peer"])?;
            if let Some(line) = logs.lines().find_map(|line| line.split("pulse ").nth(1)) {
                let numbers: Vec<f64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
                return numbers.try_into().map_err(|_| "a pulse of another shape".into());
            }
            if logs.contains("failed") {
                return Err(logs.into());
            }
            std::thread::sleep(POLL * 10);
        }
        Err("the peer told nothing".into())
    }

    fn casemate(&self, args: &[&str]) -> Outcome<String> {
        let output = self.dir.path().join("output.txt");
        let mut command = Command::new(self.bin.join("casemate"));
        command.args(args).current_dir(self.dir.path()).env("CASEMATE_HOME", &self.home);
        run_bounded(&mut command, &output)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.casemate(&["down", "-t", "0"]);
    }
}

/// Runs a command with its output in a file; gives the output.
fn run_bounded(command: &mut Command, output: &Path) -> Outcome<String> {
    let file = std::fs::File::create(output)?;
    let errors = file.try_clone()?;
    let mut child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn()?;
    let end = Instant::now() + COMMAND_BOUND;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            None => {
                let _ = child.kill();
                break child.wait()?;
            }
        }
    };
    let text = String::from_utf8_lossy(&std::fs::read(output)?).into_owned();
    if status.success() { Ok(text) } else { Err(format!("{command:?}: {status}\n{text}").into()) }
}
