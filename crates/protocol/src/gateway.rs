//! What warden and gateway say to each other over a `SOCK_SEQPACKET` pair: one JSON message a packet, with
//! descriptors (SCM_RIGHTS) where a message says so. The gateway never names a process or a path.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use casemate_composition::lock::{AgentName, TrafficLimits};
use casemate_composition::network;
use casemate_composition::sockets::{SocketEdge, SocketPath};
use serde::{Deserialize, Serialize};

use crate::edges::EdgeTraffic;

/// Largest packet in bytes.
pub const PACKET_BYTES_MAX: usize = 64 << 10;
/// Most descriptors of one packet.
pub const DESCRIPTORS_MAX: usize = 64;
/// Most edges in one [`FromGateway::Traffic`].
pub const TRAFFIC_EDGES_MAX: usize = 64;
/// Most listening sockets of one agent at the gateway, its resolver's two among them: all that a composition can declare,
/// ports of the box, and what may be added.
pub const LISTENERS_MAX: usize = 1024;
/// Most names that one agent's resolver answers.
pub const NAMES_MAX: usize = 1024;
/// Most edges that the gateway remembers.
pub const EDGES_MAX: usize = 1 << 16;
/// Resolver address inside every compartment.
pub const RESOLVER: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 53), 53);

/// From the warden.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToGateway {
    /// One descriptor: a listening socket born inside `agent`, TCP or, where the target is a socket, Unix. What connects to it goes to `target`.
    Listen {
        /// Who calls.
        agent: AgentName,
        /// Where it goes.
        target: Target,
        /// What may pass.
        limits: Option<TrafficLimits>,
    },
    /// One descriptor: a listening TCP socket of the box. What connects to it goes to `port` of `agent`.
    Publish {
        /// Who is called.
        agent: AgentName,
        /// Its port.
        port: u16,
    },
    /// From now on the edge is open or closed; closed, its connections end. It stays so when its agents start anew.
    Judge {
        /// Who calls.
        agent: AgentName,
        /// Who is called.
        target: Target,
        /// Whether it is open.
        verdict: Verdict,
    },
    /// The names that `agent`'s resolver answers from now on.
    Names {
        /// Who asks.
        agent: AgentName,
        /// All of them, lower case.
        names: BTreeMap<String, Ipv4Addr>,
    },
    /// Answered with [`FromGateway::Traffic`].
    Report,
    /// Two descriptors born in `agent`'s network namespace: a bound UDP socket and a listening TCP socket at [`RESOLVER`].
    Resolver {
        /// Who asks.
        agent: AgentName,
        /// Names that are answered, lower case. All others are refused and reported.
        names: BTreeMap<String, Ipv4Addr>,
    },
    /// Fresh unconnected TCP sockets born in `agent`'s network namespace: to reach its ports with.
    Pool {
        /// Whose.
        agent: AgentName,
    },
    /// Answers [`FromGateway::Dial`]; one descriptor, a connected Unix stream, where it was answered so.
    Dialled {
        /// Which question.
        id: u64,
        /// What became of it.
        outcome: Dialled,
    },
    /// The agent ended: drop all that belongs to it.
    Forget {
        /// Which agent.
        agent: AgentName,
    },
}

/// What became of a connection to a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialled {
    /// It stands.
    Connected,
    /// As many wait to be accepted as may: ask again.
    Full,
    /// Nobody takes it.
    Refused,
}

/// Whether an edge is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is.
    Allowed,
    /// It is not.
    Denied,
}

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Target {
    /// Another agent's port: to 127.0.0.1 in its network namespace, on a socket of its pool.
    Agent {
        /// Which agent.
        agent: AgentName,
        /// Its port.
        port: u16,
    },
    /// A port of any replica of a service: of each that takes the connection, the next in turn.
    Service {
        /// Which service.
        service: AgentName,
        /// Its replicas.
        replicas: Vec<AgentName>,
        /// Their port.
        port: u16,
    },
    /// Another agent's Unix socket: the warden connects to it.
    Socket {
        /// Which agent.
        agent: AgentName,
        /// Its socket.
        path: SocketPath,
    },
    /// An outside endpoint.
    Host {
        /// Host name.
        host: String,
        /// Port.
        port: u16,
        /// Address to dial; none means the gateway resolves the name.
        address: Option<IpAddr>,
    },
}

impl From<&network::Target> for Target {
    fn from(target: &network::Target) -> Self {
        match target {
            network::Target::Agent { agent, port } => Self::Agent { agent: agent.clone(), port: *port },
            network::Target::Service { service, replicas, port } => {
                Self::Service { service: service.clone(), replicas: replicas.clone(), port: *port }
            }
            network::Target::Host { host, port, address } => {
                Self::Host { host: host.clone(), port: *port, address: *address }
            }
        }
    }
}

impl From<&SocketEdge> for Target {
    fn from(edge: &SocketEdge) -> Self {
        Self::Socket { agent: edge.to.clone(), path: edge.path.clone() }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent { agent: name, port } | Self::Service { service: name, port, .. } => {
                write!(f, "{name}:{port}")
            }
            Self::Socket { agent, path } => write!(f, "{agent}:{path}"),
            Self::Host { host, port, .. } => write!(f, "{host}:{port}"),
        }
    }
}

/// From the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromGateway {
    /// It serves.
    Ready,
    /// `agent`'s pool runs low: send this many more.
    NeedSockets {
        /// Whose pool.
        agent: AgentName,
        /// How many.
        count: u32,
    },
    /// A connection to a Unix socket is wanted. Answered with [`ToGateway::Dialled`].
    Dial {
        /// Number of the question.
        id: u64,
        /// Whose socket.
        agent: AgentName,
        /// Which.
        path: SocketPath,
    },
    /// A name that is not declared was asked for.
    NameDenied {
        /// Who asked.
        agent: AgentName,
        /// For what, printable and at most 253 characters.
        name: String,
    },
    /// A connection was refused or ended, within bounds for each agent.
    EdgeDenied {
        /// Whose edge it is: who calls, or who is called on a port of the box.
        agent: AgentName,
        /// The edge's other end.
        to: String,
        /// By which rule.
        rule: String,
    },
    /// What passed over at most [`TRAFFIC_EDGES_MAX`] edges.
    Traffic {
        /// By edge.
        edges: Vec<EdgeTraffic>,
        /// Whether these are the last ones of the answer.
        last: bool,
    },
}
