//! Shows what agents wrote: the last lines of their log files, and new ones as they come.

mod log;

use std::collections::BTreeMap;
use std::time::Duration;

use casemate_composition::lock::AgentName;
use jiff::Timestamp;
use serde_json::json;

use crate::cli::Global;
use crate::failure::Outcome;
use crate::lines;
use crate::project::Project;
use crate::replicas;
use log::Log;

pub(crate) use log::Line;

/// Time between two looks.
pub(crate) const POLL: Duration = Duration::from_millis(100);

/// Reads the logs of some agents.
pub(crate) struct Follower {
    logs: BTreeMap<AgentName, Log>,
    width: usize,
    style: LineStyle,
    wanted: Wanted,
}

/// How a line of an agent is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineStyle {
    /// Behind these.
    Text {
        /// The agent's name.
        prefix: Shown,
        /// The time at which it arrived.
        times: Shown,
    },
    /// As a JSON object.
    Json,
}

/// Whether a part of a line is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Yes,
    No,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wanted {
    /// Only this many lines of each agent to begin with; none for all.
    pub(crate) tail: Option<usize>,
    /// Only lines that arrived then or later.
    pub(crate) since: Option<Timestamp>,
    /// Only lines that arrived before.
    pub(crate) until: Option<Timestamp>,
}

impl LineStyle {
    /// As the command line asks.
    pub(crate) const fn of(global: &Global) -> Self {
        if global.json { Self::Json } else { Self::Text { prefix: Shown::Yes, times: Shown::No } }
    }

    fn print(self, agent: &AgentName, line: &Line, width: usize) {
        let text = lines::printable(&line.text);
        let time = line.time.map(|time| format!("{time:.6}"));
        match self {
            Self::Text { prefix, times } => {
                let name = if prefix == Shown::Yes {
                    format!("{:width$} | ", agent.as_str())
                } else {
                    String::new()
                };
                let time = time.filter(|_| times == Shown::Yes).map_or_else(String::new, |time| time + " ");
                lines::print(format!("{name}{time}{text}"));
            }
            Self::Json => lines::print(json!({"agent": agent, "line": text, "time": time})),
        }
    }
}

impl Follower {
    /// From the end of each agent's files, after the last lines that are wanted.
    pub(crate) fn new(project: &Project, agents: &[AgentName], wanted: Wanted, style: LineStyle) -> Self {
        let log = |agent: &AgentName| Log::open(project.agent_log(agent), wanted.tail);
        Self {
            logs: agents.iter().map(|agent| (agent.clone(), log(agent))).collect(),
            width: agents.iter().map(|agent| agent.as_str().len()).max().unwrap_or(0),
            style,
            wanted,
        }
    }

    /// Prints what is new, in the order in which it arrived. Whether there was anything.
    pub(crate) fn print_new(&mut self) -> bool {
        let new = self.logs.iter_mut().map(|(agent, log)| (agent.clone(), log.new_lines())).collect();
        self.print(new)
    }

    /// Prints what has no line end yet.
    pub(crate) fn print_rest(&mut self) {
        let rest = self.logs.iter_mut().map(|(agent, log)| (agent.clone(), log.rest().into_iter().collect()));
        let rest = rest.collect();
        self.print(rest);
    }

    fn print(&self, new: Vec<(AgentName, Vec<Line>)>) -> bool {
        let any = new.iter().any(|(_, lines)| !lines.is_empty());
        let mut all: Vec<(AgentName, Line)> = new
            .into_iter()
            .flat_map(|(agent, lines)| lines.into_iter().map(move |line| (agent.clone(), line)))
            .collect();
        all.sort_by_key(|(_, line)| line.time);
        for (agent, line) in all.iter().filter(|(_, line)| self.wanted.has(line)) {
            self.style.print(agent, line, self.width);
        }
        any
    }
}

impl Wanted {
    fn has(&self, line: &Line) -> bool {
        let Some(time) = line.time else { return self.since.is_none() && self.until.is_none() };
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

/// The agents to show: those named, or all of the lock that runs.
pub(crate) fn chosen_agents(project: &Project, named: &[AgentName]) -> Outcome<Vec<AgentName>> {
    let agents = replicas::named(project, named)?;
    if named.is_empty() {
        return Ok(crate::inputs::read_lock(&project.lock_file())?.agents.into_keys().collect());
    }
    Ok(agents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_wanted_from_since_on_and_before_until() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let line = |seconds| Line { time: Some(at(seconds)), text: Vec::new() };
        let wanted = Wanted { tail: None, since: Some(at(5)), until: Some(at(7)) };
        let found: Vec<i64> = (3..9).filter(|seconds| wanted.has(&line(*seconds))).collect();
        assert_eq!(found, [5, 6]);
        let unknown = Line { time: None, text: Vec::new() };
        assert!(!wanted.has(&unknown) && Wanted::default().has(&unknown));
    }
}
