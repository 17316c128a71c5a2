//! What a user asks of agents in a running box, and what became of it. Part of the control protocol.

use std::collections::BTreeSet;

use casemate_composition::lock::AgentName;
use serde::{Deserialize, Serialize};

/// What agents shall do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// Run, as a new instance each that does not run.
    Start {
        /// Whether those that they depend on start too.
        dependencies: Dependencies,
        /// When it is done.
        until: Until,
    },
    /// End, and not start again by themselves.
    Stop {
        /// Replaces each agent's own grace time.
        grace_ms: Option<u64>,
    },
    /// End where they run, then run as a new instance each.
    Restart {
        /// Replaces each agent's own grace time.
        grace_ms: Option<u64>,
        /// Whether those restart too that say so of them in `depends_on`, and those start that they depend on.
        dependencies: Dependencies,
        /// When it is done.
        until: Until,
    },
    /// Take a signal.
    Kill {
        /// Its number.
        signal: i32,
    },
    /// Stand still.
    Pause,
    /// Go on.
    Unpause,
}

/// Whether a request reaches agents that are not named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dependencies {
    /// Those that `depends_on` says.
    Follow,
    /// Only those named. What `depends_on` asks of the others is asked all the same.
    Leave,
}

/// When a start is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// The agent's program runs.
    Running,
    /// Its health check passes, or it has none and runs.
    Healthy,
}

/// What the box means to do with an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Nobody asked for it since the box began.
    NotStarted,
    /// It runs or is on its way to.
    Up,
    /// It ended, and starts again after a pause.
    Restarting,
    /// It was asked to end.
    Stopping,
    /// It ended because a user asked for it.
    Stopped,
    /// It ended by itself and for good, or its start failed.
    Ended,
}

/// What became of a request for one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Done {
    /// What was asked for.
    Done,
    /// Nothing: it was so already.
    Already,
    /// It failed; the progress says how.
    Failed,
}

/// The agents of a request; empty means all.
pub type Agents = BTreeSet<AgentName>;
