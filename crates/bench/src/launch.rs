//! `launch`: time from the call to the first byte that a program inside prints, on one root file system.
//!
//! Two programs: one of 160 bytes, whose time is that of the compartment, and a static busybox of 2 MB, whose pages ours
//! reads from disk at each start (a private root shares no page cache) and the others find in memory. Ours includes the control group, the id-mapped EROFS mount, Landlock, the filter and the wait for the warden's byte;
//! bwrap and unshare have none of these, runc has the control group.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::native::Native;
use crate::statistics::quantile;

/// Rounds that count, and rounds before them.
const ROUNDS: usize = 30;
const WARM_UP: usize = 3;
const BOX: &str = "casemate-bench-launch";

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Runs the comparison.
pub(crate) fn run(launcher: &Path) -> Outcome<()> {
    let mut bench = Bench::prepare(launcher)?;
    for (title, command) in [
        ("first instruction: a program of 160 bytes", ["/bin/tiny", "x"]),
        ("first byte of a program of 2 MB: busybox echo", ["/bin/echo", "x"]),
    ] {
        bench.set_command(command)?;
        println!("{title}; median of {ROUNDS}, interleaved (ms)");
        compare(&bench)?;
        println!();
    }
    Ok(())
}

fn compare(bench: &Bench) -> Outcome<()> {
    type Candidate = (&'static str, fn(&Bench, usize) -> Outcome<Duration>);
    let candidates: [Candidate; 5] = [
        ("plain process", |bench, _| time_command(&mut bench.plain())),
        ("unshare (all namespaces, chroot)", |bench, _| time_command(&mut bench.unshare())),
        ("bwrap --unshare-all", |bench, _| time_command(&mut bench.bwrap())),
        ("casemate native", Bench::native),
        ("runc run", Bench::runc),
    ];
    let mut series = vec![Vec::new(); candidates.len()];
    for round in 0..WARM_UP + ROUNDS {
        for ((name, candidate), times) in candidates.iter().zip(&mut series) {
            let time = candidate(bench, round).map_err(|error| format!("{name}: {error}"))?;
            if round >= WARM_UP {
                times.push(time.as_secs_f64() * 1e3);
            }
        }
    }
    let ours = series.get(3).and_then(|times| quantile(times, 0.5)).ok_or("no times")?;
    println!("{:<34} {:>8} {:>8} {:>8}   ours / it", "", "min", "median", "p90");
    for ((name, _), times) in candidates.iter().zip(&series) {
        let at = |q| quantile(times, q).unwrap_or(f64::NAN);
        println!("{name:<34} {:>8.2} {:>8.2} {:>8.2}   {:.2}", at(0.0), at(0.5), at(0.9), ours / at(0.5));
    }
    Ok(())
}

/// One small root file system, as a folder, as an image and as a bundle, and the command to run on it.
pub(crate) struct Bench {
    dir: tempfile::TempDir,
    pub(crate) tree: PathBuf,
    native: Native,
    command: [&'static str; 2],
}

/// A static x86-64 program that writes one byte and ends: ELF header, one segment, eight instructions.
pub(crate) fn tiny_program() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const CODE: [u8; 37] = [
        0xbf, 1, 0, 0, 0, // mov edi, 1
        0x48, 0x8d, 0x35, 0x15, 0, 0, 0, // lea rsi, [rip + 21]: the byte after the code
        0xba, 1, 0, 0, 0, // mov edx, 1
        0xb8, 1, 0, 0, 0, // mov eax, 1 (write)
        0x0f, 5, // syscall
        0x31, 0xff, // xor edi, edi
        0xb8, 60, 0, 0, 0, // mov eax, 60 (exit)
        0x0f, 5, // syscall
        b'x', 0, 0, 0,
    ];
    let size = 120 + CODE.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    for half in [2_u16, 62] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1_u32.to_le_bytes());
    for word in [BASE + 120, 64, 0] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1_u32.to_le_bytes());
    elf.extend(5_u32.to_le_bytes());
    for word in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(CODE);
    elf
}

impl Bench {
    pub(crate) fn prepare(launcher: &Path) -> Outcome<Self> {
        let dir = tempfile::tempdir()?;
        let tree = dir.path().join("bundle/rootfs");
        for sub in ["bin", "proc", "dev", "tmp", "run", "etc", "sys"] {
            std::fs::create_dir_all(tree.join(sub))?;
        }
        std::fs::copy("/bin/busybox", tree.join("bin/busybox"))
            .map_err(|_| "busybox-static is not installed")?;
        std::os::unix::fs::symlink("busybox", tree.join("bin/echo"))?;
        std::fs::write(tree.join("bin/tiny"), tiny_program())?;
        std::fs::set_permissions(tree.join("bin/tiny"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        for file in ["hosts", "hostname", "resolv.conf"] {
            std::fs::write(tree.join("etc").join(file), "")?;
        }
        std::fs::create_dir(dir.path().join("run"))?;
        let bundle = dir.path().join("bundle");
        quiet(Command::new("runc").args(["spec", "--bundle"]).arg(&bundle))?;
        let native = Native::of(launcher, &tree, &dir.path().join("run"), BOX)?;
        Ok(Self { native, tree, command: ["/bin/tiny", "x"], dir })
    }

    pub(crate) fn set_command(&mut self, command: [&'static str; 2]) -> Outcome<()> {
        self.command = command;
        let config = self.dir.path().join("bundle/config.json");
        let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&config)?)?;
        if let Some(process) = spec.get_mut("process").and_then(|p| p.as_object_mut()) {
            process.insert("terminal".into(), false.into());
            process.insert("args".into(), command.to_vec().into());
        }
        Ok(std::fs::write(&config, serde_json::to_vec(&spec)?)?)
    }

    pub(crate) fn plain(&self) -> Command {
        let [program, argument] = self.command;
        let mut command = Command::new(self.tree.join(program.trim_start_matches('/')));
        command.arg(argument);
        command
    }

    pub(crate) fn bwrap(&self) -> Command {
        let mut command = Command::new("bwrap");
        command.args(["--unshare-all", "--ro-bind"]).arg(&self.tree).arg("/");
        command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run"]);
        command.args(self.command);
        command
    }

    pub(crate) fn unshare(&self) -> Command {
        let mut command = Command::new("unshare");
        command.args([
            "--map-root-user",
            "--pid",
            "--fork",
            "--mount",
            "--net",
            "--ipc",
            "--uts",
            "--cgroup",
        ]);
        command.args(["--time", "--mount-proc", "--root"]).arg(&self.tree).args(self.command);
        command
    }

    fn runc(&self, round: usize) -> Outcome<Duration> {
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.state()).arg("run").arg("--bundle");
        command.arg(self.bundle()).arg(format!("bench-{}-{round}", std::process::id()));
        time_command(&mut command)
    }

    /// Where runtimes keep their state.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// Folder of the bundle.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }

    /// The command that runs.
    pub(crate) const fn command(&self) -> [&'static str; 2] {
        self.command
    }

    /// One native compartment, to the first byte of its output.
    pub(crate) fn native(&self, round: usize) -> Outcome<Duration> {
        let began = Instant::now();
        let mut standing = self.native.start(&format!("r{round}"), &self.command)?;
        standing.first_byte()?;
        let time = began.elapsed();
        standing.end()?;
        Ok(time)
    }
}

/// From the call to the first byte of output.
pub(crate) fn time_command(command: &mut Command) -> Outcome<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let began = Instant::now();
    let mut child = command.spawn()?;
    let read = child.stdout.as_mut().ok_or("no output")?.read_exact(&mut [0; 1]);
    let time = began.elapsed();
    let status = child.wait()?;
    read.map_err(|error| format!("{error}; {status}"))?;
    Ok(time)
}

pub(crate) fn quiet(command: &mut Command) -> Outcome<()> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tiny_program_prints_x_and_ends_well() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("tiny");
        std::fs::write(&program, tiny_program()).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let output = Command::new(&program).output().unwrap();
        assert_eq!((output.stdout.as_slice(), output.status.code()), (&b"x"[..], Some(0)));
    }
}
