//! `cargo xtask demo`: the example's three agents from a Compose file to a signed answer, and six refusals.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{Output, capture, capture_with_input, root, run as run_command, target_dir};
use crate::{demo_api, demo_image, demo_refusals, dist, setup};

/// Name of the image in the example's Compose file.
const IMAGE: &str = "localhost/research-desk:1";
/// Project name of the example.
pub(crate) const PROJECT: &str = "research-desk";
/// Time for one command.
pub(crate) const COMMAND_BOUND: Duration = Duration::from_secs(120);
/// Time for the agents to finish their work once they run.
const WORK_BOUND: Duration = Duration::from_secs(30);

/// What to do when all is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Stop everything.
    Stop,
    /// Leave the agents running, and serve their API until Ctrl-C.
    Keep,
}

/// The demo's files.
pub(crate) struct Demo {
    /// All programs.
    bin: PathBuf,
    /// Its own root directory.
    pub(crate) home: PathBuf,
    /// A copy of the example, to change.
    pub(crate) work: PathBuf,
}

/// Runs the demo.
pub(crate) fn run(after: After) -> Result<(), String> {
    let begun = Instant::now();
    if !setup::is_root()? {
        return Err("the demo makes namespaces and mounts: run it as root".into());
    }
    setup::run()?;
    section("build");
    let demo = Demo::prepare(dist::run()?)?;
    let _ = demo.casemate(&["down", "-t", "1"]);
    let outcome = demo.show(after);
    if outcome.is_err() || after == After::Stop {
        let down = demo.casemate(&["down"])?;
        print!("{}", down.stdout);
    }
    outcome?;
    println!("\ndemo done after {} s", begun.elapsed().as_secs());
    Ok(())
}

impl Demo {
    fn prepare(bin: PathBuf) -> Result<Self, String> {
        let dir = target_dir().join("demo");
        let demo = Self { bin, home: dir.join("home"), work: dir.join("work") };
        for dir in [&demo.home, &demo.work] {
            std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        }
        let example = root().join("examples/research-desk");
        demo.copy_example(&example)?;
        let tar = dir.join("rootfs.tar");
        demo_image::build_rootfs_tar(&tar, &example.join("agents"))?;
        demo.import(&tar)?;
        Ok(demo)
    }

    /// Puts the example's Compose file back as it was.
    pub(crate) fn copy_example(&self, example: &Path) -> Result<(), String> {
        let from = example.join("compose.yaml");
        std::fs::copy(&from, self.work.join("compose.yaml"))
            .map_err(|e| format!("{}: {e}", from.display()))?;
        Ok(())
    }

    fn import(&self, tar: &Path) -> Result<(), String> {
        let marker = self.home.join("imported");
        let time = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
        let listed = self.casemate(&["image", "ls"])?.stdout.contains(IMAGE);
        if listed && time(&marker) > time(tar) {
            println!("image {IMAGE} is there");
            return Ok(());
        }
        section("image");
        self.must(&["image", "import", IMAGE, "--tar", &tar.to_string_lossy()])?;
        std::fs::write(&marker, "").map_err(|error| format!("{}: {error}", marker.display()))
    }

    fn show(&self, after: After) -> Result<(), String> {
        section("secrets: two random ones, given to the broker by standard input");
        let token = random_hex()?;
        demo_api::start(&token)?;
        self.put_secret("api_token", &token)?;
        self.put_secret("signing_key", &random_hex()?)?;
        section("policy: what the broker will ask for");
        self.must(&["policy", "write", "--force"])?;
        section("the lock, recomputed without Casemate: docs/measurement.md");
        let script = root().join("docs/recompute.py");
        let lock = self.work.join("compose.lock");
        run_command(Command::new("python3").arg("-I").arg(script).arg(lock), COMMAND_BOUND)?;

        section("casemate up");
        self.up()?;
        section("casemate ps");
        self.must(&["ps"])?;
        self.show_answer()?;
        self.show_evidence()?;

        demo_refusals::while_running(self)?;
        let down = self.casemate(&["down"])?;
        print!("{}", down.stdout);
        demo_refusals::at_start(self)?;
        if after == After::Keep {
            self.keep()?;
        }
        Ok(())
    }

    fn keep(&self) -> Result<(), String> {
        section("casemate up, once more");
        self.up()?;
        println!("the agents run; look at them with:");
        println!("  export CASEMATE_HOME={}", self.home.display());
        println!("  {} -p {PROJECT} ps", self.bin.join("casemate").display());
        println!("the API serves until Ctrl-C; stop the agents with `casemate -p {PROJECT} down`");
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    }

    fn up(&self) -> Result<(), String> {
        run_command(&mut self.command(&["up", "-d"]), COMMAND_BOUND)
    }

    fn put_secret(&self, name: &str, value: &str) -> Result<(), String> {
        let output =
            capture_with_input(&mut self.command(&["secret", "put", name]), value.as_bytes(), COMMAND_BOUND)?;
        print!("{}", output.stdout);
        succeeded("secret put", &output)
    }

    /// The work of the three agents: an answer from the API, signed, on a volume.
    fn show_answer(&self) -> Result<(), String> {
        section("the answer, signed by scribe, on the volume");
        let file = self.project_dir().join("volumes/answers/answer.json");
        let end = Instant::now() + WORK_BOUND;
        while Instant::now() < end {
            if let Ok(text) = std::fs::read_to_string(&file) {
                println!("{text}");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let logs = self.casemate(&["logs", "--tail", "20"])?;
        Err(format!("no answer in {} within {} s\n{}", file.display(), WORK_BOUND.as_secs(), logs.stdout))
    }

    fn show_evidence(&self) -> Result<(), String> {
        section("evidence about researcher, for a nonce, appraised offline");
        let nonce = random_hex()?;
        let file = self.evidence(&nonce)?;
        self.must(&["verify", &file, "--nonce", &nonce])
    }

    /// Brings evidence about researcher, and gives its file.
    pub(crate) fn evidence(&self, nonce: &str) -> Result<String, String> {
        let file = self.work.join("evidence.json").to_string_lossy().to_string();
        let output = self.casemate(&["attest", "researcher", "--nonce", nonce, "-o", &file])?;
        succeeded("attest", &output)?;
        Ok(file)
    }

    /// State of the project.
    pub(crate) fn project_dir(&self) -> PathBuf {
        self.home.join("projects").join(PROJECT)
    }

    /// A `casemate` command in the demo's folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.bin.join("casemate"));
        command.args(args).current_dir(&self.work).env("CASEMATE_HOME", &self.home);
        command
    }

    /// Runs it and takes its output.
    pub(crate) fn casemate(&self, args: &[&str]) -> Result<Output, String> {
        capture(&mut self.command(args), COMMAND_BOUND)
    }

    fn must(&self, args: &[&str]) -> Result<(), String> {
        println!("$ casemate {}", args.join(" "));
        run_command(&mut self.command(args), COMMAND_BOUND)
    }
}

/// An error where the command failed.
pub(crate) fn succeeded(what: &str, output: &Output) -> Result<(), String> {
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{what}: {}\n{}{}", output.status, output.stdout, output.stderr))
}

/// Prints a heading.
pub(crate) fn section(text: &str) {
    println!("\n== {text}");
}

/// 32 random bytes as hexadecimal digits.
pub(crate) fn random_hex() -> Result<String, String> {
    use std::io::Read as _;
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| format!("/dev/urandom: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
