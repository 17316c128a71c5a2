//! Shows what agents wrote: the last lines of their log files, and new ones as they come.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use casemate_composition::lock::AgentName;
use serde_json::json;

use crate::cli::Global;
use crate::failure::Outcome;
use crate::lines;
use crate::project::Project;

/// Time between two looks.
pub(crate) const POLL: Duration = Duration::from_millis(100);
/// How far from its end a file is searched for the last lines, in bytes.
const TAIL_BYTES_MAX: u64 = 8 << 20;
/// Longest line that is shown whole, in bytes; a longer one is broken.
const SHOWN_LINE_BYTES_MAX: usize = 64 << 10;

/// Reads the logs of some agents.
pub(crate) struct Follower {
    logs: BTreeMap<AgentName, Log>,
    width: usize,
    style: LineStyle,
}

/// How a line of an agent is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineStyle {
    /// Behind the agent's name.
    Text,
    /// As a JSON object.
    Json,
}

impl LineStyle {
    /// As the command line asks.
    pub(crate) const fn of(global: &Global) -> Self {
        if global.json { Self::Json } else { Self::Text }
    }

    fn print(self, agent: &AgentName, line: &[u8], width: usize) {
        let text = lines::printable(line);
        match self {
            Self::Text => lines::print(format!("{agent:width$} | {text}")),
            Self::Json => lines::print(json!({"agent": agent, "line": text})),
        }
    }
}

struct Log {
    path: PathBuf,
    offset: u64,
    partial: Vec<u8>,
}

impl Follower {
    /// From the end of each file, after its last `tail` lines; from its beginning where `tail` is none.
    pub(crate) fn new(
        project: &Project,
        agents: &[AgentName],
        tail: Option<usize>,
        style: LineStyle,
    ) -> Self {
        let log = |agent: &AgentName| {
            let path = project.agent_log(agent);
            let offset = tail.map_or(0, |lines| offset_of_last(&path, lines));
            Log { path, offset, partial: Vec::new() }
        };
        Self {
            logs: agents.iter().map(|agent| (agent.clone(), log(agent))).collect(),
            width: agents.iter().map(|agent| agent.as_str().len()).max().unwrap_or(0),
            style,
        }
    }

    /// Prints what is new. Whether there was anything.
    pub(crate) fn print_new(&mut self) -> bool {
        let mut any = false;
        for (agent, log) in &mut self.logs {
            for line in log.new_lines() {
                any = true;
                self.style.print(agent, &line, self.width);
            }
        }
        any
    }

    /// Prints what has no line end yet.
    pub(crate) fn print_rest(&mut self) {
        for (agent, log) in &mut self.logs {
            if !log.partial.is_empty() {
                let line = std::mem::take(&mut log.partial);
                self.style.print(agent, &line, self.width);
            }
        }
    }
}

impl Log {
    fn new_lines(&mut self) -> Vec<Vec<u8>> {
        let Ok(bytes) = self.read_new() else { return Vec::new() };
        self.partial.extend_from_slice(&bytes);
        let mut found = Vec::new();
        while let Some(end) = self.partial.iter().position(|b| *b == b'\n') {
            let rest = self.partial.split_off(end + 1);
            let mut line = std::mem::replace(&mut self.partial, rest);
            line.pop();
            found.push(line);
        }
        if self.partial.len() > SHOWN_LINE_BYTES_MAX {
            found.push(std::mem::take(&mut self.partial));
        }
        found
    }

    fn read_new(&mut self) -> std::io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        if length < self.offset {
            // It was started anew.
            self.offset = 0;
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        let read = file.take(1 << 20).read_to_end(&mut bytes)?;
        self.offset += u64::try_from(read).unwrap_or(0);
        Ok(bytes)
    }
}

/// The agents to show: those named, or all of the lock that runs.
pub(crate) fn chosen_agents(project: &Project, named: &[AgentName]) -> Outcome<Vec<AgentName>> {
    if !project.lock_file().exists() {
        return Err(project.never_run());
    }
    let lock = crate::inputs::read_lock(&project.lock_file())?;
    let all: Vec<AgentName> = lock.agents.into_keys().collect();
    for agent in named {
        if !all.contains(agent) {
            return Err(crate::inputs::no_such_agent(agent, &all));
        }
    }
    Ok(if named.is_empty() { all } else { named.to_vec() })
}

fn offset_of_last(path: &std::path::Path, lines: usize) -> u64 {
    let tail = || -> std::io::Result<u64> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let start = length.saturating_sub(TAIL_BYTES_MAX);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
        let body = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        if lines == 0 {
            return Ok(length);
        }
        let cut = body.iter().enumerate().rev().filter(|(_, b)| **b == b'\n').nth(lines - 1);
        Ok(start + cut.map_or(0, |(position, _)| u64::try_from(position).unwrap_or(0) + 1))
    };
    tail().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "a\nb\nc\n").unwrap();
        for (lines, offset) in [(0, 6), (1, 4), (2, 2), (3, 0), (9, 0)] {
            assert_eq!(offset_of_last(&path, lines), offset, "{lines}");
        }
        assert_eq!(offset_of_last(&dir.path().join("none"), 3), 0);
    }

    #[test]
    fn reads_on_and_starts_again_when_the_file_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log { path: path.clone(), offset: 0, partial: Vec::new() };
        assert!(log.new_lines().is_empty());
        std::fs::write(&path, "one\ntw").unwrap();
        assert_eq!(log.new_lines(), vec![b"one".to_vec()]);
        std::fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(log.new_lines(), vec![b"two".to_vec()]);
        std::fs::write(&path, "x\n").unwrap();
        assert_eq!(log.new_lines(), vec![b"x".to_vec()]);
    }
}
