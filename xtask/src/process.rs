//! Runs other programs, each within a bound of time.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Time between two looks at a program.
const POLL: Duration = Duration::from_millis(10);
/// Most output that is kept of a program, in bytes.
const OUTPUT_BYTES_MAX: u64 = 64 << 20;

/// What a program wrote, and how it ended.
pub(crate) struct Output {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

/// The root of the work tree.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// Where cargo builds.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Cargo, in the root of the work tree.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Runs a program with its output on ours. An error where it fails or takes too long.
pub(crate) fn run(command: &mut Command, bound: Duration) -> Result<(), String> {
    let name = describe(command);
    let mut child = command.stdin(Stdio::null()).spawn().map_err(|error| format!("{name}: {error}"))?;
    let status = wait(&mut child, bound, &name)?;
    if status.success() { Ok(()) } else { Err(format!("{name}: {status}")) }
}

/// Runs a program and takes its output, whatever its exit code is.
pub(crate) fn capture(command: &mut Command, bound: Duration) -> Result<Output, String> {
    capture_with_input(command, b"", bound)
}

/// Likewise, with standard input.
pub(crate) fn capture_with_input(
    command: &mut Command,
    input: &[u8],
    bound: Duration,
) -> Result<Output, String> {
    let name = describe(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{name}: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input says why by its exit code.
        let _ = stdin.write_all(input);
    }
    let stdout = child.stdout.take().map(read_all);
    let stderr = child.stderr.take().map(read_all);
    let status = wait(&mut child, bound, &name)?;
    let text = |reader: Option<std::thread::JoinHandle<String>>| {
        reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
    };
    Ok(Output { status, stdout: text(stdout), stderr: text(stderr) })
}

/// Runs a program, standard output and error joined, and gives each line to `each`.
pub(crate) fn stream(
    command: &mut Command,
    bound: Duration,
    mut each: impl FnMut(&str),
) -> Result<ExitStatus, String> {
    let name = describe(command);
    let (reader, writer) = std::io::pipe().map_err(|error| format!("pipe: {error}"))?;
    let second = writer.try_clone().map_err(|error| format!("pipe: {error}"))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(second)
        .spawn()
        .map_err(|e| format!("{name}: {e}"))?;
    // The command keeps the writing ends; they must close for the reader to see the end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (send, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader.take(OUTPUT_BYTES_MAX)).split(b'\n') {
            let Ok(line) = line else { return };
            if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    let end = Instant::now() + bound;
    while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
        each(&line);
    }
    wait(&mut child, end.saturating_duration_since(Instant::now()), &name)
}

fn wait(child: &mut Child, bound: Duration, name: &str) -> Result<ExitStatus, String> {
    let end = Instant::now() + bound;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < end => std::thread::sleep(POLL),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{name}: not done within {} s", bound.as_secs()));
            }
            Err(error) => return Err(format!("{name}: {error}")),
        }
    }
}

fn read_all(reader: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = reader.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn describe(command: &Command) -> String {
    let program =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().to_string();
    let args: Vec<String> = command.get_args().take(4).map(|arg| arg.to_string_lossy().to_string()).collect();
    format!("{program} {}", args.join(" ")).trim_end().to_owned()
}
