//! What may pass over one edge, and what has passed: counted here, and kept for the life of the box.
//!
//! What it is: the judge of connections and bytes of one edge. An edge outlives its agents' starts, so that an agent
//! that starts anew has neither a fresh budget nor an edge again that was closed.
//! What it is not: a scheduler. A rate is a mean: bytes are counted when they were read, and the next read waits.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use casemate_composition::lock::{AgentName, TrafficLimits};
use casemate_protocol::edges::{EdgeTraffic, Origin, Traffic};
use casemate_protocol::gateway::{EDGES_MAX, TRAFFIC_EDGES_MAX, Target, Verdict};
use tokio::time::Instant;

use crate::error::GatewayError;

/// How far ahead of its rate an edge may be.
const BURST: Duration = Duration::from_millis(100);
/// Parts of a second's bytes that one read takes at most, so that a slow edge is slow and not stuttering.
const READS_PER_SECOND_MIN: u64 = 16;
/// Fewest bytes of one read.
const READ_BYTES_MIN: usize = 256;

/// By what rule a connection was refused or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The edge was closed while the box runs.
    Denied,
    /// As many connections of the edge are open as may be.
    Connections,
    /// All bytes of the edge have passed.
    Bytes,
    /// The gateway, or the caller's share of it, is full.
    Capacity,
    /// The name of the host stands for an address that it may not stand for.
    Address,
    /// The name of the host does not resolve.
    Resolves,
    /// Nobody takes the connection.
    Answers,
}

impl Rule {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Denied => "edge.denied",
            Self::Connections => "edge.connections",
            Self::Bytes => "edge.bytes",
            Self::Capacity => "gateway.connections",
            Self::Address => "egress.address",
            Self::Resolves => "egress.resolves",
            Self::Answers => "edge.answers",
        }
    }
}

/// On whose account a connection is counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Caller {
    /// An agent.
    Agent(AgentName),
    /// Whoever connects to a port of the box that leads to this agent.
    Outside(AgentName),
}

impl Caller {
    /// The agent whose edge it is.
    pub(crate) const fn agent(&self) -> &AgentName {
        let (Self::Agent(agent) | Self::Outside(agent)) = self;
        agent
    }
}

/// One edge.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) caller: Caller,
    pub(crate) from: Origin,
    pub(crate) target: Target,
    limits: Cell<Option<TrafficLimits>>,
    verdict: Cell<Verdict>,
    open: Cell<u32>,
    connections: Cell<u64>,
    bytes: Cell<u64>,
    refused: Cell<u64>,
    last_refusal: Cell<Option<Rule>>,
    /// With which replica the next connection begins.
    turn: Cell<usize>,
    /// When all bytes so far would have passed at the edge's rate.
    paid_until: Cell<Option<Instant>>,
}

impl Edge {
    fn new(caller: Caller, from: Origin, target: Target) -> Self {
        Self {
            caller,
            from,
            target,
            limits: Cell::new(None),
            verdict: Cell::new(Verdict::Allowed),
            open: Cell::new(0),
            connections: Cell::new(0),
            bytes: Cell::new(0),
            refused: Cell::new(0),
            last_refusal: Cell::new(None),
            turn: Cell::new(0),
            paid_until: Cell::new(None),
        }
    }

    /// Takes a place on the edge, or says by which rule there is none.
    pub(crate) fn admit(self: &Rc<Self>) -> Result<Passage, Rule> {
        let limits = self.limits.get();
        if self.verdict.get() == Verdict::Denied {
            return Err(Rule::Denied);
        }
        if limits.and_then(|limits| limits.connections).is_some_and(|most| self.open.get() >= most) {
            return Err(Rule::Connections);
        }
        if self.bytes_left() == 0 {
            return Err(Rule::Bytes);
        }
        self.open.set(self.open.get().saturating_add(1));
        self.connections.set(self.connections.get().saturating_add(1));
        Ok(Passage { edge: Rc::clone(self) })
    }

    /// Which of so many is next.
    pub(crate) fn next_turn(&self, count: usize) -> usize {
        let turn = self.turn.get().checked_rem(count).unwrap_or(0);
        self.turn.set(turn.wrapping_add(1));
        turn
    }

    /// Notes a refusal.
    pub(crate) fn refuse(&self, rule: Rule) {
        self.refused.set(self.refused.get().saturating_add(1));
        self.last_refusal.set(Some(rule));
    }

    /// Most bytes that the next read of one connection may take; 0 where none is left.
    pub(crate) fn read_bytes_max(&self, buffer_bytes: usize) -> usize {
        let rate = self.limits.get().and_then(|limits| limits.rate_bytes);
        let share = rate.map_or(buffer_bytes, |rate| {
            let share = usize::try_from(rate / READS_PER_SECOND_MIN).unwrap_or(buffer_bytes);
            share.clamp(READ_BYTES_MIN, buffer_bytes)
        });
        share.min(usize::try_from(self.bytes_left()).unwrap_or(usize::MAX))
    }

    /// Counts bytes that were read.
    pub(crate) fn count(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes.set(self.bytes.get().saturating_add(bytes));
        if let Some(rate) = self.limits.get().and_then(|limits| limits.rate_bytes) {
            let now = Instant::now();
            let from = self.paid_until.get().map_or(now, |until| until.max(now));
            let takes = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
            let takes = Duration::from_nanos(u64::try_from(takes).unwrap_or(u64::MAX));
            self.paid_until.set(from.checked_add(takes).or(Some(from)));
        }
    }

    /// Until when the next read must wait.
    pub(crate) fn wait_until(&self) -> Option<Instant> {
        let until = self.paid_until.get()?.checked_sub(BURST)?;
        (until > Instant::now()).then_some(until)
    }

    fn bytes_left(&self) -> u64 {
        let total = self.limits.get().and_then(|limits| limits.total_bytes);
        total.map_or(u64::MAX, |total| total.saturating_sub(self.bytes.get()))
    }

    fn traffic(&self) -> EdgeTraffic {
        EdgeTraffic {
            from: self.from.clone(),
            to: self.target.to_string(),
            traffic: Traffic {
                open: self.open.get(),
                connections: self.connections.get(),
                bytes: self.bytes.get(),
                refused: self.refused.get(),
                last_refusal: self.last_refusal.get().map(|rule| rule.name().to_owned()),
            },
        }
    }
}

/// A place on an edge, given back when dropped.
#[derive(Debug)]
pub(crate) struct Passage {
    pub(crate) edge: Rc<Edge>,
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.edge.open.set(self.edge.open.get().saturating_sub(1));
    }
}

/// All edges that were ever served.
#[derive(Debug, Default)]
pub(crate) struct Edges {
    known: RefCell<BTreeMap<(Origin, String), Rc<Edge>>>,
}

impl Edges {
    /// The edge of an agent to `target`, with these limits from now on.
    pub(crate) fn of_agent(
        &self,
        agent: &AgentName,
        target: Target,
        limits: Option<TrafficLimits>,
    ) -> Result<Rc<Edge>, GatewayError> {
        let edge = self.get(Caller::Agent(agent.clone()), Origin::Agent(agent.clone()), target)?;
        edge.limits.set(limits);
        Ok(edge)
    }

    /// The edge from an address of the box to an agent's port.
    pub(crate) fn of_port(
        &self,
        address: SocketAddr,
        agent: &AgentName,
        port: u16,
    ) -> Result<Rc<Edge>, GatewayError> {
        let target = Target::Agent { agent: agent.clone(), port };
        self.get(Caller::Outside(agent.clone()), Origin::Port(address), target)
    }

    /// Opens or closes the edge of an agent; the edge, where it was ever served.
    pub(crate) fn judge(
        &self,
        agent: &AgentName,
        target: Target,
        verdict: Verdict,
    ) -> Result<Rc<Edge>, GatewayError> {
        let edge = self.get(Caller::Agent(agent.clone()), Origin::Agent(agent.clone()), target)?;
        edge.verdict.set(verdict);
        Ok(edge)
    }

    /// What passed, in pieces that fit one message each; one empty piece where there is no edge.
    pub(crate) fn traffic(&self) -> Vec<Vec<EdgeTraffic>> {
        let known = self.known.borrow();
        let all: Vec<EdgeTraffic> = known.values().map(|edge| edge.traffic()).collect();
        if all.is_empty() {
            return vec![Vec::new()];
        }
        all.chunks(TRAFFIC_EDGES_MAX).map(<[EdgeTraffic]>::to_vec).collect()
    }

    fn get(&self, caller: Caller, from: Origin, target: Target) -> Result<Rc<Edge>, GatewayError> {
        let mut known = self.known.borrow_mut();
        let key = (from, target.to_string());
        if let Some(edge) = known.get(&key) {
            return Ok(Rc::clone(edge));
        }
        if known.len() >= EDGES_MAX {
            return Err(GatewayError::TooMany { what: "edges", max: EDGES_MAX });
        }
        let edge = Rc::new(Edge::new(caller, key.0.clone(), target));
        known.insert(key, Rc::clone(&edge));
        Ok(edge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(limits: TrafficLimits) -> Rc<Edge> {
        let (a, b): (AgentName, AgentName) = ("a".parse().unwrap(), "b".parse().unwrap());
        Edges::default().of_agent(&a, Target::Agent { agent: b, port: 80 }, Some(limits)).unwrap()
    }

    const NONE: TrafficLimits = TrafficLimits { connections: None, rate_bytes: None, total_bytes: None };

    #[test]
    fn admits_as_many_connections_as_the_limit_says_and_one_more_when_one_ends() {
        let edge = edge(TrafficLimits { connections: Some(2), ..NONE });
        let first = edge.admit().unwrap();
        let _second = edge.admit().unwrap();
        assert_eq!(edge.admit().unwrap_err(), Rule::Connections);
        drop(first);
        assert!(edge.admit().is_ok());
    }

    #[test]
    fn lets_no_byte_past_the_sum() {
        let edge = edge(TrafficLimits { total_bytes: Some(1000), ..NONE });
        let _passage = edge.admit().unwrap();
        assert_eq!(edge.read_bytes_max(600), 600);
        edge.count(600);
        assert_eq!(edge.read_bytes_max(600), 400);
        edge.count(400);
        assert_eq!(edge.read_bytes_max(600), 0);
        assert_eq!(edge.admit().unwrap_err(), Rule::Bytes);
    }

    #[test]
    fn waits_as_long_as_the_bytes_take_at_the_rate() {
        let edge = edge(TrafficLimits { rate_bytes: Some(16_000), ..NONE });
        assert_eq!((edge.read_bytes_max(1 << 16), edge.wait_until()), (1000, None));
        let before = Instant::now();
        edge.count(3200);
        let wait = edge.wait_until().unwrap() - before;
        // 200 ms for the bytes, 100 ms of them ahead.
        assert!((100..150).contains(&wait.as_millis()), "{wait:?}");
        std::thread::sleep(Duration::from_millis(210));
        assert_eq!(edge.wait_until(), None);
    }

    #[test]
    fn a_closed_edge_admits_nobody_until_it_is_open_again() {
        let edges = Edges::default();
        let agent: AgentName = "a".parse().unwrap();
        let target = Target::Host { host: "h.example".into(), port: 443, address: None };
        let served = edges.of_agent(&agent, target.clone(), None).unwrap();
        edges.judge(&agent, target.clone(), Verdict::Denied).unwrap();
        assert_eq!(served.admit().unwrap_err(), Rule::Denied);
        let again = edges.of_agent(&agent, target.clone(), None).unwrap();
        assert_eq!(again.admit().unwrap_err(), Rule::Denied);
        edges.judge(&agent, target, Verdict::Allowed).unwrap();
        assert!(served.admit().is_ok());
    }
}
