//! OCI runtimes that are there: one way to run one program on the bundle of the measurement.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A runtime, and how it is called.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    pub(crate) name: &'static str,
    program: PathBuf,
    options: &'static [&'static str],
}

/// Debian's runtimes, found in PATH.
const CRUN: (&str, &[&str]) = ("crun", &[]);
const RUNC: (&str, &[&str]) = ("runc", &[]);
/// Names gVisor's program, for Casemate too.
pub(crate) const RUNSC_VARIABLE: &str = "CASEMATE_RUNSC";
/// gVisor as the backend uses it: without a network of its own, limits by whoever starts it.
const RUNSC: (&str, &[&str]) = ("runsc", &["--platform=systrap", "--network=none", "--ignore-cgroups"]);

impl Runtime {
    /// A runtime of Debian's, where it is installed.
    fn installed((name, options): (&'static str, &'static [&'static str])) -> Result<Self, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program =
            std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
        Ok(Self { name, program: program.ok_or("it is not installed")?, options })
    }

    pub(crate) fn crun() -> Result<Self, String> {
        Self::installed(CRUN)
    }

    pub(crate) fn runc() -> Result<Self, String> {
        Self::installed(RUNC)
    }

    /// Built by `cargo xtask bench compartments --build-youki`, as no Debian package has it.
    pub(crate) fn youki(work: &Path) -> Result<Self, String> {
        let program = work.join("youki/bin/youki");
        if !program.is_file() {
            return Err(
                "it is not built: `cargo xtask bench compartments --build-youki` does, in some 15 minutes"
                    .into(),
            );
        }
        Ok(Self { name: "youki", program, options: &[] })
    }

    /// Named, unpacked below `target/`, or installed.
    pub(crate) fn runsc(work: &Path) -> Result<Self, String> {
        let named = std::env::var_os(RUNSC_VARIABLE).map(PathBuf::from);
        let found = named.into_iter().chain([work.join("../gvisor/runsc")]).find(|file| file.is_file());
        match found {
            Some(program) => Ok(Self { name: RUNSC.0, program, options: RUNSC.1 }),
            None => Self::installed(RUNSC),
        }
    }

    /// Its file.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Runs the bundle to its end.
    pub(crate) fn run(&self, state: &Path, bundle: &Path, id: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(state).args(self.options).arg("run").arg("--bundle").arg(bundle).arg(id);
        command
    }

    /// Takes away what a run that did not end has left.
    pub(crate) fn delete(&self, state: &Path, id: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(state).args(self.options).args(["delete", "--force", id]);
        command
    }
}
