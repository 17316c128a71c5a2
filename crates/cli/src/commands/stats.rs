//! `casemate stats`: what agents use.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use casemate_composition::lock::AgentName;
use casemate_protocol::control::{ControlRequest, Reply};
use casemate_protocol::inside::{AgentUsage, InsideReply, InsideRequest};
use clap::Args;
use serde_json::json;

use crate::cli::Global;
use crate::control;
use crate::failure::Outcome;
use crate::lines;
use crate::project::Project;
use crate::replicas;

/// Time between two samples: CPU time is told over it.
const INTERVAL: Duration = Duration::from_secs(1);

/// What `stats` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate stats --no-stream",
    after_help = "CPU is of one core over the last second. Memory has the page cache that is charged to the agent in it. \
        What the kernel does not tell is `-`."
)]
pub(crate) struct StatsArgs {
    /// Show the state once
    #[arg(long)]
    no_stream: bool,
    /// Only these agents
    #[arg(value_name = "AGENT")]
    agents: Vec<AgentName>,
}

type Sample = BTreeMap<AgentName, AgentUsage>;

/// Shows what agents use, each second.
pub(crate) fn run(global: &Global, args: &StatsArgs) -> Outcome {
    let project = Project::find(global)?;
    let agents = replicas::named(&project, &args.agents)?;
    let mut before = sample(&project, &agents)?;
    loop {
        std::thread::sleep(INTERVAL);
        let now = match sample(&project, &agents) {
            // The box ended while somebody watched: nothing more comes.
            Err(_) if !args.no_stream && UnixStream::connect(project.control_socket()).is_err() => {
                lines::note(format!("project {} ended", project.name));
                return Ok(0);
            }
            now => now?,
        };
        if global.json {
            lines::print(serde_json::Value::Array(
                now.iter().map(|(name, usage)| as_json(name, usage, before.get(name))).collect(),
            ));
        } else {
            if !args.no_stream && std::io::stdout().is_terminal() {
                // Cursor home, and all below it cleared.
                lines::print_bytes(b"\x1b[H\x1b[J");
            }
            let head = ["AGENT", "CPU", "MEMORY", "LIMIT", "MEM %", "PIDS", "LIMIT", "READ", "WRITTEN"];
            let mut rows = vec![head.map(str::to_owned).to_vec()];
            rows.extend(now.iter().map(|(name, usage)| row(name, usage, before.get(name))));
            lines::print_table(&rows);
        }
        if args.no_stream || lines::output_ended() {
            return Ok(0);
        }
        before = now;
    }
}

fn sample(project: &Project, wanted: &[AgentName]) -> Outcome<Sample> {
    let Reply::Inside(InsideReply::Usage { mut agents }) =
        control::ask(project, &ControlRequest::Inside(InsideRequest::Usage))?
    else {
        return Err(control::unexpected_reply());
    };
    agents.retain(|name, _| wanted.is_empty() || wanted.contains(name));
    Ok(agents)
}

/// CPU time between two samples of one start, in thousandths of a core.
fn cpu_milli(now: &AgentUsage, before: Option<&AgentUsage>) -> Option<u64> {
    let before = before.filter(|before| before.instance == now.instance)?;
    let used_us = now.cpu_us?.saturating_sub(before.cpu_us?);
    used_us.checked_div(now.at_ms.saturating_sub(before.at_ms))
}

fn row(name: &AgentName, now: &AgentUsage, before: Option<&AgentUsage>) -> Vec<String> {
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let tenths = |milli: u64| format!("{}.{} %", milli / 10, milli % 10);
    let part = now.memory_bytes.map(|bytes| bytes.saturating_mul(1000) / now.memory_bytes_max.max(1));
    vec![
        name.to_string(),
        or_none(cpu_milli(now, before).map(tenths)),
        or_none(now.memory_bytes.map(lines::size)),
        lines::size(now.memory_bytes_max),
        or_none(part.map(tenths)),
        or_none(now.pids.map(|pids| pids.to_string())),
        now.pids_max.to_string(),
        or_none(now.read_bytes.map(lines::size)),
        or_none(now.written_bytes.map(lines::size)),
    ]
}

fn as_json(name: &AgentName, now: &AgentUsage, before: Option<&AgentUsage>) -> serde_json::Value {
    json!({
        "agent": name,
        "cpu_milli": cpu_milli(now, before),
        "cpu_milli_max": now.cpu_milli_max,
        "memory_bytes": now.memory_bytes,
        "memory_bytes_max": now.memory_bytes_max,
        "pids": now.pids,
        "pids_max": now.pids_max,
        "read_bytes": now.read_bytes,
        "written_bytes": now.written_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_told_between_two_samples_of_one_start() {
        let usage = |instance, at_ms, cpu_us| AgentUsage {
            instance,
            at_ms,
            cpu_us: Some(cpu_us),
            cpu_milli_max: None,
            memory_bytes: None,
            memory_bytes_max: 1000,
            pids: None,
            pids_max: 10,
            read_bytes: None,
            written_bytes: None,
        };
        let before = usage(1, 1000, 5_000_000);
        assert_eq!(cpu_milli(&usage(1, 2000, 5_500_000), Some(&before)), Some(500));
        assert_eq!(cpu_milli(&usage(2, 2000, 5_500_000), Some(&before)), None);
        assert_eq!(cpu_milli(&usage(1, 1000, 5_500_000), Some(&before)), None);
        let name = "a".parse().unwrap();
        assert_eq!(row(&name, &usage(1, 2000, 5_123_000), Some(&before)).get(1).unwrap(), "12.3 %");
    }
}
