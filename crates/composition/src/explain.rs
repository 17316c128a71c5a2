//! Why something is allowed or refused, and what differs between two locks: for people and for logs.
//!
//! What it is not: a decision. The gateway and the verifier decide; this tells their reasons.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::lock::{AgentName, Lock};
use crate::problem::{PROBLEM_LINE_CHARS_MAX, is_invisible, printable};
use crate::sockets::SocketEdge;

/// A refusal: the rule, what it expects, what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused by rule {rule}: expected {expected}, found {found}")]
pub struct Refusal {
    /// Stable name of the rule: `agent.declared`, `edge.declared` or `egress.declared`.
    pub rule: &'static str,
    /// What the rule expects.
    pub expected: String,
    /// What was found.
    pub found: String,
}

/// Which declaration allows `from` to open a connection to `host` at `port`.
///
/// # Errors
/// [`Refusal`]: `edge.declared` where `host` is an agent, `egress.declared` where it is not, `agent.declared`
/// where `from` is no agent.
pub fn explain_edge(lock: &Lock, from: &AgentName, host: &str, port: u16) -> Result<String, Refusal> {
    let found = printable(&format!("{from} to {host}:{port}"));
    let Some(agent) = lock.agents.get(from) else {
        let expected = one_of(lock.agents.keys());
        return Err(Refusal { rule: "agent.declared", expected, found: format!("agent {from}") });
    };
    let named = agent.names.iter().find(|(name, _)| name.as_str() == host).map(|(_, to)| to.as_str());
    let host = named.unwrap_or(host);
    if let Some(edge) = agent.edges.iter().find(|edge| edge.to.as_str() == host && edge.port == port) {
        let replicas: Vec<String> = lock.replicas(&edge.to).iter().map(ToString::to_string).collect();
        let any =
            if replicas.is_empty() { String::new() } else { format!(", any of {}", replicas.join(", ")) };
        return Ok(format!(
            "{from} may call {host}:{port}{any}: talks-to \"{}:{}\" of {from}",
            edge.to, edge.port
        ));
    }
    let is_agent = host.parse().is_ok_and(|name| !lock.meant_by(&name).is_empty());
    if is_agent {
        let expected = one_of(agent.edges.iter().map(|edge| format!("{}:{}", edge.to, edge.port)));
        return Err(Refusal { rule: "edge.declared", expected, found });
    }
    if let Some(egress) = agent.egress.iter().find(|egress| egress.host == host && egress.port == port) {
        let at = egress.address.map(|address| format!(", at {address} (extra_hosts)")).unwrap_or_default();
        return Ok(format!("{from} may call {host}:{port}: egress \"{host}:{port}\" of {from}{at}"));
    }
    let expected = one_of(agent.egress.iter().map(|egress| format!("{}:{}", egress.host, egress.port)));
    Err(Refusal { rule: "egress.declared", expected, found })
}

/// Which declaration allows `from` to open a connection to the socket that `edge` names.
///
/// # Errors
/// [`Refusal`], as [`explain_edge`].
pub fn explain_socket(lock: &Lock, from: &AgentName, edge: &SocketEdge) -> Result<String, Refusal> {
    let Some(agent) = lock.agents.get(from) else {
        let expected = one_of(lock.agents.keys());
        return Err(Refusal { rule: "agent.declared", expected, found: format!("agent {from}") });
    };
    if agent.socket_edges.contains(edge) {
        let place = edge.callers_path();
        return Ok(format!(
            "{from} may call {edge}, which it finds at {place}: talks-to \"{edge}\" of {from}"
        ));
    }
    let expected = one_of(agent.socket_edges.iter());
    Err(Refusal { rule: "edge.declared", expected, found: printable(&format!("{from} to {edge}")) })
}

fn one_of<T: fmt::Display>(items: impl Iterator<Item = T>) -> String {
    let all: Vec<String> = items.map(|item| item.to_string()).collect();
    match all.as_slice() {
        [] => "nothing: none is declared".to_owned(),
        [only] => printable(only),
        _ => printable(&format!("one of {}", all.join(", "))),
    }
}

/// One field that differs between two locks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Whose; none for what is global.
    pub agent: Option<AgentName>,
    /// Path of the field: `command`, `environment.MODE`, `limits.pids`; empty for a whole agent.
    pub field: String,
    /// Value before; none where it was absent.
    pub old: Option<Value>,
    /// Value after; none where it is absent.
    pub new: Option<Value>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Value| printable(&value.to_string());
        match &self.agent {
            Some(agent) => write!(f, "agent {agent}")?,
            None => f.write_str("composition")?,
        }
        if !self.field.is_empty() {
            write!(f, ": {}", printable(&self.field))?;
        }
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => {
                let (old, new) = shown_apart(old, new);
                write!(f, " changed from {old} to {new}")
            }
            (None, Some(_)) if self.field.is_empty() => f.write_str(" is new"),
            (Some(_), None) if self.field.is_empty() => f.write_str(" is gone"),
            (None, Some(new)) => write!(f, " is new: {}", text(new)),
            (Some(old), None) => write!(f, " is gone: {}", text(old)),
            (None, None) => Ok(()),
        }
    }
}

/// Two values as they are shown, so that they do not look the same: what cannot be seen is written as an escape, and where
/// one is too long to be shown whole, both begin shortly before the first character that differs.
pub(crate) fn shown_apart(old: &Value, new: &Value) -> (String, String) {
    /// Characters that are the same and still shown.
    const BEFORE: usize = 40;
    let visible = |value: &Value| -> String {
        let unseen = |c: char| c.is_control() || is_invisible(c);
        let shown = |c: char| if unseen(c) { c.escape_unicode().to_string() } else { c.to_string() };
        value.to_string().chars().map(shown).collect()
    };
    let (old, new) = (visible(old), visible(new));
    let alike = old.chars().zip(new.chars()).take_while(|(a, b)| a == b).count();
    let is_long = |text: &str| text.chars().nth(PROBLEM_LINE_CHARS_MAX).is_some();
    let skipped = if is_long(&old) || is_long(&new) { alike.saturating_sub(BEFORE) } else { 0 };
    let shown = |text: &str| match skipped {
        0 => printable(text),
        _ => format!("\u{2026}{}", printable(&text.chars().skip(skipped).collect::<String>())),
    };
    (shown(&old), shown(&new))
}

/// Every field that differs, global ones first, then by agent and field. Empty exactly where the locks are equal.
#[must_use]
pub fn diff(old: &Lock, new: &Lock) -> Vec<Change> {
    let mut changes = Vec::new();
    let global = |lock: &Lock| {
        let mut value = serde_json::to_value(lock).unwrap_or_default();
        if let Value::Object(members) = &mut value {
            members.remove("agents");
        }
        value
    };
    compare(None, String::new(), Some(&global(old)), Some(&global(new)), &mut changes);
    let names: BTreeSet<&AgentName> = old.agents.keys().chain(new.agents.keys()).collect();
    for name in names {
        let value = |lock: &Lock| lock.agents.get(name).and_then(|agent| serde_json::to_value(agent).ok());
        let (old, new) = (value(old), value(new));
        compare(Some(name), String::new(), old.as_ref(), new.as_ref(), &mut changes);
    }
    changes
}

/// Notes where `old` and `new` differ: objects member by member, everything else as a whole.
fn compare(
    agent: Option<&AgentName>,
    field: String,
    old: Option<&Value>,
    new: Option<&Value>,
    changes: &mut Vec<Change>,
) {
    if old == new {
        return;
    }
    if let (Some(Value::Object(old)), Some(Value::Object(new))) = (old, new) {
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let below = if field.is_empty() { name.clone() } else { format!("{field}.{name}") };
            compare(agent, below, old.get(name), new.get(name), changes);
        }
        return;
    }
    changes.push(Change { agent: agent.cloned(), field, old: old.cloned(), new: new.cloned() });
}
