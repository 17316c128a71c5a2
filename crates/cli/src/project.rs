//! Where a project's files are: its name, the Compose file's folder, and its state below `CASEMATE_HOME`.

use std::fs;
use std::path::{Path, PathBuf};

use casemate_composition::lock::AgentName;

use crate::cli::Global;
pub(crate) use crate::composition::ComposeFile;
use crate::failure::{Failure, Outcome};
use crate::inputs;

/// Where state is kept when `CASEMATE_HOME` is not set.
pub(crate) const HOME_DEFAULT: &str = "/var/lib/casemate";
/// Longest path of a Unix socket in bytes (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The root directory.
#[derive(Debug, Clone)]
pub(crate) struct Home(pub(crate) PathBuf);

impl Home {
    /// From `CASEMATE_HOME` or the default.
    pub(crate) fn find() -> Outcome<Self> {
        let path =
            std::env::var_os("CASEMATE_HOME").map_or_else(|| PathBuf::from(HOME_DEFAULT), PathBuf::from);
        if path.is_absolute() {
            return Ok(Self(path));
        }
        let here = std::env::current_dir().map_err(|error| {
            Failure::environment(format!("current folder: {error}"), "change to a folder that exists")
        })?;
        Ok(Self(here.join(path)))
    }

    /// The image store.
    pub(crate) fn images(&self) -> PathBuf {
        self.0.join("images")
    }
}

/// One project's state.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    /// Its name.
    pub(crate) name: AgentName,
    /// Its state folder.
    pub(crate) dir: PathBuf,
    /// The root directory.
    pub(crate) home: Home,
}

impl Project {
    /// The project named by `-p`, by `name:` in the Compose file, or by the Compose file's folder.
    pub(crate) fn find(global: &Global) -> Outcome<Self> {
        match &global.project {
            Some(name) => Self::named(name),
            None => Self::of(global, &ComposeFile::find(global)?),
        }
    }

    /// The project of a Compose file.
    pub(crate) fn of(global: &Global, file: &ComposeFile) -> Outcome<Self> {
        if let Some(name) = &global.project {
            return Self::named(name);
        }
        Self::named(inputs::parse(file)?.project().as_str())
    }

    /// A project of another name in the same root directory.
    pub(crate) fn beside(&self, name: &AgentName) -> Outcome<Self> {
        Self::named(name.as_str())
    }

    fn named(name: &str) -> Outcome<Self> {
        let name: AgentName = name
            .parse()
            .map_err(|error| Failure::input(format!("project {error}"), "name the project with `-p NAME`"))?;
        let home = Home::find()?;
        let dir = home.0.join("projects").join(name.as_str());
        let project = Self { name, dir, home };
        let socket = project.supervisor_socket();
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(Failure::input(
                format!(
                    "path of {} bytes for a socket, at most {SOCKET_PATH_BYTES_MAX} are possible: {}",
                    socket.as_os_str().len(),
                    socket.display()
                ),
                "set CASEMATE_HOME to a shorter path",
            ));
        }
        Ok(project)
    }

    /// Makes the state folders that do not exist yet; only root may look into them.
    pub(crate) fn create_dirs(&self) -> Outcome<()> {
        for dir in
            [self.home.0.clone(), self.home.0.join("projects"), self.dir.clone(), self.logs(), self.run()]
        {
            inputs::make_dir(&dir)?;
        }
        Ok(())
    }

    /// Copy of the lock that runs.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.dir.join(inputs::LOCK_NAME)
    }
    /// Broker state.
    pub(crate) fn broker(&self) -> PathBuf {
        self.dir.join("broker")
    }
    /// Whether its broker has the state of another project's: it is a one-off box of that one.
    pub(crate) fn shares_broker(&self) -> bool {
        self.broker().is_symlink()
    }
    /// Emulator state.
    pub(crate) fn emulator(&self) -> PathBuf {
        self.dir.join("emulator")
    }
    /// Log files.
    pub(crate) fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }
    /// What an agent wrote.
    pub(crate) fn agent_log(&self, agent: &AgentName) -> PathBuf {
        self.logs().join(format!("{agent}.log"))
    }
    /// What one of our programs wrote.
    pub(crate) fn program_log(&self, program: &str) -> PathBuf {
        self.logs().join(format!("box-{program}.txt"))
    }
    /// What exists only while the box runs.
    pub(crate) fn run(&self) -> PathBuf {
        self.dir.join("run")
    }
    /// Where the emulator's file system is mounted.
    pub(crate) fn tsm(&self) -> PathBuf {
        self.run().join("tsm")
    }
    /// The warden's socket.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.run().join("control.sock")
    }
    /// The supervisor's socket.
    pub(crate) fn supervisor_socket(&self) -> PathBuf {
        self.run().join("supervisor.sock")
    }
    /// Held by the supervisor for as long as it lives.
    pub(crate) fn run_lock(&self) -> PathBuf {
        self.run().join("lock")
    }
    /// The event log.
    pub(crate) fn events(&self) -> PathBuf {
        self.dir.join("events.jsonl")
    }
    /// Why the last box ended, where nobody asked it to.
    pub(crate) fn last_end(&self) -> PathBuf {
        self.dir.join("last-end.json")
    }
    /// Named volumes.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.dir.join("volumes")
    }

    /// The failure where something is asked of a project that was never started.
    pub(crate) fn never_run(&self) -> Failure {
        Failure::environment(format!("project {} has never run", self.name), "start it with `casemate up`")
    }

    /// Removes a file or folder of the project that may not be there.
    pub(crate) fn remove(path: &Path) -> Outcome<()> {
        let removed = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::environment(
                format!("{}: {error}", path.display()),
                "remove it by hand, then try again",
            )),
            _ => Ok(()),
        }
    }
}
