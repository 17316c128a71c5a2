//! What the operator asks about the inside of a compartment: commands, copies, input, numbers.
//!
//! Commands, copies and input reach into an agent that was measured: they taint it, and a composition can forbid them.
//! The answer [`InsideReply::Streams`] carries descriptors (SCM_RIGHTS), in the order that it names; the bytes of the
//! streams pass between command and caller, and not through the warden.

use std::collections::BTreeMap;

use casemate_composition::lock::AgentName;
use serde::{Deserialize, Serialize};

use crate::posture::{ProbeBetween, ProbeSeen};

/// Most words of a command and most variables that are added.
pub const WORDS_MAX: usize = 1024;

/// Name of the secret that each compartment of the peer probe has in place of the agent's.
pub const PROBE_CANARY_NAME: &str = "casemate-canary";

/// Its content for a probe beside `agent`: worth nothing to anybody.
#[must_use]
pub fn probe_canary(agent: &AgentName) -> String {
    format!("canary of the peer probe beside {agent}")
}

/// A request about the inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum InsideRequest {
    /// Runs a command in the compartment. [`InsideReply::Streams`], then [`InsideReply::Exited`]; or
    /// [`InsideReply::NotExecuted`]. The caller may send [`Caller`] lines; where it goes away, the command ends.
    Exec(ExecRequest),
    /// Files out of the compartment: one stream, as the command's output.
    CopyOut {
        /// Of which agent.
        agent: AgentName,
        /// Path inside.
        path: String,
    },
    /// Files into the compartment: a stream for the files, and one for the answer.
    CopyIn {
        /// Of which agent.
        agent: AgentName,
        /// Path inside.
        path: String,
    },
    /// The standard input of an agent that has one: one stream.
    Attach {
        /// Which agent.
        agent: AgentName,
    },
    /// The standard input of an agent, for good: one stream, and the agent's input ends where that is closed and no earlier
    /// attach holds it. Of an agent with a terminal: the terminal, and what it printed so far. It taints, as [`InsideRequest::Attach`] does.
    Input {
        /// Which agent.
        agent: AgentName,
    },
    /// Ends the standard input of an agent, of which nothing was written. Nothing enters, so nobody is tainted. One
    /// [`InsideReply::Noted`].
    NoInput {
        /// Which agent.
        agent: AgentName,
    },
    /// Builds a compartment like this agent's beside it, with the box's own probe as its program, and without the agent's
    /// environment, configs, volumes and secrets: streams of input and output, as for [`InsideRequest::Exec`]. Where the
    /// caller goes away, the compartment ends. The event log has it before it is built.
    Probe {
        /// Which agent.
        agent: AgentName,
    },
    /// What a battery came to, between two agents beside which probes were built: told by who asked for them. One
    /// [`InsideReply::Noted`].
    Probed {
        /// Beside whom the attacker was.
        attacker: AgentName,
        /// Beside whom the victim was.
        victim: AgentName,
        /// What it came to. The box has its own idea of when.
        seen: ProbeSeen,
    },
    /// The last batteries that the box was told of. One [`InsideReply::Probes`].
    Probes,
    /// One [`InsideReply::Usage`].
    Usage,
    /// One [`InsideReply::Processes`].
    Processes {
        /// Of which agent.
        agent: AgentName,
    },
}

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// In which agent.
    pub agent: AgentName,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Inner user and group; none is the agent's own, with its further groups.
    pub user: Option<(u32, u32)>,
    /// Working directory; none is the agent's own.
    pub working_dir: Option<String>,
    /// Variables, added to the agent's own.
    pub environment: BTreeMap<String, String>,
    /// Whether the command reads.
    pub input: bool,
    /// Rows and columns of the terminal that the command gets; none for no terminal.
    pub terminal: Option<(u16, u16)>,
}

/// What the caller says while its command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Caller {
    /// Sends the command's processes a signal: one of SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGCONT.
    Signal {
        /// Linux's number.
        number: i32,
    },
}

/// A stream whose descriptor comes with the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// To write to.
    Input,
    /// To read from: standard output.
    Output,
    /// To read from: standard error.
    Error,
    /// Master of a terminal.
    Terminal,
}

/// An answer about the inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "kebab-case", deny_unknown_fields)]
pub enum InsideReply {
    /// It runs; one descriptor for each of these.
    Streams {
        /// In the order of the descriptors.
        streams: Vec<Stream>,
    },
    /// The command ended.
    Exited {
        /// Exit status, 128 + signal number for a signal.
        status: i32,
    },
    /// The command could not be executed.
    NotExecuted {
        /// 127 where there is no such program, 126 else, as shells have it.
        status: i32,
        /// What happened.
        what: String,
    },
    /// It is noted: in the agent's posture from now on, or done.
    Noted,
    /// Last batteries, by victim.
    Probes {
        /// Each way from one agent to another of which there was one.
        probes: Vec<ProbeBetween>,
    },
    /// What the agents use.
    Usage {
        /// Those that run.
        agents: BTreeMap<AgentName, AgentUsage>,
    },
    /// The processes of an agent.
    Processes {
        /// Each.
        processes: Vec<ProcessStatus>,
    },
}

/// What one agent uses. What the kernel does not tell is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentUsage {
    /// Which start of it.
    pub instance: u32,
    /// When it was read, by a clock that only goes forward.
    pub at_ms: u64,
    /// CPU time since this start.
    pub cpu_us: Option<u64>,
    /// CPU time it may use, in thousandths of a core; none for no limit.
    pub cpu_milli_max: Option<u32>,
    /// Memory, page cache among it.
    pub memory_bytes: Option<u64>,
    /// Memory it may use.
    pub memory_bytes_max: u64,
    /// Processes and threads, without the first process, which is the box's.
    pub pids: Option<u64>,
    /// Processes and threads it may have.
    pub pids_max: u32,
    /// Read from block devices.
    pub read_bytes: Option<u64>,
    /// Written to block devices.
    pub written_bytes: Option<u64>,
}

/// One process of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessStatus {
    /// Its id in the box.
    pub pid: i32,
    /// Its id inside.
    pub pid_inside: i32,
    /// Its parent's id in the box.
    pub parent: i32,
    /// Its user inside; none where it is none of the agent's.
    pub user: Option<u32>,
    /// Threads.
    pub threads: u32,
    /// CPU time.
    pub cpu_ms: u64,
    /// Memory in use.
    pub memory_bytes: u64,
    /// State, as a letter.
    pub state: char,
    /// Command line, the agent's own words.
    pub command: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{ControlRequest, Reply};

    #[test]
    fn requests_and_replies_round_trip_inside_the_control_protocol() {
        let agent: AgentName = "a".parse().unwrap();
        let exec = ExecRequest {
            agent: agent.clone(),
            command: vec!["sh".into()],
            user: Some((0, 0)),
            working_dir: None,
            environment: [("A".to_owned(), "b".to_owned())].into(),
            input: true,
            terminal: Some((24, 80)),
        };
        for request in [
            InsideRequest::Exec(exec),
            InsideRequest::CopyIn { agent: agent.clone(), path: "/x".into() },
            InsideRequest::Attach { agent: agent.clone() },
            InsideRequest::Input { agent: agent.clone() },
            InsideRequest::NoInput { agent },
            InsideRequest::Usage,
        ] {
            let line = serde_json::to_string(&ControlRequest::Inside(request.clone())).unwrap();
            assert_eq!(serde_json::from_str(&line).ok(), Some(ControlRequest::Inside(request)), "{line}");
        }
        for reply in [
            InsideReply::Streams { streams: vec![Stream::Input, Stream::Terminal] },
            InsideReply::Exited { status: 130 },
            InsideReply::NotExecuted { status: 127, what: "x".into() },
        ] {
            let line = serde_json::to_string(&Reply::Inside(reply.clone())).unwrap();
            assert_eq!(serde_json::from_str(&line).ok(), Some(Reply::Inside(reply)), "{line}");
        }
        let unknown = r#"{"method":"inside","what":"attach","agent":"a","more":1}"#;
        assert!(serde_json::from_str::<ControlRequest>(unknown).is_err());
    }
}
