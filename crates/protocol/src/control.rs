//! What the command line asks of the warden over `control.sock`: one JSON object a line each way.

use std::collections::BTreeMap;

use casemate_canon::Sha384;
use casemate_composition::lock::{AgentName, BackendKind};
use casemate_composition::sockets::SocketEdge;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent_token::{Control, ControlStatus};
use crate::edges::EdgeStatus;
use crate::event::EdgeChange;
use crate::gateway::Verdict;
use crate::inside::{InsideReply, InsideRequest};
use crate::lifecycle::{Action, Agents, Done, Standing};
use crate::nonce::Nonce;
use crate::refusal::Refusal;

/// A request. The connection is answered with [`Reply`] lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ControlRequest {
    /// Progress from the start of the box on; [`Reply::Progress`] lines until the connection closes.
    Watch,
    /// One [`Reply::Status`].
    Status,
    /// One [`Reply::Evidence`].
    Attest {
        /// About which agent.
        agent: AgentName,
        /// The relying party's nonce.
        nonce: Nonce,
    },
    /// One [`Reply::Edges`].
    Edges,
    /// Opens or closes an edge. One [`Reply::EdgeJudged`].
    JudgeEdge {
        /// Who calls.
        agent: AgentName,
        /// Agent or host.
        host: String,
        /// Port.
        port: u16,
        /// Open or closed.
        verdict: Verdict,
    },
    /// Closes an edge to a Unix socket, or opens one again that was closed. One [`Reply::EdgeJudged`].
    JudgeSocket {
        /// Who calls.
        agent: AgentName,
        /// Whose socket, and which.
        edge: SocketEdge,
        /// Open or closed.
        verdict: Verdict,
    },
    /// Changes what agents do. [`Reply::Progress`] of each that starts, then one [`Reply::Changed`].
    Change {
        /// Which agents; none named means all.
        agents: Agents,
        /// What they shall do.
        action: Action,
    },
    /// Waits until these agents have ended for good. [`Reply::Ended`] of each, then [`Reply::Done`].
    Wait {
        /// Which agents; none named means all.
        agents: Agents,
    },
    /// About the inside of a compartment.
    Inside(InsideRequest),
    /// Stops all agents, then the warden. One [`Reply::Done`].
    Shutdown {
        /// Replaces each agent's own grace time.
        grace_ms: Option<u64>,
    },
}

/// A line of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// One step of an agent's start.
    Progress(Progress),
    /// The state of the box.
    Status {
        /// Composition digest.
        composition: Sha384,
        /// The agents.
        agents: BTreeMap<AgentName, AgentStatus>,
    },
    /// All edges as they stand.
    Edges {
        /// In the order of agents.
        edges: Vec<EdgeStatus>,
    },
    /// The edge is as it was asked for.
    EdgeJudged {
        /// What changed; none where it was so already.
        change: Option<EdgeChange>,
    },
    /// CMW collection in JSON.
    Evidence {
        /// The collection.
        evidence: Value,
    },
    /// What became of a change, for each agent that it reached.
    Changed {
        /// The agents.
        agents: BTreeMap<AgentName, Done>,
    },
    /// An agent has ended for good.
    Ended {
        /// Which agent.
        agent: AgentName,
        /// Its exit status; none where its program never ran.
        status: Option<i32>,
    },
    /// About the inside of a compartment.
    Inside(InsideReply),
    /// It is done.
    Done,
    /// It was refused.
    Refused {
        /// Why.
        refusal: Refusal,
    },
    /// It failed; what happened and what to do.
    Failed {
        /// What happened.
        what: String,
        /// What to do.
        todo: String,
    },
}

/// One step of an agent's start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Which agent.
    pub agent: AgentName,
    /// Which step.
    pub phase: Phase,
    /// How it stands.
    pub state: StepState,
    /// Time since the agent's start began.
    pub elapsed_ms: u64,
    /// For [`StepState::Failed`]: what happened. Else empty or a short remark.
    pub detail: String,
    /// For [`StepState::Failed`]: the rule, where one refused.
    pub refusal: Option<Refusal>,
    /// For [`StepState::Failed`] of a program that could not be executed: 127 where there is none, 126 else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_executed: Option<i32>,
}

/// The steps of an agent's start, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Waiting for `depends_on`.
    Waiting,
    /// Root file system from verified blobs.
    Rootfs,
    /// The compartment is built.
    Compartment,
    /// Measured and logged.
    Measure,
    /// Evidence is made.
    Attest,
    /// The broker appraises it.
    Appraise,
    /// Secrets arrive.
    Secrets,
    /// The agent runs.
    Run,
    /// Its health check passes, or it has none and runs.
    Healthy,
    /// It ended.
    Exited,
}

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// It began.
    Started,
    /// It is done.
    Done,
    /// It failed, and with it the start.
    Failed,
}

/// The state of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentStatus {
    /// Last step.
    pub phase: Phase,
    /// How that step stands.
    pub state: StepState,
    /// Which start: 0 before the first.
    pub instance: u32,
    /// Process id in the box, while it runs.
    pub pid: Option<i32>,
    /// Seconds since the agent's first instruction, while it runs.
    pub uptime_s: Option<u64>,
    /// Status of the last exit.
    pub exit_status: Option<i32>,
    /// `healthy`, `unhealthy`, `starting`; none without a health check.
    pub health: Option<String>,
    /// How the last health check failed, and the end of what it printed; none where it passed.
    pub health_said: Option<String>,
    /// Agent measurement.
    pub measurement: Sha384,
    /// What builds its compartment.
    pub backend: BackendKind,
    /// Controls as seen from outside.
    pub controls: BTreeMap<Control, ControlStatus>,
    /// Names of the secrets delivered.
    pub secrets: Vec<String>,
    /// Agents that use one mount of the root with it (`share`): each can tell what the others read of it.
    pub shares_root_with: Vec<AgentName>,
    /// Agents of other trust groups that run on a core of this one: each can tell by time how busy the others are.
    pub shares_cores_with: Vec<AgentName>,
    /// Whether anything ran in it that the composition does not name.
    pub tainted: bool,
    /// Edges of it that were opened or closed while the box runs: `+ host:443`, `- other:80`.
    pub edges_changed: Vec<String>,
    /// What the box means to do with it.
    pub standing: Standing,
    /// Whether it stands still.
    pub paused: bool,
}
