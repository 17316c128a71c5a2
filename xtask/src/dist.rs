//! `cargo xtask dist`: all programs side by side, the launcher without a dynamic loader.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{cargo, run as run_command, target_dir};

/// Programs that are built as usual: package and program.
const PROGRAMS: [(&str, &str); 6] = [
    ("casemate", "casemate"),
    ("casemate-warden", "casemate-warden"),
    ("casemate-gateway", "casemate-gateway"),
    ("casemate-courier", "casemate-courier"),
    ("casemate-broker", "casemate-broker"),
    ("casemate-emulator", "casemate-emulator"),
];
/// The static programs: one has root and nothing else, the other one runs in any agent's root.
const LAUNCHER: &str = "casemate-launcher";
const PROBE: &str = "casemate-probe";
/// Its target. With a target named, its flags do not touch the other builds.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Flags of the static build: position-dependent, so that the kernel starts it without relocating it.
const STATIC_FLAGS: &str = "-C target-feature=+crt-static -C relocation-model=static";
/// Time for a build from nothing.
const BUILD_BOUND: Duration = Duration::from_secs(1800);
/// Time to take symbols out of a program.
const STRIP_BOUND: Duration = Duration::from_secs(30);
/// Program header type of the dynamic loader's path (ELF specification, PT_INTERP).
const PT_INTERP: u32 = 3;

/// Builds, and gives the folder.
pub(crate) fn run() -> Result<PathBuf, String> {
    run_as(Profile::Dev)
}

/// Builds in a profile, and gives the folder.
pub(crate) fn run_as(profile: Profile) -> Result<PathBuf, String> {
    let mut args = vec!["build", "--quiet"];
    for (package, _) in PROGRAMS {
        args.extend(["--package", package]);
    }
    let (folder, place) = match profile {
        Profile::Dev => ("debug", "dist/bin"),
        Profile::Release => {
            args.push("--release");
            ("release", "dist/release")
        }
    };
    run_command(&mut cargo(&args), BUILD_BOUND)?;
    let launcher = launcher(profile)?;
    let probe = probe(profile)?;
    let bin = target_dir().join(place);
    std::fs::create_dir_all(&bin).map_err(|error| format!("{}: {error}", bin.display()))?;
    for (_, program) in PROGRAMS {
        install(&target_dir().join(folder).join(program), &bin.join(program))?;
    }
    install(&launcher, &bin.join(LAUNCHER))?;
    install(&probe, &bin.join(PROBE))?;
    // It is handed to compartments in memory: what only debuggers read is left out.
    run_command(Command::new("strip").arg("--strip-all").arg(bin.join(PROBE)), STRIP_BOUND)?;
    Ok(bin)
}

/// How a program is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// For the demo and the tests.
    Dev,
    /// For measurements.
    Release,
}

/// Builds the static launcher, and gives its file.
pub(crate) fn launcher(profile: Profile) -> Result<PathBuf, String> {
    static_program(LAUNCHER, profile)
}

/// Builds the static probe, and gives its file.
fn probe(profile: Profile) -> Result<PathBuf, String> {
    static_program(PROBE, profile)
}

fn static_program(name: &str, profile: Profile) -> Result<PathBuf, String> {
    let mut build = cargo(&["build", "--quiet", "--package", name, "--target", TARGET]);
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Release => {
            build.arg("--release");
            "release"
        }
    };
    run_command(build.env("RUSTFLAGS", STATIC_FLAGS), BUILD_BOUND)?;
    let program = target_dir().join(TARGET).join(folder).join(name);
    let bytes = std::fs::read(&program).map_err(|error| format!("{}: {error}", program.display()))?;
    if needs_loader(&bytes) != Some(false) {
        return Err(format!("{} is not a static program", program.display()));
    }
    Ok(program)
}

/// Copies a program beside and renames it, as the old one may run.
fn install(from: &Path, to: &Path) -> Result<(), String> {
    let new = to.with_extension("new");
    std::fs::copy(from, &new).map_err(|error| format!("{}: {error}", from.display()))?;
    std::fs::rename(&new, to).map_err(|error| format!("{}: {error}", to.display()))
}

/// Whether an ELF file for 64-bit little-endian machines asks for a dynamic loader; none for other files.
fn needs_loader(elf: &[u8]) -> Option<bool> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(elf.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(elf.get(at..at + 8)?.try_into().ok()?));
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let table = usize::try_from(u64_at(0x20)?).ok()?;
    let (size, count) = (usize::from(u16_at(0x36)?), usize::from(u16_at(0x38)?));
    for index in 0..count {
        if u32_at(table.checked_add(size * index)?)? == PT_INTERP {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_dynamic_programs_from_other_files() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(needs_loader(&own), Some(true));
        assert_eq!(needs_loader(b"#!/bin/sh\n"), None);
        assert_eq!(needs_loader(&own[..40]), None);
    }
}
