//! What warden and gateway say to each other over a `SOCK_SEQPACKET` pair: one JSON message a packet, with
//! descriptors (SCM_RIGHTS) where a message says so. The gateway never names a process or a path.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use casemate_composition::lock::AgentName;
use serde::{Deserialize, Serialize};

/// Largest packet in bytes.
pub const PACKET_BYTES_MAX: usize = 64 << 10;
/// Most descriptors of one packet.
pub const DESCRIPTORS_MAX: usize = 64;
/// Resolver address inside every compartment.
pub const RESOLVER: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 53), 53);

/// From the warden.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToGateway {
    /// One descriptor: a listening TCP socket born in `agent`'s network namespace. What connects to it goes to `target`.
    Listen {
        /// Who calls.
        agent: AgentName,
        /// Where it goes.
        target: Target,
    },
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
    /// The agent ended: drop all that belongs to it.
    Forget {
        /// Which agent.
        agent: AgentName,
    },
}

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Target {
    /// Another agent's port: to 127.0.0.1 in its network namespace, on a socket of its pool.
    Agent {
        /// Which agent.
        agent: AgentName,
        /// Its port.
        port: u16,
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
    /// A name that is not declared was asked for.
    NameDenied {
        /// Who asked.
        agent: AgentName,
        /// For what, printable and at most 253 characters.
        name: String,
    },
}
