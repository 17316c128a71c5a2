//! `vm`: what a VM for each agent would take: Debian's kernel and one program, nothing else.
//!
//! What it is: the time from the call of QEMU to the first byte that the program prints on the serial port, and the memory
//! of QEMU while Python idles inside. What it is not: a confidential VM, or a fast one. Where the machine has no usable KVM,
//! QEMU emulates the processor, which the output says; the figures are then above what a VM takes on hardware.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::project::Process;
use super::report::not_run;
use super::{Outcome, Setup, cost, memory};
use crate::launch::tiny_program;
use crate::statistics::quantile;

/// Memory of the guest: below it, Python's files do not fit beside the kernel.
const MEMORY_MIB: u32 = 128;
/// Starts that count. A start takes seconds where the processor is emulated.
const ROUNDS: usize = 10;
const WARM_UP: usize = 1;
/// Time for a start.
const BOUND: Duration = Duration::from_secs(60);
/// Time for QEMU to say whether it has a processor.
const PROBE_BOUND: Duration = Duration::from_secs(10);
/// Time for an agent to become idle.
const SETTLE: Duration = Duration::from_secs(2);
/// What the idle program prints when it is ready.
const READY: &str = "ready";
/// Python's program and what it is linked with, in Debian's layout.
const PYTHON: [&str; 6] = [
    "usr/bin/python3",
    "usr/lib64/ld-linux-x86-64.so.2",
    "usr/lib/x86_64-linux-gnu/libc.so.6",
    "usr/lib/x86_64-linux-gnu/libm.so.6",
    "usr/lib/x86_64-linux-gnu/libz.so.1",
    "usr/lib/x86_64-linux-gnu/libexpat.so.1",
];
const LIBRARY: &str = "usr/lib/python3.11";

pub(super) fn run(setup: &Setup) -> Outcome<()> {
    let boot = setup.work.join("vm-kernel/boot");
    let kernel = fs::read_dir(&boot)
        .map_err(|error| format!("{}: {error}", boot.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz")))
        .ok_or("no kernel was unpacked")?;
    let dir = tempfile::tempdir()?;
    let machine = Machine { kernel, dir: dir.path().to_owned(), accelerator: accelerator() };
    println!(
        "one VM for one agent: Debian's kernel, {MEMORY_MIB} MiB of memory, accelerator `{}`",
        machine.accelerator
    );
    match machine.starts() {
        Ok(times) => {
            let at = |q| quantile(&times, q).unwrap_or(f64::NAN);
            println!(
                "first instruction, ms; {ROUNDS} starts: min {:.0}, median {:.0}, p90 {:.0}",
                at(0.0),
                at(0.5),
                at(0.9)
            );
        }
        Err(error) => not_run("start of a VM", error),
    }
    match machine.idle_python(&cost::Tools::unpacked(setup)?) {
        Ok(mib) => println!("one idle Python agent, MiB of PSS of QEMU: {mib:.1}"),
        Err(error) => not_run("memory of a VM", error),
    }
    Ok(())
}

/// `kvm` where a virtual processor can be made, else `tcg`.
fn accelerator() -> &'static str {
    let mut probe = qemu("kvm");
    probe.args(["-S", "-monitor", "stdio"]);
    let probe = probe.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let works = probe.and_then(|mut child| {
        if let Some(mut monitor) = child.stdin.take() {
            let _ = monitor.write_all(b"quit\n");
        }
        let end = Instant::now() + PROBE_BOUND;
        while child.try_wait()?.is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        // One that ended is left as it is.
        child.kill()?;
        child.wait()
    });
    if works.is_ok_and(|status| status.success()) { "kvm" } else { "tcg" }
}

/// A machine without devices.
fn qemu(accelerator: &str) -> Command {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-machine", "q35", "-accel", accelerator, "-cpu", "max", "-m", &MEMORY_MIB.to_string()]);
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    qemu
}

struct Machine {
    kernel: PathBuf,
    dir: PathBuf,
    accelerator: &'static str,
}

impl Machine {
    fn starts(&self) -> Outcome<Vec<f64>> {
        let mut archive = Archive::new();
        archive.file("init", &tiny_program())?;
        let archive = archive.end(&self.dir.join("tiny.cpio"))?;
        let mut times = Vec::new();
        for round in 0..WARM_UP + ROUNDS {
            let began = Instant::now();
            let guest = self.boot(&archive)?;
            let time = self.wait_for("x", began)?;
            drop(guest);
            if round >= WARM_UP {
                times.push(time.as_secs_f64() * 1e3);
            }
        }
        Ok(times)
    }

    fn idle_python(&self, tools: &cost::Tools) -> Outcome<f64> {
        let mut archive = Archive::new();
        for name in PYTHON {
            archive.file(name, &fs::read(tools.tree().join(name))?)?;
        }
        archive.folder(tools.tree(), Path::new(LIBRARY))?;
        for (name, target) in [("lib", "usr/lib"), ("lib64", "usr/lib64")] {
            archive.entry(name, 0o120_777, target.as_bytes(), (0, 0))?;
        }
        let idle = memory::PROGRAM.replace("time; ", &format!("time; print('{READY}', flush=True); "));
        archive.file("init", format!("#!/usr/bin/python3 -IS\n{idle}\n").as_bytes())?;
        let archive = archive.end(&self.dir.join("python.cpio"))?;
        let began = Instant::now();
        let guest = self.boot(&archive)?;
        self.wait_for(READY, began)?;
        std::thread::sleep(SETTLE);
        memory::proportional(guest.0.id())
    }

    fn serial(&self) -> PathBuf {
        self.dir.join("serial")
    }

    fn boot(&self, archive: &Path) -> Outcome<Process> {
        let _ = fs::remove_file(self.serial());
        let mut qemu = qemu(self.accelerator);
        qemu.arg("-serial").arg(format!("file:{}", self.serial().display()));
        qemu.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(archive);
        qemu.args(["-append", "console=ttyS0 quiet loglevel=0 panic=-1"]);
        let said = fs::File::create(self.dir.join("said"))?;
        Ok(Process(qemu.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said).spawn()?))
    }

    /// Until the guest has printed this.
    fn wait_for(&self, text: &str, began: Instant) -> Outcome<Duration> {
        loop {
            if fs::read_to_string(self.serial()).is_ok_and(|printed| printed.contains(text)) {
                return Ok(began.elapsed());
            }
            if began.elapsed() > BOUND {
                let said = fs::read_to_string(self.dir.join("said")).unwrap_or_default();
                return Err(format!("nothing was printed in {} s: {said}", BOUND.as_secs()).into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// An initial file system: a cpio archive in the `newc` format (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    folders: std::collections::BTreeSet<PathBuf>,
}

impl Archive {
    fn new() -> Self {
        Self { bytes: Vec::new(), entries: 0, folders: std::collections::BTreeSet::new() }
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8], device: (u32, u32)) -> Outcome<()> {
        self.entries += 1;
        let (size, name_size) = (u32::try_from(data.len())?, u32::try_from(name.len() + 1)?);
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            write!(self.bytes, "{field:08X}")?;
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(data);
        self.align();
        Ok(())
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// A file, and the folders above it.
    fn file(&mut self, name: &str, data: &[u8]) -> Outcome<()> {
        let above: Vec<PathBuf> = Path::new(name).ancestors().skip(1).map(Path::to_owned).collect();
        for folder in above.into_iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
            if self.folders.insert(folder.clone()) {
                self.entry(&folder.to_string_lossy(), 0o40_755, &[], (0, 0))?;
            }
        }
        self.entry(name, 0o100_755, data, (0, 0))
    }

    /// All plain files below a folder.
    fn folder(&mut self, root: &Path, folder: &Path) -> Outcome<()> {
        for entry in fs::read_dir(root.join(folder))? {
            let entry = entry?;
            let name = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.folder(root, &name)?;
            } else if entry.file_type()?.is_file() {
                self.file(&name.to_string_lossy(), &fs::read(entry.path())?)?;
            }
        }
        Ok(())
    }

    /// With a console for the first process.
    fn end(mut self, path: &Path) -> Outcome<PathBuf> {
        self.entry("dev", 0o40_755, &[], (0, 0))?;
        self.entry("dev/console", 0o20_600, &[], (5, 1))?;
        self.entry("TRAILER!!!", 0, &[], (0, 0))?;
        fs::write(path, self.bytes)?;
        Ok(path.to_owned())
    }
}
