//! A plan in plain lines, grouped by agent.

use std::fmt::{self, Display, Formatter};

use casemate_canon::Sha384;
use serde_json::Value;

use super::{Access, AgentPlan, Cost, Fate, LimitChange, Plan, SharedRoot, Writes};
use crate::explain::Change;
use crate::explain::shown_apart;
use crate::lock::AgentName;
use crate::problem::printable;

/// Hexadecimal digits of a digest that are shown.
const DIGITS_SHOWN: usize = 17;

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "composition {}", from_to(self.old.as_ref(), Some(&self.new)))?;
        for change in &self.changes {
            writeln!(f, "  {}", field(change))?;
        }
        for (name, agent) in &self.agents {
            write!(f, "agent {name} {agent}")?;
        }
        for (volume, agents) in &self.shared_volumes {
            let who: Vec<String> = agents
                .iter()
                .map(|(agent, writes)| {
                    format!("{agent} {}", if *writes == Writes::Yes { "writes" } else { "reads" })
                })
                .collect();
            writeln!(f, "shared volume {volume}: {}", who.join(", "))?;
        }
        for SharedRoot { group, agents, .. } in &self.shared_roots {
            let who: Vec<&str> = agents.iter().map(AgentName::as_str).collect();
            writeln!(
                f,
                "shared pages of one image, group {group}: {} see what the others read",
                who.join(", ")
            )?;
        }
        if self.shared_volumes.is_empty() && self.shared_roots.is_empty() {
            writeln!(
                f,
                "shared nothing: no volume is mounted by two agents, and no page of an image is shared"
            )?;
        }
        write!(f, "{}", self.cost)
    }
}

impl Display for AgentPlan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let word = match self.fate {
            Fate::New => "is new",
            Fate::Gone => "is gone",
            Fate::Changes => "changes",
            Fate::Stays => "stays",
        };
        writeln!(f, "{word}: measurement {}", from_to(self.old.as_ref(), self.new.as_ref()))?;
        for change in &self.changes {
            writeln!(f, "  {}", field(change))?;
        }
        for limit in &self.limits {
            writeln!(f, "  {limit}")?;
        }
        for access in &self.gains {
            writeln!(f, "  gains    {access}")?;
        }
        for access in &self.loses {
            writeln!(f, "  loses    {access}")?;
        }
        Ok(())
    }
}

/// A change below its agent, which is not named again.
fn field(change: &Change) -> String {
    let text = |value: &Value| printable(&value.to_string());
    let name = printable(&change.field);
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            let (old, new) = shown_apart(old, new);
            format!("changed  {name} from {old} to {new}")
        }
        (None, Some(new)) => format!("added    {name} {}", text(new)),
        (Some(old), None) => format!("removed  {name} {}", text(old)),
        (None, None) => name,
    }
}

impl Display for LimitChange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text =
            |limit: Option<u64>| limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string());
        let word = if self.is_more() { "gains    more" } else { "loses    some" };
        write!(f, "{word} {}: {}, before {}", self.field, text(self.new), text(self.old))
    }
}

impl Display for Access {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { to, port } => write!(f, "call to {to}:{port}"),
            Self::CallSocket { to, path } => write!(f, "call to {to}:{path}"),
            Self::Egress { host, port, address: None } => write!(f, "egress to {}:{port}", printable(host)),
            Self::Egress { host, port, address: Some(address) } => {
                write!(f, "egress to {}:{port} at {address}", printable(host))
            }
            Self::Secret { resource } => write!(f, "secret {}", printable(resource)),
            Self::Volume { name, writes: Writes::Yes } => write!(f, "volume {name}, to write"),
            Self::Volume { name, writes: Writes::No } => write!(f, "volume {name}, to read"),
            Self::Port { address, port, target } => {
                let from = std::net::SocketAddr::new(*address, *port);
                write!(f, "calls from {from} of the box to its port {target}")
            }
            Self::Pages { group } => write!(f, "pages of its image shared with group {group}"),
        }
    }
}

impl Display for Cost {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let each: Vec<String> =
            self.memory_bytes.iter().map(|(name, bytes)| format!("{name} {}", mebibytes(*bytes))).collect();
        writeln!(
            f,
            "memory at most {}, the sum of the limits: {}",
            mebibytes(self.memory_bytes_sum),
            each.join(", ")
        )?;
        writeln!(
            f,
            "memory about {} of it because agents share no pages, while all are idle (measured: docs/performance.md)",
            mebibytes(self.unshared_pages_bytes)
        )?;
        for (rootfs, image) in &self.images {
            let size = image.bytes.map_or_else(|| "of unknown size".to_owned(), mebibytes);
            let agents: Vec<&str> = image.agents.iter().map(AgentName::as_str).collect();
            writeln!(
                f,
                "disk {size} for the root file system {} of {}",
                shortened(rootfs),
                agents.join(", ")
            )?;
        }
        for (name, bytes) in &self.volumes {
            match bytes {
                Some(bytes) => writeln!(f, "disk {} for the volume {name}", mebibytes(*bytes))?,
                None => writeln!(
                    f,
                    "disk without limit for the volume {name}: x-casemate: {{ size: 10g }} there would set one"
                )?,
            }
        }
        Ok(())
    }
}

fn from_to(old: Option<&Sha384>, new: Option<&Sha384>) -> String {
    let text = |digest: &Sha384| shortened(&digest.to_string());
    match (old, new) {
        (Some(old), Some(new)) if old == new => text(new),
        (Some(old), Some(new)) => format!("{} -> {}", text(old), text(new)),
        (None, Some(new)) => text(new),
        (Some(old), None) => text(old),
        (None, None) => "none".to_owned(),
    }
}

fn shortened(digest: &str) -> String {
    let shown =
        digest.find(':').map_or(DIGITS_SHOWN, |colon| colon.saturating_add(1).saturating_add(DIGITS_SHOWN));
    match digest.get(..shown) {
        Some(start) if start.len() < digest.len() => format!("{start}\u{2026}"),
        _ => digest.to_owned(),
    }
}

/// In MiB, with one decimal where it is no whole number.
fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10).div_ceil(1 << 20);
    match tenths % 10 {
        0 => format!("{} MiB", tenths / 10),
        rest => format!("{}.{rest} MiB", tenths / 10),
    }
}
