//! `casemate plan`: what the files would change of what runs, or of a lock, before `up`.

mod foresight;

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use casemate_canon::Sha256;
use casemate_composition::{Lock, Plan};
use casemate_images::ImageError;
use casemate_protocol::Refusal;
use casemate_protocol::control::{ControlRequest, Reply};
use clap::Args;
use serde_json::json;

use self::foresight::Foresight;
use crate::cli::Global;
use crate::control;
use crate::failure::{Failure, Kind, Outcome};
use crate::inputs;
use crate::lines;
use crate::project::{ComposeFile, Project};
use crate::replicas::ScaleOptions;

/// What `--against` says for what runs.
const RUNNING: &str = "running";

/// What `plan` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate plan --against running",
    after_help = "Exit code 0: nothing changes; 3: something changes; 1 and 2: errors, the machine's too"
)]
pub(crate) struct PlanArgs {
    /// `running`, or a lock [default: what runs, else compose.lock beside the Compose file, else nothing]
    #[arg(long, value_name = "LOCK|running")]
    against: Option<String>,
    /// Policy to ask [default: the one that the Compose file names or policy.toml beside it, where it is there]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    scale: ScaleOptions,
}

/// What the files are compared with.
enum Before {
    Running(Lock),
    File(PathBuf, Lock),
    Nothing,
}

/// Compares. Exit code 0 where nothing changes, 3 where something does.
pub(crate) fn run(global: &Global, args: &PlanArgs) -> Outcome {
    plan(global, args).map_err(Failure::in_comparison)
}

fn plan(global: &Global, args: &PlanArgs) -> Outcome {
    let file = ComposeFile::find(global)?.scaled(&args.scale);
    let project = Project::of(global, &file)?;
    let lock = inputs::resolve(&file, &project)?;
    let before = before(args.against.as_deref(), &file, &project)?;
    let policy = policy(args.policy.as_deref(), &file)?;
    let plan = Plan::new(before.lock(), &lock, &sizes(&lock, &project)?)
        .map_err(|error| inputs::too_large(&error))?;
    let foresight = policy.map(|(path, policy)| Foresight::new(&path, policy.values(), &lock, &plan));
    if global.json {
        lines::print(json!({"against": before.describe(), "plan": plan, "policy": foresight}));
    } else {
        lines::print(format!(
            "project {}: what the files give now, against {}",
            project.name,
            before.describe()
        ));
        lines::print_bytes(plan.to_string().as_bytes());
        match &foresight {
            Some(foresight) => lines::print_bytes(foresight.to_string().as_bytes()),
            None => lines::print(format!(
                "policy none at {}: `casemate policy write` makes one, and `up` with a local broker needs it",
                inputs::policy_beside(&file)?.display()
            )),
        }
        lines::print(if plan.changed { "something changes" } else { "nothing changes" });
    }
    Ok(if plan.changed { Kind::Differs.code() } else { 0 })
}

impl Before {
    fn lock(&self) -> Option<&Lock> {
        match self {
            Self::Running(lock) | Self::File(_, lock) => Some(lock),
            Self::Nothing => None,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Running(_) => "what runs".to_owned(),
            Self::File(path, _) => path.display().to_string(),
            Self::Nothing => "nothing: no box runs, and there is no lock".to_owned(),
        }
    }
}

fn before(against: Option<&str>, file: &ComposeFile, project: &Project) -> Outcome<Before> {
    match against {
        Some(RUNNING) => Ok(Before::Running(running(project)?)),
        Some(path) => read(PathBuf::from(path)),
        // A crash leaves the socket, and nobody who answers there.
        None if UnixStream::connect(project.control_socket()).is_ok() => {
            Ok(Before::Running(running(project)?))
        }
        None => {
            let path = inputs::lock_beside(file)?;
            if path.exists() { read(path) } else { Ok(Before::Nothing) }
        }
    }
}

fn read(path: PathBuf) -> Outcome<Before> {
    let todo = "make it anew with `casemate lock`, or name another with `--against FILE`".to_owned();
    match inputs::read_lock(&path) {
        Ok(lock) => Ok(Before::File(path, lock)),
        Err(failure) => Err(Failure { todo, ..failure }),
    }
}

/// The lock that runs, which must be the one that the warden measured.
fn running(project: &Project) -> Outcome<Lock> {
    let Reply::Status { composition, .. } = control::ask(project, &ControlRequest::Status)? else {
        return Err(control::unexpected_reply());
    };
    let path = project.lock_file();
    let lock = inputs::read_lock(&path)?;
    let found = inputs::digest(&lock)?;
    if found == composition {
        return Ok(lock);
    }
    Err(Failure::input(
        format!("{}: its digest is {found}, and the composition that runs is {composition}", path.display()),
        "somebody changed that file: stop everything with `casemate down`, or name a lock with `--against FILE`",
    ))
}

/// The policy that was named, or the one beside the Compose file where there is one.
fn policy(named: Option<&Path>, file: &ComposeFile) -> Outcome<Option<(PathBuf, casemate_verifier::Policy)>> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => inputs::policy_beside(file)?,
    };
    if named.is_none() && !path.exists() {
        return Ok(None);
    }
    let policy = inputs::read_policy(&path)?;
    Ok(Some((path, policy)))
}

/// Refuses where this policy would refuse a box of this lock: asked before one that runs is ended for it.
pub(crate) fn require_admitted(path: &Path, lock: &Lock) -> Outcome<()> {
    match foreseen_refusal(path, lock)? {
        None => Ok(()),
        Some((whom, refusal)) => Err(Failure::refused(
            format!("{}: the policy would refuse {whom}; the box that runs goes on", path.display()),
            refusal,
            "where the change is meant, write the policy again with `casemate policy write --force`, then try again",
        )),
    }
}

/// What this policy would refuse of a box of this lock, and of whom.
pub(crate) fn foreseen_refusal(path: &Path, lock: &Lock) -> Outcome<Option<(String, Refusal)>> {
    let policy = inputs::read_policy(path)?;
    let plan = Plan::new(None, lock, &BTreeMap::new()).map_err(|error| inputs::too_large(&error))?;
    Ok(Foresight::new(path, policy.values(), lock, &plan).into_refusal())
}

/// Sizes of the root file systems that the store has.
fn sizes(lock: &Lock, project: &Project) -> Outcome<BTreeMap<Sha256, u64>> {
    let store = inputs::open_store(&project.home)?;
    let mut sizes = BTreeMap::new();
    for agent in lock.agents.values() {
        match store.info(&agent.image.manifest.to_string()) {
            Ok(info) => drop(sizes.insert(info.rootfs, info.rootfs_bytes)),
            Err(ImageError::NotFound { .. }) => {}
            Err(error) => return Err(inputs::image_failure(&error)),
        }
    }
    Ok(sizes)
}
