//! Where the other programs are: beside this one.

use std::path::PathBuf;

use crate::failure::{Failure, Outcome};

/// A program of the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// Supervisor in the box.
    Warden,
    /// Confines one agent.
    Launcher,
    /// Carries bytes between agents.
    Gateway,
    /// Talks to the broker.
    Courier,
    /// Verifier and relying party.
    Broker,
    /// Stands in for the hardware.
    Emulator,
    /// Plays victim and attacker.
    Probe,
}

impl Program {
    /// The programs in the box, in the order in which they are measured.
    pub(crate) const IN_THE_BOX: [Self; 4] = [Self::Warden, Self::Launcher, Self::Gateway, Self::Courier];

    /// Short name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Warden => "warden",
            Self::Launcher => "launcher",
            Self::Gateway => "gateway",
            Self::Courier => "courier",
            Self::Broker => "broker",
            Self::Emulator => "emulator",
            Self::Probe => "probe",
        }
    }

    /// Its file.
    pub(crate) fn path(self) -> Outcome<PathBuf> {
        let path = own_path()?.with_file_name(format!("casemate-{}", self.name()));
        if path.is_file() {
            return Ok(path);
        }
        Err(Failure::environment(
            format!("{}: no such program", path.display()),
            "build all programs into one folder with `cargo xtask dist`, and run `casemate` from there",
        ))
    }
}

/// The file of this program.
pub(crate) fn own_path() -> Outcome<PathBuf> {
    std::env::current_exe().map_err(|error| {
        Failure::environment(format!("own program file: {error}"), "mount /proc, then try again")
    })
}
