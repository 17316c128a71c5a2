//! The supervisor: host and hypervisor of the development box.
//!
//! It is `casemate` started once more, in a session and a mount namespace of its own. It starts broker, emulator and
//! warden, waits, and stops all of them as soon as one ends or it is told to. Mounts die with its namespace, and
//! processes with it: it is the reaper of all that descends from it. It holds the project's lease.
//! What it is not: trusted. On hardware, the real host takes its place.

mod child;
mod last_end;
mod lease;
mod serve;
mod sweep;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

pub(crate) use child::{ChildArgs, become_program as child};
pub(crate) use last_end::LastEnd;
pub(crate) use lease::Lease;
pub(crate) use serve::{StopRequest, ask_to_stop};
pub(crate) use sweep::clean;

use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::lines;
use crate::programs::Program;
use crate::project::{Home, Project};
use child::Running;

/// Time a program has to say `ready`.
const READY_BOUND: Duration = Duration::from_secs(60);
/// Time broker and emulator have to end.
const STOP_BOUND: Duration = Duration::from_secs(5);
/// Time the warden has on top of the longest grace time of an agent.
const WARDEN_STOP_BOUND: Duration = Duration::from_secs(10);
/// Time to wait for an earlier supervisor of the project that is on its way out.
const LEASE_BOUND: Duration = Duration::from_secs(2);

/// Which hardware the emulator stands in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Platform {
    /// Intel TDX.
    Tdx,
    /// AMD SEV-SNP.
    Snp,
}

impl Platform {
    /// Name in files and arguments.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tdx => "tdx",
            Self::Snp => "snp",
        }
    }
}

/// What the supervisor takes.
#[derive(Args, Debug, Clone)]
pub(crate) struct SupervisorArgs {
    /// Project name.
    #[arg(long)]
    pub(crate) name: String,
    /// State folder.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Root directory.
    #[arg(long)]
    pub(crate) home: PathBuf,
    /// What the emulator stands in for.
    #[arg(long)]
    pub(crate) platform: Platform,
    /// Policy of the local broker.
    #[arg(long)]
    pub(crate) policy: Option<PathBuf>,
    /// Another broker.
    #[arg(long)]
    pub(crate) broker: Option<String>,
    /// Its certificate.
    #[arg(long)]
    pub(crate) broker_cert: Option<PathBuf>,
    /// Controls that may be weaker than asked for.
    #[arg(long)]
    pub(crate) allow_weaker: Vec<String>,
    /// Agents that start with the box; none named means all.
    #[arg(long)]
    pub(crate) start: Vec<String>,
}

/// One step of the box's start, a JSON line on standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// `broker`, `emulator`, `warden`.
    pub(crate) step: String,
    /// Whether it is done.
    pub(crate) done: bool,
    /// Time it took.
    pub(crate) elapsed_ms: u64,
    /// A remark.
    pub(crate) detail: String,
    /// What happened and what to do, where it failed.
    pub(crate) failed: Option<(String, String)>,
}

/// What the broker says when it is ready.
#[derive(Debug, Deserialize)]
struct Broker {
    url: String,
    certificate: PathBuf,
}

/// The last step: after it, standard output is closed.
pub(crate) const LAST_STEP: &str = "warden";

/// The supervisor's life.
pub(crate) fn run(args: SupervisorArgs) -> Outcome {
    let name =
        args.name.parse().map_err(|error| Failure::input(format!("project {error}"), "use `casemate up`"))?;
    let project = Project { name, dir: args.dir.clone(), home: Home(args.home.clone()) };
    isolate()?;
    let Some(lease) = Lease::wait(&project, LEASE_BOUND)? else {
        return Err(already_running(&project));
    };
    clean(&project)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::environment(format!("event loop: {error}"), "free some descriptors, then try again")
    })?;
    LastEnd::forget(&project)?;
    let outcome = runtime.block_on(supervise(&project, &args));
    sweep::thaw(&project);
    sweep::kill_descendants();
    if let Err(failure) = &outcome {
        LastEnd::keep(&project, failure);
    }
    let cleaned = clean(&project);
    if let (Err(_), Err(second)) = (&outcome, &cleaned) {
        lines::note(second);
    }
    drop(lease);
    outcome.and(cleaned).map(|()| 0)
}

/// Another supervisor holds the project.
pub(crate) fn already_running(project: &Project) -> Failure {
    Failure::environment(
        format!("project {} runs already", project.name),
        format!("stop it with `casemate -p {0} down`, or look at it with `casemate -p {0} ps`", project.name),
    )
}

/// Leaves the caller's session and mount namespace, and becomes the reaper of all descendants.
fn isolate() -> Outcome<()> {
    let failed = |what: &str, error: rustix::io::Errno| {
        Failure::environment(format!("{what}: {error}"), "run `casemate up` as root: it mounts file systems")
    };
    // The shell's open files are not for the programs of the box.
    casemate_sys::process::keep_descriptors_from_children()
        .map_err(|error| failed("inherited descriptors", error))?;
    // A process that leads a session already cannot make one, and needs none.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|e| failed("subreaper", e))?;
    #[expect(deprecated, reason = "the unsafe form differs only for FILES, which is not asked for")]
    rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNS).map_err(|e| failed("mount namespace", e))?;
    let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(|e| failed("private mounts", e))
}

async fn supervise(project: &Project, args: &SupervisorArgs) -> Outcome<()> {
    // Before anything is started: from here on, SIGTERM means an orderly stop.
    let mut stop = serve::StopListener::open(project)?;
    let mut running = Vec::new();
    let started = tokio::select! {
        started = start(project, args, &mut running) => started,
        request = stop.next() => { stop_all(project, &mut running, request).await; return Ok(()); }
    };
    if let Err(failure) = started {
        report(&Step {
            step: "failed".into(),
            done: false,
            elapsed_ms: 0,
            detail: String::new(),
            failed: Some((failure.what.clone(), failure.todo.clone())),
        });
        stop_all(project, &mut running, StopRequest::default()).await;
        return Err(failure);
    }
    // `up` takes the closed pipe as the end of the start.
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(null);
    }
    let (ended, request) = tokio::select! {
        failure = first_end(&mut running) => (Some(failure), StopRequest::default()),
        request = stop.next() => (None, request),
    };
    if let Some(failure) = &ended {
        lines::note(failure);
    }
    stop_all(project, &mut running, request).await;
    ended.map_or(Ok(()), Err)
}

async fn start(project: &Project, args: &SupervisorArgs, running: &mut Vec<Running>) -> Outcome<()> {
    let (url, certificate) = match (&args.broker, &args.broker_cert) {
        (Some(url), Some(certificate)) => (url.clone(), certificate.clone()),
        _ => {
            let arguments = broker_arguments(project, args)?;
            let line = begin(project, running, Program::Broker, &arguments).await?;
            let broker: Broker = serde_json::from_str(&line).map_err(|error| {
                Failure::environment(format!("answer of the broker: {error}"), "use programs of one build")
            })?;
            (broker.url, broker.certificate)
        }
    };
    let tsm = project.tsm();
    inputs::make_dir(&tsm)?;
    let arguments = emulator_arguments(project, args, &tsm)?;
    begin(project, running, Program::Emulator, &arguments).await?;
    let arguments = warden_arguments(project, args, &tsm, &url, certificate)?;
    begin(project, running, Program::Warden, &arguments).await?;
    Ok(())
}

async fn begin(
    project: &Project,
    running: &mut Vec<Running>,
    program: Program,
    arguments: &[OsString],
) -> Outcome<String> {
    let begun = Instant::now();
    let step = |done, detail: &str| Step {
        step: program.name().into(),
        done,
        elapsed_ms: begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
        detail: detail.into(),
        failed: None,
    };
    report(&step(false, ""));
    // Kept before it is awaited: a start that is given up half-way must find it.
    running.push(Running::start(program, arguments, project.program_log(program.name()))?);
    let Some(last) = running.last_mut() else { return Ok(String::new()) };
    let rest = last.ready(READY_BOUND).await?;
    report(&step(true, ""));
    Ok(rest)
}

async fn first_end(running: &mut [Running]) -> Failure {
    loop {
        for one in running.iter_mut() {
            let ended = tokio::time::timeout(Duration::from_millis(1), one.wait()).await;
            if let Ok(Some(status)) = ended {
                return one.ended(status);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The warden first and by its own protocol, so that agents end as they wish; then the others.
async fn stop_all(project: &Project, running: &mut Vec<Running>, request: StopRequest) {
    while let Some(mut one) = running.pop() {
        if one.program == Program::Warden {
            let grace = request.grace_ms.unwrap_or_else(|| inputs::longest_grace_ms(project));
            let bound = Duration::from_millis(grace).saturating_add(WARDEN_STOP_BOUND);
            if serve::shut_down_warden(project, request.grace_ms).await && one.ends_within(bound).await {
                continue;
            }
        }
        one.stop(STOP_BOUND).await;
    }
}

fn report(step: &Step) {
    if let Ok(line) = serde_json::to_string(step) {
        lines::print(line);
    }
}

fn broker_arguments(project: &Project, args: &SupervisorArgs) -> Outcome<Vec<OsString>> {
    let policy = args.policy.clone().ok_or_else(|| Failure::input("no policy", "use `casemate up`"))?;
    let mut arguments: Vec<OsString> = vec![
        "serve".into(),
        "--state".into(),
        project.broker().into(),
        "--policy".into(),
        policy.into(),
        "--bundle".into(),
        inputs::bundle_file(project).into(),
        "--listen".into(),
        "127.0.0.1:0".into(),
    ];
    if project.shares_broker() {
        arguments.push("--beside".into());
    }
    Ok(arguments)
}

fn emulator_arguments(
    project: &Project,
    args: &SupervisorArgs,
    tsm: &std::path::Path,
) -> Outcome<Vec<OsString>> {
    let lock = inputs::read_lock(&project.lock_file())?;
    let mut arguments = inputs::emulator_arguments(project, args.platform)?;
    arguments.extend(["--mount".into(), tsm.into()]);
    arguments.extend(["--composition-digest".into(), inputs::digest(&lock)?.to_string().into()]);
    Ok(arguments)
}

fn warden_arguments(
    project: &Project,
    args: &SupervisorArgs,
    tsm: &std::path::Path,
    url: &str,
    certificate: PathBuf,
) -> Outcome<Vec<OsString>> {
    let mut arguments: Vec<OsString> = vec![
        "--lock".into(),
        project.lock_file().into(),
        "--project-dir".into(),
        project.dir.clone().into(),
        "--images".into(),
        project.home.images().into(),
        "--tsm".into(),
        tsm.join("report").into(),
    ];
    if args.platform == Platform::Tdx {
        arguments.extend(["--measurements".into(), tsm.join("measurements").into()]);
    }
    arguments.extend(["--broker".into(), url.into(), "--broker-cert".into(), certificate.into()]);
    for program in [Program::Launcher, Program::Gateway, Program::Courier] {
        arguments.extend([format!("--{}", program.name()).into(), program.path()?.into()]);
    }
    for (kind, program) in inputs::sandbox_programs(&inputs::read_lock(&project.lock_file())?)? {
        let mut named = OsString::from(format!("{kind}="));
        named.push(program);
        arguments.extend(["--backend-program".into(), named]);
    }
    for control in &args.allow_weaker {
        arguments.extend(["--allow-weaker".into(), control.into()]);
    }
    for agent in &args.start {
        arguments.extend(["--start".into(), agent.into()]);
    }
    Ok(arguments)
}
