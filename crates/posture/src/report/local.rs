//! Local attack surface: what of the box's kernel and programs agents still reach, and what they share.

use serde::Serialize;

use super::{Calls, Input};
use crate::doctor::Verdict;

/// What agents reach and share.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Local {
    /// System calls, by backend.
    pub calls: Vec<Calls>,
    /// Version of the kernel that serves all; none where it was not seen.
    pub kernel: Option<String>,
    /// What serves more than one agent.
    pub runtime: Vec<SharedPart>,
    /// Pairs of running agents in the ledger, and those that are apart.
    pub pairs: usize,
    /// Of these, with nothing of theirs in common.
    pub pairs_apart: usize,
    /// Names of files that any two have mapped in common.
    pub files: Vec<String>,
    /// Batteries of the probe that are known, of how many ways from one agent to another.
    pub probed: usize,
    /// Ways from one agent to another.
    pub ways: usize,
    /// Attacks that leaked in any of them.
    pub leaks: Vec<String>,
}

/// A part of the runtime that serves several agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SharedPart {
    /// What.
    pub part: &'static str,
    /// How an agent reaches it.
    pub reached: &'static str,
    /// What a bug in it would open.
    pub opens: &'static str,
}

const RUNTIME: [SharedPart; 7] = [
    SharedPart {
        part: "guest kernel",
        reached: "system calls below, page faults, its own /proc",
        opens: "everything in the box",
    },
    SharedPart {
        part: "warden",
        reached: "one Unix socket for each agent, with a few fixed requests; what it prints",
        opens: "everything in the box: it is root and holds the keys",
    },
    SharedPart {
        part: "launcher",
        reached: "not at all: it runs before the agent and becomes its first process",
        opens: "that one agent's confinement",
    },
    SharedPart {
        part: "gateway",
        reached: "bytes of edges, and names that the agent asks for",
        opens: "bytes of all edges; no secrets and no keys",
    },
    SharedPart {
        part: "courier",
        reached: "not at all: it speaks to the broker",
        opens: "delay of secrets; it carries them sealed",
    },
    SharedPart {
        part: "processor",
        reached: "by running",
        opens: "channels through caches, predictors and common cores",
    },
    SharedPart {
        part: "disk of volumes and images",
        reached: "by reading and writing own files",
        opens: "how full it is and how long it takes; room, for volumes without a size",
    },
];

/// What is not protected.
pub(super) fn not_protected(input: &Input) -> Vec<String> {
    let mut out: Vec<String> = input
        .calls
        .iter()
        .filter(|calls| !calls.agents.is_empty())
        .map(|calls| {
            format!(
                "{} system calls of the guest's kernel answer {} ({})",
                calls.reachable(),
                calls.of,
                calls.backend
            )
        })
        .collect();
    out.push("numbers that the kernel counts for all (inodes of pipes and sockets, eventfds), the time of a common disk, common caches".into());
    let shared: Vec<String> = input
        .ledger
        .pairs
        .iter()
        .filter(|pair| !pair.is_apart() && pair.not_run.is_empty())
        .map(|pair| pair.agents.join(" + "))
        .collect();
    if !shared.is_empty() {
        out.push(format!("what these have in common, as the ledger counted: {}", shared.join("; ")));
    }
    let failing = input.findings.iter().filter(|finding| {
        finding.heading == crate::doctor::Heading::LocalSurface && finding.verdict == Verdict::Fail
    });
    let failing = failing.count();
    if failing > 0 {
        out.push(format!("what the {failing} failing checks below name"));
    }
    out
}

/// The part of the report.
pub(super) fn local(input: &Input) -> Local {
    let pairs = &input.ledger.pairs;
    let mut files: Vec<String> =
        pairs.iter().flat_map(|pair| &pair.files).map(|file| file.name.clone()).collect();
    files.sort();
    files.dedup();
    let mut leaks: Vec<String> =
        input.probes.iter().flat_map(|probe| probe.seen.leaks.iter().cloned()).collect();
    leaks.sort();
    leaks.dedup();
    let agents = input.agents.len();
    Local {
        calls: input.calls.clone(),
        kernel: input.ledger.kernel.clone(),
        runtime: RUNTIME.to_vec(),
        pairs: pairs.len(),
        pairs_apart: pairs.iter().filter(|pair| pair.is_apart()).count(),
        files,
        probed: input.probes.len(),
        ways: agents.saturating_mul(agents.saturating_sub(1)),
        leaks,
    }
}
