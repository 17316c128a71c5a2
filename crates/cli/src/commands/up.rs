//! `casemate up`: resolves, starts the box, and shows how each agent starts.

mod running;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::time::{Duration, Instant};

use casemate_composition::Lock;
use casemate_composition::lock::{AgentName, RestartCondition};
use casemate_protocol::agent_token::Control;
use casemate_protocol::control::{ControlRequest, Phase, Progress, Reply, StepState};
use clap::Args;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::cli::Global;
use crate::commands::down;
use crate::commands::policy::control_named;
use crate::control;
use crate::failure::{Failure, Outcome};
use crate::follow::{Follower, LineStyle, POLL, Wanted};
use crate::inputs::{self, LockChange, PullOptions};
use crate::lines::{self, LINE_BYTES_MAX};
use crate::orders::{explain, start_refused};
use crate::preflight;
use crate::programs::{Program, own_path};
use crate::progress::{Display, Style, phase_name, shortened};
use crate::project::{ComposeFile, Project};
use crate::replicas::ScaleOptions;
use crate::supervisor::{LAST_STEP, Lease, Platform, Step, StopRequest, already_running};

use self::running::Next;

/// What `up` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate up -d --platform snp")]
pub(crate) struct UpArgs {
    /// Return when all agents run and are healthy, and leave them running
    #[arg(short, long)]
    detach: bool,
    /// The same: `-d` waits already
    #[arg(long)]
    wait: bool,
    /// What the emulator stands in for [default: tdx]
    #[arg(long)]
    platform: Option<Platform>,
    /// How progress is shown
    #[arg(long, default_value = "auto")]
    progress: Style,
    /// Go on where this control cannot be applied; evidence says so. Repeat for each
    #[arg(long, value_name = "CONTROL", value_parser = control_named)]
    allow_weaker: Vec<Control>,
    /// Refuse where `compose.lock` would change
    #[arg(long)]
    locked: bool,
    /// A broker elsewhere, in place of a local one
    #[arg(long, value_name = "URL", requires = "broker_cert")]
    broker: Option<String>,
    /// Certificate of that broker, PEM
    #[arg(long, value_name = "FILE", requires = "broker")]
    broker_cert: Option<PathBuf>,
    /// Seconds within which all agents must run
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    wait_timeout: u64,
    /// Start anew: the agents that are named, or the whole box, which takes a changed composition
    #[arg(long)]
    force_recreate: bool,
    /// Leave other agents as they are; what `depends_on` asks of them is still asked
    #[arg(long)]
    no_deps: bool,
    /// Remove the logs of agents that the composition does not have any more; none of them runs
    #[arg(long)]
    remove_orphans: bool,
    #[command(flatten)]
    pull: PullOptions,
    #[command(flatten)]
    scale: ScaleOptions,
    /// Only these agents, and those that they depend on; the others stay in the composition and can start later
    #[arg(value_name = "AGENT")]
    agents: Vec<AgentName>,
}

impl UpArgs {
    /// Whether it returns while the agents run.
    const fn detaches(&self) -> bool {
        self.detach || self.wait
    }

    fn platform(&self) -> Platform {
        self.platform.unwrap_or(Platform::Tdx)
    }

    /// Those of a box whose agents all start, for whoever follows them himself.
    pub(crate) fn of_box(how: BoxOptions, pull: PullOptions) -> Self {
        let BoxOptions { platform, allow_weaker, broker, broker_cert } = how;
        Self {
            detach: true,
            wait: false,
            platform,
            progress: Style::Plain,
            allow_weaker,
            locked: false,
            broker,
            broker_cert,
            wait_timeout: 0,
            force_recreate: false,
            no_deps: false,
            remove_orphans: false,
            pull,
            scale: ScaleOptions::default(),
            agents: Vec::new(),
        }
    }

    /// Whether something is asked that holds for a box from its start on.
    fn binds_the_box(&self) -> bool {
        self.platform.is_some() || self.broker.is_some() || !self.allow_weaker.is_empty()
    }
}

/// What holds for a box from its start on.
#[derive(Args, Debug, Clone)]
pub(crate) struct BoxOptions {
    /// What the emulator stands in for [default: tdx]
    #[arg(long)]
    pub(crate) platform: Option<Platform>,
    /// Go on where this control cannot be applied; evidence says so. Repeat for each
    #[arg(long, value_name = "CONTROL", value_parser = control_named)]
    pub(crate) allow_weaker: Vec<Control>,
    /// A broker elsewhere, in place of a local one
    #[arg(long, value_name = "URL", requires = "broker_cert")]
    pub(crate) broker: Option<String>,
    /// Certificate of that broker, PEM
    #[arg(long, value_name = "FILE", requires = "broker")]
    pub(crate) broker_cert: Option<PathBuf>,
}

/// Starts a project.
pub(crate) fn run(global: &Global, args: &UpArgs) -> Outcome {
    let begun = Instant::now();
    let file = ComposeFile::find(global)?.scaled(&args.scale);
    let project = Project::of(global, &file)?;
    inputs::pull_images(global, &file, &project, &args.pull)?;
    let lock = inputs::resolve(&file, &project)?;
    let all: Vec<AgentName> = lock.agents.keys().cloned().collect();
    let mut named = BTreeSet::new();
    for agent in &args.agents {
        let meant = lock.meant_by(agent);
        if meant.is_empty() {
            return Err(inputs::no_such_agent(agent, &all));
        }
        named.extend(meant);
    }
    if let Next::Done = running::join(global, args, &file, &project, (&lock, &named))? {
        if args.remove_orphans {
            running::remove_orphans(&project, &lock)?;
        }
        return Ok(0);
    }
    let change = if args.locked { LockChange::Refuse } else { LockChange::Write };
    inputs::write_lock(&file, &lock, change)?;
    let policy = if args.broker.is_none() { Some(usable_policy(&file)?) } else { None };
    for program in Program::IN_THE_BOX.into_iter().chain([Program::Broker, Program::Emulator]) {
        program.path()?;
    }
    preflight::require(&args.allow_weaker)?;
    project.create_dirs()?;
    let Some(lease) = Lease::take(&project)? else { return Err(already_running(&project)) };
    inputs::write_private_file(&project.lock_file(), &inputs::lock_bytes(&lock)?)?;
    inputs::prepare_emulator(&project, args.platform())?;
    if args.remove_orphans {
        running::remove_orphans(&project, &lock)?;
    }
    drop(lease);

    let agents: Vec<AgentName> = match (named.is_empty(), args.no_deps) {
        (true, _) => all,
        (false, true) => named.into_iter().collect(),
        (false, false) => lock.with_dependencies(&named).into_iter().collect(),
    };
    let mut display = Display::new(if global.json { Style::Json } else { args.progress }, &agents);
    let composition = format!("composition {}", shortened(&inputs::digest(&lock)?.to_string()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::environment(format!("event loop: {error}"), "free some descriptors, then try again")
    })?;
    let start = Start {
        project: &project,
        args,
        lock: &lock,
        agents: &agents,
        policy: policy.as_deref(),
        begun,
        composition,
        lines: LineStyle::of(global),
    };
    let outcome = runtime.block_on(start.run(&mut display));
    if let Err(failure) = &outcome {
        display.failed(failure);
    }
    outcome.map(|()| 0)
}

/// The policy beside the Compose file, after a look that it can be read.
pub(crate) fn usable_policy(file: &ComposeFile) -> Outcome<PathBuf> {
    let path = inputs::policy_beside(file)?;
    if !path.exists() {
        return Err(Failure::input(
            format!("{}: no policy says what the broker may release", path.display()),
            format!("write one with `casemate {} policy write{}`", file.flags(), file.scale_flags()),
        ));
    }
    inputs::read_policy(&path)?;
    Ok(path)
}

/// A box that is to start.
pub(crate) struct Start<'a> {
    pub(crate) project: &'a Project,
    pub(crate) args: &'a UpArgs,
    pub(crate) lock: &'a Lock,
    /// Those that start.
    pub(crate) agents: &'a [AgentName],
    pub(crate) policy: Option<&'a Path>,
    pub(crate) begun: Instant,
    pub(crate) composition: String,
    pub(crate) lines: LineStyle,
}

impl Start<'_> {
    async fn run(&self, display: &mut Display) -> Outcome<()> {
        // One for the whole time: a signal between two looks must not be lost.
        let signals = interrupted()?;
        // From the first line on, Ctrl-C is answered.
        display.part_done("lock", elapsed_ms(self.begun), &self.composition);
        let mut interrupt = std::pin::pin!(async {
            tokio::select! {
                () = signals => {}
                // Nobody sees any more what the agents do: as with Ctrl-C.
                () = lines::until_output_ends(), if !self.args.detaches() => {}
            }
        });
        // From here on: what earlier runs wrote stays in the files and is not shown.
        let wanted = Wanted { tail: Some(0), ..Wanted::default() };
        let follower = Follower::new(self.project, self.agents, wanted, self.lines);
        let mut supervisor = self.spawn_supervisor()?;
        let bound = Duration::from_secs(self.args.wait_timeout);
        let started = tokio::select! {
            started = tokio::time::timeout(bound, self.start(&mut supervisor, display)) => {
                started.unwrap_or_else(|_| Err(Failure::environment(
                    format!("not all agents run after {} s", bound.as_secs()),
                    "read what they wrote with `casemate logs`, or give `--wait-timeout` more seconds",
                )))
            }
            () = &mut interrupt => Err(Failure::interrupted()),
        };
        if let Err(failure) = started {
            self.stop(&mut supervisor).await?;
            return Err(failure);
        }
        let composition = inputs::digest(self.lock)?.to_string();
        display.summary(self.agents.len(), self.begun.elapsed(), &composition);
        if self.args.detaches() {
            return Ok(());
        }
        self.follow(&mut supervisor, follower, interrupt).await
    }

    /// Starts the supervisor, which starts all else.
    pub(crate) fn spawn_supervisor(&self) -> Outcome<tokio::process::Child> {
        let project = self.project;
        let log = inputs::create_private_file(&project.program_log("supervisor"))?;
        let mut command = tokio::process::Command::new(own_path()?);
        command.arg("box-supervisor").arg("--name").arg(project.name.as_str());
        command.arg("--dir").arg(&project.dir).arg("--home").arg(&project.home.0);
        command.arg("--platform").arg(self.args.platform().name());
        if let Some(policy) = self.policy {
            command.arg("--policy").arg(policy);
        }
        if let (Some(url), Some(certificate)) = (&self.args.broker, &self.args.broker_cert) {
            let certificate = certificate.canonicalize().map_err(|error| {
                Failure::input(
                    format!("{}: {error}", certificate.display()),
                    "name a readable file with `--broker-cert`",
                )
            })?;
            command.arg("--broker").arg(url).arg("--broker-cert").arg(certificate);
        }
        for control in &self.args.allow_weaker {
            command.arg("--allow-weaker").arg(control.name());
        }
        // Without one, all start.
        for agent in self.agents.iter().filter(|_| !self.args.agents.is_empty()) {
            command.arg("--start").arg(agent.as_str());
        }
        // A process group of its own, so that Ctrl-C reaches this program alone.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0);
        command.spawn().map_err(|error| {
            Failure::environment(format!("supervisor: {error}"), "free some memory or processes")
        })
    }

    async fn start(&self, supervisor: &mut tokio::process::Child, display: &mut Display) -> Outcome<()> {
        self.follow_steps(supervisor, |step| display.step(step)).await?;
        self.show_agents(display).await
    }

    /// The parts of the box, as the supervisor reports them.
    pub(crate) async fn follow_steps(
        &self,
        supervisor: &mut tokio::process::Child,
        mut show: impl FnMut(&Step),
    ) -> Outcome<()> {
        let Some(output) = supervisor.stdout.take() else { return Err(self.supervisor_ended()) };
        let mut lines = BufReader::new(output.take(LINE_BYTES_MAX)).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let Ok(step) = serde_json::from_str::<Step>(&line) else { continue };
            if let Some((what, todo)) = step.failed {
                return Err(Failure::environment(what, todo));
            }
            show(&step);
            if step.done && step.step == LAST_STEP {
                return Ok(());
            }
        }
        Err(self.supervisor_ended())
    }

    fn supervisor_ended(&self) -> Failure {
        let log = self.project.program_log("supervisor");
        let said = inputs::error_lines(&log);
        match said {
            Some((what, todo)) => Failure::environment(what, todo),
            None => Failure::environment("the supervisor ended", format!("read {}", log.display())),
        }
    }

    /// The agents, as the warden reports them, until all run or one fails.
    async fn show_agents(&self, display: &mut Display) -> Outcome<()> {
        let path = self.project.control_socket();
        let lost = |what: String| {
            Failure::environment(what, format!("read {}", self.project.program_log("warden").display()))
        };
        let mut stream = tokio::net::UnixStream::connect(&path)
            .await
            .map_err(|error| lost(format!("{}: {error}", path.display())))?;
        let mut request = serde_json::to_vec(&ControlRequest::Watch).unwrap_or_default();
        request.push(b'\n');
        stream.write_all(&request).await.map_err(|error| lost(format!("{}: {error}", path.display())))?;
        let mut lines = BufReader::new(stream.take(LINE_BYTES_MAX)).lines();
        let mut waiting: BTreeSet<AgentName> = self.agents.iter().cloned().collect();
        while !waiting.is_empty() {
            let Ok(Some(line)) = lines.next_line().await else {
                return Err(lost("the warden ended during the start".to_owned()));
            };
            match serde_json::from_str(&line) {
                Ok(Reply::Progress(progress)) => {
                    display.progress(&progress);
                    if let Some(failure) = self.failure_in(&progress, &waiting) {
                        return Err(failure);
                    }
                    if progress.state == StepState::Done
                        && matches!(progress.phase, Phase::Healthy | Phase::Exited)
                    {
                        waiting.remove(&progress.agent);
                    }
                }
                Ok(Reply::Refused { refusal }) => {
                    return Err(start_refused("the warden refused to start".to_owned(), &refusal));
                }
                Ok(Reply::Failed { what, todo }) => return Err(Failure::environment(what, todo)),
                Ok(_) => return Err(control::unexpected_reply()),
                Err(error) => return Err(lost(format!("answer of the warden: {error}"))),
            }
        }
        Ok(())
    }

    fn failure_in(&self, progress: &Progress, waiting: &BTreeSet<AgentName>) -> Option<Failure> {
        let exited = progress.phase == Phase::Exited && progress.state == StepState::Done;
        let starts_again = self
            .lock
            .agents
            .get(&progress.agent)
            .is_some_and(|agent| agent.restart.condition != RestartCondition::No);
        if progress.state != StepState::Failed
            && (!exited || starts_again || !waiting.contains(&progress.agent))
        {
            return None;
        }
        let what = match progress.phase {
            Phase::Exited => format!("agent {} ended before it was healthy", progress.agent),
            phase => format!("agent {} failed at {}", progress.agent, phase_name(phase)),
        };
        Some(explain(self.project, progress, what))
    }

    /// Shows what agents write until Ctrl-C or the end of the box.
    async fn follow(
        &self,
        supervisor: &mut tokio::process::Child,
        mut follower: Follower,
        mut interrupt: Pin<&mut impl Future<Output = ()>>,
    ) -> Outcome<()> {
        lines::note("Ctrl-C stops all agents");
        loop {
            follower.print_new();
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = &mut interrupt => {
                    self.stop(supervisor).await?;
                    follower.print_new();
                    lines::note(format!("project {} is stopped", self.project.name));
                    return Ok(());
                }
                _ = supervisor.wait() => {
                    follower.print_new();
                    follower.print_rest();
                    let failure = self.supervisor_ended();
                    // `casemate down` in another terminal ends it in good order.
                    return if inputs::error_lines(&self.project.program_log("supervisor")).is_some() {
                        Err(failure)
                    } else {
                        Ok(())
                    };
                }
            }
        }
    }

    /// Stops everything and waits for it; a second Ctrl-C does not cut this short.
    pub(crate) async fn stop(&self, supervisor: &mut tokio::process::Child) -> Outcome<()> {
        let pid =
            supervisor.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let bound = Duration::from_millis(inputs::longest_grace_ms(self.project)) + Duration::from_secs(40);
        let stopped = tokio::time::timeout(bound, supervisor.wait()).await;
        if stopped.is_err() {
            return down::stop(self.project, StopRequest { grace_ms: Some(0) }).map(drop);
        }
        Ok(())
    }
}

/// Waits for Ctrl-C, SIGTERM, or the end of the terminal, from the call on.
pub(crate) fn interrupted() -> Outcome<impl Future<Output = ()> + use<>> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| {
        signal(kind)
            .map_err(|error| Failure::environment(format!("signals: {error}"), "free some descriptors"))
    };
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut hangup = if hangup_is_ignored() { None } else { Some(listen(SignalKind::hangup())?) };
    Ok(async move {
        let hangup = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup => {}
        }
    })
}

/// Whether the caller wants this program to outlive its terminal, as `nohup` does (proc_pid_status(5), `SigIgn`).
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // SIGHUP is number 1, the lowest bit.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

fn elapsed_ms(begun: Instant) -> u64 {
    begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
}
