//! The event log: canonical JSON events whose running hash equals the runtime measurement register.

use casemate_canon::{CanonicalError, Sha384, to_canonical_json};
use casemate_composition::lock::AgentName;
use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;

use crate::agent_token::{Control, ControlStatus};
use crate::posture::Verdict;

/// Most events of one log.
pub const EVENTS_MAX: usize = 100_000;
/// Most bytes of the events about all agents together that begin something: evidence carries the whole log, in base64, and
/// has [`crate::cmw::COLLECTION_BYTES_MAX`]. What is above is for what must be said in any case, such as ends.
pub const AGENTS_EVENTS_BYTES_MAX: usize = 4 << 20;
/// Likewise, events.
pub const AGENTS_EVENTS_MAX: usize = 75_000;

/// One event. Its digest is SHA-384 over its RFC 8785 form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// First event of every log.
    CompositionLoaded {
        /// Composition digest.
        composition: Sha384,
        /// Version of the warden.
        warden: String,
    },
    /// The compartment stands; no code of the agent has run.
    AgentLaunched {
        /// Which agent.
        agent: AgentName,
        /// Which start of it.
        instance: u32,
        /// Its measurement.
        measurement: Sha384,
        /// Controls as seen from outside.
        controls: BTreeMap<Control, ControlStatus>,
    },
    /// A secret was delivered. The name only.
    SecretDelivered {
        /// To which agent.
        agent: AgentName,
        /// Resource path at the broker.
        resource: String,
    },
    /// The agent's first instruction runs after this event.
    AgentStarted {
        /// Which agent.
        agent: AgentName,
        /// Which start of it.
        instance: u32,
    },
    /// The agent ended, or its start failed.
    AgentExited {
        /// Which agent.
        agent: AgentName,
        /// Which start of it.
        instance: u32,
        /// Exit status, 128 + signal number for a signal.
        status: i32,
    },
    /// Every process of the agent stands still, and does until it is resumed or ends.
    AgentPaused {
        /// Which agent.
        agent: AgentName,
        /// Which start of it.
        instance: u32,
    },
    /// The agent goes on after this event.
    AgentResumed {
        /// Which agent.
        agent: AgentName,
        /// Which start of it.
        instance: u32,
    },
    /// Something ran in the compartment that the composition does not name.
    AgentTainted {
        /// Which agent.
        agent: AgentName,
        /// What: `exec`, `copy-in`, `copy-out`, `attach`; `volume` where an earlier start was tainted and had a volume
        /// that it could write to.
        by: String,
    },
    /// A check of the box's own posture gives another verdict than before. Evidence that is made from here on shows it.
    PostureChanged {
        /// Its id.
        check: String,
        /// What it says now.
        verdict: Verdict,
        /// What was seen, cut to [`crate::posture::OBSERVED_CHARS_MAX`] characters.
        observed: String,
    },
    /// A compartment like this agent's is built beside it, for the box's own peer probe. Nothing runs in the agent's.
    AgentProbed {
        /// Which agent.
        agent: AgentName,
        /// SHA-384 of the program that runs there.
        program: Sha384,
    },
    /// An edge was opened or closed while the box runs. It is so after this event, whichever of its agents run.
    PolicyChanged {
        /// Who calls.
        agent: AgentName,
        /// Who is called: `agent:port` or `host:port`.
        to: String,
        /// What changed.
        change: EdgeChange,
    },
}

/// What changed about an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeChange {
    /// It is open, and the composition does not declare it.
    Added,
    /// It is open again, as the composition declares.
    Restored,
    /// It is closed.
    Denied,
}

impl Event {
    /// SHA-384 over the RFC 8785 form.
    ///
    /// # Errors
    /// [`CanonicalError`], which a value of this type does not raise.
    pub fn digest(&self) -> Result<Sha384, CanonicalError> {
        Ok(Sha384::of(&to_canonical_json(self)?))
    }

    /// The agent that it is about; none where it is about the box.
    #[must_use]
    pub const fn agent(&self) -> Option<&AgentName> {
        match self {
            Self::CompositionLoaded { .. } | Self::PostureChanged { .. } => None,
            Self::AgentLaunched { agent, .. }
            | Self::SecretDelivered { agent, .. }
            | Self::AgentStarted { agent, .. }
            | Self::AgentExited { agent, .. }
            | Self::AgentPaused { agent, .. }
            | Self::AgentResumed { agent, .. }
            | Self::AgentTainted { agent, .. }
            | Self::AgentProbed { agent, .. }
            | Self::PolicyChanged { agent, .. } => Some(agent),
        }
    }
}

/// The running hash of a log. It starts with zeros and extends as a measurement register does, so that
/// RTMR3 of a TDX guest, which starts with zeros too, equals it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogHead {
    /// The hash over the events so far.
    pub head: Sha384,
    /// Number of events so far.
    pub count: u64,
}

impl LogHead {
    /// Of the empty log.
    pub const EMPTY: Self = Self { head: Sha384::ZERO, count: 0 };

    /// After one more event with this digest.
    #[must_use]
    pub fn extended(self, digest: &Sha384) -> Self {
        Self { head: self.head.extend(digest), count: self.count.saturating_add(1) }
    }
}
