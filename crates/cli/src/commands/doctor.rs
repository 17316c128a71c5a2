//! `casemate doctor`: what this machine and the running box show of their posture.

mod watch;
mod write;

pub(crate) use write::wrapped;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use casemate_composition::lock::{Agent, AgentName};
use casemate_posture::doctor::{self, Facts, Finding, Verdict};
use casemate_posture::{AgentFacts, Tree, host};
use casemate_protocol::cmw::{COLLECTION_BYTES_MAX, Evidence, Platform};
use casemate_protocol::control::{ControlRequest, Reply};
use casemate_protocol::inside::{InsideReply, InsideRequest};
use clap::Args;

use crate::cli::Global;
use crate::control;
use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::lines;
use crate::project::Project;

/// Where the resolver of a compartment listens.
const RESOLVER_PORT: u16 = 53;

/// What `doctor` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate doctor --report evidence.json",
    after_help = "Exit code 1 where a check fails, else 0. `unknown` is not a pass, and does not fail: nobody knows. Nothing is \
        tried and nothing is changed. docs/doctor.md lists all checks, and what doctor cannot see."
)]
pub(crate) struct DoctorArgs {
    /// Look at a machine that is to run TDX or SEV-SNP guests, from its own side
    #[arg(long, conflicts_with = "report")]
    host: bool,
    /// With --host: say what is known of an error of setting up
    #[arg(long, value_name = "ERROR TEXT", requires = "host")]
    explain: Option<String>,
    /// Folder with a copy of a machine's /proc, /sys and /dev
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    root: PathBuf,
    /// Evidence of `casemate attest`, or a TDX quote or SNP report of this boot; its signature is not checked here
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Look again and again, and show what changes
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "10", value_parser = clap::value_parser!(u64).range(1..=86400))]
    watch: Option<u64>,
    /// Show what passes and what does not concern this machine, too
    #[arg(short, long)]
    all: bool,
}

/// Shows the findings.
pub(crate) fn run(global: &Global, args: &DoctorArgs) -> Outcome {
    if let Some(text) = &args.explain {
        return explain(global, text);
    }
    let tree = Tree::open(&args.root).map_err(|why| {
        Failure::input(
            format!("{}: {}", args.root.display(), why.describe()),
            "name a folder that can be read",
        )
    })?;
    let report = args.report.as_deref().map(read_report).transpose()?;
    let look = || -> (Vec<Finding>, String) {
        if args.host {
            return (host::run(&tree), "the host's side of this machine".to_owned());
        }
        let (agents, about) =
            if tree.is_live() { agents(global) } else { (None, "a copy of a machine".to_owned()) };
        let landlock = if tree.is_live() { casemate_sys::landlock_version() } else { None };
        let facts = Facts::new(&tree, agents.as_deref(), report.as_deref(), landlock);
        (doctor::run(&facts), about)
    };
    let (findings, about) = look();
    if global.json {
        write::json(&findings);
    } else {
        write::text(&findings, &about, args.host, args.all);
    }
    if let Some(seconds) = args.watch {
        watch::changes(global.json, Duration::from_secs(seconds), findings, || look().0);
        return Ok(0);
    }
    Ok(u8::from(findings.iter().any(|finding| finding.verdict == Verdict::Fail)))
}

fn explain(global: &Global, text: &str) -> Outcome {
    let known = host::explain(text).ok_or_else(|| {
        Failure::input(
            "nothing is known of this error",
            "look at the whole line of the program that failed, and at `casemate doctor --host`",
        )
    })?;
    if global.json {
        lines::print(serde_json::json!({ "cause": known.cause, "fix": known.fix }));
    } else {
        lines::print(format!("cause: {}\nto do: {}", known.cause, known.fix));
    }
    Ok(0)
}

/// The quote or report in a file, or in the evidence that it holds. What is none is told by the checks.
fn read_report(path: &Path) -> Outcome<Vec<u8>> {
    const TODO: &str = "name a file with evidence of `casemate attest`, or with a TDX quote or SNP report, as `outblob` of configfs-tsm gives it";
    let bytes = inputs::read_bytes(path, COLLECTION_BYTES_MAX, TODO)?;
    if !bytes.starts_with(b"{") {
        return Ok(bytes);
    }
    let evidence = Evidence::from_json_bytes(&bytes)
        .map_err(|error| Failure::input(format!("{}: {error}", path.display()), TODO))?;
    match evidence.platform {
        Platform::Tdx { quote } => Ok(quote),
        Platform::Snp { report, .. } => Ok(report),
        Platform::Vtpm(_) => Err(Failure::input(
            format!(
                "{}: evidence of a TPM, which says nothing of the fields that doctor looks at",
                path.display()
            ),
            TODO,
        )),
    }
}

/// The agents of the running box that have processes, and a line about it; none where no box runs.
fn agents(global: &Global) -> (Option<Vec<AgentFacts>>, String) {
    match Project::find(global).and_then(|project| Ok((agents_of(&project)?, project.name))) {
        Ok((agents, name)) => {
            let about = format!("this machine, and the box of project {name} with {} agents", agents.len());
            (Some(agents), about)
        }
        Err(failure) => (None, format!("this machine; no box: {}", failure.what)),
    }
}

/// Likewise of a project, whose box must run.
pub(crate) fn agents_of(project: &Project) -> Outcome<Vec<AgentFacts>> {
    let Reply::Status { agents, .. } = control::ask(project, &ControlRequest::Status)? else {
        return Err(control::unexpected_reply());
    };
    let lock = inputs::read_lock(&project.lock_file())?;
    let mut facts = Vec::new();
    for (name, status) in agents {
        let (Some(_), Some(agent)) = (status.pid, lock.agents.get(&name)) else { continue };
        facts.push(AgentFacts {
            name: name.to_string(),
            trust: agent.trust.to_string(),
            share: agent.share.as_ref().map(AgentName::to_string),
            pids: processes(project, &name)?,
            controls: status.controls,
            ports: ports(agent),
        });
    }
    Ok(facts)
}

fn processes(project: &Project, agent: &AgentName) -> Outcome<Vec<u32>> {
    let request = ControlRequest::Inside(InsideRequest::Processes { agent: agent.clone() });
    match control::ask(project, &request)? {
        Reply::Inside(InsideReply::Processes { processes }) => {
            Ok(processes.iter().filter_map(|process| u32::try_from(process.pid).ok()).collect())
        }
        _ => Err(control::unexpected_reply()),
    }
}

/// Ports on which something may listen in an agent's namespace: its own, and the aliases of whom it may call.
fn ports(agent: &Agent) -> BTreeSet<u16> {
    let own = agent.expose.iter().copied();
    let edges = agent.edges.iter().map(|edge| edge.port);
    let egress = agent.egress.iter().map(|egress| egress.port);
    let published = agent.ports.iter().map(|port| port.target);
    own.chain(edges).chain(egress).chain(published).chain([RESOLVER_PORT]).collect()
}
