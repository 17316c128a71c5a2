//! `casemate run`: a service with another command, in a box of its own.
//!
//! A composition is bound when its box is launched, so nothing is brought into a box that runs. The one-off agent has a
//! composition of its own, with those that it depends on; it is measured, appraised and given secrets as all others, and
//! a policy that expects another composition refuses it.

mod follow;
mod input;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use casemate_composition::Lock;
use casemate_composition::lock::{AgentName, User};
use casemate_composition::one_off::{Dependencies, OneOff};
use clap::Args;
use input::Input;

use crate::cli::Global;
use crate::commands::exec::user;
use crate::commands::plan::foreseen_refusal;
use crate::commands::up::{BoxOptions, Start, UpArgs, usable_policy};
use crate::failure::{EXIT_CODES_OF_ANOTHER, Failure, Outcome};
use crate::follow::LineStyle;
use crate::inputs::{self, PullOptions};
use crate::inside::window_of_stdin;
use crate::lines;
use crate::preflight;
use crate::programs::Program;
use crate::project::{ComposeFile, Project};
use crate::supervisor::{Lease, Platform, already_running, clean};

/// What `run` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate run --rm importer python3 once.py",
    after_help = format!("The box is a project of its own, PROJECT-run-SERVICE, with the service and those that it depends on. It \
        uses the project's broker state, so its secrets are the service's, and has logs and volumes of its own. No port of \
        the box is open, nothing restarts, and the one-off agent has no health check or hooks.\n\nStandard input is passed on \
        once the program runs; the first byte taints the agent, as `attach` does, after its secrets have arrived. With `-t`, or \
        `tty: true` in the file, the program has a terminal, and is tainted as soon as it is yours.\n\nIts composition \
        is another than that of the files: `--write-policy FILE` writes a policy that expects it and runs nothing, \
        `--policy FILE` names it.\n\nIt ends with the program's own exit code also where the box could not be taken down after it, or \
        `--rm` not be done, which it then tells.\n\n{EXIT_CODES_OF_ANOTHER}")
)]
pub(crate) struct RunArgs {
    /// Remove the box's logs and volumes afterwards
    #[arg(long, conflicts_with = "detach")]
    rm: bool,
    /// Return when the program runs, and leave the box running until `casemate -p NAME down`
    #[arg(short, long)]
    detach: bool,
    /// Leave out those that the service depends on; it waits for nobody
    #[arg(long)]
    no_deps: bool,
    /// Name of the box's project, which is measured [default: PROJECT-run-SERVICE]
    #[arg(long, value_name = "NAME")]
    name: Option<AgentName>,
    /// A variable besides the service's, NAME alone for that of this shell; repeat for each
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Program in place of the service's; COMMAND has its arguments
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// User inside, as numbers [default: the service's]
    #[arg(short, long, value_name = "UID[:GID]", value_parser = user)]
    user: Option<(u32, u32)>,
    /// Working directory inside [default: the service's]
    #[arg(short, long, value_name = "DIR", value_parser = folder)]
    workdir: Option<String>,
    /// Give the program an input, which is this one unless with -d; `--interactive=false` for none
    #[arg(short, long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = clap::ArgAction::Set)]
    interactive: bool,
    /// Give the program a terminal of its own [default: as the Compose file says]
    #[arg(short, long)]
    tty: bool,
    /// No terminal, also where the Compose file says `tty: true`
    #[arg(short = 'T', long = "no-tty", visible_alias = "no-TTY", conflicts_with = "tty")]
    no_tty: bool,
    /// Policy of the local broker [default: the one of the Compose file]
    #[arg(long, value_name = "FILE", conflicts_with = "broker")]
    policy: Option<PathBuf>,
    /// Write a policy that expects this one-off box, and run nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["policy", "broker"])]
    write_policy: Option<PathBuf>,
    #[command(flatten)]
    of_box: BoxOptions,
    #[command(flatten)]
    pull: PullOptions,
    /// Which service
    service: AgentName,
    /// Arguments in place of the service's, or program and arguments where neither it nor its image has an entrypoint
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        None if !text.is_empty() => match std::env::var(text) {
            Ok(value) => Ok((text.to_owned(), value)),
            Err(_) => Err("it is not set here: write NAME=VALUE".to_owned()),
        },
        _ => Err("write NAME=VALUE, or NAME of a variable that is set here".to_owned()),
    }
}

fn folder(text: &str) -> Result<String, String> {
    if text.starts_with('/') && !text.contains('\0') {
        Ok(text.to_owned())
    } else {
        Err("write an absolute path".to_owned())
    }
}

/// Runs the service once.
pub(crate) fn run(global: &Global, args: &RunArgs) -> Outcome {
    prepared(global, args).map_err(Failure::before_the_command)?.map_or(Ok(0), |ready| {
        let outcome = ready.run(global, args);
        if args.rm
            && let Err(failure) = remove(&ready.project)
        {
            // How the program ended is what the caller asks for.
            failure.tell();
        }
        outcome
    })
}

/// A one-off box that may start.
struct Ready {
    project: Project,
    lock: Lock,
    policy: Option<PathBuf>,
    input: Input,
}

/// All that is done before anything runs; none where only the policy was to be written.
fn prepared(global: &Global, args: &RunArgs) -> Outcome<Option<Ready>> {
    let file = ComposeFile::find(global)?;
    let all: Vec<AgentName> = inputs::parse(&file)?.agents().cloned().collect();
    if !all.contains(&args.service) {
        return Err(inputs::no_such_agent(&args.service, &all));
    }
    let file = file.with_one(&args.service);
    let of = Project::of(global, &file)?;
    inputs::pull_images(global, &file, &of, &args.pull)?;
    let project = of.beside(&name(&of, args)?)?;
    let lock = one_off_lock(&file, &of, &project, args)?;
    let input = input(global, args, &lock)?;
    let digest = inputs::digest(&lock)?;
    let policy = match (&args.write_policy, &args.policy, &args.of_box.broker) {
        (Some(path), _, _) => {
            write_policy(path, &of, &project, &lock, args)?;
            lines::print(format!("wrote {} for one-off composition {digest}", path.display()));
            return Ok(None);
        }
        (None, _, Some(_)) => None,
        (None, Some(path), None) => Some(path.clone()),
        (None, None, None) => Some(usable_policy(&file)?),
    };
    if let Some(path) = &policy {
        require_admitted(path, &lock)?;
    }
    for program in Program::IN_THE_BOX.into_iter().chain([Program::Broker, Program::Emulator]) {
        program.path()?;
    }
    preflight::require(&args.of_box.allow_weaker)?;
    make_project(&of, &project)?;
    let Some(lease) = Lease::take(&project)? else {
        return Err(Failure {
            todo: "wait for it, or give another name with `--name`".into(),
            ..already_running(&project)
        });
    };
    inputs::write_private_file(&project.lock_file(), &inputs::lock_bytes(&lock)?)?;
    inputs::prepare_emulator(&project, platform(args))?;
    drop(lease);
    let agents = lock.agents.len();
    let many = if agents == 1 { "1 agent".to_owned() } else { format!("{agents} agents") };
    lines::note(format!("one-off box {}: {many}, composition {digest}", project.name));
    Ok(Some(Ready { project, lock, policy, input }))
}

/// What the caller's own input is to the program.
fn input(global: &Global, args: &RunArgs, lock: &Lock) -> Outcome<Input> {
    let Some(agent) = lock.agents.get(&args.service) else { return Ok(Input::None) };
    if !agent.stdin_open || args.detach || args.write_policy.is_some() {
        return Ok(Input::None);
    }
    if !agent.tty || global.json {
        return Ok(Input::Stream);
    }
    if window_of_stdin().is_none() {
        let todo = "give -T, run it in a terminal, or give `--interactive=false`";
        return Err(Failure::input("the program has a terminal, and standard input is none", todo));
    }
    Ok(Input::Terminal)
}

fn platform(args: &RunArgs) -> Platform {
    args.of_box.platform.unwrap_or(Platform::Tdx)
}

/// The same for each run of the same service, so that a policy can expect it.
fn name(of: &Project, args: &RunArgs) -> Outcome<AgentName> {
    if let Some(name) = &args.name {
        return Ok(name.clone());
    }
    let name = format!("{}-run-{}", of.name, args.service);
    name.parse()
        .map_err(|error| Failure::input(format!("project {error}"), "give a shorter one with `--name`"))
}

fn one_off_lock(file: &ComposeFile, of: &Project, project: &Project, args: &RunArgs) -> Outcome<Lock> {
    let change = OneOff {
        command: (!args.command.is_empty()).then(|| args.command.clone()),
        entrypoint: args.entrypoint.clone().map(|program| vec![program]),
        environment: args.env.iter().cloned().collect::<BTreeMap<_, _>>(),
        user: args.user.map(|(uid, gid)| User { uid, gid }),
        working_dir: args.workdir.clone(),
        stdin_open: args.interactive,
        tty: match (args.tty, args.no_tty) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        },
        dependencies: if args.no_deps { Dependencies::Leave } else { Dependencies::Follow },
    };
    let lock = inputs::resolve_one_off(file, of, &args.service, &change)?;
    Ok(Lock { project: project.name.clone(), ..lock })
}

fn write_policy(path: &Path, of: &Project, project: &Project, lock: &Lock, args: &RunArgs) -> Outcome<()> {
    if path.exists() {
        let what = format!("{}: there is a file already", path.display());
        return Err(Failure::input(what, "read it; remove it, or name another file"));
    }
    make_project(of, project)?;
    let reference_values = inputs::emulated_reference_values(project, platform(args))?;
    let asked = inputs::ControlsAsked {
        allow_weaker: args.of_box.allow_weaker.iter().copied().collect(),
        require: BTreeSet::new(),
    };
    let policy = inputs::render_policy(lock, &reference_values, &asked)?;
    inputs::write_file(path, policy.text.as_bytes())
}

/// Asked before anything starts; the broker asks again.
fn require_admitted(path: &Path, lock: &Lock) -> Outcome<()> {
    match foreseen_refusal(path, lock)? {
        None => Ok(()),
        Some((whom, refusal)) => Err(Failure::refused(
            format!("{}: the policy refuses {whom} of this one-off box", path.display()),
            refusal,
            "where it is meant, write a policy for it with `casemate run --write-policy FILE` and the same words, and \
             give that with `--policy FILE`",
        )),
    }
}

/// The box's state folder. What trust rests on is the project's own: secrets at its broker, and the emulator's keys.
fn make_project(of: &Project, project: &Project) -> Outcome<()> {
    of.create_dirs()?;
    project.create_dirs()?;
    for (own, shared) in [(project.broker(), of.broker()), (project.emulator(), of.emulator())] {
        inputs::make_dir(&shared)?;
        if std::fs::read_link(&own).is_ok_and(|target| target == shared) {
            continue;
        }
        symlink(&shared, &own).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Failure::input(
                format!("project {} is there, and is no one-off box of {}", project.name, of.name),
                "give another name with `--name`",
            ),
            _ => Failure::environment(format!("{}: {error}", own.display()), "run the command as root"),
        })?;
    }
    Ok(())
}

/// Removes the box's state folder; nothing is behind its links.
fn remove(project: &Project) -> Outcome<()> {
    match Lease::take(project)? {
        None => Err(already_running(project)),
        Some(lease) => {
            clean(project)?;
            let removed = Project::remove(&project.dir);
            drop(lease);
            removed
        }
    }
}

impl Ready {
    fn run(&self, global: &Global, args: &RunArgs) -> Outcome {
        let agents: Vec<AgentName> = self.lock.agents.keys().cloned().collect();
        let start = Start {
            project: &self.project,
            args: &UpArgs::of_box(args.of_box.clone(), args.pull.clone()),
            lock: &self.lock,
            agents: &agents,
            policy: self.policy.as_deref(),
            begun: Instant::now(),
            composition: String::new(),
            lines: LineStyle::of(global),
        };
        follow::run(
            &start,
            &args.service,
            if args.detach { follow::Until::Running } else { follow::Until::Ended(self.input) },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_has_a_name_and_a_value_or_is_that_of_the_shell() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        let path = std::env::var("PATH").unwrap();
        assert_eq!(variable("PATH"), Ok(("PATH".into(), path)));
        assert!(variable("=x").is_err() && variable("").is_err() && variable("NOT_SET_ANYWHERE").is_err());
    }

    #[test]
    fn a_working_directory_is_absolute() {
        assert!(folder("/x").is_ok() && folder("x").is_err() && folder("").is_err());
    }
}
