//! A box to test with: `alpha` holds a secret and calls `beta`, `beta` calls `gamma`, which does not run.

use std::collections::{BTreeMap, BTreeSet};

use casemate_protocol::agent_token::{Control, ControlStatus};
use casemate_protocol::posture::{Battery, ProbeSeen};

use super::{AgentView, Calls, EdgeView, End, Input, Platform, ProbeView};
use crate::doctor::{Finding, Heading, Vantage, Verdict};
use crate::sharing::{FileKind, Ledger, NotRun, Pair, SharedFile};

pub(super) const NOW: u64 = 1_800_000_000;

fn agent(runs: bool) -> AgentView {
    let controls = if runs {
        BTreeMap::from([
            (Control::Seccomp, ControlStatus::Enforced),
            (Control::Cores, ControlStatus::NotEnforced),
        ])
    } else {
        BTreeMap::new()
    };
    AgentView {
        backend: "native",
        trust: "family".into(),
        share: Some("kin".into()),
        runs,
        tainted: false,
        controls,
        cores_with: Vec::new(),
        secrets: BTreeSet::new(),
        volumes: BTreeSet::new(),
        ports: Vec::new(),
        build_ms: None,
    }
}

fn edge(from: &str, to: &str, port: u16, outside: bool) -> EdgeView {
    EdgeView { from: from.into(), to: to.into(), port: End::Port(port), outside, added: false }
}

pub(super) fn finding(id: &'static str, heading: Heading, verdict: Verdict) -> Finding {
    Finding {
        id: id.into(),
        heading,
        about: None,
        what: "what".into(),
        observed: "seen".into(),
        expected: "expected".into(),
        verdict,
        vantage: Vantage::HostClaimed,
        attack: "attack".into(),
        fix: "fix".into(),
        source: "source".into(),
    }
}

pub(super) fn input() -> Input {
    let alpha = AgentView { secrets: ["box/key/one".to_owned()].into(), build_ms: Some(12), ..agent(true) };
    let beta = AgentView { build_ms: Some(14), ..agent(true) };
    let gamma = AgentView {
        share: None,
        trust: "gamma".into(),
        ports: vec!["127.0.0.1:8080".into()],
        ..agent(false)
    };
    let probe = ProbeSeen {
        ended: NOW - 300,
        battery: Battery::Short,
        blocked: ["kill".to_owned(), "ptrace".to_owned()].into(),
        allowed: BTreeSet::new(),
        leaks: ["inode-numbers".to_owned()].into(),
        inconclusive: BTreeSet::new(),
    };
    let file = SharedFile {
        name: "/lib/libc.so.6".into(),
        kind: FileKind::Library,
        device: "0:40".into(),
        inode: "7".into(),
    };
    let pair = Pair {
        agents: ["alpha".into(), "beta".into()],
        share: Some("kin".into()),
        files: vec![file],
        mounts: Vec::new(),
        frames: None,
        open: Vec::new(),
        namespaces: Vec::new(),
        users: Vec::new(),
        control_group: None,
        kernel: vec!["erofs".into()],
        not_run: Vec::new(),
    };
    Input {
        project: "sample".into(),
        now: NOW,
        date: "2027-01-15T08:00:00Z".into(),
        composition: format!("sha384:{}", "ab".repeat(48)),
        host_data: "cd".repeat(32),
        platform: Platform { kind: None, simulated: true, reason: Some("no evidence was asked for".into()) },
        report: None,
        agents: [("alpha", alpha), ("beta", beta), ("gamma", gamma)]
            .map(|(name, view)| (name.to_owned(), view))
            .into(),
        edges: vec![
            edge("alpha", "beta", 80, false),
            edge("beta", "gamma", 81, false),
            edge("gamma", "api.example.com", 443, true),
        ],
        probes: vec![ProbeView { attacker: "alpha".into(), victim: "beta".into(), seen: probe }],
        calls: vec![Calls {
            backend: "native",
            of: "each agent",
            agents: ["alpha".to_owned(), "beta".to_owned()].into(),
            allowed: ["read", "write"].into(),
            conditional: ["clone"].into(),
            pretended: ["fadvise64"].into(),
            refused: ["ptrace"].into(),
            unnamed: 300,
        }],
        findings: vec![
            finding("D07.current", Heading::HypervisorSurface, Verdict::Pass),
            finding("D22.aslr", Heading::LocalSurface, Verdict::Fail),
            finding("D15.namespaces", Heading::Separation, Verdict::Unknown),
        ],
        ledger: Ledger { kernel: Some("6.18".into()), build_ms: BTreeMap::new(), pairs: vec![pair] },
        not_seen: vec![NotRun { name: "gamma".into(), reason: "it does not run".into() }],
    }
}
