//! `casemate ps`: the agents, their state and their controls.

use std::collections::{BTreeMap, BTreeSet};

use casemate_composition::lock::AgentName;
use casemate_protocol::agent_token::{Control, ControlStatus};
use casemate_protocol::control::{AgentStatus, ControlRequest, Phase, Reply, StepState};
use casemate_protocol::controls::Need;
use casemate_protocol::lifecycle::Standing;
use clap::{Args, ValueEnum};

use crate::cli::Global;
use crate::control;
use crate::failure::Outcome;
use crate::lines;
use crate::progress::{phase_name, shortened};
use crate::project::Project;
use crate::replicas;

/// What `ps` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate ps --controls")]
pub(crate) struct PsArgs {
    /// Show each control of each agent
    #[arg(long)]
    controls: bool,
    /// Only the names
    #[arg(short, long)]
    quiet: bool,
    /// `json` as with `--json`
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// Only agents in this state; repeat for each
    #[arg(long, value_name = "STATE")]
    status: Vec<State>,
    /// Taken for scripts: agents that do not run are shown in any case
    #[arg(short, long)]
    all: bool,
    /// Only these agents
    #[arg(value_name = "AGENT")]
    agents: Vec<AgentName>,
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// How an agent is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    /// Nobody asked for it.
    NotStarted,
    /// On its way to run.
    Starting,
    /// Its program runs, and does not stand still.
    Running,
    /// It stands still.
    Paused,
    /// It ended, and starts again in a moment.
    Restarting,
    /// It was asked to end.
    Stopping,
    /// It ended because somebody asked for it.
    Stopped,
    /// It ended by itself, or its start failed.
    Exited,
}

impl State {
    fn of(agent: &AgentStatus) -> Self {
        let runs = agent.pid.is_some() && agent.uptime_s.is_some();
        match agent.standing {
            Standing::NotStarted => Self::NotStarted,
            Standing::Up if agent.paused => Self::Paused,
            Standing::Up if runs => Self::Running,
            Standing::Up => Self::Starting,
            Standing::Restarting => Self::Restarting,
            Standing::Stopping => Self::Stopping,
            Standing::Stopped => Self::Stopped,
            Standing::Ended => Self::Exited,
        }
    }
}

/// Shows the agents.
pub(crate) fn run(global: &Global, args: &PsArgs) -> Outcome {
    let project = Project::find(global)?;
    let wanted = if args.agents.is_empty() { Vec::new() } else { replicas::named(&project, &args.agents)? };
    let Reply::Status { composition, mut agents } = control::ask(&project, &ControlRequest::Status)? else {
        return Err(control::unexpected_reply());
    };
    let shared_cores = sharing_cores(&agents);
    agents.retain(|name, agent| {
        (wanted.is_empty() || wanted.contains(name))
            && (args.status.is_empty() || args.status.contains(&State::of(agent)))
    });
    if global.json || args.format == Format::Json {
        let reply = Reply::Status { composition, agents };
        lines::print(serde_json::to_string(&reply).unwrap_or_default());
        return Ok(0);
    }
    if args.quiet {
        agents.keys().for_each(lines::print);
        return Ok(0);
    }
    // A box of this program always stands on the emulator.
    lines::print(format!(
        "project {}  SIMULATED hardware  composition {}",
        project.name,
        shortened(&composition.to_string())
    ));
    print_table(&agents);
    for (name, agent) in &agents {
        for line in sharing(name, &agent.shares_root_with) {
            lines::print(line);
        }
    }
    shared_cores.into_iter().for_each(lines::print);
    for (name, agent) in &agents {
        if let Some(said) = &agent.health_said {
            lines::print(format!("{name}: the last health check {said}"));
        }
    }
    for (name, agent) in agents.iter().filter(|(_, agent)| !agent.edges_changed.is_empty()) {
        lines::print(format!("{name}: edges changed by hand: {}", agent.edges_changed.join(", ")));
    }
    if args.controls {
        print_controls(&agents);
    }
    Ok(0)
}

/// What an agent shares, once for each pair.
fn sharing(name: &AgentName, with: &[AgentName]) -> Vec<String> {
    let later = with.iter().filter(|other| *other > name);
    later
        .map(|other| format!("{name} and {other} share a root: each can tell what the other reads of it"))
        .collect()
}

/// Likewise for cores, of the agents whose program runs, in one line: where cores do not suffice, all share them with all.
fn sharing_cores(agents: &BTreeMap<AgentName, AgentStatus>) -> Option<String> {
    let runs = |name: &AgentName| agents.get(name).is_some_and(|agent| State::of(agent) == State::Running);
    let mut groups: Vec<BTreeSet<&AgentName>> = Vec::new();
    for (name, agent) in agents.iter().filter(|(name, _)| runs(name)) {
        let mut group: BTreeSet<&AgentName> =
            agent.shares_cores_with.iter().filter(|other| runs(other)).collect();
        group.insert(name);
        if group.len() > 1 && !groups.iter().any(|other| group.is_subset(other)) {
            groups.retain(|other| !other.is_subset(&group));
            groups.push(group);
        }
    }
    let named = |group: BTreeSet<&AgentName>| {
        let mut names: Vec<&str> = group.into_iter().map(AgentName::as_str).collect();
        let last = names.pop().unwrap_or_default();
        format!("{} and {last}", names.join(", "))
    };
    let groups: Vec<String> = groups.into_iter().map(named).collect();
    (!groups.is_empty())
        .then(|| format!("{} share cores: each can tell when another of them is busy", groups.join("; ")))
}

fn print_table(agents: &BTreeMap<AgentName, AgentStatus>) {
    let mut rows = vec![
        ["AGENT", "STATE", "UP", "STARTS", "BACKEND", "MEASUREMENT", "SECRETS", "CONTROLS"].map(String::from),
    ];
    for (name, agent) in agents {
        rows.push([
            name.to_string(),
            state(agent),
            agent.uptime_s.map_or_else(|| "-".into(), |s| format!("{s} s")),
            agent.instance.to_string(),
            agent.backend.to_string(),
            shortened(&agent.measurement.to_string()),
            if agent.secrets.is_empty() { "-".into() } else { agent.secrets.join(",") },
            count(&agent.controls),
        ]);
    }
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        lines::print(cells.join("  ").trim_end());
    }
}

fn state(agent: &AgentStatus) -> String {
    let ended = agent.exit_status.map_or_else(String::new, |status| format!(" ({status})"));
    let state = match agent.standing {
        Standing::NotStarted => "not started".to_owned(),
        Standing::Restarting => format!("ended{ended}, starts again"),
        Standing::Stopping => "stopping \u{2026}".to_owned(),
        Standing::Stopped => format!("stopped{ended}"),
        Standing::Ended if agent.state == StepState::Failed => {
            format!("failed at {}", phase_name(agent.phase))
        }
        Standing::Ended => format!("{}{ended}", phase_name(Phase::Exited)),
        Standing::Up if agent.paused => "paused".to_owned(),
        Standing::Up => up(agent),
    };
    let state = if agent.tainted { format!("{state}, tainted") } else { state };
    match agent.edges_changed.len() {
        0 => state,
        1 => format!("{state}, 1 edge changed"),
        count => format!("{state}, {count} edges changed"),
    }
}

/// The state of an agent that runs, or is on its way to.
fn up(agent: &AgentStatus) -> String {
    let state = match (agent.state, agent.phase) {
        (StepState::Failed, phase) => format!("failed at {}", phase_name(phase)),
        (StepState::Started, phase) => format!("{} \u{2026}", phase_name(phase)),
        // Without a health check nobody knows more.
        (StepState::Done, Phase::Healthy) if agent.health.is_none() => "running".to_owned(),
        (StepState::Done, phase) => phase_name(phase).to_owned(),
    };
    match agent.health.as_deref().filter(|health| *health != state) {
        Some(health) => format!("{state} ({health})"),
        None => state,
    }
}

/// How many of the controls that every agent has are in force.
fn count(controls: &BTreeMap<Control, ControlStatus>) -> String {
    let always = || Control::ALL.into_iter().filter(|control| control.need() == Need::Always);
    let enforced = always().filter(|control| controls.get(control) == Some(&ControlStatus::Enforced)).count();
    format!("{enforced}/{}", always().count())
}

/// The count, the names of those that are not in force, and the others that this agent is without.
fn summary(controls: &BTreeMap<Control, ControlStatus>) -> String {
    let (always, others): (Vec<_>, Vec<_>) =
        controls.iter().partition(|(control, _)| control.need() == Need::Always);
    let mut text = count(controls);
    for (control, status) in always.iter().filter(|(_, status)| **status != ControlStatus::Enforced) {
        text.push_str(&format!("; {} {}", control.name(), status_name(**status)));
    }
    let without = others.iter().filter(|(_, status)| **status != ControlStatus::Enforced);
    let without: Vec<&str> = without.map(|(control, _)| control.name()).collect();
    if without.is_empty() { text } else { format!("{text}; without {}", without.join(", ")) }
}

const fn status_name(status: ControlStatus) -> &'static str {
    match status {
        ControlStatus::Enforced => "enforced",
        ControlStatus::EnforcedWithGaps => "enforced with gaps",
        ControlStatus::NotEnforced => "NOT ENFORCED",
        ControlStatus::Unknown => "unknown",
    }
}

fn print_controls(agents: &BTreeMap<AgentName, AgentStatus>) {
    for (name, agent) in agents {
        lines::print(format!("\n{name}  {}", summary(&agent.controls)));
        lines::print(format!("  {:18}  {:18}  {:41}  CHECKED", "CONTROL", "STATUS", "APPLIED"));
        for control in Control::ALL {
            let status = agent.controls.get(&control).copied().unwrap_or(ControlStatus::Unknown);
            lines::print(format!(
                "  {:18}  {:18}  {:41}  {}",
                control.name(),
                status_name(status),
                control.applied(),
                control.checked().describe()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_every_control_that_is_not_in_force() {
        let mut controls: BTreeMap<Control, ControlStatus> =
            Control::ALL.into_iter().map(|control| (control, ControlStatus::Enforced)).collect();
        assert_eq!(summary(&controls), "11/11");
        controls.insert(Control::CgroupCpu, ControlStatus::NotEnforced);
        controls.insert(Control::Speculation, ControlStatus::NotEnforced);
        controls.insert(Control::CoreScheduling, ControlStatus::Unknown);
        let expected = "10/11; cgroup-cpu NOT ENFORCED; without speculation, core-scheduling";
        assert_eq!(summary(&controls), expected);
        assert_eq!(count(&controls), "10/11");
    }

    fn agent() -> AgentStatus {
        serde_json::from_value(serde_json::json!({
            "phase": "healthy", "state": "done", "instance": 1, "pid": 7, "uptime_s": 3, "exit_status": null,
            "health": null, "measurement": casemate_canon::Sha384::of(b"").to_string(), "backend": "native", "controls": {}, "secrets": [], "shares_root_with": [], "shares_cores_with": [],
            "tainted": false, "edges_changed": [], "standing": "up", "paused": false,
        }))
        .unwrap()
    }

    #[test]
    fn an_agent_without_a_health_check_is_running_until_it_ended() {
        let mut agent = agent();
        assert_eq!(state(&agent), "running");
        agent.health = Some("healthy".into());
        assert_eq!(state(&agent), "healthy");
        assert_eq!(State::of(&agent), State::Running);
        agent.paused = true;
        assert_eq!((state(&agent).as_str(), State::of(&agent)), ("paused", State::Paused));
        (agent.health, agent.pid, agent.exit_status, agent.paused) = (None, None, Some(3), false);
        for (standing, shown, word) in [
            (Standing::Ended, "exited (3)", State::Exited),
            (Standing::Stopped, "stopped (3)", State::Stopped),
            (Standing::Restarting, "ended (3), starts again", State::Restarting),
            (Standing::NotStarted, "not started", State::NotStarted),
        ] {
            agent.standing = standing;
            assert_eq!((state(&agent).as_str(), State::of(&agent)), (shown, word));
        }
        (agent.standing, agent.phase, agent.state) = (Standing::Up, Phase::Attest, StepState::Started);
        assert_eq!((state(&agent).as_str(), State::of(&agent)), ("attest \u{2026}", State::Starting));
    }

    #[test]
    fn each_pair_that_shares_is_told_once() {
        let name = |text: &str| -> AgentName { text.parse().unwrap() };
        let (a, b) = (name("a"), name("b"));
        let line = "a and b share a root: each can tell what the other reads of it";
        assert_eq!(sharing(&a, std::slice::from_ref(&b)), [line]);
        assert!(sharing(&b, std::slice::from_ref(&a)).is_empty());
    }

    #[test]
    fn one_line_tells_which_running_agents_share_cores() {
        let sharing = |with: &[&str]| AgentStatus {
            shares_cores_with: with.iter().map(|name| name.parse().unwrap()).collect(),
            ..agent()
        };
        let mut all: BTreeMap<AgentName, AgentStatus> = [
            ("a", sharing(&["b", "c"])),
            ("b", sharing(&["a", "c"])),
            ("c", sharing(&["a", "b"])),
            ("d", sharing(&[])),
        ]
        .into_iter()
        .map(|(name, agent)| (name.parse().unwrap(), agent))
        .collect();
        let told =
            |names: &str| Some(format!("{names} share cores: each can tell when another of them is busy"));
        assert_eq!(sharing_cores(&all), told("a, b and c"));
        all.values_mut().nth(1).unwrap().standing = Standing::Stopped;
        assert_eq!(sharing_cores(&all), told("a and c"));
        all.values_mut().next().unwrap().standing = Standing::Ended;
        assert_eq!(sharing_cores(&all), None);
    }
}
