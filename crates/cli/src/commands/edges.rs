//! `casemate edges`, `allow` and `deny`: who may call whom, and changes to it while the box runs.

mod graph;

use casemate_composition::lock::{AgentName, NameError};
use casemate_composition::sockets::{SocketEdge, SocketPathError};
use casemate_protocol::control::{ControlRequest, Reply};
use casemate_protocol::edges::{EdgeStatus, declared};
use casemate_protocol::event::EdgeChange;
use casemate_protocol::gateway::Verdict;
use clap::Args;
use serde_json::json;

use crate::cli::Global;
use crate::control;
use crate::failure::{Failure, Outcome, one_line};
use crate::inputs;
use crate::lines;
use crate::project::{ComposeFile, Project};

/// What `edges` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate edges --dot | dot -Tsvg > edges.svg")]
pub(crate) struct EdgesArgs {
    /// Write a graph in the language of Graphviz
    #[arg(long)]
    dot: bool,
}

/// What `allow` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate allow asker api.example.com:443")]
pub(crate) struct JudgeArgs {
    /// Who calls
    agent: AgentName,
    /// Agent or host, and port or path of a Unix socket
    #[arg(value_name = "HOST:PORT")]
    endpoint: String,
}

/// What `deny` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate deny asker answerer:8080")]
pub(crate) struct DenyArgs {
    #[command(flatten)]
    edge: JudgeArgs,
}

/// Shows the edges: as they stand where the box runs, else as the composition declares them.
pub(crate) fn run(global: &Global, args: &EdgesArgs) -> Outcome {
    let project = Project::find(global)?;
    let running = project.control_socket().exists();
    let edges = if running { standing(&project)? } else { declared_ones(global)? };
    if global.json {
        lines::print(json!({"project": project.name, "running": running, "edges": edges}));
    } else if args.dot {
        graph::dot(&edges).into_iter().for_each(lines::print);
    } else {
        graph::text(&edges, running).into_iter().for_each(lines::print);
    }
    Ok(0)
}

fn standing(project: &Project) -> Outcome<Vec<EdgeStatus>> {
    match control::ask(project, &ControlRequest::Edges)? {
        Reply::Edges { edges } => Ok(edges),
        _ => Err(control::unexpected_reply()),
    }
}

/// The edges of the running box; none where it does not run or does not answer.
pub(crate) fn of_running(project: &Project) -> Option<Vec<EdgeStatus>> {
    if project.control_socket().exists() { standing(project).ok() } else { None }
}

/// Limits, traffic and the last refusal of an edge, for people.
pub(crate) fn details(edge: &EdgeStatus) -> Vec<String> {
    let mut lines: Vec<String> = edge.limits.iter().map(graph::limits).collect();
    if let Some(traffic) = &edge.traffic {
        lines.push(format!("so far: {}", graph::traffic(traffic)));
        if let Some(rule) = &traffic.last_refusal {
            lines.push(format!("rule {rule}: {}", rule_text(rule)));
        }
    }
    lines
}

/// What a rule of the gateway means, and what to do.
fn rule_text(rule: &str) -> &'static str {
    match rule {
        "edge.denied" => "the edge was closed by hand; `casemate allow` opens it again",
        "edge.connections" => "as many connections were open as `connections` allows",
        "edge.bytes" => "all `bytes` of the edge have passed; the next box begins anew",
        "gateway.connections" => "the caller had as many connections open as the gateway gives one agent",
        "egress.address" => {
            "the name stands for a private, link-local or other special address; give it one under `extra_hosts`"
        }
        "egress.resolves" => "the name did not resolve in the box",
        "edge.answers" => "nobody took the connection at the other end",
        _ => "see docs/architecture.md",
    }
}

fn declared_ones(global: &Global) -> Outcome<Vec<EdgeStatus>> {
    let file = ComposeFile::find(global)?;
    let project = Project::of(global, &file)?;
    Ok(declared(&inputs::resolve(&file, &project)?))
}

/// Opens an edge.
pub(crate) fn allow(global: &Global, args: &JudgeArgs) -> Outcome {
    judge(global, args, Verdict::Allowed)
}

/// Closes an edge.
pub(crate) fn deny(global: &Global, args: &DenyArgs) -> Outcome {
    judge(global, &args.edge, Verdict::Denied)
}

fn judge(global: &Global, args: &JudgeArgs, verdict: Verdict) -> Outcome {
    let agent = args.agent.clone();
    let request = match endpoint(&args.endpoint)? {
        Endpoint::Port(host, port) => {
            ControlRequest::JudgeEdge { agent, host: host.to_owned(), port, verdict }
        }
        Endpoint::Socket(edge) => ControlRequest::JudgeSocket { agent, edge, verdict },
    };
    let project = Project::find(global)?;
    let Reply::EdgeJudged { change } = control::ask(&project, &request)? else {
        return Err(control::unexpected_reply());
    };
    if global.json {
        lines::print(json!({"agent": args.agent, "to": args.endpoint, "verdict": verdict, "change": change}));
        return Ok(0);
    }
    let edge = format!("{} to {}", args.agent, one_line(&args.endpoint));
    lines::print(match change {
        None => format!("{edge}: nothing to change, it is {} already", verdict_name(verdict)),
        Some(change) => format!("{edge}: {}, until the box ends; logged", change_name(change)),
    });
    if change == Some(EdgeChange::Added) {
        lines::print(format!(
            "evidence about {} names this edge from now on; a policy refuses it unless it says allow-added-edges = true",
            args.agent
        ));
    }
    Ok(0)
}

const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allowed => "open",
        Verdict::Denied => "closed",
    }
}

/// A change in words.
pub(crate) const fn change_name(change: EdgeChange) -> &'static str {
    match change {
        EdgeChange::Added => "open, which the composition does not declare",
        EdgeChange::Restored => "open again",
        EdgeChange::Denied => "closed",
    }
}

/// Whom a command line names.
#[derive(Debug, Clone)]
pub(crate) enum Endpoint<'a> {
    /// An agent or host, and its port.
    Port(&'a str, u16),
    /// An agent and its Unix socket.
    Socket(SocketEdge),
}

/// `HOST:PORT`, or `AGENT:/PATH`.
pub(crate) fn endpoint(text: &str) -> Outcome<Endpoint<'_>> {
    if let Some((name, path)) = text.split_once(':').filter(|(_, path)| path.starts_with('/')) {
        let todo = "write it as `db:/run/postgresql/.s.PGSQL.5432`";
        let to = name.parse().map_err(|error: NameError| Failure::input(error.to_string(), todo))?;
        let path = path.parse().map_err(|error: SocketPathError| {
            Failure::input(format!("`{}` is no path of a socket: {error}", one_line(path)), todo)
        })?;
        return Ok(Endpoint::Socket(SocketEdge { to, path }));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(Failure::input(
            format!("`{}` is not HOST:PORT", one_line(text)),
            "write it as `answerer:8080`",
        ));
    };
    match port.parse() {
        Ok(port) if port != 0 => Ok(Endpoint::Port(host, port)),
        _ => {
            Err(Failure::input(format!("`{}` is not a port", one_line(port)), "use a number from 1 to 65535"))
        }
    }
}
