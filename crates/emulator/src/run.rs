//! From the command line to a mounted file system, and back to nothing.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use casemate_testkit::{DevPki, PkiError};
use fuser::{Config, MountOption, Session};
use rustix::mount::UnmountFlags;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Arguments;
use crate::launch::{LaunchMeasurements, MeasureError};
use crate::outputs;
use crate::platform::Machine;
use crate::tree::Tree;

const BANNER: &str = "\
#####################################################################
##  casemate-emulator: ALL EVIDENCE IS SIMULATED.                  ##
##  It proves nothing and protects nothing. Development only.      ##
#####################################################################";

/// How often the emulator looks whether somebody else unmounted it.
const UNMOUNTED_POLL: Duration = Duration::from_millis(200);

/// Why the emulator did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A program could not be measured.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// No development PKI.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The state directory cannot be written.
    #[error("state directory {path}: {source}")]
    State { path: PathBuf, source: io::Error },
    /// The mount failed.
    #[error("cannot mount on {path}: {source}")]
    Mount { path: PathBuf, source: io::Error },
    /// The environment lacks something.
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
    /// The clock shows a time before 1970.
    #[error("the clock shows a time before 1970")]
    Clock,
    /// clap demands both unless reference values are asked for.
    #[error("--mount or --composition-digest is missing")]
    Incomplete,
}

impl Failure {
    /// The second line of the message.
    pub(crate) fn what_to_do(&self) -> &'static str {
        match self {
            Self::Measure(_) => "give every program that runs in the box with --program",
            Self::Pki(_) => "remove the `pki` directory under --state to make a new development PKI",
            Self::State { .. } => "give a directory that this user may write with --state",
            Self::Mount { .. } => "run as root, with /dev/fuse, and give an existing directory with --mount",
            Self::System { .. } => "check the limits of this process",
            Self::Clock => "set the clock",
            Self::Incomplete => "give both, or --print-reference-values",
        }
    }
}

/// Runs until a signal, or until somebody unmounts.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    eprintln!("{BANNER}");
    let launch = LaunchMeasurements::of(&arguments.programs)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| Failure::Clock)?.as_secs();
    let tee = arguments.platform.tee();
    // One directory a kind, so that a state directory serves both.
    let pki = DevPki::load_or_generate(&arguments.state.join("pki").join(tee.to_string()), tee, now)?;
    let reference_values = outputs::reference_values(&pki, &launch);
    outputs::write(&arguments.state, &reference_values, &pki)
        .map_err(|source| Failure::State { path: arguments.state.clone(), source })?;
    if arguments.print_reference_values {
        return say(&format!("{reference_values:#}"));
    }
    let (Some(mount), Some(composition)) = (&arguments.mount, arguments.composition_digest) else {
        return Err(Failure::Incomplete);
    };
    serve(mount, Tree::new(Machine::new(pki, launch, composition)))
}

fn serve(mount: &Path, tree: Tree) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::System { what: "cannot start the runtime", source })?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let failed = |source| Failure::Mount { path: mount.to_owned(), source };
        let mut config = Config::default();
        // Not allow_other: the kernel then lets in the mounting user, root, alone.
        config.mount_options = vec![
            MountOption::FSName("casemate-emulator".into()),
            MountOption::Subtype("configfs-tsm".into()),
            MountOption::NoExec,
            MountOption::NoDev,
            MountOption::NoSuid,
        ];
        let session = Session::new(tree, mount, &config).and_then(Session::spawn).map_err(failed)?;
        say("ready")?;
        loop {
            tokio::select! {
                () = signals.received() => break,
                () = tokio::time::sleep(UNMOUNTED_POLL) => {
                    if session.guard.is_finished() {
                        return Ok(());
                    }
                }
            }
        }
        // Detach: somebody who holds a file open must not keep the mount. The session object would unmount the same
        // path once more, whatever lies there by then, so it is not dropped; the process ends next.
        let unmounted = rustix::mount::unmount(mount, UnmountFlags::DETACH);
        std::mem::forget(session);
        unmounted.map_err(|errno| failed(errno.into()))
    })
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let failed = |source| Failure::System { what: "cannot listen for signals", source };
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn say(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|source| Failure::System { what: "cannot write to standard output", source })
}
