//! How much of everything. One agent's share is always well below the whole, so that an agent that opens
//! connections without end harms only itself.

use std::time::Duration;

use casemate_protocol::gateway::{LISTENERS_MAX, NAMES_MAX};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are kept back for everything that is no connection: listeners, pools, lookups.
const DESCRIPTORS_RESERVED: u64 = 2048;
/// Most open connections, however many descriptors the machine allows.
const CONNECTIONS_MAX: usize = 16_384;
/// Most open connections of one agent.
const CONNECTIONS_PER_AGENT_MAX: usize = 1024;
/// One agent has at most one in so many of all connections.
const SHARES: usize = 4;
/// Fewest connections that are offered, even where the machine allows few descriptors.
const CONNECTIONS_MIN: usize = 64;

/// The limits of one gateway.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// Open connections of one calling agent.
    pub connections_per_agent_max: usize,
    /// Open connections altogether.
    pub connections_max: usize,
    /// Agents that own a socket here.
    pub agents_max: usize,
    /// Listening sockets and resolvers of one agent.
    pub listeners_per_agent_max: usize,
    /// Names that one agent's resolver answers.
    pub names_per_agent_max: usize,
    /// A pool below this asks for more.
    pub pool_low: usize,
    /// What a pool asks to be filled up to.
    pub pool_full: usize,
    /// Most sockets that a pool keeps; more are closed.
    pub pool_max: usize,
    /// How long a connection waits for a socket of an empty pool.
    pub pool_wait_max: Duration,
    /// How long a name lookup may take.
    pub lookup_max: Duration,
    /// How long one connect may take.
    pub connect_max: Duration,
    /// DNS connections (TCP) of one agent at a time.
    pub dns_connections_max: usize,
    /// How long a DNS connection may be idle.
    pub dns_idle_max: Duration,
    /// Distinct denials (names, endpoints) of one agent that are reported in one second, of each kind.
    pub denials_per_second_max: usize,
}

impl Limits {
    /// Limits for a process that may have `descriptors_max` descriptors open.
    #[must_use]
    pub fn for_descriptors(descriptors_max: u64) -> Self {
        // Two for each connection: the caller's socket and the target's.
        let pairs = usize::try_from(descriptors_max.saturating_sub(DESCRIPTORS_RESERVED) / 2);
        let connections_max = pairs.unwrap_or(CONNECTIONS_MAX).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX);
        Self {
            connections_per_agent_max: CONNECTIONS_PER_AGENT_MAX.min(connections_max / SHARES),
            connections_max,
            agents_max: 1024,
            listeners_per_agent_max: LISTENERS_MAX,
            names_per_agent_max: NAMES_MAX,
            pool_low: 16,
            pool_full: 64,
            pool_max: 256,
            pool_wait_max: Duration::from_secs(5),
            lookup_max: Duration::from_secs(5),
            connect_max: Duration::from_secs(10),
            dns_connections_max: 16,
            dns_idle_max: Duration::from_secs(10),
            denials_per_second_max: 8,
        }
    }

    /// Raises the soft descriptor limit to the hard one and derives the limits from it.
    #[must_use]
    pub fn of_this_process() -> Self {
        let allowed = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: allowed.maximum, maximum: allowed.maximum };
        let current = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => allowed.maximum,
            Err(_) => allowed.current,
        };
        Self::for_descriptors(current.unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_descriptors_back_and_gives_one_agent_a_share() {
        let of = |descriptors| {
            let limits = Limits::for_descriptors(descriptors);
            (limits.connections_per_agent_max, limits.connections_max)
        };
        assert_eq!(of(0), (16, 64));
        assert_eq!(of(2048 + 2000), (250, 1000));
        assert_eq!(of(20_000), (1024, 8976));
        assert_eq!(of(u64::MAX), (1024, 16_384));
    }
}
